"""Measurements of an index: places with one photo, holes in its coverage, blurred and dark photos."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.errors import ImageError
from cricavpr.geo import Positions, within_radius
from cricavpr.images import decode
from cricavpr.progress import Progress

MOST_HOLES = 20
WIDER = 2.0  # a hole is at least this many times wider than the usual gap between photos
LONG_SIDE = 512  # long side in pixels to which photos are reduced, because sharpness depends on the size
BLURRED = 0.1  # photos below this fraction of the median sharpness of all photos are blurred
DARK = 40.0  # photos with a mean brightness below this (of 255) are dark


@dataclass(frozen=True)
class Hole:
    """A hole in the coverage of an index: a circle between photos that contains no photo.

    Attributes:
        easting_m, northing_m: centre of the circle in metres.
        radius_m: radius in metres.
    """

    easting_m: float
    northing_m: float
    radius_m: float


def thin_places(positions: Positions, same_m: float) -> NDArray[np.int64]:
    """Return the rows of the photos that have no other photo within `same_m` metres.

    Photos without a position are left out.

    Example:
        >>> thin_places(Positions(np.array([[0.0, 0.0], [0.0, 20.0], [0.0, 60.0]])), 25.0)
        array([2])
    """
    known = np.flatnonzero(positions.known)
    near = within_radius(positions, positions.take(known), same_m)
    lone = np.fromiter((len(others) < 2 for others in near), np.bool_, len(known))
    return known[lone]


def main_plane(positions: Positions) -> NDArray[np.int64]:
    """Return the rows of the photos in the most common UTM zone, because one map cannot show several zones."""
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
    """Return the largest circles between photos that contain no photo, largest first. No two circles overlap.

    The photos are joined to triangles by a Delaunay triangulation. A circumcircle of a triangle can be a hole if its
    centre is inside the convex hull of the photos. Its radius must be at least 2 * `same_m`, and at least twice the
    median radius of all circumcircles, weighted by the areas of the triangles.

    Args:
        metres: easting and northing of the photos.
    """
    from scipy.spatial import Delaunay, QhullError

    points = np.unique(metres, axis=0)
    if len(points) < 4:
        return ()
    middle = points.mean(axis=0)
    try:
        mesh = Delaunay(points - middle)  # centred on the mean, because squares of large coordinates lose digits
    except QhullError:  # all photos lie on one line
        return ()
    centres, radii, areas = _circumcircles(mesh.points[mesh.simplices])
    inside = mesh.find_simplex(centres) >= 0
    order = np.argsort(radii)
    half = np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)
    least = max(2 * same_m, WIDER * float(radii[order][min(half, len(order) - 1)]))
    found: list[tuple[NDArray[np.float64], float]] = []
    for row in np.argsort(-radii, kind="stable").tolist():
        centre, radius_m = centres[row], float(radii[row])
        if radius_m < least or len(found) == MOST_HOLES:
            break
        if inside[row] and all(np.hypot(*(centre - other)) >= radius_m + wide for other, wide in found):
            found.append((centre, radius_m))
    return tuple(Hole(float(c[0] + middle[0]), float(c[1] + middle[1]), radius_m) for c, radius_m in found)


def _circumcircles(
    corners: NDArray[np.float64],  # (T, 3, 2)
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:  # (T, 2), (T,), (T,)
    """Return the centre and radius of each triangle's circumcircle, and the area of the triangle."""
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    cross = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    cross = np.where(np.abs(cross) < 1e-9, 1e-9, cross)
    bb, cc = (b**2).sum(axis=1), (c**2).sum(axis=1)
    u = np.column_stack([c[:, 1] * bb - b[:, 1] * cc, b[:, 0] * cc - c[:, 0] * bb]) / cross[:, None]
    return a + u, np.hypot(u[:, 0], u[:, 1]), np.abs(cross) / 4


# --- photos


@dataclass(frozen=True)
class Measured:
    """Sharpness and brightness of a photo.

    Attributes:
        row: row of the photo in the index.
        sharpness: variance of the Laplacian; 0 for a photo without any edge.
        brightness: mean brightness, from 0 to 255.
    """

    row: int
    sharpness: float
    brightness: float


@dataclass(frozen=True)
class Quality:
    """Blurred and dark photos of an index.

    Attributes:
        measured: number of photos that were measured.
        missing: number of photos that do not exist or cannot be read.
        blurred, dark: the blurred photos, and the dark photos; the worst first.
    """

    measured: int
    missing: int
    blurred: tuple[Measured, ...]
    dark: tuple[Measured, ...]


def quality(paths: Sequence[Path | None], progress: Progress) -> Quality:
    """Measure the photos of an index, and return the blurred and the dark photos.

    Args:
        paths: path of the photo of each row, or None if it is unknown.
    """
    found = []
    for row, path in enumerate(paths):
        with contextlib.suppress(ImageError):  # the photo counts as missing
            if path is not None:
                found.append(Measured(row, *measure(decode(path))))
        progress.advance(1)
    usual = float(np.median([one.sharpness for one in found])) if found else 0.0
    blurred = sorted((one for one in found if one.sharpness < BLURRED * usual), key=lambda one: one.sharpness)
    dark = sorted((one for one in found if one.brightness < DARK), key=lambda one: one.brightness)
    return Quality(len(found), len(paths) - len(found), tuple(blurred), tuple(dark))


def measure(image: NDArray[np.uint8]) -> tuple[float, float]:  # (H, W, 3)
    """Return sharpness and mean brightness of a photo, converted to grey and reduced to at most 512 pixels.

    Sharpness is the variance of the Laplacian: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy"
    (2000).

    Example:
        >>> measure(np.full((9, 9, 3), 7, np.uint8))
        (0.0, 7.0)
    """
    picture = Image.fromarray(image).convert("L")
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    grey = np.asarray(picture, np.float64)
    if min(grey.shape) < 3:
        return 0.0, float(grey.mean())
    across = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
    return float(across.var()), float(grey.mean())
