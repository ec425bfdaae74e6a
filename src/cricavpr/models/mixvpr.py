"""MixVPR: a ResNet without its last stage, and MLPs over all cells of its feature map; the image size is fixed.

Source: Ali-bey et al., "MixVPR: Feature Mixing for Visual Place Recognition" (WACV 2023). Letters: B images,
C channels, feature maps of h x w cells, P = h w cells, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.cnn import resnet, resnet_channels, resnet_depth_of
from cricavpr.models.fitting import ImageNeeds, layers_of, renamed, shape_of

STRIDE = 16  # pixels per cell of the ResNet's feature map after its third stage


@dataclass(frozen=True)
class MixVPRConfig:
    """Sizes of the network; the default is the largest network of the paper.

    Attributes:
        depth: depth of the ResNet, such as 50.
        side: side of the square feature map, in cells: 20 for images of 320 x 320 px.
        channels: number of channels after the mixer layers.
        rows: number of values for each channel; a descriptor has channels * rows values.
        mixers: number of mixer layers.
        hidden: width inside a mixer layer.
    """

    depth: int = 50
    side: int = 20
    channels: int = 1024
    rows: int = 4
    mixers: int = 4
    hidden: int = 400


class MixerLayer(nn.Module):
    """An MLP over all cells of one channel, with a shortcut around it. All channels share the MLP."""

    def __init__(self, positions: int, hidden: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.LayerNorm(positions), nn.Linear(positions, hidden), nn.ReLU(), nn.Linear(hidden, positions)
        )

    def forward(self, channels: Tensor) -> Tensor:  # (B, C, P)
        return channels + self.mix(channels)  # type: ignore[no-any-return]


class FeatureMixer(nn.Module):
    """Mixer layers, then a projection to fewer channels, then a projection from P cells to a few values (section 3)."""

    def __init__(self, config: MixVPRConfig) -> None:
        super().__init__()
        positions = config.side**2
        self.mix = nn.Sequential(*(MixerLayer(positions, config.hidden) for _ in range(config.mixers)))
        self.channel_proj = nn.Linear(resnet_channels(config.depth, last_stage=3), config.channels)
        self.row_proj = nn.Linear(positions, config.rows)

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        mixed = self.mix(maps.flatten(2))  # (B, C, P)
        fewer = self.channel_proj(mixed.transpose(1, 2)).transpose(1, 2)  # (B, C', P)
        return self.row_proj(fewer).flatten(1)  # type: ignore[no-any-return]  # (B, C' R), channel by channel


class MixVPR(nn.Module):
    """The whole MixVPR network, which takes images of one size only."""

    def __init__(self, config: MixVPRConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.channels * config.rows
        self.image_size = (STRIDE * config.side, STRIDE * config.side)
        self.needs = ImageNeeds()  # no limits to check: settings cannot change the image size
        self.backbone = resnet(config.depth, last_stage=3)
        self.aggregator = FeatureMixer(config)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        """Return descriptors of unit length, (B, D).

        Raises:
            InputError: the images do not have the size that the mixer was trained for.
        """
        maps = self.backbone(images)  # (B, 1024, h, w)
        side = self.config.side
        if maps.shape[-2:] != (side, side):
            (height, width), (wanted, _) = images.shape[-2:], self.image_size
            raise InputError(f"MixVPR takes images of {wanted} x {wanted} px, got {height} x {width}; resize them.")
        return F.normalize(self.aggregator(maps), dim=1)  # (B, D)


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' weights file to this package's parameter names."""
    return renamed(tensors, {r"backbone\.model\.": "backbone."})


def network_of(tensors: Mapping[str, Tensor], name: str) -> MixVPR:
    """Build a network with the sizes found in `tensors`, a state dict with this package's parameter names.

    If `tensors` is empty, build the published network.
    """
    plain = MixVPRConfig()
    rows, positions = shape_of(tensors, "aggregator.row_proj.weight", (plain.rows, plain.side**2))
    config = MixVPRConfig(
        depth=resnet_depth_of(tensors, third_stage="backbone.layer3.") or plain.depth,
        side=isqrt(positions),
        channels=shape_of(tensors, "aggregator.channel_proj.weight", (plain.channels, 1))[0],
        rows=rows,
        mixers=layers_of(tensors, "aggregator.mix.", plain.mixers),
        hidden=shape_of(tensors, "aggregator.mix.0.mix.1.weight", (plain.hidden, positions))[0],
    )
    return MixVPR(config)
