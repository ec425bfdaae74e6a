"""Which photos of an index may be found at all: by place, by time and by tag. A filter is a mask over rows.

What is not known of a photo fits no filter: a photo without a position is in no box. A filter prints as people say it:
"within 500 m of 55.6, 13.0".
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.geo import UTM_LATITUDES_DEG, Degrees, LatLon, Positions, distances_m
from cricavpr.index.engines.rows import Mask
from cricavpr.schema import nearest
from cricavpr.times import Times

T = TypeVar("T")


class Tags(Protocol):
    """The tags of N photos, however they are kept."""

    def having(self, tag: str) -> Mask:
        """(N,) which photos have the tag."""

    def known(self) -> Collection[str]:
        """All tags that there are."""


@dataclass(frozen=True)
class ListedTags:
    """Tags as one set for each photo."""

    of_each: Sequence[Collection[str]]

    def having(self, tag: str) -> Mask:
        return np.fromiter((tag in tags for tags in self.of_each), np.bool_, len(self.of_each))

    def known(self) -> Collection[str]:
        return {tag for tags in self.of_each for tag in tags}


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of N photos besides their vectors.

    Attributes:
        count: N.
        positions: of the photos, or None.
        times: (N,) when they were taken, or None.
        tags: or None.
    """

    count: int
    positions: Positions | None = None
    times: Times | None = None
    tags: Tags | None = None

    @cached_property
    def latlon(self) -> Degrees:
        """(N, 2) degrees, NaN where unknown."""
        return _on_earth(self.positions).latlon()


class Filter(Protocol):
    def mask(self, facts: Facts) -> Mask:
        """(N,) which photos fit. Raises: InputError: the index does not know what it asks for."""

    def __str__(self) -> str:
        """What is true of a photo that fits, on one line."""


@dataclass(frozen=True)
class Box:
    """Between two latitudes and two longitudes, borders included; west above east goes across the date line.

    Raises:
        InputError: not on earth, or south above north.
    """

    south_deg: float
    west_deg: float
    north_deg: float
    east_deg: float

    def __post_init__(self) -> None:
        LatLon(self.south_deg, self.west_deg), LatLon(self.north_deg, self.east_deg)
        if self.south_deg > self.north_deg:
            raise InputError(f"a box from {self.south_deg} up to {self.north_deg} degrees is empty. Give south first.")

    def mask(self, facts: Facts) -> Mask:
        lat, lon = facts.latlon.T
        east_of, west_of = lon >= self.west_deg, lon <= self.east_deg
        across = self.west_deg > self.east_deg
        inside: Mask = (lat >= self.south_deg) & (lat <= self.north_deg)
        inside &= (east_of | west_of) if across else (east_of & west_of)
        return inside

    def __str__(self) -> str:
        corners = _said_degrees(self.south_deg, self.west_deg), _said_degrees(self.north_deg, self.east_deg)
        return f"in the box from {corners[0]} to {corners[1]}"


@dataclass(frozen=True)
class Near:
    """At most `radius_m` from a position that is known beforehand, exactly that included.

    Raises:
        InputError: a radius that is no length, or a place nearer to a pole than UTM goes.
    """

    place: LatLon
    radius_m: float

    def __post_init__(self) -> None:
        low, high = UTM_LATITUDES_DEG
        if not low <= self.place.lat_deg <= high:
            raise InputError(
                f"distances are not known from latitude {self.place.lat_deg}: photos lie on the map of UTM, from {low} "
                f"to {high} degrees. Give a box."
            )
        if not 0.0 <= self.radius_m < float("inf"):
            raise InputError(f"a radius of {self.radius_m} m is not a length. Give 0 or more metres.")

    def mask(self, facts: Facts) -> Mask:
        positions = _on_earth(facts.positions)
        away = np.full(facts.count, np.inf)
        for zone in {zone for zone in positions.zones or () if zone}:
            rows = np.flatnonzero(np.array(positions.zones) == zone)
            away[rows] = _away_m(positions.take(rows), self.place)
        near: Mask = away <= self.radius_m
        return near

    def __str__(self) -> str:
        return f"within {self.radius_m:,.12g} m of {_said_degrees(self.place.lat_deg, self.place.lon_deg)}"


