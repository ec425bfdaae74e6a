"""Filters of photos by place, time and tag.

A photo without a known position matches no filter by place. A photo without a known time matches no filter by time.
`str(filter)` is a phrase for messages, such as "within 500 m of 55.6, 13.0".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.geo import UTM_LATITUDES_DEG, LatLon, Positions, distances_m
from cricavpr.index.columns import Columns
from cricavpr.schema import nearest

Mask = NDArray[np.bool_]


class Filter(Protocol):
    """A condition on photos."""

    def mask(self, columns: Columns) -> Mask:
        """Return a mask (N,) of the photos that match. Raises InputError if the index lacks the data to filter by."""

    def __str__(self) -> str:
        """Return a phrase that describes the photos that match."""


@dataclass(frozen=True)
class Box:
    """A filter for photos in a box between two latitudes and two longitudes, borders included.

    If `west_deg` is greater than `east_deg`, the box crosses the date line.

    Raises:
        InputError: a corner is not a valid latitude and longitude, or `south_deg` is greater than `north_deg`.

    Example:
        >>> print(Box(55, 12.5, 56, 14))
        in the box from 55.0, 12.5 to 56.0, 14.0
    """

    south_deg: float
    west_deg: float
    north_deg: float
    east_deg: float

    def __post_init__(self) -> None:
        LatLon(self.south_deg, self.west_deg), LatLon(self.north_deg, self.east_deg)
        if self.south_deg > self.north_deg:
            raise InputError(
                f"the southern latitude must not be greater than the northern latitude, got south {self.south_deg} and "
                f"north {self.north_deg}. Give south first."
            )

    def mask(self, columns: Columns) -> Mask:
        lat, lon = columns.latlon.T
        east_of, west_of = lon >= self.west_deg, lon <= self.east_deg
        inside: Mask = (lat >= self.south_deg) & (lat <= self.north_deg)
        inside &= (east_of | west_of) if self.west_deg > self.east_deg else (east_of & west_of)
        return inside

    def __str__(self) -> str:
        corners = _degrees(self.south_deg, self.west_deg), _degrees(self.north_deg, self.east_deg)
        return f"in the box from {corners[0]} to {corners[1]}"


@dataclass(frozen=True)
class Near:
    """A filter for photos at most `radius_m` metres from a place.

    Raises:
        InputError: the radius is negative or infinite, or UTM does not cover the latitude of the place.

    Example:
        >>> print(Near(LatLon(55.6, 13), 500))
        within 500 m of 55.6, 13.0
    """

    place: LatLon
    radius_m: float

    def __post_init__(self) -> None:
        low, high = UTM_LATITUDES_DEG
        if not low <= self.place.lat_deg <= high:
            raise InputError(
                f"the latitude of the place must be from {low} to {high} degrees, the range of UTM, got "
                f"{self.place.lat_deg}. Use a filter by latitude and longitude (a box) instead of a radius."
            )
        if not 0.0 <= self.radius_m < float("inf"):
            raise InputError(f"radius_m must be finite and at least 0, got {self.radius_m}.")

    def mask(self, columns: Columns) -> Mask:
        positions, near = columns.on_earth(), np.zeros(len(columns), np.bool_)
        known = np.flatnonzero(positions.known if positions.zones else near)
        here = Positions.from_latlon([[self.place.lat_deg, self.place.lon_deg]]).take(np.zeros(len(known), np.int64))
        near[known] = distances_m(positions.take(known), here) <= self.radius_m
        return near

    def __str__(self) -> str:
        return f"within {self.radius_m:,.12g} m of {_degrees(self.place.lat_deg, self.place.lon_deg)}"


@dataclass(frozen=True)
class Taken:
    """A filter for photos taken at or after `first` and before `end`, in UTC.

    None sets no limit; if both are None, all photos with a known time match.

    Raises:
        InputError: a time is invalid, or `end` is not after `first`.

    Example:
        >>> print(Taken(np.datetime64("2024-05-01")))
        taken on or after 2024-05-01T00:00Z
    """

    first: np.datetime64 | None = None
    end: np.datetime64 | None = None

    def __post_init__(self) -> None:
        for time in (self.first, self.end):
            if time is not None and (not isinstance(time, np.datetime64) or np.isnat(time)):
                raise InputError(f"invalid time {time!r}. Expected a valid numpy.datetime64 in UTC, not NaT.")
        if self.first is not None and self.end is not None and not self.first < self.end:
            raise InputError(
                f"the end must be after the beginning, got {self.first} to {self.end}. Give the earlier time first."
            )

    def mask(self, columns: Columns) -> Mask:
        fits: Mask = ~np.isnat(columns.times)
        if self.first is not None:
            fits &= columns.times >= self.first
        if self.end is not None:
            fits &= columns.times < self.end
        return fits

    def __str__(self) -> str:
        first = None if self.first is None else f"on or after {_utc(self.first)}"
        end = None if self.end is None else f"before {_utc(self.end)}"
        return f"taken {' and '.join(filter(None, (first, end))) or 'at a known time'}"


@dataclass(frozen=True)
class Tagged:
    """A filter for photos with this tag.

    Example:
        >>> print(Tagged("winter"))
        tagged winter
    """

    tag: str

    def mask(self, columns: Columns) -> Mask:
        fits = np.fromiter((self.tag in tags for tags in columns.tags), np.bool_, len(columns))
        if not fits.any():
            known = {tag for tags in columns.tags for tag in tags}
            if not known:
                raise InputError(
                    f"no photo of this index has the tag {self.tag!r} or any other tag. Search without a tag, or add "
                    "tags with `cricavpr index update`."
                )
            raise InputError(f"no photo of this index has the tag {self.tag!r}. {nearest(self.tag, known)}")
        return fits

    def __str__(self) -> str:
        plain = self.tag.isprintable() and not set(self.tag) & set(" '\"")
        return f"tagged {self.tag if plain else repr(self.tag)}"


@dataclass(frozen=True)
class All:
    """A filter for photos that match every one of several filters.

    Example:
        >>> print(All((Tagged("winter"), Near(LatLon(1, 2), 3))))
        tagged winter and within 3 m of 1.0, 2.0
    """

    filters: tuple[Filter, ...]

    def mask(self, columns: Columns) -> Mask:
        fits = np.ones(len(columns), np.bool_)
        for one in self.filters:
            fits &= one.mask(columns)
        return fits

    def __str__(self) -> str:
        return " and ".join(map(str, self.filters))


def mask_of(where: Filter, columns: Columns) -> Mask:
    """Return a mask (N,) of the photos that match a filter.

    Raises:
        InputError: no photo matches, or the index lacks the data for the filter, such as latitudes for a filter by
            place.
    """
    fits = where.mask(columns)
    if not fits.any():
        timed = any(isinstance(one, Taken) for one in flattened([where])) and np.isnat(columns.times).all()
        advice = "No photo has a known time: search without a time, or add times with `cricavpr index update`."
        raise InputError(f"{no_match(f'{len(columns):,} photos', where)} {advice if timed else 'Use a wider filter.'}")
    return fits


def no_match(photos: str, where: Filter) -> str:
    """Return the first sentence of the error message for a filter that no photo matches.

    Args:
        photos: the photos that were filtered, such as "2,000 photos".
    """
    return f"none of {photos} matches the filter: {where}."


def flattened(filters: Sequence[Filter]) -> tuple[Filter, ...]:
    """Return the same filters, with each `All` replaced by the filters inside it."""
    parts = (flattened(one.filters) if isinstance(one, All) else (one,) for one in filters)
    return tuple(itertools.chain.from_iterable(parts))


def _degrees(lat_deg: float, lon_deg: float) -> str:
    return f"{float(lat_deg)}, {float(lon_deg)}"


def _utc(time: np.datetime64) -> str:
    """Return a time as text, to the minute if it has no seconds, otherwise to the second or finer."""
    whole = (time.astype(f"datetime64[{unit}]") for unit in ("m", "s", "ms"))
    return f"{next((short for short in whole if short == time), time)}Z"
