"""Mutual matches of patches, and the number of matches that agree with their best homography, for re-ranking.

This is the only module that imports OpenCV, which the extra "rerank" installs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.extras import extra

FEWEST = 4  # least number of pairs of points that a homography needs


def mutual_matches(similarity: NDArray[np.floating[Any]]) -> NDArray[np.intp]:  # (n, m), higher is better
    """Return the pairs of patches (i, j) that are each other's most similar patch, sorted by i: (M, 2).

    Args:
        similarity: entry [i, j] is the similarity of patch i of one image to patch j of another. Ties go to the lower
            index. Entries that are not finite never match.

    Example:
        >>> mutual_matches(np.array([[0.9, 0.1], [0.8, 0.2]])).tolist()
        [[0, 0]]
    """
    if not similarity.size:
        return np.empty((0, 2), np.intp)
    best = similarity.argmax(axis=1)  # (n,) for each i, the most similar j
    back = similarity.argmax(axis=0)  # (m,) for each j, the most similar i
    first = np.arange(len(similarity))
    kept = (back[best] == first) & np.isfinite(similarity[first, best])
    return np.stack([first[kept], best[kept]], axis=1)


def homography_inliers(
    points_a: NDArray[Any],  # (M, 2) as x, y in pixels
    points_b: NDArray[Any],  # (M, 2), the same points in the other image
    threshold_px: float,
) -> int:
    """Count the pairs of points that agree with the best homography from image a to image b.

    A pair agrees if the homography maps its point in image a to a point at most `threshold_px` pixels from its point in
    image b. The count is 0 if no homography is found.

    The homography is found by OpenCV's RANSAC with its default limits, as in the published re-rankers. The same version
    of OpenCV always gives the same count. Counts of different versions differ by a few per cent of the pairs.
    """
    if len(points_a) != len(points_b):
        raise ValueError(f"both images need the same number of points, got {len(points_a)} and {len(points_b)}")
    if len(points_a) < FEWEST:
        return 0
    cv2 = opencv()
    a, b = np.asarray(points_a, np.float64), np.asarray(points_b, np.float64)
    _, inliers = cv2.findHomography(a, b, cv2.RANSAC, threshold_px)  # None if every sample is degenerate
    return 0 if inliers is None else int(inliers.sum())


def opencv() -> Any:
    """Import and return OpenCV; raise MissingExtraError if it is not installed."""
    with extra("rerank", "re-ranking with RANSAC"):
        import cv2
    return cv2
