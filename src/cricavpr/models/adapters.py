"""Adapters that stand beside each MLP of a frozen transformer: the paper's MulConv and what it is compared with.

Source: paper section 3.3 and Supplementary Table 6. All share one shape: linear down, ReLU, something on the grid of
patches, linear up. They differ in the something, and in whether its input skips past it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.vit import ViTConfig


class ConvNormReLU(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, h, w)
        return torch.relu(self.bn(self.conv(maps)))


class MulConv(nn.Module):
    """Three scales side by side: 1x1, 3x3 and 5x5, the larger two behind a 1x1 that narrows.

    Of a width of 384 the branches give 192 + 96 + 96 channels; the narrow waist has 24.
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


def single_conv(kernel: int) -> Callable[[int], nn.Module]:
    """One scale in place of three (Supplementary Table 6)."""
    return lambda width: ConvNormReLU(width, width, kernel)


class Adapter(nn.Module):
    """Linear down, ReLU, `mixer` on the grid of patches, linear up. Class token and registers pass the mixer by."""

    def __init__(self, config: ViTConfig, hidden: int, mixer: nn.Module | None, skip: bool) -> None:
        super().__init__()
        self.down = nn.Linear(config.width, hidden)
        self.mixer = mixer
        self.skip = skip
        self.up = nn.Linear(hidden, config.width)
        self.prefix = 1 + config.registers
        self.up.starts_at_zero = True  # type: ignore[assignment]
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:  # (B, T, C)
        narrow = torch.relu(self.down(tokens))  # (B, T, hidden)
        return self.up(narrow if self.mixer is None else self._mix(narrow, grid, self.mixer))  # type: ignore[no-any-return]

    def _mix(self, narrow: Tensor, grid: tuple[int, int], mixer: nn.Module) -> Tensor:
        prefix, patches = narrow[:, : self.prefix], narrow[:, self.prefix :]
        maps = patches.transpose(1, 2).reshape(len(patches), -1, *grid)  # (B, hidden, h, w)
        mixed = mixer(maps).flatten(2).transpose(1, 2)  # (B, P, hidden)
        passed = torch.cat([prefix, mixed], dim=1)
        return narrow + passed if self.skip else passed  # so with the skip the class token counts twice, as published


@dataclass(frozen=True)
class AdapterKind:
    """What tells one adapter from another: the mixer made for a width, and the skip around it."""

    mixer: Callable[[int], nn.Module] | None
    skip: bool


ADAPTERS: dict[str, AdapterKind] = {
    "mulconv": AdapterKind(MulConv, skip=True),
    "conv1x1": AdapterKind(single_conv(1), skip=True),
    "conv3x3": AdapterKind(single_conv(3), skip=True),
    "conv5x5": AdapterKind(single_conv(5), skip=True),
    "convadapter": AdapterKind(single_conv(3), skip=False),
    "bottleneck": AdapterKind(None, skip=False),
}


def adapter_maker(name: str, ratio: float) -> Callable[[ViTConfig], nn.Module] | None:
    """The function that makes one adapter per block; None for "none".

    Raises:
        InputError: no adapter of that name.
    """
    if name == "none":
        return None
    if name not in ADAPTERS:
        raise InputError(f"there is no adapter {name!r}. Use one of {', '.join(ADAPTERS)} or none.")
    kind = ADAPTERS[name]

    def make(config: ViTConfig) -> nn.Module:
        hidden = int(config.width * ratio)
        return Adapter(config, hidden, kind.mixer(hidden) if kind.mixer else None, kind.skip)

    return make
