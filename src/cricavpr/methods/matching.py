"""What re-rankers share: pairs of patches that choose each other, and how many of them one homography explains.

OpenCV has its home here; it is the extra "rerank".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.extras import extra

FEWEST = 4  # point pairs that a homography needs


def mutual_matches(similarity: NDArray[np.floating[Any]]) -> NDArray[np.intp]:  # (n, m), higher is better
    """Pairs that are each other's most similar, as rows (first, second) in the order of the first; (M, 2).

    Of equal similarities the first counts. A non-finite similarity matches nothing.
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
    points_b: NDArray[Any],  # (M, 2), the same points seen in the other picture
    threshold_px: float,
) -> int:
    """How many pairs the best homography from a to b brings within `threshold_px` of each other; 0 where there is none.

    OpenCV's RANSAC with its own limits, as the published re-rankers call it. The same call gives the same count
    within one version of OpenCV; across versions counts differ by a few per cent of the pairs.
    """
    if len(points_a) != len(points_b):
        raise ValueError(f"{len(points_a)} points cannot be paired with {len(points_b)}")
    if len(points_a) < FEWEST:
        return 0
    cv2 = opencv()
    a, b = np.asarray(points_a, np.float64), np.asarray(points_b, np.float64)
    _, inliers = cv2.findHomography(a, b, cv2.RANSAC, threshold_px)  # None where every sample is degenerate
    return 0 if inliers is None else int(inliers.sum())


def opencv() -> Any:
    """The OpenCV module, or one line that names the extra."""
    with extra("rerank", "re-ranking with RANSAC"):
        import cv2
    return cv2
