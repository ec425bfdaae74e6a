"""NetVLAD: what is left of local features once the nearest of K learnt centres is taken off, summed for each centre.

Source: Arandjelovic et al., "NetVLAD: CNN architecture for weakly supervised place recognition" (CVPR 2016), section
3.1; the assignment has no bias, as published. Regions: Ge et al., "Self-supervising Fine-grained Region Similarities
for Large-scale Image Localization" (ECCV 2020). Letters: B images, K clusters, C channels of a local feature, h x w
positions, D dimension of a descriptor.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.cnn import VGG16_CHANNELS, vgg16_features

Flattening = Literal["clusters", "channels"]  # which comes first when (K, C) becomes one row

CLUSTERS = 64  # of nearly every published network
SHARPNESS = 0.01  # at the start a second-best centre gets about this much of what the best one gets


class NetVLAD(nn.Module):
    """Local features to one descriptor: (B, C, h, w) to (B, K C), of unit length.

    `flattening` says which comes first in a descriptor: the clusters, with all channels of the first one in front
    (most code in torch), or the channels (MatConvNet). Distances are the same; a whitening fits only its own.
    """

    def __init__(
        self, clusters: int = CLUSTERS, channels: int = VGG16_CHANNELS, flattening: Flattening = "clusters"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, clusters, 1, bias=False)
        self.centroids = nn.Parameter(torch.rand(clusters, channels) / channels**0.5)
        self.flattening = flattening

    @torch.no_grad()
    def initialise(
        self,
        centres: Tensor,  # (K, C), of k-means over local features of unit length
        features: Tensor,  # (N, C), of unit length, some of the features that were clustered
    ) -> float:
        """Start from k-means; returns the sharpness alpha that the features call for."""
        directions = F.normalize(centres, dim=1)
        best, second = (features @ directions.T).topk(2, dim=1).values.unbind(dim=1)  # (N,) each
        alpha = -math.log(SHARPNESS) / (best - second).mean().item()
        self.centroids.copy_(centres)
        self.conv.weight.copy_((alpha * directions)[:, :, None, None])
        return alpha

    def assign(self, maps: Tensor) -> tuple[Tensor, Tensor]:  # (B, C, h, w)
        """Local features at unit length, (B, C, h, w), and how much of each goes to each cluster, (B, K, h, w)."""
        unit = F.normalize(maps, dim=1)
        return unit, self.conv(unit).softmax(dim=1)

    def residuals(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        """Sum over positions of what a feature has beyond its centres, by assignment: (B, K, C)."""
        unit, shares = self.assign(maps)
        sums = shares.flatten(2) @ unit.flatten(2).transpose(1, 2)  # (B, K, C)
        return sums - shares.sum(dim=(2, 3))[:, :, None] * self.centroids  # type: ignore[no-any-return]

    def flattened(self, residuals: Tensor) -> Tensor:  # (..., K, C) -> (..., K C)
        """Unit length within each cluster, then as a whole."""
        within = F.normalize(residuals, dim=-1)
        ordered = within if self.flattening == "clusters" else within.transpose(-1, -2)
        return F.normalize(ordered.flatten(-2), dim=-1)

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, h, w) -> (B, K C)
        return self.flattened(self.residuals(maps))

    def regions(self, maps: Tensor) -> Tensor:  # (B, C, h, w) -> (B, 9, K C)
        """The whole, the upper, lower, left and right half, and the four quarters row by row.

        Raises:
            InputError: maps that cannot be halved.
        """
        height, width = maps.shape[-2:]
        if height % 2 or width % 2:
            raise InputError(f"a map of {height} x {width} cannot be cut into quarters. Both sides must be even.")
        halves = [rows.chunk(2, dim=3) for rows in maps.chunk(2, dim=2)]
        a, b, c, d = (self.residuals(quarter) for rows in halves for quarter in rows)  # (B, K, C) each
        whole = [a + b + c + d, a + b, c + d, a + c, b + d, a, b, c, d]
        return self.flattened(torch.stack(whole, dim=1))


class VLADNet(nn.Module):
    """VGG-16 to conv5_3, NetVLAD, and a whitening where there is one: images to descriptors of unit length."""

    def __init__(
        self, clusters: int = CLUSTERS, flattening: Flattening = "clusters", whitened_to: int | None = None
    ) -> None:
        super().__init__()
        self.backbone = vgg16_features(last="conv5_3")
        self.pool = NetVLAD(clusters, VGG16_CHANNELS, flattening)
        self.whitening = nn.Linear(clusters * VGG16_CHANNELS, whitened_to) if whitened_to else None

    @property
    def dim(self) -> int:
        rows, channels = self.pool.centroids.shape
        return rows * channels if self.whitening is None else self.whitening.out_features

    def whitened(self, vlad: Tensor) -> Tensor:  # (..., K C) -> (..., D)
        return vlad if self.whitening is None else F.normalize(self.whitening(vlad), dim=-1)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, D)
        return self.whitened(self.pool(self.backbone(images)))
