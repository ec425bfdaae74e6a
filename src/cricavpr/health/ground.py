"""Where an index has photos and where it has none: thin places and holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.geo import Positions, within_radius

MOST_HOLES = 20
WIDER = 2.0  # than what is usual between photos: streets leave houses between them, and that is no hole


@dataclass(frozen=True)
class Hole:
    """An empty circle between photos: metres in the plane of the map."""

    easting_m: float
    northing_m: float
    radius_m: float


def counted(found: int, most: int) -> str:
    """How many there are, said of a list that ends at `most`."""
    return f"{found} or more" if found == most else str(found)


def thin_places(positions: Positions, same_m: float) -> NDArray[np.int64]:
    """Photos with a position and without another one within `same_m`: what they show hangs on one picture."""
    known = np.flatnonzero(positions.known)
    near = within_radius(positions, positions.take(known), same_m)
    lone = np.fromiter((len(others) < 2 for others in near), np.bool_, len(known))
    return known[lone]


def main_plane(positions: Positions) -> NDArray[np.int64]:
    """The photos of the UTM zone that has most of them: only within a zone do metres make one map."""
    known = np.flatnonzero(positions.known)
    if positions.zones is None or not len(known):
        return known
    zones = np.array(positions.zones, "<U3")[known]
    names, counts = np.unique(zones, return_counts=True)
    most: NDArray[np.int64] = known[zones == names[int(np.argmax(counts))]]
    return most


def holes(
    metres: NDArray[np.float64],  # (N, 2)
    same_m: float,
) -> tuple[Hole, ...]:
    """The largest empty circles between photos, largest first; none overlaps another.

    The centres are those of the Delaunay triangulation that lie within the convex hull. A circle is a hole where it
    is twice as wide as the ground usually is between photos, and wider than a place.
    """
    from scipy.spatial import Delaunay, QhullError

    points = np.unique(metres, axis=0)
    if len(points) < 4:
        return ()
    try:
        mesh = Delaunay(points - points.mean(axis=0))  # near zero, where squares keep their digits
    except QhullError:  # all photos on one line
        return ()
    centres, radii, areas = _circles(mesh.points[mesh.simplices])
    inside = mesh.find_simplex(centres) >= 0
    order = np.argsort(radii)
    half = np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)
    least = max(2 * same_m, WIDER * float(radii[order][min(half, len(order) - 1)]))
    found: list[tuple[NDArray[np.float64], float]] = []
    for place in np.argsort(-radii, kind="stable").tolist():
        centre, radius_m = centres[place], float(radii[place])
        if radius_m < least or len(found) == MOST_HOLES:
            break
        if inside[place] and all(np.hypot(*(centre - other)) >= radius_m + wide for other, wide in found):
            found.append((centre, radius_m))
    middle = points.mean(axis=0)
    return tuple(Hole(float((c + middle)[0]), float((c + middle)[1]), radius_m) for c, radius_m in found)


def _circles(
    corners: NDArray[np.float64],  # (T, 3, 2)
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:  # (T, 2), (T,), (T,)
    """Centre and radius of each triangle's circumcircle, and its area."""
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    cross = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    cross = np.where(np.abs(cross) < 1e-9, 1e-9, cross)
    bb, cc = (b**2).sum(axis=1), (c**2).sum(axis=1)
    u = np.column_stack([c[:, 1] * bb - b[:, 1] * cc, b[:, 0] * cc - c[:, 0] * bb]) / cross[:, None]
    return a + u, np.hypot(u[:, 0], u[:, 1]), np.abs(cross) / 4
