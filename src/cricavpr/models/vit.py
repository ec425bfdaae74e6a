"""The vision transformer of DINOv2. Its parameters have the names of the official weights.

Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (2023), and its public weights.
Letters: B images, P patches, T tokens (class + registers + patches), C width, h x w patches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError

MOST = 1_000_000  # limit for every size of a network, because a weights file may claim any size
MOST_LAYERS = 1_000


def check_range(name: str, value: int, low: int, high: int = MOST) -> None:
    """Raise InputError if `value`, a size of a network, is not between `low` and `high`."""
    if not low <= value <= high:
        raise InputError(f"{name} must be between {low} and {high:,}, got {str(value)[:20]}.")


def check_heads(name: str, width: int, heads: int) -> None:
    """Raise InputError if `width` is not a multiple of the number of attention heads."""
    check_range(name, heads, 1)
    if width % heads:
        raise InputError(f"the width {width} must be a multiple of {name}, got {heads}.")


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of the transformer.

    Attributes:
        width: number of channels of a token.
        depth: number of layers.
        heads: number of attention heads; divides the width.
        ffn: kind of feed-forward: "mlp", or "swiglu" as in ViT-g.
        ffn_width: hidden width of the feed-forward; None for four times the width.
        patch: side of a patch in pixels.
        grid: side, in patches, of the square grid of stored position embeddings.
        registers: number of register tokens.
        positions: how stored position embeddings are resized to the grid of an image. "factor" scales by a factor,
            with 0.1 patches added and without antialiasing, as DINOv2's models without registers do. "size" resizes to
            the exact grid with antialiasing, as its models with registers do. The wrong choice changes tokens by up to
            0.7.

    Raises:
        InputError: a size is out of range.
    """

    width: int
    depth: int
    heads: int
    ffn: Literal["mlp", "swiglu"] = "mlp"
    ffn_width: int | None = None
    patch: int = 14
    grid: int = 37
    registers: int = 0
    positions: Literal["factor", "size"] = "factor"

    def __post_init__(self) -> None:
        for name in ("width", "patch", "grid", "hidden"):
            check_range(name, getattr(self, name), 1)
        check_range("depth", self.depth, 1, MOST_LAYERS)
        check_range("registers", self.registers, 0)
        check_heads("heads", self.width, self.heads)

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward."""
        return 4 * self.width if self.ffn_width is None else self.ffn_width


_PLAIN = {
    "vits14": ViTConfig(384, 12, 6),
    "vitb14": ViTConfig(768, 12, 12),
    "vitl14": ViTConfig(1024, 24, 16),
    "vitg14": ViTConfig(1536, 40, 24, ffn="swiglu", ffn_width=4096),
}
BACKBONES: dict[str, ViTConfig] = {
    **_PLAIN,
    **{f"{name}_reg": replace(config, registers=4, positions="size") for name, config in _PLAIN.items()},
    "tiny": ViTConfig(192, 6, 3, grid=8),  # not DINOv2's; wide and shallow: learns fastest for its cost at 112 px
    "nano": ViTConfig(96, 6, 3, grid=8),  # not DINOv2's; for experiments on a CPU
}


class Tokens(NamedTuple):
    """Output of the transformer. `prenorm` holds the tokens before the final norm, the others hold tokens after it."""

    class_token: Tensor  # (B, C)
    registers: Tensor  # (B, R, C)
    patches: Tensor  # (B, h, w, C)
    prenorm: Tensor  # (B, T, C)


class PatchEmbed(nn.Module):
    """Convolution that turns each patch of an image into a token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, stride=config.patch)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        return self.proj(images)  # type: ignore[no-any-return]  # (B, C, h, w)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T, C)
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, C / heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Feed-forward of two linear layers with GELU between them."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """Gated feed-forward of ViT-g: SiLU of the first half of the hidden values times the second half."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.w12 = nn.Linear(config.width, 2 * config.hidden)
        self.w3 = nn.Linear(config.hidden, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, value = self.w12(tokens).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """Multiplication of each channel by a learnt factor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class BlockAdapter(nn.Module, ABC):
    """Base class of adapters, which run in parallel with the feed-forward of a block.

    `forward` takes tokens (B, T, C) and the size of the grid of patches (h, w). It returns what is added to the output
    of the feed-forward, (B, T, C).
    """

    @abstractmethod
    def initialise(self) -> None:
        """Draw the initial weights; the transformer calls this after drawing the weights of the rest of the block."""


class Block(nn.Module):
    """One layer of the transformer. An adapter takes the same normalised tokens as the feed-forward."""

    def __init__(self, config: ViTConfig, adapter: BlockAdapter | None, adapter_scale: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads)
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
    """The transformer, which maps images (B, 3, H, W) to tokens.

    Args:
        adapter: function that makes the adapter of a block; None for a transformer without adapters.
        adapter_scale: factor by which the output of an adapter is multiplied.
    """

    def __init__(
        self,
        config: ViTConfig,
        adapter: Callable[[ViTConfig], BlockAdapter] | None = None,
        adapter_scale: float = 0.2,
    ) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid**2, config.width))
        if config.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))  # unused; part of the official weights
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(
            Block(config, adapter(config) if adapter else None, adapter_scale) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        for block in self.blocks:
            initialise_linear(block.children())
            if isinstance(block.adapter, BlockAdapter):
                block.adapter.initialise()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.config.registers:
            nn.init.normal_(self.register_tokens, std=1e-6)

    def forward(self, images: Tensor) -> Tokens:  # (B, 3, H, W)
        """Return the tokens of each image.

        Raises:
            InputError: a side of the images is not a multiple of the patch size.
        """
        height, width = images.shape[-2:]
        patch = self.config.patch
        if height % patch or width % patch:
            raise InputError(f"image height and width must be multiples of {patch} px, got {height} x {width}.")
        grid = height // patch, width // patch
        tokens = self._embed(images, grid)
        for block in self.blocks:
            tokens = block(tokens, grid)
        normed = self.norm(tokens)
        prefix = 1 + self.config.registers
        patches = normed[:, prefix:].reshape(len(images), *grid, -1)
        return Tokens(normed[:, 0], normed[:, 1:prefix], patches, tokens)

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
        """Resize the stored position embeddings to a grid of (h, w) patches: (1, 1 + h w, C).

        The computation is in float32, as in DINOv2.
        """
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


def initialise_linear(modules: Iterator[nn.Module]) -> None:
    """Draw the weights of all linear layers in `modules` as DINOv2 does. Skip adapters, which draw their own."""
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif not isinstance(module, BlockAdapter):
            initialise_linear(module.children())


def count_layers(tensors: Mapping[str, Any], prefix: str) -> int:
    """Count the numbered layers whose names begin with `prefix`.

    Example:
        >>> count_layers({"blocks.0.bias": 0, "blocks.1.bias": 0, "norm.bias": 0}, "blocks.")
        2
    """
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})
