"""Positions on the earth in UTM metres, conversion from and to degrees, distances, and search within a radius.

Distances between positions in the same UTM zone are computed in the plane of the zone, as the benchmarks of place
recognition do. Distances between positions in different zones are computed on the WGS84 ellipsoid, because their planes
differ.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import utm
from numpy.typing import ArrayLike, NDArray

from cricavpr.errors import InputError

Metres = NDArray[np.float64]  # (N, 2) easting, northing
Degrees = NDArray[np.float64]  # (N, 2) latitude, longitude
Indices = NDArray[np.int64]

ONE_ZONE_DEG = 4.0  # up to so many degrees from its central meridian, a zone distorts lengths by less than 0.2 %
UTM_LATITUDES_DEG = (-80.0, 84.0)
EARTH_RADIUS_M = 6371008.8  # mean radius
WGS84_A_M = 6378137.0
WGS84_F = 1 / 298.257223563
WGS84_E2 = 0.00669437999014
NEAR_M = 100_000.0  # distances up to this are computed from the straight line through the earth, accurate to 1 cm

_ZONE = re.compile(r"([1-9]|[1-5][0-9]|60)[NS]")


@dataclass(frozen=True)
class LatLon:
    """One position in degrees of WGS84.

    Raises:
        InputError: the latitude is not in -90..90, or the longitude not in -180..180.

    Example:
        >>> LatLon(55.7047, 13.191)
        LatLon(lat_deg=55.7047, lon_deg=13.191)
    """

    lat_deg: float
    lon_deg: float

    def __post_init__(self) -> None:
        if not (abs(self.lat_deg) <= 90.0 and abs(self.lon_deg) <= 180.0):  # True for NaN too
            raise InputError(
                f"latitude must be in -90..90 and longitude in -180..180 degrees, got {self.lat_deg}, {self.lon_deg}."
            )


@dataclass(frozen=True, eq=False, repr=False)
class Positions:
    """Positions of N images in metres; a row of NaN is an unknown position.

    Attributes:
        metres: (N, 2) float64 easting and northing in metres; read-only.
        zones: the UTM zone of each image, such as "33N" (N or S is the hemisphere), or "" where the position is
            unknown. None if the metres are in a local frame without latitude and longitude.

    Raises:
        InputError: a shape is wrong, a row has an infinite value or only one NaN, or a zone is invalid.

    Example:
        >>> Positions.from_latlon([(55.7047, 13.191), (55.7049, 13.1912)])
        Positions(2 of 2 known, UTM 33N)
    """

    metres: Metres
    zones: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        metres = np.array(self.metres, dtype=np.float64)  # a copy, which nobody else can change
        if metres.ndim != 2 or metres.shape[1] != 2:
            raise InputError(f"positions must be (N, 2) metres (easting, northing), got shape {metres.shape}.")
        _refuse_half_known(metres, "easting, northing")
        metres.setflags(write=False)
        object.__setattr__(self, "metres", metres)
        if self.zones is not None:
            _check_zones(self.zones, self.known)

    @classmethod
    def from_latlon(cls, latlon: ArrayLike) -> Self:
        """Project N latitudes and longitudes in degrees to UTM. A row of NaN is an unknown position.

        All images get the same zone if they are all within 4 degrees of its central meridian. So a town on a zone
        border is in one plane. Otherwise each image gets the zone that contains it.

        Args:
            latlon: (N, 2) latitude and longitude in degrees.

        Raises:
            InputError: the shape is wrong, a row is not a valid latitude and longitude or has only one NaN, or UTM does
                not cover a latitude.

        Example:
            >>> Positions.from_latlon([(43.642567, -79.387139)]).metres.round().tolist()
            [[630084.0, 4833439.0]]
        """
        degrees = np.asarray(latlon, dtype=np.float64)
        if not degrees.size:
            degrees = degrees.reshape(0, 2)
        if degrees.ndim != 2 or degrees.shape[1] != 2:
            raise InputError(f"positions must be (N, 2) degrees (latitude, longitude), got shape {degrees.shape}.")
        _refuse_half_known(degrees, "latitude, longitude")
        known: NDArray[np.bool_] = ~np.isnan(degrees[:, 0])
        low, high = UTM_LATITUDES_DEG
        inside = (low <= degrees[:, 0]) & (degrees[:, 0] <= high) & (np.abs(degrees[:, 1]) <= 180)
        if (known & ~inside).any():
            row = int(np.argmax(known & ~inside))
            raise InputError(f"row {row}: {off_the_map(*degrees[row].tolist())}.")
        metres = np.full_like(degrees, np.nan)
        zones = np.full(len(degrees), "", dtype="<U3")
        zones[known] = _choose_zones(degrees[known])
        for zone in np.unique(zones[known]):
            rows, number = zones == zone, int(zone[:-1])
            east, north, *_ = utm.from_latlon(
                *degrees[rows].T, force_zone_number=number, force_northern=zone[-1] == "N"
            )
            metres[rows] = np.stack([east, north], axis=1)
        return cls(metres, tuple(zones.tolist()))

    @classmethod
    def concatenate(cls, parts: Sequence[Positions]) -> Self:
        """Join several `Positions` in order. Raises InputError if some have UTM zones and others do not."""
        if not parts:
            return cls(np.empty((0, 2)))
        if len({part.zones is None for part in parts}) == 2:
            raise InputError(
                "cannot join positions with UTM zones and positions without zones. Give a UTM zone for all positions, "
                "or for none."
            )
        zones = itertools.chain.from_iterable(part.zones or () for part in parts)
        metres = np.concatenate([part.metres for part in parts])
        return cls(metres, None if parts[0].zones is None else tuple(zones))

    def __len__(self) -> int:
        return len(self.metres)

    def __repr__(self) -> str:
        zones = sorted({*(self.zones or ())} - {""})
        frame = "local frame" if self.zones is None else "UTM " + (", ".join(zones) if len(zones) < 9 else "worldwide")
        return f"Positions({int(self.known.sum()):,} of {len(self):,} known, {frame})"

    @property
    def known(self) -> NDArray[np.bool_]:
        """The mask (N,) of the known positions."""
        return ~np.isnan(self.metres[:, 0])

    def latlon(self) -> Degrees:
        """Return (N, 2) latitude and longitude in degrees, NaN if unknown.

        Raises:
            InputError: the positions are in a local frame, without UTM zones.
        """
        if self.zones is None:
            raise InputError("positions without UTM zones have no latitude and longitude. Give the UTM zones.")
        degrees = np.full_like(self.metres, np.nan)
        zones = np.array(self.zones, dtype="<U3")
        for zone in np.unique(zones[self.known]):
            rows = (zones == zone) & self.known
            # strict=False, because a zone that all images share may reach beyond its official limits.
            parts = utm.to_latlon(*self.metres[rows].T, int(zone[:-1]), northern=zone[-1] == "N", strict=False)
            degrees[rows] = np.stack(parts, axis=1)
        return degrees

    def take(self, indices: ArrayLike) -> Self:
        """Return the positions at `indices`, in that order, or the positions where a mask is True."""
        rows = np.asarray(indices)
        chosen = np.arange(len(self))[rows if rows.dtype == np.bool_ else rows.astype(np.int64)]  # [] is float64
        zones = None if self.zones is None else tuple(self.zones[i] for i in chosen.tolist())
        return type(self)(self.metres[chosen], zones)


def off_the_map(lat_deg: float, lon_deg: float) -> str:
    """Return the reason why a position cannot be projected to UTM, or "" if it can be projected."""
    low, high = UTM_LATITUDES_DEG
    if not (abs(lat_deg) <= 90 and abs(lon_deg) <= 180):
        swapped = abs(lat_deg) <= 180 and abs(lon_deg) <= 90
        hint = "; latitude and longitude seem swapped" if swapped else ""
        return f"latitude {lat_deg}, longitude {lon_deg} is not on earth{hint}"
    if not (low <= lat_deg <= high):
        return f"latitude {lat_deg} is outside the range of UTM, which covers {low:.0f} to {high:.0f} degrees"
    return ""


def within_radius(database: Positions, queries: Positions, radius_m: float) -> list[Indices]:
    """Return, for each query, the sorted indices of the database images at most `radius_m` metres away.

    An image at exactly `radius_m` is included. An image with an unknown position is never included.

    Raises:
        InputError: the radius is invalid, or only one of database and queries has UTM zones.

    Example:
        >>> database = Positions([(0.0, 0.0), (20.0, 15.0), (400.0, 0.0)])
        >>> [found.tolist() for found in within_radius(database, Positions([(0.0, 0.0)]), 25.0)]
        [[0, 1]]
    """
    if not (0.0 <= radius_m < math.inf):
        raise InputError(f"radius_m must be finite and at least 0, got {radius_m}.")
    radius_m = min(radius_m, 1e150)  # so that its square is finite
    found = [_pairs(*sides, radius_m) for sides in _sides_in_one_zone(database, queries)]
    if database.zones is not None and queries.zones is not None:
        found.append(_pairs_across_zones(database, queries, radius_m))
    rows = np.concatenate([pair[0] for pair in found]) if found else np.empty(0, np.int64)
    columns = np.concatenate([pair[1] for pair in found]) if found else np.empty(0, np.int64)
    columns = columns[np.lexsort((columns, rows))]
    ends = np.cumsum(np.bincount(rows, minlength=len(queries)))
    return np.split(columns, ends[:-1]) if len(queries) else []


def distances_m(a: Positions, b: Positions) -> NDArray[np.float64]:
    """Return (N,) the distance in metres between row i of `a` and row i of `b`; NaN if either position is unknown.

    Within a zone this is the distance in the plane of the zone, accurate to 0.2 % for positions from
    `Positions.from_latlon`. Between zones it is the distance along the ground. It is accurate to 1 cm up to 100 km, to
    0.001 % up to 18,000 km, and to 0.2 % beyond.

    Raises:
        InputError: the lengths differ, or only one of `a` and `b` has UTM zones.

    Example:
        >>> lund, sydney = Positions.from_latlon([(55.7047, 13.191)]), Positions.from_latlon([(-33.8688, 151.2093)])
        >>> (distances_m(lund, sydney) / 1000).round().tolist()
        [15995.0]
    """
    if len(a) != len(b):
        raise InputError(f"`a` and `b` must have the same number of positions, got {len(a)} and {len(b)}.")
    _require_one_kind_of_frame(a, b)
    difference = a.metres - b.metres
    metres = np.hypot(difference[:, 0], difference[:, 1])
    if a.zones is not None and b.zones is not None:
        across = a.known & b.known & (np.array(a.zones, "<U3") != np.array(b.zones, "<U3"))
        rows = np.flatnonzero(across)
        metres[rows] = ground_distances_m(a.take(rows).latlon(), b.take(rows).latlon())
    return metres


def ground_distances_m(a: Degrees, b: Degrees) -> NDArray[np.float64]:
    """Return (N,) the distance along the ground in metres between row i of `a` and row i of `b`.

    Distances above 100 km are computed with Lambert's formula of 1942, of first order in the flattening of the earth.
    `distances_m` states the accuracy.

    Args:
        a, b: (N, 2) latitude and longitude in degrees.
    """
    chord = np.linalg.norm(_earth_centred(a) - _earth_centred(b), axis=1)
    metres = 2 * EARTH_RADIUS_M * np.arcsin(np.minimum(chord / (2 * EARTH_RADIUS_M), 1.0))
    far = metres > NEAR_M
    (lat_a, lon_a), (lat_b, lon_b) = np.deg2rad(a[far]).T, np.deg2rad(b[far]).T
    reduced_a, reduced_b = (np.arctan((1 - WGS84_F) * np.tan(lat)) for lat in (lat_a, lat_b))
    mean, half = (reduced_a + reduced_b) / 2, (reduced_b - reduced_a) / 2
    lon_part = np.cos(reduced_a) * np.cos(reduced_b) * np.sin((lon_b - lon_a) / 2) ** 2
    angle = 2 * np.arcsin(np.sqrt(np.clip(np.sin(half) ** 2 + lon_part, 0.0, 1 - 1e-15)))  # below pi
    x = (angle - np.sin(angle)) * (np.sin(mean) * np.cos(half) / np.cos(angle / 2)) ** 2
    y = (angle + np.sin(angle)) * (np.cos(mean) * np.sin(half) / np.sin(angle / 2)) ** 2
    metres[far] = WGS84_A_M * (angle - WGS84_F / 2 * (x + y))
    return np.asarray(metres)


def zones_of(metres: Metres, degrees: Degrees) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Find the UTM zone of each position, given its metres and its approximate degrees.

    The zone of the degrees and its two neighbours are tried.

    Args:
        metres: (N, 2) easting and northing in the unknown zone.
        degrees: (N, 2) latitude and longitude, which may be rounded.

    Returns:
        The zone of each row, and the distance in metres between two positions: the metres in this zone, and the
        degrees. The distance is inf if either is unknown.
    """
    own = np.floor((degrees[:, 1] + 180) / 6).astype(int) % 60
    best, apart_m = np.full(len(own), "", "<U3"), np.full(len(own), np.inf)
    for step in (0, 1, -1):
        numbers = np.char.mod("%d", (own + step) % 60 + 1)
        zones = np.char.add(numbers, np.where(degrees[:, 0] >= 0, "N", "S"))
        with np.errstate(all="ignore"):  # an easting may be outside the map of another zone
            back = Positions(metres, tuple(zones.tolist())).latlon()
            found_m = np.nan_to_num(ground_distances_m(back, degrees), nan=np.inf)
        nearer = found_m < apart_m
        best[nearer], apart_m[nearer] = zones[nearer], found_m[nearer]
        if (apart_m <= 1.0).all():
            break
    return tuple(best.tolist()), apart_m


