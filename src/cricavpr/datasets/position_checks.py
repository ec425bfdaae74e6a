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

SAME_M = 1.0  # copies of a photo may have positions this far apart
FAR_M = 1_000_000.0  # a note is given for photos this far from the others in their folder


def copies_elsewhere(images: ImageSet) -> dict[int, str]:
    """Find files with equal bytes but different positions: copies of a photo whose true position is unknown.

    Returns:
        A dict that maps the index of each such photo to the reason, as the end of a sentence that begins with its name.
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
    """Return a note if a folder has photos over 1,000 km away from most of its photos; otherwise an empty list.

    If several folders have such photos, only the folder with the most of them is reported.
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
    says = f"{len(rows):,} of the {count:,} photos in this folder are more than 1,000 km away from most of its photos"
    first = f"first: {images.names[rows[0]]!r} at latitude {lat:.4f}, longitude {lon:.4f}"
    return [Problem(folder or ".", "note", f"{says} ({first}); check their positions")]


def _near_one_another(positions: Positions) -> bool:
    """Test quickly whether all positions are in one UTM zone and within 500 km along both axes."""
    if len({zone for zone in positions.zones or () if zone}) > 1:
        return False
    known = positions.metres[positions.known]
    return not len(known) or bool((np.ptp(known, axis=0) < FAR_M / 2).all())


def _far(degrees: Degrees, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of `rows` that are over 1,000 km from the median position of `rows`.

    The median is taken in 3-D, because longitudes jump at the date line.
    """
    lat, lon = np.deg2rad(degrees[rows]).T
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    middle = rows[np.argmin(np.linalg.norm(points - np.median(points, axis=0), axis=1))]
    apart_m = ground_distances_m(degrees[rows], np.broadcast_to(degrees[middle], (len(rows), 2)))
    return np.asarray(rows[apart_m > FAR_M])
