"""Adapters in parallel with the feed-forward of a frozen transformer: MulConv, and the adapters it is compared with.

Source: the CricaVPR paper, section 3.3 and Supplementary Table 6. Every adapter has the same parts: a linear layer to
a smaller width, ReLU, an optional mixer on the grid of patches, and a linear layer back to the full width. Adapters
differ in the mixer, and in whether a shortcut leads around the mixer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.vit import BlockAdapter, ViTConfig, initialise_linear


class ConvNormReLU(nn.Module):
    """Convolution, batch norm and ReLU. The output has the height and width of the input."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        return torch.relu(self.bn(self.conv(maps)))


class MulConv(nn.Module):
    """Mixer of the paper: three parallel convolutions, 1x1, 3x3 and 5x5, whose outputs are concatenated.

    Before the 3x3 and before the 5x5 convolution, a 1x1 convolution reduces the number of channels. If the input has
    384 channels, the three convolutions output 192, 96 and 96 channels, and each 1x1 convolution reduces to 24
    channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half, quarter, waist = width // 2, width // 4, width // 16
        self.branches = nn.ModuleList(
            [
                nn.Sequential(ConvNormReLU(width, half, 1)),
                nn.Sequential(ConvNormReLU(width, waist, 1), ConvNormReLU(waist, quarter, 3)),
                nn.Sequential(ConvNormReLU(width, waist, 1), ConvNormReLU(waist, quarter, 5)),
            ]
        )

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        return torch.cat([branch(maps) for branch in self.branches], dim=1)


class Adapter(BlockAdapter):
    """Adapter: linear layer down, ReLU, `mixer` on the grid of patches, linear layer up.

    The class token and the register tokens bypass the mixer.

    Args:
        config: sizes of the transformer.
        hidden: width inside the adapter.
        mixer: module that maps (B, hidden, h, w) to the same shape; None for no mixer.
        skip: whether a shortcut leads around the mixer.
    """

    def __init__(self, config: ViTConfig, hidden: int, mixer: nn.Module | None, skip: bool) -> None:
        super().__init__()
        self.down = nn.Linear(config.width, hidden)
        self.mixer = mixer
        self.skip = skip
        self.up = nn.Linear(hidden, config.width)
        self.prefix = 1 + config.registers
        nn.init.zeros_(self.up.weight)  # an untrained adapter changes nothing
        nn.init.zeros_(self.up.bias)

    def initialise(self) -> None:
        """Draw random weights for `down`, the first linear layer. The weights of `up`, the second, stay zero."""
        initialise_linear(iter([self.down]))

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:  # (B, T, C)
        narrow = torch.relu(self.down(tokens))  # (B, T, hidden)
        if self.mixer is not None:
            prefix, patches = narrow[:, : self.prefix], narrow[:, self.prefix :]
            maps = patches.transpose(1, 2).reshape(len(patches), -1, *grid)  # (B, hidden, h, w)
            passed = torch.cat([prefix, self.mixer(maps).flatten(2).transpose(1, 2)], dim=1)
            narrow = narrow + passed if self.skip else passed  # the skip doubles the class token, as published
        return self.up(narrow)  # type: ignore[no-any-return]


def _single_conv(width: int, kernel: int) -> nn.Module:
    return ConvNormReLU(width, width, kernel)


ADAPTERS: dict[str, tuple[Callable[[int], nn.Module] | None, bool]] = {  # (mixer, whether a shortcut leads around it)
    "mulconv": (MulConv, True),
    "conv1x1": (partial(_single_conv, kernel=1), True),
    "conv3x3": (partial(_single_conv, kernel=3), True),
    "conv5x5": (partial(_single_conv, kernel=5), True),
    "convadapter": (partial(_single_conv, kernel=3), False),
    "bottleneck": (None, False),
}


def adapter_maker(name: str, ratio: float) -> Callable[[ViTConfig], BlockAdapter] | None:
    """Return a function that makes the adapter of one transformer block; return None if `name` is "none".

    Args:
        name: a key of ADAPTERS, or "none".
        ratio: width inside the adapter divided by the transformer's width.
    """
    if name == "none":
        return None
    if name not in ADAPTERS:
        raise InputError(f"unknown adapter {name!r}. Known: {', '.join(ADAPTERS)}, none.")
    mixer, skip = ADAPTERS[name]

    def make(config: ViTConfig) -> BlockAdapter:
        hidden = int(config.width * ratio)
        return Adapter(config, hidden, mixer(hidden) if mixer else None, skip)

    return make
