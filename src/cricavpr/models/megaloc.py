"""MegaLoc: SALAD with wider clusters, reduced to 8448 values by one linear layer.

Source: Berton and Masone, "MegaLoc: One Retrieval to Place Them All" (2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.models.fitting import renamed, shape_of
from cricavpr.models.salad import SaladAggregator, SaladConfig, aggregator_names, config_of
from cricavpr.models.vit import VisionTransformer


@dataclass(frozen=True)
class MegaLocConfig:
    """Sizes of the network; as published, 64 x 256 + 256 = 16640 values are reduced to 8448."""

    salad: SaladConfig = field(default_factory=lambda: SaladConfig(cluster_width=256))
    dim: int = 8448


class MegaLoc(nn.Module):
    """Images to descriptors."""

    def __init__(self, config: MegaLocConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.needs = config.salad.needs
        self.backbone = VisionTransformer(config.salad.backbone)
        self.aggregator = SaladAggregator(config.salad)
        self.project = nn.Linear(config.salad.dim, config.dim)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, D)
        return F.normalize(self.project(self.aggregator(self.backbone(images))), dim=1)


# ---- the authors' checkpoint ------------------------------------------------------------------------------------

_AUTHORS_NAMES = {r"aggregator\.linear\.": "project."} | aggregator_names(r"aggregator\.agg\.", "aggregator.")
_MASK = "backbone.mask_token"  # DINOv2 has one and does not use it for descriptors; the authors' file has none


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of the authors' state dict to ours, and add zeros for the mask token that it lacks."""
    ours = renamed(tensors, _AUTHORS_NAMES)
    width = shape_of(ours, "backbone.cls_token", (1, 1, 768))[-1]
    return {_MASK: torch.zeros(1, width), **ours}


def network_of(tensors: Mapping[str, Tensor], name: str) -> MegaLoc:
    """Return a network with the sizes of tensors, by our names; of the published size without tensors."""
    plain = MegaLocConfig()
    salad = config_of(tensors, plain.salad)
    return MegaLoc(MegaLocConfig(salad, shape_of(tensors, "project.weight", (plain.dim, salad.dim))[0]))
