"""CosPlace and EigenPlaces, which share one network: a trunk, GeM and a linear layer.

Sources: Berton et al., "Rethinking Visual Geo-localization for Large-Scale Applications" (CVPR 2022), and
"EigenPlaces: Training Viewpoint Robust Models for Visual Place Recognition" (ICCV 2023). They differ in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.models.aggregators import GeM
from cricavpr.models.cnn import numbered_trunk, trunk_channels

if TYPE_CHECKING:
    from cricavpr.models.netvlad import VLADNet

_FIRST_THAT_LEARNS = {"vgg16": 24, "resnet": 6}  # conv5_1; the third stage


class CosPlace(nn.Module):
    """Images to descriptors. `backbone` is a row of `cnn.TRUNKS`; VGG-16 ends before the ReLU of conv5_3."""

    def __init__(self, backbone: str, dim: int) -> None:
        super().__init__()
        self.name = backbone
        self.dim = dim
        self.backbone = numbered_trunk(backbone)
        self.gem = GeM()
        self.projection = nn.Linear(trunk_channels(backbone), dim)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        maps = F.normalize(self.backbone(images), dim=1)  # (B, C, h, w)
        return F.normalize(self.projection(self.gem.whole(maps)), dim=1)  # (B, D)


def trainable(model: CosPlace | VLADNet) -> set[str]:
    """Names of the parameters that the authors train: the end of the trunk, and all behind it. NetVLAD's alike."""
    first = _FIRST_THAT_LEARNS["vgg16" if model.name == "vgg16" else "resnet"]
    return {
        name
        for name, _ in model.named_parameters()
        if not name.startswith("backbone.") or int(name.split(".")[1]) >= first
    }


_AUTHORS_NAMES = {"aggregation.1.": "gem.", "aggregation.3.": "projection."}  # theirs: ours


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the authors' state dict under our names."""
    renamed = {}
    for name, tensor in tensors.items():
        for theirs, ours in _AUTHORS_NAMES.items():
            name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name
        renamed[name] = tensor
    return renamed
