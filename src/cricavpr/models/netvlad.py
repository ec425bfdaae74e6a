"""NetVLAD: for each of K learnt cluster centres, the weighted sum of the residuals of local features.

A residual is a local feature minus the centre; its weight is the soft assignment of the feature to the cluster.

Source: Arandjelovic et al., "NetVLAD: CNN architecture for weakly supervised place recognition" (CVPR 2016), section
3.1; the assignment has no bias, as in the published network. Source of the regions: Ge et al., "Self-supervising
Fine-grained Region Similarities for Large-scale Image Localization" (ECCV 2020). Letters: B images, K clusters,
C channels of a local feature, feature maps of h x w cells, D dimension of a descriptor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.cnn import VGG16_CHANNELS, numbered_trunk, numbered_trunk_of, trunk_channels
from cricavpr.models.fitting import ImageNeeds, renamed, shape_of

Flattening = Literal["clusters", "channels"]  # the outer index when (K, C) is flattened

CLUSTERS = 64  # number of clusters of nearly every published network
VLAD_STAGE = 3  # last stage of a ResNet that is used: its stride is 16, like that of VGG-16 up to conv5_3
WHITENED = 4096  # length of every published whitened descriptor
SHARPNESS = 0.01  # initial assignment to the second-best centre, divided by that to the best centre


class NetVLAD(nn.Module):
    """Aggregator of local features (B, C, h, w) into one descriptor of unit length, (B, K C).

    `flattening` is the order of values in a descriptor: "clusters" for cluster by cluster (most code in torch) or
    "channels" for channel by channel (MatConvNet). Both orders give the same distances, but the weights of a whitening
    fit only the order that they were trained with.
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
        """Initialise the layer from the centres of k-means; return alpha, the factor that sharpens the assignment."""
        directions = F.normalize(centres, dim=1)
        best, second = (features @ directions.T).topk(2, dim=1).values.unbind(dim=1)  # (N,) each
        alpha = -math.log(SHARPNESS) / (best - second).mean().item()
        self.centroids.copy_(centres)
        self.conv.weight.copy_((alpha * directions)[:, :, None, None])
        return alpha

    def assign(self, maps: Tensor) -> tuple[Tensor, Tensor]:  # (B, C, h, w)
        """Return local features of unit length, (B, C, h, w), and their assignment to clusters, (B, K, h, w)."""
        unit = F.normalize(maps, dim=1)
        return unit, self.conv(unit).softmax(dim=1)

    def residuals(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        """Return the residuals to each centre, weighted by the assignment and summed over all cells: (B, K, C)."""
        unit, shares = self.assign(maps)
        sums = shares.flatten(2) @ unit.flatten(2).transpose(1, 2)  # (B, K, C)
        return sums - shares.sum(dim=(2, 3))[:, :, None] * self.centroids

    def flattened(self, residuals: Tensor) -> Tensor:  # (..., K, C) -> (..., K C)
        """Normalise the residuals of each cluster, flatten them into one descriptor, and normalise the descriptor."""
        within = F.normalize(residuals, dim=-1)
        ordered = within if self.flattening == "clusters" else within.transpose(-1, -2)
        return F.normalize(ordered.flatten(-2), dim=-1)

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, h, w) -> (B, K C)
        return self.flattened(self.residuals(maps))

    def regions(self, maps: Tensor) -> Tensor:  # (B, C, h, w) -> (B, 9, K C)
        """Return descriptors of nine regions: whole map, upper, lower, left and right half, four quarters row by row.

        Raises:
            InputError: the height or width of the maps is odd.
        """
        height, width = maps.shape[-2:]
        if height % 2 or width % 2:
            raise InputError(f"height and width of the feature map must be even, got {height} x {width}.")
        halves = [rows.chunk(2, dim=3) for rows in maps.chunk(2, dim=2)]
        a, b, c, d = (self.residuals(quarter) for rows in halves for quarter in rows)  # (B, K, C) each
        whole = [a + b + c + d, a + b, c + d, a + c, b + d, a, b, c, d]
        return self.flattened(torch.stack(whole, dim=1))


