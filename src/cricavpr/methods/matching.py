"""Mutual matches of patches, and the inliers of their best homography, for re-ranking.

The only module that imports OpenCV, which is the extra "rerank".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.extras import extra

FEWEST = 4  # pairs of points that a homography needs


def mutual_matches(similarity: NDArray[np.floating[Any]]) -> NDArray[np.intp]:  # (n, m), higher is better
    """Return the pairs that are each other's most similar, as rows (first, second) in the order of the first; (M, 2).

    Among equal similarities the first counts. A similarity that is not finite matches nothing.

    Example:
        >>> mutual_matches(np.array([[0.9, 0.1], [0.8, 0.2]])).tolist()
        [[0, 0]]
    """
    if not similarity.size:
        return np.empty((0, 2), np.intp)
    best = similarity.argmax(axis=1)  # (n,) for each of the first, the nearest of the second
    back = similarity.argmax(axis=0)  # (m,)
    first = np.arange(len(similarity))
    kept = (back[best] == first) & np.isfinite(similarity[first, best])
    return np.stack([first[kept], best[kept]], axis=1)


def homography_inliers(
    points_a: NDArray[Any],  # (M, 2) as x, y in pixels
    points_b: NDArray[Any],  # (M, 2), the same points in the other image
    threshold_px: float,
) -> int:
    """Count the pairs within `threshold_px` under the best homography from a to b; 0 if there is none.

    Uses OpenCV's RANSAC with its default limits, as the published re-rankers do. The same call gives the same count
    with one version of OpenCV; between versions counts differ by a few per cent of the pairs.
    """
    if len(points_a) != len(points_b):
        raise ValueError(f"both images need the same number of points, got {len(points_a)} and {len(points_b)}")
    if len(points_a) < FEWEST:
        return 0
    cv2 = opencv()
    a, b = np.asarray(points_a, np.float64), np.asarray(points_b, np.float64)
    _, inliers = cv2.findHomography(a, b, cv2.RANSAC, threshold_px)  # None where every sample is degenerate
    return 0 if inliers is None else int(inliers.sum())


def opencv() -> Any:
    """Import OpenCV; raise MissingExtraError if it is not installed."""
    with extra("rerank", "re-ranking with RANSAC"):
        import cv2
    return cv2
