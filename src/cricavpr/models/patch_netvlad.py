"""Patch-NetVLAD: a NetVLAD descriptor of every square patch of the feature map, with the whitening of the whole image.

Source: Hausler et al., "Patch-NetVLAD: Multi-Scale Fusion of Locally-Global Descriptors for Place Recognition" (CVPR
2021), section 3. The authors sum patches with integral images, whose float32 errors reach 1e-3 for the smallest
patches. This module sums the cells of each patch directly. Letters: B images, K clusters, C channels, P patches, D
dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cricavpr.errors import InputError
from cricavpr.models.netvlad import VLADNet

STRIDE_PX = 16  # stride of VGG-16 up to conv5_3
RECEPTIVE_PX = 196  # side of the receptive field of a cell of conv5_3
PADDING_PX = 90  # the receptive field of the first cell begins this far outside the image
CLUSTERS_AT_ONCE = 8  # clusters whose residuals are in memory together: 20 MB for 480 x 640 pixels


def patch_descriptors(network: VLADNet, maps: Tensor, sizes: Sequence[int]) -> list[Tensor]:  # (B, C, h, w)
    """Return descriptors of unit length of all patches, row by row: a tensor (B, P, D) for each patch size.

    Args:
        network: the network whose NetVLAD layer (`pool`) and whitening are used.
        maps: output of the trunk of `network`.
        sizes: side of the patches of each size, in cells of the feature map.

    Raises:
        InputError: a patch does not fit into the map, or the network orders descriptors channel by channel.
    """
    if network.pool.flattening != "clusters":
        raise InputError(
            "patches need descriptors ordered cluster by cluster, but these weights order them channel by channel. "
            "Use other weights."
        )
    height, width = maps.shape[-2:]
    if not sizes or min(sizes) < 1 or max(sizes) > min(height, width):
        raise InputError(
            f"patches of {list(sizes)} cells a side do not fit into a feature map of {height} x {width} cells; "
            "use larger images."
        )
    unit, shares = network.pool.assign(maps)
    return [_of_one_size(network, unit, shares, size) for size in sizes]


def _of_one_size(
    network: VLADNet,
    unit: Tensor,  # (B, C, h, w)
    shares: Tensor,  # (B, K, h, w)
    size: int,
) -> Tensor:  # (B, P, D)
    """Return the descriptors of all patches of one size. To save memory, handle only a few clusters at a time."""
    weight = None if network.whitening is None else network.whitening.weight  # (D, K C)
    channels = unit.shape[1]
    added: list[Tensor] = []
    squared: Tensor | None = None  # (B, P)
    for first in range(0, shares.shape[1], CLUSTERS_AT_ONCE):
        last = min(first + CLUSTERS_AT_ONCE, shares.shape[1])
        centres = network.pool.centroids[first:last, :, None, None]
        residuals = shares[:, first:last, None] * (unit[:, None] - centres)  # (B, k, C, h, w)
        means = F.avg_pool2d(residuals.flatten(1, 2), size, stride=1)  # (B, k C, h', w')
        patches = means.flatten(2).transpose(1, 2).reshape(len(means), -1, last - first, channels)
        within = F.normalize(patches, dim=3)  # (B, P, k, C)
        length = within.square().sum(dim=(2, 3))
        squared = length if squared is None else squared + length
        flat = within.flatten(2)  # (B, P, k C)
        if weight is None:
            added.append(flat)
        else:
            part = flat @ weight[:, first * channels : last * channels].T
            added = [added[0].add_(part)] if added else [part]
    assert squared is not None
    norm = squared.sqrt().clamp(min=1e-12)[..., None]
    if network.whitening is None:
        return torch.cat(added, dim=2) / norm
    return F.normalize(added[0] / norm + network.whitening.bias, dim=2)


def patch_grid(size: int, height: int, width: int) -> tuple[int, int]:
    """Return how many rows and columns of patches of side `size` fit on a feature map of height x width cells."""
    return height - size + 1, width - size + 1


def patch_positions(rows: int, columns: int) -> NDArray[np.int64]:
    """Return the column and row of each patch in the grid of patches as x, y: (P, 2)."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)


def patch_centres_px(size: int, rows: int, columns: int) -> NDArray[np.int64]:
    """Return the centre of the receptive field of each patch as x, y in whole pixels, truncated: (P, 2)."""
    begins = STRIDE_PX * patch_positions(rows, columns) - PADDING_PX
    ends = begins + STRIDE_PX * (size - 1) + RECEPTIVE_PX - 1
    return np.trunc((begins + ends) / 2).astype(np.int64)
