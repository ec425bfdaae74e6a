"""Filters of photos by place, time and tag. A filter makes a mask over the rows of an index.

Unknown values match no filter: a photo without a position is in no box. `str` of a filter is a phrase such as "within
500 m of 55.6, 13.0".
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
        """Return (N,) which photos match. Raises InputError if the index cannot tell."""

    def __str__(self) -> str:
        """Return a phrase that is true of photos that match."""


@dataclass(frozen=True)
class Box:
    """Photos between two latitudes and two longitudes, borders included. It crosses the date line if west > east.

    Raises:
        InputError: not on earth, or south above north.

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
                f"the box from {self.south_deg} up to {self.north_deg} degrees is empty. Give south first."
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
    """Photos at most `radius_m` metres from a place.

    Raises:
        InputError: a negative or infinite radius, or a place nearer to a pole than UTM goes.

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
                f"the latitude of a circle must be from {low} to {high} degrees, the range of UTM, got "
                f"{self.place.lat_deg}. Use a box."
            )
        if not 0.0 <= self.radius_m < float("inf"):
            raise InputError(f"radius_m must be finite and at least 0, got {self.radius_m}.")

    def mask(self, columns: Columns) -> Mask:
        positions = columns.on_earth()
        away = np.full(len(columns), np.inf)
        for zone in {zone for zone in positions.zones or () if zone}:
            rows = np.flatnonzero(np.array(positions.zones) == zone)
            away[rows] = _away_m(positions.take(rows), self.place)
        near: Mask = away <= self.radius_m
        return near

    def __str__(self) -> str:
        return f"within {self.radius_m:,.12g} m of {_degrees(self.place.lat_deg, self.place.lon_deg)}"


@dataclass(frozen=True)
class Taken:
    """Photos taken from `first` on and before `end`, UTC; either may be left out.

    Raises:
        InputError: an invalid time, or an end that is not after the beginning.

    Example:
        >>> print(Taken(np.datetime64("2024-05-01")))
        taken on or after 2024-05-01T00:00Z
    """

    first: np.datetime64 | None = None
    end: np.datetime64 | None = None

    def __post_init__(self) -> None:
        for time in (self.first, self.end):
            if time is not None and (not isinstance(time, np.datetime64) or np.isnat(time)):
                raise InputError(f"invalid time {time!r}. Expected a numpy datetime64 in UTC.")
        if self.first is not None and self.end is not None and not self.first < self.end:
            raise InputError(f"the time range from {self.first} to {self.end} is empty. Give the earlier time first.")

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
    """Photos with this tag.

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
                    f"no photo of this index has the tag {self.tag!r}, or any other tag. Leave the tag out, or add "
                    "tags with `cricavpr index update`."
                )
            raise InputError(f"no photo of this index has the tag {self.tag!r}. {nearest(self.tag, known)}")
        return fits

    def __str__(self) -> str:
        plain = self.tag.isprintable() and not set(self.tag) & set(" '\"")
        return f"tagged {self.tag if plain else repr(self.tag)}"


@dataclass(frozen=True)
class All:
    """Photos that match several filters.

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
    """Return (N,) the photos that match.

    Raises:
        InputError: no photo matches, or the index has no such data.
    """
    fits = where.mask(columns)
    if not fits.any():
        timed = any(isinstance(one, Taken) for one in flattened([where])) and np.isnat(columns.times).all()
        advice = "No photo has a known time: leave the time out, or add times with `cricavpr index update`."
        raise InputError(
            no_match(f"{len(columns):,} photos", where) + (f" {advice}" if timed else " Use a wider filter.")
        )
    return fits


def no_match(photos: str, where: Filter) -> str:
    """Return the message for a filter that matches nothing, without the advice."""
    return f"none of {photos} matches the filter: {where}."


def flattened(filters: Sequence[Filter]) -> tuple[Filter, ...]:
    """Return the same filters, with each `All` replaced by its parts."""
    parts = (flattened(one.filters) if isinstance(one, All) else (one,) for one in filters)
    return tuple(itertools.chain.from_iterable(parts))


def _degrees(lat_deg: float, lon_deg: float) -> str:
    return f"{float(lat_deg)}, {float(lon_deg)}"


def _utc(time: np.datetime64) -> str:
    """Return a time to the minute, or finer if it is finer."""
    whole = (time.astype(f"datetime64[{unit}]") for unit in ("m", "s", "ms"))
    return f"{next((short for short in whole if short == time), time)}Z"


def _away_m(positions: Positions, place: LatLon) -> NDArray[np.float64]:
    """Return the metres from a place to each of some positions of one zone."""
    there = Positions.from_latlon([[place.lat_deg, place.lon_deg]])
    return distances_m(positions, there.take(np.zeros(len(positions), np.int64)))
