"""Contribution of each image region to the score of a match, for CricaVPR descriptors.

A CricaVPR descriptor consists of one vector for each region of the image (paper section 3.2). The whole descriptor has
length 1. So the cosine of two descriptors is the sum of the dot products of their region vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cricavpr.describing import describe_one
from cricavpr.errors import InputError
from cricavpr.methods.base import Method, network_of
from cricavpr.plotting import Axes, Figure, looks, new_figure

if TYPE_CHECKING:
    from cricavpr.models.cricavpr import CricaVPRConfig

Box = tuple[float, float, float, float]  # top, left, height, width as fractions of the photo


@dataclass(frozen=True)
class Looked:
    """Contributions of the regions to the cosine of two photos.

    Attributes:
        levels: levels of the pyramid, such as (1, 2, 3); level n divides the photo into n x n regions.
        boxes: one box for each region.
        contributions: (R,) for each region, the dot product of its vectors in the two photos. The sum is the cosine.
    """

    levels: tuple[int, ...]
    boxes: tuple[Box, ...]
    contributions: NDArray[np.float64]

    @property
    def cosine(self) -> float:
        return float(self.contributions.sum())

    def level(self, number: int) -> tuple[tuple[Box, ...], NDArray[np.float64]]:
        """Return the boxes and contributions of the regions of one level, row by row.

        Args:
            number: index of the level in `levels`.
        """
        start = sum(level**2 for level in self.levels[:number])
        stop = start + self.levels[number] ** 2
        return self.boxes[start:stop], self.contributions[start:stop]


@dataclass(frozen=True, eq=False)
class Pair:
    """A query, its first match, and the contributions of the regions to their cosine.

    Attributes:
        query, match: the two photos.
        looked: contributions of the regions.
        right: whether the match is correct.
    """

    query: NDArray[np.uint8]  # (H, W, 3)
    match: NDArray[np.uint8]  # (H, W, 3)
    looked: Looked
    right: bool


def look(method: Method, query: NDArray[np.uint8], match: NDArray[np.uint8]) -> Looked:  # (H, W, 3) twice
    """Describe both photos, each alone, and split the cosine of their descriptors by region.

    Raises:
        InputError: the method is not a cricavpr method with a pyramid of regions.
    """
    config = _config(method)
    a, b = (describe_one(method, picture).reshape(config.regions, -1) for picture in (query, match))
    return Looked(config.levels, boxes(method), contributions(a, b))


def contributions(
    a: NDArray[np.float32],  # (R, C)
    b: NDArray[np.float32],  # (R, C)
) -> NDArray[np.float64]:  # (R,)
    """Return the contribution of each region (row) to the dot product of two descriptors.

    Example:
        >>> contributions(np.float32([[1, 0], [0, 1]]), np.float32([[0.5, 0], [0, 0.25]]))
        array([0.5 , 0.25])
    """
    parts: NDArray[np.float64] = (a.astype(np.float64) * b).sum(axis=1)
    return parts


def boxes(method: Method) -> tuple[Box, ...]:
    """Return the boxes of the regions of a cricavpr method, as fractions of the photo."""
    from cricavpr.models.aggregators import pyramid_regions

    config = _config(method)
    assert method.image_size is not None  # a pyramid has a grid
    height, width = (side // config.backbone.patch for side in method.image_size)
    regions = pyramid_regions(height, width, config.levels, config.region_cuts)
    return tuple(
        (r.start / height, c.start / width, (r.stop - r.start) / height, (c.stop - c.start) / width) for r, c in regions
    )


def _config(method: Method) -> CricaVPRConfig:
    from cricavpr.models.cricavpr import CricaVPR

    network = network_of(method)
    if not isinstance(network, CricaVPR) or network.config.aggregator != "pyramid":
        raise InputError(f"{method.name} has no pyramid of regions to draw. Give a cricavpr method instead.")
    return network.config


def draw(pairs: Sequence[Pair]) -> Figure:
    """Draw a row for each pair: query and match with the contributions of their regions.

    The two photos are drawn once for each pyramid level. Level 1 is left out, because its region is the whole photo.

    The number in a region is its contribution in per cent of the cosine; darker regions contribute more.
    """
    levels = [number for number, level in enumerate(pairs[0].looked.levels) if level > 1]
    columns = 2 * len(levels)
    figure, axes = new_figure(1.75 * columns + 0.2, 2.15 * len(pairs) + 0.3, len(pairs), columns)
    with looks():
        for row, pair in enumerate(pairs):
            looked, of = pair.looked, axes[row * columns : (row + 1) * columns]
            for place, number in enumerate(levels):
                for axis, picture in zip(of[2 * place : 2 * place + 2], (pair.query, pair.match), strict=True):
                    _overlay(axis, picture, *looked.level(number), looked.cosine)
            whole = 100 * float(looked.contributions[: looked.levels[0] ** 2].sum()) / looked.cosine
            of[0].set_xlabel(
                f"{'✓' if pair.right else '✗'} cosine {looked.cosine:.3f}; class token {whole:.0f} %",
                fontsize=8,
                loc="left",
            )
        for place, number in enumerate(levels):
            side = pairs[0].looked.levels[number]
            axes[2 * place].set_title(f"query, {side} x {side}", fontsize=8)
            axes[2 * place + 1].set_title(f"match, {side} x {side}", fontsize=8)
    return figure


def _overlay(
    axes: Axes,
    picture: NDArray[np.uint8],
    of: Sequence[Box],
    given: NDArray[np.float64],
    cosine: float,
) -> None:
    height, width = picture.shape[:2]
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.imshow(picture.mean(axis=2), cmap="gray", vmin=-120, vmax=255)  # pale, so that the numbers can be read
    spread = np.ptp(given) or 1.0
    for (top, left, tall, wide), value in zip(of, given.tolist(), strict=True):
        x, y = left * width - 0.5, top * height - 0.5
        right, bottom = x + wide * width, y + tall * height
        shade = 0.55 * (value - float(given.min())) / float(spread)
        corners = (x, right, right, x), (y, y, bottom, bottom)
        axes.fill(*corners, facecolor="#d55e00", alpha=shade, linewidth=0)
        axes.fill(*corners, fill=False, edgecolor="white", linewidth=1.0)
        axes.text(
            (x + right) / 2,
            (y + bottom) / 2,
            f"{round(100 * value / cosine) + 0:d}",
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
        )
