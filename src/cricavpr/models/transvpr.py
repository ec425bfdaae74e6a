"""TransVPR: a transformer over tokens from convolutions at four scales; attention masks pool three of its outputs.

Source: Wang et al., "TransVPR: Transformer-Based Place Recognition with Multi-Level Attention Aggregation" (CVPR 2022),
section 3. For inference only: there is no dropout and no stochastic depth. Letters: B images, n patches, C width,
L levels (outputs of transformer blocks that are pooled), h x w patches of 16 x 16 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.fitting import HEAD_WIDTH, ImageNeeds, layers_of, renamed, shape_of
from cricavpr.models.vit import Attention

PATCH = 16  # side of a patch in pixels: each of the four stages halves the image


@dataclass(frozen=True)
class TransVPRConfig:
    """Sizes of the network; the default is the published network. The outputs of every second block are called levels.

    Attributes:
        channels: output channels of the four convolutional stages.
        token_widths: how many values of a token come from each of the four stages.
        depth: number of transformer blocks.
        ffn: hidden width of the feed-forward.
        dim: length of a descriptor.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512)
    token_widths: tuple[int, ...] = (64, 64, 64, 64)
    depth: int = 6
    ffn: int = 512
    dim: int = 256

    @property
    def width(self) -> int:
        """Width of a token."""
        return sum(self.token_widths)

    @property
    def levels(self) -> tuple[int, ...]:
        """Indices of the blocks whose outputs are the levels, counted from 0: (1, 3, 5) for a depth of 6."""
        return tuple(range(1, self.depth, 2))

    @property
    def local_level(self) -> int:
        """Index of the block whose patch tokens are the local features: the middle level, 3 for a depth of 6."""
        return self.levels[len(self.levels) // 2]


class Stage(nn.Module):
    """Convolution, batch norm, ReLU, and a max-pool that halves the map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:  # (B, inputs, H, W) to (B, outputs, H / 2, W / 2)
        return F.max_pool2d(torch.relu(self.norm(self.conv(maps))), 3, stride=2, padding=1)


class Block(nn.Module):
    """One layer: attention, norm, feed-forward. The shortcut of the feed-forward begins after the norm."""

    def __init__(self, config: TransVPRConfig) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.width // HEAD_WIDTH, qkv_bias=False)
        self.norm_between = nn.LayerNorm(config.width)
        self.linear1 = nn.Linear(config.width, config.ffn)
        self.linear2 = nn.Linear(config.ffn, config.width)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T, C)
        tokens = self.norm_between(tokens + self.attention(self.norm_in(tokens)))
        return tokens + self.linear2(F.gelu(self.linear1(tokens)))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Transformer that returns the normalised output of every block. It has no position embedding."""

    def __init__(self, config: TransVPRConfig) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        nn.init.trunc_normal_(self.class_token, std=0.2)

    def forward(self, patches: Tensor) -> Tensor:  # (B, n, C)
        tokens = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], dim=1)
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(self.norm(tokens))
        return torch.stack(outputs, dim=1)  # (B, depth, 1 + n, C)


class Pool(nn.Module):
    """Pooling with one attention mask for each level. Each mask is computed from all levels, but pools only one."""

    def __init__(self, config: TransVPRConfig) -> None:
        super().__init__()
        self.levels = config.levels
        together = len(config.levels) * config.width
        self.attention = nn.Linear(together, len(config.levels))
        self.project = nn.Linear(together, config.dim)

    def masks(self, outputs: Tensor) -> Tensor:  # (B, depth, 1 + n, C)
        """Return the weight of each patch on each level, (B, L, n). The weights of each level add up to 1."""
        together = self._patches(outputs).transpose(1, 2).flatten(2)  # (B, n, L C)
        return self.attention(together).softmax(dim=1).transpose(1, 2)  # type: ignore[no-any-return]

    def forward(self, outputs: Tensor) -> Tensor:  # (B, depth, 1 + n, C) to (B, D)
        pooled = self.masks(outputs)[:, :, None] @ self._patches(outputs)  # (B, L, 1, C)
        return F.normalize(self.project(F.normalize(pooled.flatten(1), dim=1)), dim=1)

    def _patches(self, outputs: Tensor) -> Tensor:
        return outputs[:, list(self.levels), 1:]  # (B, L, n, C)


