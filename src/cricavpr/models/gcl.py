"""GCL: a trunk and GeM, trained with similarities between 0 and 1 instead of pairs that match or do not.

Source: Leyva-Vallina et al., "Data-efficient Large Scale Place Recognition with Graded Similarity Supervision"
(CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.models.aggregators import GeM
from cricavpr.models.cnn import numbered_trunk, trunk_channels


class GCL(nn.Module):
    """Images to descriptors. `backbone` is a row of `cnn.TRUNKS`; VGG-16 is whole, its last pool included."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.dim = trunk_channels(backbone)
        self.backbone = numbered_trunk(backbone, vgg_last="pool5")
        self.gem = GeM()

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        return F.normalize(self.gem.whole(self.backbone(images)), dim=1)  # (B, C)


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the authors' state dict under our names."""
    return {"gem.p" if name == "pool.p" else name: tensor for name, tensor in tensors.items()}
