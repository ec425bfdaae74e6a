"""CricaVPR: a transformer with adapters, a pyramid of regions, and an encoder that correlates the images of a group.

Source: Lu et al., "CricaVPR: Cross-image Correlation-aware Representation Learning for Visual Place Recognition"
(CVPR 2024). Every ablation of the paper and its supplement is a field of `CricaVPRConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.models.adapters import adapter_maker
from cricavpr.models.aggregators import PyramidAggregator, RegionCuts, region_count
from cricavpr.models.cross_image import CrossImageEncoder
from cricavpr.models.vit import BACKBONES, VisionTransformer, ViTConfig

Tuning = Literal["adapter", "full", "frozen"]
Aggregator = Literal["pyramid", "gem", "class_token"]


@dataclass(frozen=True)
class CricaVPRConfig:
    """The network of the paper, and its ablations.

    Attributes:
        adapter: mulconv, conv1x1, conv3x3, conv5x5, convadapter, bottleneck or none (Supplementary Table 6).
        tuning: what learns in training: adapters and encoder, everything, or the encoder alone (Tables 1 and 7).
        aggregator: pyramid of `levels`, one GeM over all patches, or the class token alone (Supplementary Table 7).
        region_cuts: from the grid, or where the authors' code has them whatever the grid.
        encoder_depth: layers across images; 0 is none (Supplementary Table 3).
    """

    backbone: ViTConfig = field(default_factory=lambda: BACKBONES["vitb14"])
    adapter: str = "mulconv"
    adapter_ratio: float = 0.5
    adapter_scale: float = 0.2
    tuning: Tuning = "adapter"
    aggregator: Aggregator = "pyramid"
    levels: tuple[int, ...] = (1, 2, 3)
    region_cuts: RegionCuts = "grid"
    encoder_depth: int = 2
    encoder_heads: int = 16
    encoder_ffn: int = 2048
    dropout: float = 0.1

    @property
    def regions(self) -> int:
        return region_count(self.levels) if self.aggregator == "pyramid" else 1

    @property
    def dim(self) -> int:
        return self.regions * self.backbone.width

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CricaVPRConfig:
        """The inverse of `to_dict`.

        Raises:
            InputError: unknown or missing fields.
        """
        try:
            backbone = ViTConfig(**values["backbone"])
            return cls(**{**values, "backbone": backbone, "levels": tuple(values["levels"])})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"this is no CricaVPR configuration: {error}. Was the file made by another version?"
            ) from None


class CricaVPR(nn.Module):
    """Images and group sizes to descriptors."""

    def __init__(self, config: CricaVPRConfig) -> None:
        super().__init__()
        self.config = config
        adapter = adapter_maker(config.adapter, config.adapter_ratio)
        self.backbone = VisionTransformer(config.backbone, adapter, config.adapter_scale)
        self.aggregator = _aggregator(config)
        self.encoder = CrossImageEncoder(
            config.backbone.width, config.encoder_depth, config.encoder_heads, config.encoder_ffn, config.dropout
        )
        _freeze(self, config.tuning)

    def forward(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, 3, H, W)
        """Describe images in the company of their group.

        Args:
            images: (B, 3, H, W), normalised; sides are multiples of the patch size, square or not.
            groups: sizes that add up to B; left out, every image is alone.

        Returns:
            (B, D) descriptors of unit length.

        Raises:
            InputError: the group sizes do not add up to B.
        """
        groups = [1] * len(images) if groups is None else list(groups)
        if sum(groups) != len(images) or min(groups, default=1) < 1:
            raise InputError(
                f"groups of {groups} images do not add up to {len(images)}. Give sizes of 1 or more that do."
            )
        regions = self.aggregator(self.backbone(images))  # (B, R, C)
        return F.normalize(self.encoder(regions, groups).flatten(1), dim=1)  # (B, R C)


def _aggregator(config: CricaVPRConfig) -> PyramidAggregator:
    if config.aggregator == "pyramid":
        return PyramidAggregator(config.levels, cuts=config.region_cuts)
    return PyramidAggregator((1,), whole=config.aggregator, cuts=config.region_cuts)


def _freeze(model: CricaVPR, tuning: Tuning) -> None:
    """Stop the gradient of what does not learn. The class token and pyramid's p always follow the paper."""
    if tuning == "full":
        return
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad = tuning == "adapter" and ".adapter." in name


def parameter_counts(model: CricaVPR) -> dict[str, int]:
    """Parameters by part, as in Supplementary Table 1: total, backbone, adapter, others, tunable."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    adapters = sum(n for name, n in sizes.items() if ".adapter." in name)
    backbone = sum(n for name, n in sizes.items() if name.startswith("backbone.")) - adapters
    total = sum(sizes.values())
    tunable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "total": total,
        "backbone": backbone,
        "adapter": adapters,
        "others": total - backbone - adapters,
        "tunable": tunable,
    }


# ---- the authors' checkpoint ------------------------------------------------------------------------------------

_AUTHORS_NAMES = {  # theirs: ours
    ".adapter.D_fc1.": ".adapter.down.",
    ".adapter.D_fc2.": ".adapter.up.",
    ".adapter.branch1.": ".adapter.mixer.branches.0.0.",
    ".adapter.branch2.": ".adapter.mixer.branches.1.",
    ".adapter.branch3.": ".adapter.mixer.branches.2.",
}


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the authors' state dict under our names."""
    renamed = {}
    for name, tensor in tensors.items():
        ours = "aggregator.gem.p" if name == "aggregation.1.p" else name
        for theirs, mine in _AUTHORS_NAMES.items():
            ours = ours.replace(theirs, mine)
        renamed[ours] = tensor
    return renamed


def config_of(tensors: Mapping[str, Tensor]) -> CricaVPRConfig:
    """Read the sizes of a CricaVPR off its tensors (our names). What leaves no trace in them keeps the paper's value.

    Raises:
        InputError: an entry that every CricaVPR has is missing.
    """
    missing = [n for n in ("backbone.pos_embed", "backbone.patch_embed.proj.weight") if n not in tensors]
    if missing:
        raise InputError(
            f"these are no CricaVPR weights: {', '.join(missing)} is missing. Is it a file of another method?"
        )
    layers = _count(tensors, "encoder.layers.")
    ffn = tensors["encoder.layers.0.linear1.weight"].shape[0] if layers else 2048
    return CricaVPRConfig(
        backbone=vit_config_of(
            {n.removeprefix("backbone."): t for n, t in tensors.items() if n.startswith("backbone.")}
        ),
        adapter="mulconv" if any(".adapter." in name for name in tensors) else "none",
        encoder_depth=layers,
        encoder_ffn=ffn,
    )


def vit_config_of(tensors: Mapping[str, Tensor]) -> ViTConfig:
    """Read the sizes of a DINOv2 transformer off its tensors."""
    _, positions, width = tensors["pos_embed"].shape
    registers = tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0
    gated = "blocks.0.mlp.w3.weight" in tensors
    return ViTConfig(
        width=width,
        depth=_count(tensors, "blocks."),
        heads=width // 64,  # every DINOv2 has heads of 64
        ffn="swiglu" if gated else "mlp",
        ffn_width=tensors["blocks.0.mlp.w3.weight"].shape[1] if gated else None,
        patch=tensors["patch_embed.proj.weight"].shape[-1],
        grid=round((positions - 1) ** 0.5),
        registers=registers,
        positions="size" if registers else "factor",
    )


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers there are under `prefix`."""
    return len({name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)})