class TransVPR(nn.Module):
    """The whole TransVPR network. Descriptors and local features are both computed from `outputs`."""

    def __init__(self, config: TransVPRConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.needs = ImageNeeds(PATCH, whole=True)
        inputs = (3, *config.channels[:-1])
        self.stages = nn.ModuleList(map(Stage, inputs, config.channels))
        self.tokenisers = nn.ModuleList(
            nn.Conv2d(channels, width, side, stride=side)
            for channels, width, side in zip(config.channels, config.token_widths, (8, 4, 2, 1), strict=True)
        )
        self.transformer = Transformer(config)
        self.pool = Pool(config)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, D)
        return self.pool(self.outputs(images))  # type: ignore[no-any-return]

    def outputs(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        """Return the normalised output of every block, (B, depth, 1 + n, C). The class token comes first.

        Raises:
            InputError: a side of the images is not a multiple of 16.
        """
        height, width = images.shape[-2:]
        if height % PATCH or width % PATCH:
            raise InputError(f"image height and width must be multiples of {PATCH} px, got {height} x {width}.")
        maps, parts = images, []
        for stage, tokeniser in zip(self.stages, self.tokenisers, strict=True):
            maps = stage(maps)
            parts.append(tokeniser(maps))  # (B, C / 4, h, w)
        patches = torch.cat(parts, dim=1).flatten(2).transpose(1, 2)  # (B, n, C)
        return self.transformer(patches)  # type: ignore[no-any-return]


def combined_mask(masks: Tensor) -> Tensor:  # (B, L, n)
    """Return one mask for all levels, (B, n): scale each mask to 0..1, add them, and scale the sum to 0..1."""
    return _scaled(_scaled(masks).sum(dim=1))


def _scaled(masks: Tensor) -> Tensor:  # (..., n); if all n values are equal, zeros
    low, high = masks.aminmax(dim=-1, keepdim=True)
    return (masks - low) / (high - low).clamp(min=torch.finfo(masks.dtype).tiny)


# ---- the authors' checkpoint ------------------------------------------------------------------------------------

_AUTHORS_NAMES = {
    **{rf"conv{n}\.0\.": f"stages.{n - 1}.conv." for n in range(1, 5)},
    **{rf"conv{n}\.1\.": f"stages.{n - 1}.norm." for n in range(1, 5)},
    **{rf"tokenizer{n}\.conv_layer\.": f"tokenisers.{n - 1}." for n in range(1, 5)},
    r"transformer\.class_emb$": "transformer.class_token",
    r"transformer\.blocks\.(\d+)\.pre_norm\.": r"transformer.blocks.\1.norm_in.",
    r"transformer\.blocks\.(\d+)\.self_attn\.": r"transformer.blocks.\1.attention.",
    r"transformer\.blocks\.(\d+)\.norm1\.": r"transformer.blocks.\1.norm_between.",
    r"pool\.fc\.1\.": "pool.project.",
    r"pool\.attention_pool\.": "pool.attention.",
}


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' weights file to this package's parameter names."""
    return renamed(tensors, _AUTHORS_NAMES)


def network_of(tensors: Mapping[str, Tensor], name: str) -> TransVPR:
    """Build a network with the sizes found in `tensors`, a state dict with this package's parameter names.

    If `tensors` is empty, build the published network.
    """
    plain = TransVPRConfig()
    widths = tuple(shape_of(tensors, f"tokenisers.{n}.bias", (plain.token_widths[n],))[0] for n in range(4))
    config = TransVPRConfig(
        channels=tuple(shape_of(tensors, f"stages.{n}.conv.bias", (plain.channels[n],))[0] for n in range(4)),
        token_widths=plain.token_widths if sum(widths) % HEAD_WIDTH else widths,
        depth=max(2, layers_of(tensors, "transformer.blocks.", plain.depth)),
        ffn=shape_of(tensors, "transformer.blocks.0.linear1.bias", (plain.ffn,))[0],
        dim=shape_of(tensors, "pool.project.bias", (plain.dim,))[0],
    )
    return TransVPR(config)
