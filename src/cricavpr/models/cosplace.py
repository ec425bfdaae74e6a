"""CosPlace, EigenPlaces and GCL: a convolutional trunk and GeM pooling. CosPlace and EigenPlaces add a linear layer.

Sources: Berton et al., "Rethinking Visual Geo-localization for Large-Scale Applications" (CVPR 2022), and
"EigenPlaces: Training Viewpoint Robust Models for Visual Place Recognition" (ICCV 2023), the same network trained
differently; Leyva-Vallina et al., "Data-efficient Large Scale Place Recognition with Graded Similarity Supervision"
(CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.models.aggregators import GeM
from cricavpr.models.cnn import numbered_trunk, numbered_trunk_of, trunk_channels
from cricavpr.models.fitting import ImageNeeds, renamed, shape_of

if TYPE_CHECKING:
    from cricavpr.models.netvlad import VLADNet

_FIRST_TRAINED = {"vgg16": 24, "resnet": 6}  # first child of the trunk that is trained: conv5_1, or stage 3


class CosPlace(nn.Module):
    """Network of CosPlace and EigenPlaces. `trunk` is a key of `cnn.TRUNKS`; VGG-16 ends before the ReLU of conv5_3."""

    def __init__(self, trunk: str = "resnet50", dim: int = 2048) -> None:
        super().__init__()
        self.name = trunk
        self.dim = dim
        self.needs = ImageNeeds(16 if trunk == "vgg16" else 1)
        self.backbone = numbered_trunk(trunk)
        self.gem = GeM()
        self.projection = nn.Linear(trunk_channels(trunk), dim)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        maps = F.normalize(self.backbone(images), dim=1)  # (B, C, h, w)
        return F.normalize(self.projection(self.gem.whole(maps)), dim=1)  # (B, D)


class GCL(nn.Module):
    """Network of GCL. `trunk` is a key of `cnn.TRUNKS`; VGG-16 includes its last ReLU and max-pool."""

    def __init__(self, trunk: str = "resnet152") -> None:
        super().__init__()
        self.dim = trunk_channels(trunk)
        self.needs = ImageNeeds(32 if trunk == "vgg16" else 1)
        self.backbone = numbered_trunk(trunk, vgg_last="pool5")
        self.gem = GeM()

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, C)
        return F.normalize(self.gem.whole(self.backbone(images)), dim=1)


def trainable(model: CosPlace | VLADNet) -> set[str]:
    """Return the names of the parameters that the authors train.

    These are the parameters of the trunk's last layers, and of all layers after the trunk.
    """
    first = _FIRST_TRAINED["vgg16" if model.name == "vgg16" else "resnet"]
    return {
        name
        for name, _ in model.named_parameters()
        if not name.startswith("backbone.") or int(name.split(".")[1]) >= first
    }


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' weights files to this package's parameter names."""
    return renamed(tensors, {r"aggregation\.1\.": "gem.", r"aggregation\.3\.": "projection.", r"pool\.p$": "gem.p"})


def network_of(tensors: Mapping[str, Tensor], name: str) -> CosPlace | GCL:
    """Build a network with the sizes found in `tensors`, a state dict with this package's parameter names.

    If `tensors` is empty, build the published network `name`.
    """
    trunk = numbered_trunk_of(tensors, "backbone.")
    if name == "gcl":
        return GCL(trunk or "resnet152")
    trunk = trunk or "resnet50"
    return CosPlace(trunk, shape_of(tensors, "projection.weight", (2048, trunk_channels(trunk)))[0])
