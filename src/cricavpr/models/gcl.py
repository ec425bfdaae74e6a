"""GCL: a convolutional trunk and GeM, trained with graded similarities instead of matching or not.

Source: Leyva-Vallina et al., "Data-efficient Large Scale Place Recognition with Graded Similarity Supervision"
(CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.models.aggregators import GeM
from cricavpr.models.cnn import numbered_trunk, numbered_trunk_of, trunk_channels
from cricavpr.models.fitting import renamed
from cricavpr.models.needs import ImageNeeds


class GCL(nn.Module):
    """Images to descriptors. `trunk` is a row of `cnn.TRUNKS`; VGG-16 is whole, with its last pool."""

    def __init__(self, trunk: str = "resnet152") -> None:
        super().__init__()
        self.dim = trunk_channels(trunk)
        self.needs = ImageNeeds(32 if trunk == "vgg16" else 1)
        self.backbone = numbered_trunk(trunk, vgg_last="pool5")
        self.gem = GeM()

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, C)
        return F.normalize(self.gem.whole(self.backbone(images)), dim=1)


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of the authors' state dict to ours."""
    return renamed(tensors, {r"pool\.p$": "gem.p"})


def network_of(tensors: Mapping[str, Tensor], name: str) -> GCL:
    """Return a network with the sizes of tensors, by our names; of the published size without tensors."""
    return GCL(numbered_trunk_of(tensors, "backbone.") or "resnet152")
