"""A picture of the places that were found among photos, as SVG: north is up, one colour per place, grey is unused."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable
from html import escape

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.place_folder import FoundPlaces
from cricavpr.geo import EARTH_RADIUS_M, round_length_m

SIDE = 900  # pixels of the longer side of the map
LEAST = 620  # pixels of width that the words below it need
MARGIN, FOOT = 40, 64  # pixels around it, and below it for the words
TICK = 11  # pixels of the stroke that shows which way a photo looks
TURN_DEG = 137.508  # the golden angle: neighbouring numbers get colours far apart

_Points = NDArray[np.float64]  # (N, 2)


def places_svg(found: FoundPlaces, name: str) -> str:
    """The map as text."""
    metres = _plane(found)
    known = ~np.isnan(metres[:, 0])
    spots = metres[known] if known.any() else np.zeros((1, 2))
    low, high = spots.min(axis=0), spots.max(axis=0)
    pixels_per_m = SIDE / max(float((high - low).max()), 4 * found.rule.radius_m, 1.0)
    width, height = (float(extent) * pixels_per_m for extent in high - low)
    width, height = max(width, LEAST) + 2 * MARGIN, max(height, LEAST / 2) + 2 * MARGIN
    points = ((metres - (low + high) / 2) * pixels_per_m) * (1, -1) + (width / 2, height / 2)
    used = np.concatenate([np.empty(0, np.int64), *found.members])
    unused = known.copy()
    unused[used] = False
    places = "".join(_place(found, number, points, pixels_per_m) for number in range(len(found)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height + FOOT:.0f}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="15" fill="none" stroke-linecap="round">'
        f"<title>{escape(_words(found, name))}</title>"
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<path d="{_ticks(found, points, np.flatnonzero(unused))}" stroke="#b9bec4" '
        'stroke-width="1.5"/>'
        f'<path d="{_dots(points[unused])}" stroke="#b9bec4" stroke-width="5"/>'
        f"{places}{_foot(found, name, width, height, pixels_per_m)}</svg>\n"
    )


def _plane(found: FoundPlaces) -> _Points:
    """Metres east and north; photos of several UTM zones are laid out by degrees around their middle."""
    positions = found.images.positions
    assert positions is not None
    if positions.zones is None or len({zone for zone in positions.zones if zone}) < 2:
        return positions.metres
    degrees = positions.latlon()
    lat, lon = np.deg2rad(degrees).T
    return EARTH_RADIUS_M * np.stack([lon * math.cos(float(np.nanmean(lat))), lat], axis=1)


def _place(found: FoundPlaces, number: int, points: _Points, pixels_per_m: float) -> str:
    rows = found.members[number]
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(number * TURN_DEG / 360 % 1, 0.42, 0.7))
    colour = f"#{red:02x}{green:02x}{blue:02x}"
    x, y = points[found.middles[number]].tolist()
    radius = max(5.0, found.rule.radius_m * pixels_per_m)
    return (
        f'<g stroke="{colour}"><circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" '
        f'fill-opacity=".12" stroke-width="1"/><path d="{_ticks(found, points, rows)}" stroke-width="1.5"/>'
        f'<path d="{_dots(points[rows])}" stroke-width="6"/></g>'
    )


def _dots(points: _Points) -> str:
    """Lines of no length with round ends."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points.tolist())


def _ticks(found: FoundPlaces, points: _Points, rows: Iterable[int]) -> str:
    parts = []
    for row in rows:
        heading = math.radians(float(found.headings_deg[row]))
        if not math.isnan(heading):
            x, y = points[row].tolist()
            parts.append(f"M{x:.1f} {y:.1f}l{TICK * math.sin(heading):.1f} {-TICK * math.cos(heading):.1f}")
    return "".join(parts)


def _words(found: FoundPlaces, name: str) -> str:
    return f"{name}: {len(found):,} places from {found.used:,} of {len(found.images):,} photos"


def _foot(found: FoundPlaces, name: str, width: float, height: float, pixels_per_m: float) -> str:
    """What is shown, and a bar of a round length."""
    metres = round_length_m(0.2 * width / pixels_per_m)
    bar, top = metres * pixels_per_m, round(height + 14)
    left = width - MARGIN - bar
    label = f"{metres:g} m" if metres < 1000 else f"{metres / 1000:g} km"
    looks = "" if np.isnan(found.headings_deg).all() else "strokes: where photos look; "
    words = _words(found, escape(name.encode("utf-8", "replace").decode()))
    return (
        f'<g fill="#22262b"><text x="{MARGIN}" y="{top}">{words}</text>'
        f'<text x="{MARGIN}" y="{top + 24}" fill="#6b7178">grey: in no place; {looks}'
        "north is up</text>"
        f'<text x="{left + bar / 2:.1f}" y="{top}" text-anchor="middle">{label}</text></g>'
        f'<path d="M{left:.1f} {top + 8}v6h{bar:.1f}v-6" stroke="#22262b" stroke-width="1.5"/>'
    )
