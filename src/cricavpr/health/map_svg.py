"""The map of an index as inline SVG: photos, thin places, holes, and lines between places that look alike.

One unit is one metre; y points down in SVG, so north is minus y. Lines keep their width on every screen.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cricavpr.geo import round_length_m
from cricavpr.health.findings import Health

MARGIN = 0.06  # of the longer side
LEAST_SIDE_M = 60.0


def map_svg(health: Health) -> str:
    """The whole map. Photos of other UTM zones are not on it."""
    metres = health.index.positions.metres
    low, high = metres[health.plane].min(axis=0), metres[health.plane].max(axis=0)
    middle, side = (low + high) / 2, max(LEAST_SIDE_M, float((high - low).max()))
    half = np.maximum((high - low) / 2, side * 0.25) + MARGIN * side
    on_map = set(health.plane.tolist())
    spots = (metres - middle) * (1, -1)  # (N, 2) right, down
    unit = side / 100  # of marks that grow with the map
    box = f"{-half[0]:.1f} {-half[1]:.1f} {2 * half[0]:.1f} {2 * half[1]:.1f}"
    holes = "".join(
        f'<circle class="hole" cx="{hole.easting_m - middle[0]:.1f}" cy="{middle[1] - hole.northing_m:.1f}" '
        f'r="{hole.radius_m:.1f}"/>'
        for hole in health.holes
    )
    alike = [pair for pair in health.alike.aliases if {pair.first, pair.second} <= on_map]
    lines = "".join(f'<path class="alike" d="M{_xy(spots[pair.first])}L{_xy(spots[pair.second])}"/>' for pair in alike)
    thin = [row for row in health.thin.tolist() if row in on_map]
    return (
        f'<svg class="map" viewBox="{box}" role="img" aria-label="{_label(health, len(thin), len(alike))}">{holes}'
        f'<path class="photos" d="{_dots(spots[health.plane])}"/>'
        f'<path class="thin" d="{_dots(spots[thin])}"/>{lines}{_scale(half, unit)}</svg>'
    )


def _label(health: Health, thin: int, alike: int) -> str:
    """What is drawn, for those who do not see it."""
    return (
        f"Map of {len(health.plane):,} photos with {len(health.holes)} holes, {thin:,} thin places and "
        f"{alike} {health.alike.kind}. North is up."
    )


def _dots(spots: Iterable[NDArray[np.float64]]) -> str:
    """Lines of no length with round ends: any number of dots of a constant size in one element."""
    return "".join(f"M{_xy(spot)}h0" for spot in spots)


def _xy(spot: NDArray[np.float64]) -> str:
    return f"{spot[0]:.1f} {spot[1] + 0.0:.1f}"


def _scale(half: NDArray[np.float64], unit: float) -> str:
    length = round_length_m(max(1.0, half[0] * 0.4))
    said = f"{length:g} m" if length < 1000 else f"{length / 1000:g} km"
    x, y = -half[0] + 3 * unit, half[1] - 3 * unit
    return (
        f'<path class="scale" d="M{x:.1f} {y:.1f}h{length:.0f}"/>'
        f'<text x="{x:.1f}" y="{y - 1.2 * unit:.1f}" font-size="{2 * unit:.1f}">{said}</text>'
    )
