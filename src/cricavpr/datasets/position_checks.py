"""Find doubtful positions by comparing photos: copies of a photo at different positions, photos far from all others."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.files import sha256_of, size_and_time
from cricavpr.geo import Degrees, Positions, distances_m, ground_distances_m

SAME_M = 1.0  # largest distance between the positions of copies of a photo
FAR_M = 1_000_000.0  # photos of one folder this far apart deserve a note


def copies_elsewhere(images: ImageSet) -> dict[int, str]:
    """Find copies of a photo (equal bytes) that have different positions, so that its true position is unknown.

    Returns:
        A dict from the row of each such photo to the reason, worded to follow the photo's name.
    """
    if images.positions is None:
        return {}
    by_size: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(images.positions.known).tolist():
        by_size[size_and_time(images.path(row))[0]].append(row)
    reasons: dict[int, str] = {}
    for size, rows in by_size.items():
        if size > 0 and len(rows) > 1:
            reasons |= _copies(images, images.positions, rows)
    return reasons


def _copies(images: ImageSet, positions: Positions, rows: Sequence[int]) -> dict[int, str]:
    by_bytes: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        with contextlib.suppress(OSError):  # a photo that cannot be read is reported when it is decoded
            by_bytes[sha256_of(images.path(row))].append(row)
    reasons = {}
    for first, *others in by_bytes.values():
        apart_m = distances_m(positions.take([first] * len(others)), positions.take(others))
        if (apart_m > SAME_M).any():
            furthest = others[int(np.argmax(apart_m))]
            for row in (first, *others):
                other = furthest if row == first else first
                reasons[row] = (
                    f"is the same photo as {images.names[other]!r}, byte for byte, but has another position "
                    f"(up to {apart_m.max():,.0f} m apart)"
                )
    return reasons


def far_from_others(images: ImageSet) -> list[Problem]:
    """Return a note if photos lie over 1,000 km from most other photos of their folder; otherwise an empty list.

    Only the folder with the most such photos is reported.
    """
    positions = images.positions
    if positions is None or positions.zones is None or _near_one_another(positions):
        return []
    by_folder: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(positions.known).tolist():
        by_folder[images.names[row].rpartition("/")[0]].append(row)
    degrees = positions.latlon()
    far = {folder: _far(degrees, np.array(rows)) for folder, rows in by_folder.items()}
    folder, rows = max(far.items(), key=lambda item: len(item[1]))
    if not len(rows):
        return []
    (lat, lon), count = degrees[rows[0]].tolist(), len(by_folder[folder])
    says = f"{len(rows):,} of the {count:,} photos in this folder lie more than 1,000 km from most others"
    first = f"first: {images.names[rows[0]]!r} at latitude {lat:.4f}, longitude {lon:.4f}"
    return [Problem(folder or ".", "note", f"{says} ({first}); check their positions")]


def _near_one_another(positions: Positions) -> bool:
    """Return whether all positions are in one UTM zone and close together; a quick test."""
    if len({zone for zone in positions.zones or () if zone}) > 1:
        return False
    known = positions.metres[positions.known]
    return not len(known) or bool((np.ptp(known, axis=0) < FAR_M / 2).all())


def _far(degrees: Degrees, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of photos over 1,000 km from the median position. 3-D is used because of the date line."""
    lat, lon = np.deg2rad(degrees[rows]).T
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    middle = rows[np.argmin(np.linalg.norm(points - np.median(points, axis=0), axis=1))]
    apart_m = ground_distances_m(degrees[rows], np.broadcast_to(degrees[middle], (len(rows), 2)))
    return np.asarray(rows[apart_m > FAR_M])