class VLADNet(nn.Module):
    """A whole network: a convolutional trunk, NetVLAD, and an optional whitening.

    Args:
        clusters: number of clusters.
        flattening: order of the values in a descriptor, see `NetVLAD`.
        whitened_to: length of a whitened descriptor; None for no whitening.
        trunk: a key of `cnn.TRUNKS`: VGG-16 up to conv5_3, as published, or a ResNet up to its third stage.
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
        self.needs = ImageNeeds(16 if trunk == "vgg16" else 1)
        self.backbone, channels = numbered_trunk(trunk, last_stage=VLAD_STAGE), trunk_channels(trunk, VLAD_STAGE)
        self.pool = NetVLAD(clusters, channels, flattening)
        self.dim = whitened_to or clusters * channels
        self.whitening = nn.Linear(clusters * channels, whitened_to) if whitened_to else None

    def whitened(self, vlad: Tensor) -> Tensor:  # (..., K C) -> (..., D)
        """Apply the whitening; return `vlad` unchanged if the network has none."""
        return vlad if self.whitening is None else F.normalize(self.whitening(vlad), dim=-1)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, D)
        return self.whitened(self.pool(self.backbone(images)))

    def remove_whitening(self) -> None:
        """Remove the whitening, so that a descriptor has K * C values."""
        self.whitening, self.dim = None, self.pool.centroids.numel()

    def shorten(self, dim: int) -> None:
        """Keep only the first `dim` values of a whitened descriptor, which have the largest variance.

        Raises:
            InputError: there is no whitening, or `dim` is not between 1 and the length of a descriptor.
        """
        if self.whitening is None:
            raise InputError("shorten_to needs a whitening, but these weights have none. Leave out shorten_to.")
        if not 1 <= dim <= self.whitening.out_features:
            raise InputError(f"shorten_to must be between 1 and {self.whitening.out_features}, got {dim}.")
        kept = nn.Linear(self.whitening.in_features, dim, device="meta")
        kept.weight = nn.Parameter(self.whitening.weight[:dim].detach().clone())
        kept.bias = nn.Parameter(self.whitening.bias[:dim].detach().clone())
        self.whitening, self.dim = kept, dim


# ---- files ----------------------------------------------------------------------------------------------------------

_PARALLEL = r"(module\.)?"  # the authors put nn.DataParallel around each part
NANNE = {  # for the files of Nanne/pytorch-NetVlad, and of Patch-NetVLAD, which is based on it
    rf"encoder\.{_PARALLEL}": "backbone.",
    rf"pool\.{_PARALLEL}": "pool.",
    r"WPCA\.0\.": "whitening.",
}
OPENIBL = {r"base_model\.base\.": "backbone.", r"net_vlad\.": "pool.", r"pca_layer\.": "whitening."}  # for SFRS


def from_authors_names(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' weights file to this package's parameter names.

    A whitening that is stored as a 1x1 convolution becomes a matrix.

    Args:
        tensors: the authors' state dict.
        names: NANNE or OPENIBL, depending on the origin of the file.
    """
    ours = renamed(tensors, names)
    whitening = ours.get("whitening.weight")
    if whitening is not None and whitening.shape[2:] == (1, 1):
        ours["whitening.weight"] = whitening.flatten(1)
    return ours


def network_of(tensors: Mapping[str, Tensor], flattening: Flattening = "clusters") -> VLADNet:
    """Build a network with the sizes found in `tensors`, a state dict with this package's parameter names."""
    trunk = numbered_trunk_of(tensors, "backbone.") or "vgg16"
    clusters, channels = shape_of(tensors, "pool.centroids", (CLUSTERS, trunk_channels(trunk, VLAD_STAGE)))
    whitened = any(name.startswith("whitening.") for name in tensors)
    dim = shape_of(tensors, "whitening.weight", (WHITENED, clusters * channels))[0]
    return VLADNet(clusters, flattening, dim if whitened else None, trunk)
