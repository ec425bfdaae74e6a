"""NetVLAD: what is left of local features once the nearest of K learnt centres is taken off, summed for each centre.

Source: Arandjelovic et al., "NetVLAD: CNN architecture for weakly supervised place recognition" (CVPR 2016), section
3.1; the assignment has no bias, as published. Regions: Ge et al., "Self-supervising Fine-grained Region Similarities
for Large-scale Image Localization" (ECCV 2020). Letters: B images, K clusters, C channels of a local feature, h x w
positions, D dimension of a descriptor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.cnn import (
    TRUNKS,
    VGG16_CHANNELS,
    numbered_trunk_of,
    resnet,
    resnet_channels,
    vgg16_features,
)
from cricavpr.models.fitting import renamed, shape_of

Flattening = Literal["clusters", "channels"]  # which comes first when (K, C) becomes one row

CLUSTERS = 64  # of nearly every published network
VLAD_STAGE = 3  # of a ResNet: at stride 16, as VGG-16 up to conv5_3
WHITENED = 4096  # values left by the whitening of all of them
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
        return sums - shares.sum(dim=(2, 3))[:, :, None] * self.centroids

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


def vlad_trunk(name: str) -> tuple[nn.Sequential, int]:
    """A trunk with numbered children, and the channels of its maps."""
    depth = TRUNKS[name]
    if depth is None:
        return vgg16_features(last="conv5_3"), VGG16_CHANNELS
    return nn.Sequential(*resnet(depth, VLAD_STAGE)), resnet_channels(depth, VLAD_STAGE)


class VLADNet(nn.Module):
    """A trunk, NetVLAD, and a whitening where there is one: images to descriptors of unit length.

    `trunk` is a row of `cnn.TRUNKS`, at stride 16: VGG-16, as published, to conv5_3, a ResNet to its third stage.
    """

    def __init__(
        self,
        clusters: int = CLUSTERS,
        flattening: Flattening = "clusters",
        whitened_to: int | None = None,
        trunk: str = "vgg16",
    ) -> None:
        super().__init__()
        self.name = trunk
        self.backbone, channels = vlad_trunk(trunk)
        self.pool = NetVLAD(clusters, channels, flattening)
        self.dim = whitened_to or clusters * channels
        self.whitening = nn.Linear(clusters * channels, whitened_to) if whitened_to else None

    def whitened(self, vlad: Tensor) -> Tensor:  # (..., K C) -> (..., D)
        return vlad if self.whitening is None else F.normalize(self.whitening(vlad), dim=-1)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, D)
        return self.whitened(self.pool(self.backbone(images)))

    def leave_unwhitened(self) -> None:
        """Describe by NetVLAD alone."""
        self.whitening, self.dim = None, self.pool.centroids.numel()

    def shorten(self, dim: int) -> None:
        """Keep the first `dim` values of a whitened descriptor, which a whitening sorts by how much they say.

        Raises:
            InputError: there is no whitening, or it has fewer values.
        """
        if self.whitening is None or not 1 <= dim <= self.whitening.out_features:
            most = "is not whitened" if self.whitening is None else f"has {self.whitening.out_features} values"
            raise InputError(f"a descriptor that {most} cannot be shortened to {dim}.")
        kept = nn.Linear(self.whitening.in_features, dim, device="meta")
        kept.weight = nn.Parameter(self.whitening.weight[:dim].detach().clone())
        kept.bias = nn.Parameter(self.whitening.bias[:dim].detach().clone())
        self.whitening, self.dim = kept, dim


# ---- files ----------------------------------------------------------------------------------------------------------

_PARTS_OF_THEIR_OWN = r"(module\.)?"  # nn.DataParallel around each part, not around the whole
NANNE = {  # Nanne's NetVLAD, and Patch-NetVLAD after it
    rf"encoder\.{_PARTS_OF_THEIR_OWN}": "backbone.",
    rf"pool\.{_PARTS_OF_THEIR_OWN}": "pool.",
    r"WPCA\.0\.": "whitening.",
}
OPENIBL = {r"base_model\.base\.": "backbone.", r"net_vlad\.": "pool.", r"pca_layer\.": "whitening."}  # SFRS


def from_authors_names(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Entries under our names; a whitening that is stored as a 1x1 convolution becomes a matrix.

    Raises:
        WeightsError: two entries would get one name.
    """
    ours = renamed(tensors, names)
    whitening = ours.get("whitening.weight")
    if whitening is not None and whitening.shape[2:] == (1, 1):
        ours["whitening.weight"] = whitening.flatten(1)
    return ours


def network_of(tensors: Mapping[str, Tensor], flattening: Flattening = "clusters") -> VLADNet:
    """The network whose sizes are read off tensors under our names."""
    prefix = "backbone."
    trunk = numbered_trunk_of(name.removeprefix(prefix) for name in tensors if name.startswith(prefix)) or "vgg16"
    clusters, _ = shape_of(tensors, "pool.centroids", (CLUSTERS, VGG16_CHANNELS))
    whitened = any(name.startswith("whitening.") for name in tensors)
    dim, _ = shape_of(tensors, "whitening.weight", (WHITENED, clusters * VGG16_CHANNELS))
    return VLADNet(clusters, flattening, dim if whitened else None, trunk)
