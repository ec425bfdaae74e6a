"""DINOv2's vision transformer, whole, under its official weight names.

Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (2023), and the facts of its
public weights. Letters: B images, P patches, T tokens (class + registers + patches), C width, h x w patches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError


@dataclass(frozen=True)
class ViTConfig:
    """Size of the transformer.

    `grid` is the side, in patches, of the square for which position embeddings are stored. `positions` says how they
    reach other sizes: DINOv2's plain models scale by a factor with an offset of 0.1 patches and no antialiasing
    ("factor"), its register models resize to the size with antialiasing ("size"). The two differ by 0.7 in a token.
    """

    width: int
    depth: int
    heads: int
    ffn: Literal["mlp", "swiglu"] = "mlp"
    ffn_width: int | None = None  # None: four times the width
    patch: int = 14
    grid: int = 37
    registers: int = 0
    positions: Literal["factor", "size"] = "factor"

    @property
    def hidden(self) -> int:
        return self.ffn_width or 4 * self.width


def _with_registers(config: ViTConfig) -> ViTConfig:
    return replace(config, registers=4, positions="size")


_PLAIN = {
    "vits14": ViTConfig(384, 12, 6),
    "vitb14": ViTConfig(768, 12, 12),
    "vitl14": ViTConfig(1024, 24, 16),
    "vitg14": ViTConfig(1536, 40, 24, ffn="swiglu", ffn_width=4096),
}
BACKBONES: dict[str, ViTConfig] = {
    **_PLAIN,
    **{f"{name}_reg": _with_registers(config) for name, config in _PLAIN.items()},
    "tiny": ViTConfig(192, 6, 3, grid=8),  # ours, wide rather than deep: learns soonest for its cost at 112 px
    "nano": ViTConfig(96, 6, 3, grid=8),  # ours, for experiments on a CPU
}


class Tokens(NamedTuple):
    """What the transformer gives: normalised tokens, and the last block's output before the final norm."""

    class_token: Tensor  # (B, C)
    registers: Tensor  # (B, R, C)
    patches: Tensor  # (B, h, w, C)
    prenorm: Tensor  # (B, T, C)


class PatchEmbed(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, stride=config.patch)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        return self.proj(images)  # type: ignore[no-any-return]  # (B, C, h, w)


class Attention(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T, C)
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, C / heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))  # type: ignore[no-any-return]


class MLP(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """The gated feed-forward of ViT-g: silu of the first half times the second half."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.w12 = nn.Linear(config.width, 2 * config.hidden)
        self.w3 = nn.Linear(config.hidden, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, value = self.w12(tokens).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class Block(nn.Module):
    """One layer. An adapter, where there is one, stands beside the MLP and sees the same normalised tokens."""

    def __init__(self, config: ViTConfig, adapter: nn.Module | None, adapter_scale: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config)
        self.ls1 = LayerScale(config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = MLP(config) if config.ffn == "mlp" else SwiGLU(config)
        self.ls2 = LayerScale(config.width)
        self.adapter = adapter
        self.adapter_scale = adapter_scale

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:  # (B, T, C)
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        normed = self.norm2(tokens)
        update = self.mlp(normed)
        if self.adapter is not None:
            update = update + self.adapter_scale * self.adapter(normed, grid)
        return tokens + self.ls2(update)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Images to tokens. `adapter` makes one adapter per block, or None for the plain transformer."""

    def __init__(
        self,
        config: ViTConfig,
        adapter: Callable[[ViTConfig], nn.Module] | None = None,
        adapter_scale: float = 0.2,
    ) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid**2, config.width))
        if config.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))  # unused here, part of the official weights
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(
            Block(config, adapter(config) if adapter else None, adapter_scale) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.weight.requires_grad:
                if getattr(module, "starts_at_zero", False):
                    continue  # an adapter's up-projection: an untrained adapter changes nothing
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.config.registers:
            nn.init.normal_(self.register_tokens, std=1e-6)

    def forward(self, images: Tensor) -> Tokens:  # (B, 3, H, W)
        """Describe every patch.

        Raises:
            InputError: a side of the images is not a multiple of the patch size.
        """
        grid = self._grid_of(images)
        tokens = self._embed(images, grid)
        for block in self.blocks:
            tokens = block(tokens, grid)
        normed = self.norm(tokens)
        prefix = 1 + self.config.registers
        patches = normed[:, prefix:].reshape(len(images), *grid, -1)
        return Tokens(normed[:, 0], normed[:, 1:prefix], patches, tokens)

    def _grid_of(self, images: Tensor) -> tuple[int, int]:
        height, width = images.shape[-2:]
        patch = self.config.patch
        if height % patch or width % patch:
            raise InputError(f"images of {height} x {width} px do not divide into patches. Use multiples of {patch}.")
        return height // patch, width // patch

    def _embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)  # (B, P, C)
        batch = len(patches)
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), patches], dim=1)
        tokens = tokens + self.position_embedding(grid).to(tokens.dtype)
        if not self.config.registers:
            return tokens
        registers = self.register_tokens.expand(batch, -1, -1)  # they carry no position
        return torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)

    def position_embedding(self, grid: tuple[int, int]) -> Tensor:
        """The stored square of positions brought to `grid`: (1, 1 + h w, C). In float32 always, as DINOv2 does it."""
        side = self.config.grid
        if grid == (side, side):
            return self.pos_embed
        stored = self.pos_embed.float()
        square = stored[:, 1:].view(1, side, side, -1).permute(0, 3, 1, 2)  # (1, C, side, side)
        if self.config.positions == "factor":
            factor = [(n + 0.1) / side for n in grid]
            resized = F.interpolate(square, scale_factor=factor, mode="bicubic")
        else:
            resized = F.interpolate(square, size=grid, mode="bicubic", antialias=True)
        return torch.cat([stored[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
