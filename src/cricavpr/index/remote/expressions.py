"""Filters as expressions of the server.

Times and tags are decided by the server. Places are decided twice: the server leaves out what is surely too far, and
the same `Filter` as for an index on disk decides about the rest, so a photo on the border is treated alike everywhere.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cricavpr.errors import InputError
from cricavpr.geo import EARTH_RADIUS_M, LatLon
from cricavpr.index.engines.filters import Box, Filter, Near, Tagged, Taken
from cricavpr.index.remote.entities import NO_TIME, encode

STRIPS = 16  # of latitude, that a circle is covered with: about a tenth more than its area
MARGIN_DEG = 1e-9  # a tenth of a millimetre: more than rounding
MARGIN = 1.01  # of a radius: UTM planes and a sphere keep lengths to 0.8 %


def expression_of(filters: Sequence[Filter]) -> str:
    """What the server is asked for, "" for everything: all that fits every filter, and at a border a little more.

    Raises:
        InputError: a filter that the server does not know.
    """
    return " and ".join(f"({_expression(one)})" for one in filters)


def decided_here(filters: Sequence[Filter]) -> tuple[Filter, ...]:
    """The filters that the server has not decided exactly."""
    return tuple(one for one in filters if isinstance(one, (Box, Near)))


def one_of(field: str, texts: Sequence[str]) -> str:
    """That a field is one of some encoded texts, in which there is nothing that a quote could end."""
    return f"{field} in [" + ",".join(f'"{text}"' for text in texts) + "]"


def _expression(one: Filter) -> str:
    match one:
        case Box():
            return _box(one.south_deg, one.north_deg, one.west_deg, one.east_deg)
        case Near():
            return _circle(one.place, one.radius_m * MARGIN / EARTH_RADIUS_M)
        case Taken():
            return _time(one.first, one.end)
        case Tagged():
            return f'array_contains(tags, "{encode(os.fsencode(one.tag))}")'
    raise InputError(f"a remote index cannot filter by {one}. Use Box, Near, Taken or Tagged.")


def _box(south_deg: float, north_deg: float, west_deg: float, east_deg: float) -> str:
    west, east = f"lon_deg >= {_less(west_deg)}", f"lon_deg <= {_more(east_deg)}"
    sides = f"({west} or {east})" if west_deg > east_deg else f"{west} and {east}"  # across the date line
    return f"lat_deg >= {_less(south_deg)} and lat_deg <= {_more(north_deg)} and {sides}"


def _less(deg: float) -> str:
    return repr(float(deg) - MARGIN_DEG)  # float(): numpy writes its numbers with their type


def _more(deg: float) -> str:
    return repr(float(deg) + MARGIN_DEG)


def _circle(place: LatLon, angle: float) -> str:  # angle: radius as seen from the earth's centre
    """Strips of latitude that cover a circle on a sphere."""
    if angle >= math.pi:
        return _box(-90.0, 90.0, -180.0, 180.0)
    angle += math.radians(MARGIN_DEG)
    middle = math.radians(place.lat_deg)
    low, high = max(middle - angle, -math.pi / 2), min(middle + angle, math.pi / 2)
    edges = np.linspace(low, high, STRIPS + 1).tolist()
    return " or ".join(f"({_strip(place.lon_deg, middle, angle, a, b)})" for a, b in pairwise(edges))


def _strip(lon_deg: float, middle: float, angle: float, low: float, high: float) -> str:
    """The part of a circle between two latitudes, as wide as it is where it is widest."""
    widest = math.asin(min(max(math.sin(middle) / math.cos(angle), -1.0), 1.0)) if angle < math.pi / 2 else high
    half_deg = max(_half_width_deg(middle, angle, lat) for lat in (low, high, min(max(widest, low), high)))
    south_deg, north_deg = math.degrees(low), math.degrees(high)
    if half_deg >= 180.0:
        return _box(south_deg, north_deg, -180.0, 180.0)
    west_deg, east_deg = lon_deg - half_deg, lon_deg + half_deg
    return _box(south_deg, north_deg, _turned(west_deg), _turned(east_deg))


def _half_width_deg(middle: float, angle: float, lat: float) -> float:
    """How far in longitude the circle reaches at a latitude."""
    across = math.cos(middle) * math.cos(lat)
    if across < 1e-12:  # at a pole all longitudes are one
        return 180.0
    cosine = (math.cos(angle) - math.sin(middle) * math.sin(lat)) / across
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))


def _turned(deg: float) -> float:
    """Into -180..180, where it is not there already."""
    return deg if -180.0 <= deg <= 180.0 else (deg + 180.0) % 360.0 - 180.0


def _time(first: np.datetime64 | None, end: np.datetime64 | None) -> str:
    """Whole milliseconds; what has no time is taken at none."""
    parts = [f"time_ms >= {NO_TIME + 1 if first is None else _milliseconds_up(first)}"]
    if end is not None:
        parts.append(f"time_ms < {_milliseconds_up(end)}")
    return " and ".join(parts)


def _milliseconds_up(when: np.datetime64) -> int:
    """The first whole millisecond that is not before a time."""
    whole = when.astype("datetime64[ms]")
    return int(whole.astype(np.int64)) + int(whole < when)
