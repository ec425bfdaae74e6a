"""MixVPR: a ResNet without its last stage, and a mixer of all positions, which fixes the size of the images.

Source: Ali-bey et al., "MixVPR: Feature Mixing for Visual Place Recognition" (WACV 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.aggregators import FeatureMixer
from cricavpr.models.cnn import resnet, resnet_channels

STRIDE = 16  # pixels from one position to the next, after the third stage


@dataclass(frozen=True)
class MixVPRConfig:
    """The largest network of the paper. `side` is that of the square map: 20 positions for 320 pixels."""

    depth: int = 50
    side: int = 20
    channels: int = 1024
    rows: int = 4
    mixers: int = 4
    hidden: int = 400

    @property
    def dim(self) -> int:
        return self.channels * self.rows


class MixVPR(nn.Module):
    """Images of one size to descriptors."""

    def __init__(self, config: MixVPRConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.backbone = resnet(config.depth, last_stage=3)
        self.aggregator = FeatureMixer(
            resnet_channels(config.depth, last_stage=3),
            config.side**2,
            config.channels,
            config.rows,
            config.mixers,
            config.hidden,
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        """Describe images.

        Raises:
            InputError: they have not the one size that the mixer was trained for.
        """
        maps = self.backbone(images)  # (B, 1024, h, w)
        side = self.config.side
        if maps.shape[-2:] != (side, side):
            height, width = images.shape[-2:]
            pixels = STRIDE * side
            raise InputError(f"MixVPR takes images of {pixels} x {pixels} px, not {height} x {width}. Resize them.")
        return F.normalize(self.aggregator(maps), dim=1)  # (B, D)


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the authors' state dict under our names."""
    theirs = "backbone.model."
    return {
        f"backbone.{name.removeprefix(theirs)}" if name.startswith(theirs) else name: tensor
        for name, tensor in tensors.items()
    }
