"""MegaLoc: SALAD with wider clusters, brought to 8448 values by one linear layer.

Source: Berton and Masone, "MegaLoc: One Retrieval to Place Them All" (2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.models.fitting import of_their_size, renamed, shape_of
from cricavpr.models.salad import SaladAggregator, SaladConfig, aggregator_names
from cricavpr.models.salad import config_of as salad_config_of
from cricavpr.models.vit import VisionTransformer


@dataclass(frozen=True)
class MegaLocConfig:
    """As published, 64 x 256 + 256 = 16640 values become 8448."""

    salad: SaladConfig = field(default_factory=lambda: SaladConfig(cluster_width=256))
    dim: int = 8448


class MegaLoc(nn.Module):
    """Images to descriptors."""

    def __init__(self, config: MegaLocConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.backbone = VisionTransformer(config.salad.backbone)
        self.aggregator = SaladAggregator(config.salad)
        self.project = nn.Linear(config.salad.dim, config.dim)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, D)
        return F.normalize(self.project(self.aggregator(self.backbone(images))), dim=1)


# ---- the authors' checkpoint ------------------------------------------------------------------------------------

_AUTHORS_NAMES = {r"aggregator\.linear\.": "project."} | aggregator_names(r"aggregator\.agg\.", "aggregator.")
_MASK = "backbone.mask_token"  # DINOv2 has one and never uses it for describing; MegaLoc's own transformer has none


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the authors' state dict under our names, and zeros for the mask token that they left out."""
    ours = renamed(tensors, _AUTHORS_NAMES)
    width = shape_of(ours, "backbone.cls_token", (1, 1, 768))[-1]
    return {_MASK: torch.zeros(1, width), **ours}


def network_of(tensors: Mapping[str, Tensor], source: str) -> MegaLoc:
    """A network of the sizes that these tensors have, by our names.

    Raises:
        WeightsError: some entry does not fit.
    """
    return of_their_size(lambda: MegaLoc(config_of(tensors)), tensors, source)


def config_of(tensors: Mapping[str, Tensor]) -> MegaLocConfig:
    """Read the sizes off the tensors, by our names."""
    published = MegaLocConfig()
    salad = salad_config_of(tensors, published.salad)
    return MegaLocConfig(salad, shape_of(tensors, "project.weight", (published.dim, salad.dim))[0])
