"""Aggregation of patch tokens into regions: GeM pooling, and the spatial pyramid of class token, 2x2 and 3x3 regions.

Source: the CricaVPR paper, section 3.2. Letters: B images, h x w patches, C width, R regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.vit import Tokens

RegionCuts = Literal["grid", "authors"]
Whole = Literal["class_token", "gem"]
Region = tuple[slice, slice]  # rows, columns of the grid of patches

_AUTHORS_CUTS = {2: (8,), 3: (5, 11)}  # by level: fixed cut positions in the authors' code


class GeM(nn.Module):
    """GeM pooling: the generalised mean over the patches of each region, (mean of x^p)^(1/p), with one learnt p."""

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))

    def forward(self, patches: Tensor, regions: Sequence[Region]) -> Tensor:  # (B, h, w, C)
        powered = patches.clamp(min=1e-6).pow(self.p)
        means = [powered[:, rows, columns].mean(dim=(1, 2)) for rows, columns in regions]
        return torch.stack(means, dim=1).pow(1 / self.p)  # (B, R, C)

    def whole(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        """Pool a feature map over its whole height and width into one vector for each image: (B, C)."""
        everywhere = (slice(None), slice(None))
        return self(maps.permute(0, 2, 3, 1), [everywhere])[:, 0]  # type: ignore[no-any-return]  # (B, C)


class PyramidAggregator(nn.Module):
    """Spatial pyramid that turns tokens into regions (B, R, C). Level n cuts the grid of patches into n x n regions.

    Level 1 is the class token or, with `whole="gem"`, GeM over all patches. The paper's pyramid has the levels
    (1, 2, 3) with the class token. The paper's ablation "GeM" has only level 1, with `whole="gem"`.
    """

    def __init__(self, levels: tuple[int, ...], whole: Whole, cuts: RegionCuts) -> None:
        super().__init__()
        self.levels, self.whole, self.cuts = levels, whole, cuts
        self.gem = GeM()

    def forward(self, tokens: Tokens) -> Tensor:
        pooled_levels = self.levels if self.whole == "gem" else tuple(n for n in self.levels if n > 1)
        height, width = tokens.patches.shape[1:3]
        regions = pyramid_regions(height, width, pooled_levels, self.cuts)
        parts = []
        if self.whole == "class_token" and 1 in self.levels:
            parts.append(tokens.class_token[:, None])
        if regions:
            parts.append(self.gem(F.normalize(tokens.patches, dim=-1), regions))
        return torch.cat(parts, dim=1)  # (B, R, C)


def region_count(levels: Sequence[int]) -> int:
    """Count the regions of a pyramid: level n has n x n regions.

    Example:
        >>> region_count((1, 2, 3))
        14
    """
    return sum(level**2 for level in levels)


@lru_cache(maxsize=64)
def pyramid_regions(height: int, width: int, levels: tuple[int, ...], cuts: RegionCuts) -> tuple[Region, ...]:
    """Return the regions of each level, row by row, as slices of the grid of patches.

    Args:
        height, width: size of the grid, in patches.
        levels: level n cuts the grid into n x n regions.
        cuts: "grid" cuts as evenly as possible; "authors" cuts grids of every size at the same positions, as the
            authors' code does. On a grid of 16 x 16 patches both give the same regions.

    Raises:
        InputError: the grid is too small to be cut into the regions of a level.

    Example:
        >>> pyramid_regions(4, 6, (2,), "grid")[1]
        (slice(0, 2, None), slice(3, 6, None))
    """
    return tuple(
        (rows, columns)
        for level in levels
        for rows in _parts(height, level, cuts)
        for columns in _parts(width, level, cuts)
    )


def _parts(patches: int, level: int, cuts: RegionCuts) -> list[slice]:
    """Cut one side of the grid into `level` slices.

    With "grid", the slices are as even and symmetric as possible, such as 5, 6 and 5 of 16 patches.
    """
    if cuts == "authors" and level in _AUTHORS_CUTS:
        inner = _AUTHORS_CUTS[level]
    else:
        inner = tuple((2 * patches * i + level) // (2 * level) for i in range(1, level))
    edges = (0, *inner, patches)
    if any(stop <= start for start, stop in pairwise(edges)):
        raise InputError(f"a grid side of {patches} patches cannot be cut into {level} regions; use larger images.")
    return [slice(start, stop) for start, stop in pairwise(edges)]