def point_feature(latlon: LatLon, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return a GeoJSON point feature. Its coordinates are longitude and latitude, in this order."""
    geometry = {"type": "Point", "coordinates": [round(latlon.lon_deg, 8), round(latlon.lat_deg, 8)]}
    return {"type": "Feature", "geometry": geometry, "properties": dict(properties)}


def feature_collection(features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a GeoJSON document of several features."""
    return {"type": "FeatureCollection", "features": [dict(feature) for feature in features]}


# --- checks


def _refuse_half_known(rows: NDArray[np.float64], what: str) -> None:  # rows: (N, 2)
    bad = np.isinf(rows).any(axis=1) | (np.isnan(rows[:, 0]) != np.isnan(rows[:, 1]))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{what} in row {row} must be two finite numbers or both NaN, got {rows[row].tolist()}.")


def _check_zones(zones: tuple[str, ...], known: NDArray[np.bool_]) -> None:
    if len(zones) != len(known):
        raise InputError(f"expected {len(known)} UTM zones, one for each position, got {len(zones)}.")
    wrong = {zone for zone in set(zones) if zone and not _ZONE.fullmatch(zone)}
    if "" in zones and any(not zones[row] for row in np.flatnonzero(known)):
        wrong.add("")
    if wrong:
        raise InputError(
            f"a UTM zone must be a number from 1 to 60 and a hemisphere, N or S, such as '33N', got {min(wrong)!r}."
        )


def _require_one_kind_of_frame(a: Positions, b: Positions) -> None:
    if (a.zones is None) != (b.zones is None) and a.known.any() and b.known.any():
        raise InputError(
            "cannot compare positions with UTM zones and positions without zones. "
            "Give UTM zones for both sets of positions, or for neither."
        )


# --- UTM


def _choose_zones(degrees: Degrees) -> NDArray[np.str_]:  # (N, 2) -> (N,) such as "33N"
    """Return the same zone for all images if it fits them, otherwise the zone that contains each image."""
    if not len(degrees):
        return np.empty(0, "<U3")
    lat, lon = degrees.T
    own = np.fromiter(map(utm.latlon_to_zone_number, lat.tolist(), lon.tolist()), np.int64, len(degrees))
    shared = int(own[0]) if (own == own[0]).all() else _shared_zone(lon)
    if shared is None:
        return np.char.add(own.astype("<U2"), np.where(lat >= 0, "N", "S"))
    # A town on the equator gets one hemisphere too, so its northings may be below zero or above 10,000 km.
    return np.full(len(degrees), f"{shared}{'N' if lat.mean() >= 0 else 'S'}")


def _shared_zone(lon_deg: NDArray[np.float64]) -> int | None:
    """Return the zone whose central meridian is within `ONE_ZONE_DEG` of all longitudes, or None if there is none."""
    turns = np.exp(1j * np.deg2rad(lon_deg))  # for a mean on the circle, where 180 degrees is -180 degrees
    mean_deg = float(np.rad2deg(np.angle(turns.mean())))
    middle = int((mean_deg + 180) // 6)
    nearby = [(middle + step) % 60 + 1 for step in (-1, 0, 1)]
    furthest_deg = [np.abs((lon_deg - (6 * zone - 183) + 180.0) % 360.0 - 180.0).max() for zone in nearby]
    best = int(np.argmin(furthest_deg))
    return nearby[best] if furthest_deg[best] <= ONE_ZONE_DEG else None


def _earth_centred(degrees: Degrees) -> NDArray[np.float64]:
    """Convert positions on the WGS84 ellipsoid to (N, 3) metres in axes whose origin is the centre of the earth."""
    lat, lon = np.deg2rad(degrees).T
    normal = WGS84_A_M / np.sqrt(1 - WGS84_E2 * np.sin(lat) ** 2)
    x = normal * np.cos(lat) * np.cos(lon)
    y = normal * np.cos(lat) * np.sin(lon)
    z = normal * (1 - WGS84_E2) * np.sin(lat)
    return np.stack([x, y, z], axis=1)


# --- pairs within a radius

_Rows = tuple[Indices, NDArray[np.float64]]  # indices (n,) of images, and their coordinates (n, k)


def _sides_in_one_zone(database: Positions, queries: Positions) -> list[tuple[_Rows, _Rows]]:
    """Return, for each zone with database and query images, a pair: its database images and its query images.

    Coordinates are metres in the plane of the zone. Positions in a local frame are treated as one zone.
    """
    _require_one_kind_of_frame(database, queries)
    if not (database.known.any() and queries.known.any()):
        return []
    if database.zones is None or queries.zones is None:
        return [(_rows(database), _rows(queries))]
    base, asked = np.array(database.zones, "<U3"), np.array(queries.zones, "<U3")
    shared = np.intersect1d(base[database.known], asked[queries.known])
    return [(_rows(database, base == zone), _rows(queries, asked == zone)) for zone in shared]


def _rows(positions: Positions, mask: NDArray[np.bool_] | bool = True) -> _Rows:
    chosen = np.flatnonzero(positions.known & mask)
    return chosen, positions.metres[chosen]


def _pairs_across_zones(database: Positions, queries: Positions, radius_m: float) -> tuple[Indices, Indices]:
    base, asked = np.array(database.zones, "<U3"), np.array(queries.zones, "<U3")
    if len(np.unique(np.concatenate([base[database.known], asked[queries.known]]))) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    d, q = np.flatnonzero(database.known), np.flatnonzero(queries.known)
    chord_m = 2 * EARTH_RADIUS_M * math.sin(min(radius_m / (2 * EARTH_RADIUS_M), math.pi / 2))
    base_m, asked_m = (_earth_centred(side.take(rows).latlon()) for rows, side in ((d, database), (q, queries)))
    rows, columns = _pairs((d, base_m), (q, asked_m), chord_m)
    differ = asked[rows] != base[columns]  # pairs in the same zone are found in its plane instead
    return rows[differ], columns[differ]


def _pairs(database: _Rows, queries: _Rows, radius_m: float) -> tuple[Indices, Indices]:
    """Return the query indices and the database indices of all pairs at most `radius_m` apart."""
    from scipy.spatial import cKDTree

    (d, base), (q, asked) = database, queries
    # The tree proposes pairs a little beyond the radius; the exact check below decides about pairs at the radius.
    proposed = cKDTree(base).query_ball_point(asked, radius_m * (1 + 1e-9) + 1e-6)
    counts = np.fromiter(map(len, proposed), np.int64, len(asked))
    rows = np.repeat(np.arange(len(asked)), counts)
    columns = np.fromiter(itertools.chain.from_iterable(proposed), np.int64, int(counts.sum()))
    inside = ((asked[rows] - base[columns]) ** 2).sum(axis=1) <= radius_m**2
    return q[rows[inside]], d[columns[inside]]


def round_length_m(metres: float) -> float:
    """Return the largest round length (..., 1, 2, 5, 10, 20, 50, ...) that is at most `metres`, for a scale bar."""
    power = 10.0 ** math.floor(math.log10(metres))
    return max(step * power for step in (1, 2, 5) if step * power <= metres * (1 + 1e-9))
