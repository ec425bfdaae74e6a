"""BoQ (bag of queries): in each block, learnt queries collect information from the patches by cross-attention.

Source: Ali-bey, Chaib-draa and Giguère, "BoQ: A Place is Worth a Bag of Learnable Queries" (CVPR 2024), section 3.
Letters: B images, n patches, C width, Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.models.cnn import resnet, resnet_channels, resnet_depth_of
from cricavpr.models.fitting import HEAD_WIDTH, ImageNeeds, dinov2_of, layers_of, renamed, shape_of
from cricavpr.models.vit import BACKBONES, VisionTransformer, ViTConfig

LAST_STAGE = 3  # last ResNet stage that is used; its feature map is 16 times smaller than the image


@dataclass(frozen=True)
class BoQConfig:
    """Sizes of the network.

    Attributes:
        backbone: sizes of a DINOv2 transformer, or the depth of a ResNet, such as 50.
        width: number of channels of a token in the aggregator.
        queries: number of learnt queries in each block.
        blocks: number of blocks.
        rows: number of vectors of length `width` that make up a descriptor.
    """

    backbone: ViTConfig | int = field(default_factory=lambda: BACKBONES["vitb14"])
    width: int = 384
    queries: int = 64
    blocks: int = 2
    rows: int = 32

    @property
    def dim(self) -> int:
        """Length of a descriptor."""
        return self.width * self.rows

    @property
    def channels(self) -> int:
        """Number of channels of the backbone's output map."""
        backbone = self.backbone
        return resnet_channels(backbone, LAST_STAGE) if isinstance(backbone, int) else backbone.width


PUBLISHED = {"boq": BoQConfig(), "boq-resnet50": BoQConfig(50, width=512)}  # descriptors of 12288 and 16384 values


class BoQBlock(nn.Module):
    """One block: self-attention of patches, self-attention of queries, then cross-attention from queries to patches."""

    def __init__(self, config: BoQConfig) -> None:
        super().__init__()
        width, heads = config.width, config.width // HEAD_WIDTH
        self.encoder = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)
        self.queries = nn.Parameter(torch.randn(1, config.queries, width))
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.query_norm = nn.LayerNorm(width)
        self.cross_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.output_norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:  # (B, n, C)
        """Return the encoded patches (B, n, C), for the next block, and the output of the learnt queries (B, Q, C)."""
        patches = self.encoder(patches)
        queries = self.queries.expand(len(patches), -1, -1)
        queries = self.query_norm(queries + self.self_attn(queries, queries, queries, need_weights=False)[0])
        read = self.cross_attn(queries, patches, patches, need_weights=False)[0]
        return patches, self.output_norm(read)


class BoQAggregator(nn.Module):
    """Aggregator that turns the backbone's output map into one descriptor for each image."""

    def __init__(self, config: BoQConfig) -> None:
        super().__init__()
        self.project = nn.Conv2d(config.channels, config.width, 3, padding=1)
        self.norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(BoQBlock(config) for _ in range(config.blocks))
        self.mix = nn.Linear(config.blocks * config.queries, config.rows)

    def forward(self, maps: Tensor) -> Tensor:  # (B, channels, h, w) to (B, D)
        patches = self.norm(self.project(maps).flatten(2).transpose(1, 2))  # (B, n, C)
        reads = []
        for block in self.blocks:
            patches, read = block(patches)
            reads.append(read)
        mixed = self.mix(torch.cat(reads, dim=1).transpose(1, 2))  # (B, C, rows)
        return F.normalize(mixed.flatten(1), dim=1)


class BoQ(nn.Module):
    """The whole BoQ network. Of a DINOv2 backbone it uses the patch tokens before the final norm."""

    def __init__(self, config: BoQConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        backbone = config.backbone
        self.needs = ImageNeeds() if isinstance(backbone, int) else ImageNeeds(backbone.patch, whole=True)
        self.trunk = f"resnet{backbone}" if isinstance(backbone, int) else "dinov2"
        self.backbone = resnet(backbone, LAST_STAGE) if isinstance(backbone, int) else VisionTransformer(backbone)
        self.aggregator = BoQAggregator(config)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, D)
        maps = self.backbone(images)  # (B, channels, h, w)
        if isinstance(self.backbone, VisionTransformer):
            height, width = maps.patches.shape[1:3]
            patches = maps.prenorm[:, -height * width :]  # (B, n, C)
            maps = patches.transpose(1, 2).reshape(len(images), -1, height, width)
        return self.aggregator(maps)  # type: ignore[no-any-return]


# ---- the authors' checkpoint ------------------------------------------------------------------------------------

_RESNET = {
    0: "conv1",
    1: "bn1",
    4: "layer1",
    5: "layer2",
    6: "layer3",
}  # number of a submodule in the authors' file: its name here
_AUTHORS_NAMES = {
    r"backbone\.dino\.": "backbone.",
    **{rf"backbone\.net\.{number}\.": f"backbone.{child}." for number, child in _RESNET.items()},
    r"aggregator\.proj_c\.": "aggregator.project.",
    r"aggregator\.norm_input\.": "aggregator.norm.",
    r"aggregator\.boqs\.(\d+)\.norm_q\.": r"aggregator.blocks.\1.query_norm.",
    r"aggregator\.boqs\.(\d+)\.norm_out\.": r"aggregator.blocks.\1.output_norm.",
    r"aggregator\.boqs\.": "aggregator.blocks.",
    r"aggregator\.fc\.": "aggregator.mix.",
}


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' weights file to this package's parameter names."""
    return renamed(tensors, _AUTHORS_NAMES)


def network_of(tensors: Mapping[str, Tensor], name: str) -> BoQ:
    """Build a network with the sizes found in `tensors`, a state dict with this package's parameter names.

    If `tensors` is empty, build the published network `name`.
    """
    if not tensors:
        return BoQ(PUBLISHED[name])
    depth = resnet_depth_of(tensors, "backbone.layer3.")
    plain = PUBLISHED["boq" if depth is None else "boq-resnet50"]
    width = shape_of(tensors, "aggregator.norm.weight", (plain.width,))[0]
    config = BoQConfig(
        backbone=dinov2_of(tensors, "backbone.") if depth is None else depth,
        width=plain.width if width % HEAD_WIDTH else width,
        queries=shape_of(tensors, "aggregator.blocks.0.queries", (1, plain.queries, plain.width))[1],
        blocks=layers_of(tensors, "aggregator.blocks.", plain.blocks),
        rows=shape_of(tensors, "aggregator.mix.bias", (plain.rows,))[0],
    )
    return BoQ(config)