@dataclass(frozen=True)
class Taken:
    """Taken from `first` on and before `end`; either may be left out.

    Raises:
        InputError: something that is no time, or an end that is not after the beginning.
    """

    first: np.datetime64 | None = None
    end: np.datetime64 | None = None

    def __post_init__(self) -> None:
        for time in (self.first, self.end):
            if time is not None and (not isinstance(time, np.datetime64) or np.isnat(time)):
                raise InputError(f"{time!r} is no time. Give a numpy datetime64, UTC.")
        if self.first is not None and self.end is not None and not self.first < self.end:
            raise InputError(
                f"no photo is taken from {self.first} on and before {self.end}. Give the earlier time first."
            )

    def mask(self, facts: Facts) -> Mask:
        times = _needed(facts.times, "times")
        fits: Mask = ~np.isnat(times)
        if self.first is not None:
            fits &= times >= self.first
        if self.end is not None:
            fits &= times < self.end
        return fits

    def __str__(self) -> str:
        first = None if self.first is None else f"on or after {_said_time(self.first)}"
        end = None if self.end is None else f"before {_said_time(self.end)}"
        return f"taken {' and '.join(filter(None, (first, end))) or 'at a known time'}"


@dataclass(frozen=True)
class Tagged:
    """With this tag."""

    tag: str

    def mask(self, facts: Facts) -> Mask:
        tags = _needed(facts.tags, "tags")
        fits = tags.having(self.tag)
        if not fits.any():
            known = tags.known()
            if not known:
                raise InputError(
                    f"no photo of this index has the tag {self.tag!r}, nor any other. Leave it out, or give tags with "
                    "`cricavpr index update`."
                )
            if self.tag not in known:
                raise InputError(f"no photo of this index has the tag {self.tag!r}. {nearest(self.tag, known)}")
        return fits

    def __str__(self) -> str:
        plain = self.tag.isprintable() and not set(self.tag) & set(" '\"")
        return f"tagged {self.tag if plain else repr(self.tag)}"


@dataclass(frozen=True)
class All:
    """Fits every one of some filters."""

    filters: tuple[Filter, ...]

    def mask(self, facts: Facts) -> Mask:
        fits = np.ones(facts.count, np.bool_)
        for one in self.filters:
            fits &= one.mask(facts)
        return fits

    def __str__(self) -> str:
        return " and ".join(map(str, self.filters))


def mask_of(filters: Sequence[Filter], facts: Facts) -> Mask | None:
    """(N,) the photos that fit every filter; None when there is no filter.

    Raises:
        InputError: the index does not know what a filter asks for, or no photo fits all of them.
    """
    if not filters:
        return None
    together = All(tuple(filters))
    fits = together.mask(facts)
    if not fits.any():
        raise InputError(f"none of {facts.count:,} photos fits the filter: {together}. {_what_now(filters, facts)}")
    return fits


def _what_now(filters: Sequence[Filter], facts: Facts) -> str:
    """What helps whoever asked for too little, or for what nobody wrote down."""
    if any(isinstance(one, Taken) for one in flattened(filters)) and np.isnat(_needed(facts.times, "times")).all():
        return "Of none is it known when it was taken: leave the time out, or give times with `cricavpr index update`."
    return "Ask for more."


def flattened(filters: Sequence[Filter]) -> tuple[Filter, ...]:
    """The same filters with none inside another, for those who decide about each kind in their own way."""
    parts = (flattened(one.filters) if isinstance(one, All) else (one,) for one in filters)
    return tuple(itertools.chain.from_iterable(parts))


def _needed(value: T | None, what: str) -> T:
    if value is None:
        raise InputError(f"this index knows no {what} of its photos, so they cannot be filtered by them.")
    return value


def _on_earth(positions: Positions | None) -> Positions:
    known = _needed(positions, "positions")
    if known.zones is None:
        raise InputError(
            "the photos of this index lie in metres without a UTM zone, so they have no latitude. Leave filters by "
            "place out, or build it with zones."
        )
    return known


def _said_degrees(lat_deg: float, lon_deg: float) -> str:
    return f"{float(lat_deg)}, {float(lon_deg)}"


def _said_time(time: np.datetime64) -> str:
    """To the minute, where it is not finer; UTC."""
    whole = (time.astype(f"datetime64[{unit}]") for unit in ("m", "s", "ms"))
    return f"{next((short for short in whole if short == time), time)}Z"


def _away_m(positions: Positions, place: LatLon) -> NDArray[np.float64]:
    """Metres from one place to each of some positions of one zone."""
    there = Positions.from_latlon([[place.lat_deg, place.lon_deg]])
    return distances_m(positions, there.take(np.zeros(len(positions), np.int64)))
