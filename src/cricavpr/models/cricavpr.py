"""CricaVPR: a transformer with adapters, a pyramid of regions, and an encoder that correlates the images of a group.

Source: Lu et al., "CricaVPR: Cross-image Correlation-aware Representation Learning for Visual Place Recognition"
(CVPR 2024).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.files import write_text
from cricavpr.models.adapters import ADAPTERS, adapter_maker
from cricavpr.models.aggregators import PyramidAggregator, RegionCuts, Whole, region_count
from cricavpr.models.cross_image import CrossImageEncoder
from cricavpr.models.devices import AUTO, choose_device
from cricavpr.models.fitting import ImageNeeds, build_and_load, dinov2_of, renamed, shape_of
from cricavpr.models.registry import KNOWN, PRETRAINED
from cricavpr.models.torch_files import unusable
from cricavpr.models.vit import (
    BACKBONES,
    MOST_LAYERS,
    VisionTransformer,
    ViTConfig,
    check_heads,
    check_range,
    count_layers,
)
from cricavpr.models.weights import WeightsFile, find_and_read, save_weights
from cricavpr.progress import note
from cricavpr.schema import build, parse_json, to_plain

Tuning = Literal["adapter", "full", "frozen"]
Aggregator = Literal["pyramid", "gem", "class_token"]

CONFIG = "config.json"  # file name in a folder of `save_pretrained`
MOST_REGIONS = 1_000  # largest number of regions of a pyramid; the paper's pyramid has 14
MOST_RATIO = 16  # largest width inside an adapter, divided by the transformer's width


@dataclass(frozen=True)
class Ablation:
    """Settings of the network. Every ablation of the paper and its supplement changes some of them.

    Attributes:
        backbone: sizes of the transformer, or the name of a transformer in `vit.BACKBONES`.
        adapter: mulconv, conv1x1, conv3x3, conv5x5, convadapter, bottleneck or none (Supplementary Table 6).
        adapter_ratio: width inside an adapter divided by the transformer's width.
        adapter_scale: factor by which the output of an adapter is multiplied.
        tuning: parts of the backbone that are trained: "adapter" for the adapters, "full" for all, "frozen" for none.
            Aggregator and encoder are always trained (Tables 1 and 7).
        aggregator: "pyramid" for the pyramid of `levels`, "gem" for GeM over all patches, or "class_token"
            (Supplementary Table 7).
        levels: levels of the pyramid; level n cuts the grid of patches into n x n regions.
        region_cuts: "grid" cuts the grid of patches evenly; "authors" cuts at the fixed positions of the authors' code.
        encoder_depth: number of layers of the cross-image encoder; 0 for no encoder (Supplementary Table 3).
        encoder_heads: number of attention heads of the cross-image encoder.
        encoder_ffn: hidden width of the encoder's feed-forward.
        dropout: dropout probability in the encoder.
    """

    backbone: ViTConfig | str
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


@dataclass(frozen=True)
class CricaVPRConfig(Ablation):
    """Settings of a network, with the sizes of its backbone.

    Raises:
        InputError: a value is out of range.
    """

    backbone: ViTConfig = field(default_factory=lambda: BACKBONES["vitb14"])

    def __post_init__(self) -> None:
        if self.adapter not in (*ADAPTERS, "none"):
            raise InputError(f"adapter must be one of {', '.join(ADAPTERS)}, none, got {self.adapter[:40]!r}.")
        if not 1 / self.backbone.width <= self.adapter_ratio <= MOST_RATIO:
            raise InputError(
                f"adapter_ratio must be at most {MOST_RATIO} and give a width of at least 1 inside the "
                f"adapter, got {self.adapter_ratio:g}."
            )
        if not 0 <= self.dropout <= 1:
            raise InputError(f"dropout must be between 0 and 1, got {self.dropout:g}.")
        for level in self.levels:
            check_range("each of levels", level, 1, MOST_REGIONS)
        check_range("the number of regions of levels", region_count(self.levels), 1, MOST_REGIONS)
        check_range("encoder_depth", self.encoder_depth, 0, MOST_LAYERS)
        check_range("encoder_ffn", self.encoder_ffn, 1)
        if self.encoder_depth:
            check_heads("encoder_heads", self.backbone.width, self.encoder_heads)

    @property
    def regions(self) -> int:
        """Number of regions of an image, R."""
        return region_count(self.levels) if self.aggregator == "pyramid" else 1

    @property
    def dim(self) -> int:
        """Length of a descriptor."""
        return self.regions * self.backbone.width


PUBLISHED = {  # the networks whose weights are published, by name
    "cricavpr": CricaVPRConfig(),
    "cricavpr-tiny": CricaVPRConfig(backbone=BACKBONES["tiny"], tuning="full", encoder_heads=6, encoder_ffn=256),
}


def published_like(config: CricaVPRConfig) -> str:
    """Return the name (a key of PUBLISHED) of the published network that has the same backbone.

    Return "cricavpr" if no published network has this backbone.
    """
    return next((name for name, one in PUBLISHED.items() if one.backbone == config.backbone), "cricavpr")


class CricaVPR(nn.Module):
    """The CricaVPR network. `regions` treats each image alone; then `correlate` relates the images of each group.

    Example:
        >>> model = CricaVPR.from_pretrained("cricavpr-tiny", device="cpu")
        >>> images = torch.zeros(3, 3, 112, 112)
        >>> with torch.inference_mode():
        ...     descriptors = model(images, [2, 1])  # two images see each other, the third is alone
        >>> descriptors.shape
        torch.Size([3, 2688])
    """

    def __init__(self, config: CricaVPRConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.needs = ImageNeeds(config.backbone.patch, whole=True)
        adapter = adapter_maker(config.adapter, config.adapter_ratio)
        self.backbone = VisionTransformer(config.backbone, adapter, config.adapter_scale)
        whole: Whole = "class_token" if config.aggregator == "pyramid" else config.aggregator
        levels = config.levels if config.aggregator == "pyramid" else (1,)
        self.aggregator = PyramidAggregator(levels, whole, config.region_cuts)
        self.encoder = CrossImageEncoder(
            config.backbone.width, config.encoder_depth, config.encoder_heads, config.encoder_ffn, config.dropout
        )
        for name, parameter in self.backbone.named_parameters():  # aggregator and encoder always learn
            parameter.requires_grad = config.tuning == "full" or (config.tuning == "adapter" and ".adapter." in name)

    def forward(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, 3, H, W)
        """Return descriptors of unit length, (B, D). Images of one group influence one another.

        Args:
            images: (B, 3, H, W), normalised; height and width must be multiples of the patch size and may differ.
            groups: sizes of the groups, in the order of the images, which add up to B; None puts each image into a
                group of its own.

        Raises:
            InputError: the group sizes do not add up to B, or the network cannot take this image size.
        """
        groups = _checked(groups, len(images))
        return self.correlate(self.regions(images), groups)

    def regions(self, images: Tensor) -> Tensor:  # (B, 3, H, W)
        """Return the features of the regions of each image, (B, R, C). The other images have no influence."""
        return self.aggregator(self.backbone(images))  # type: ignore[no-any-return]

    def correlate(self, regions: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, R, C)
        """Return descriptors of unit length, (B, R * C), from the output of `regions`.

        `groups` has the same meaning as in `forward`.

        Raises:
            InputError: the group sizes do not add up to B.
        """
        correlated = self.encoder(regions, _checked(groups, len(regions)))
        return F.normalize(correlated.flatten(1), dim=1)

    @classmethod
    def from_pretrained(cls, weights: str | Path = "cricavpr-tiny", device: str = AUTO) -> CricaVPR:
        """Load a network with weights, in evaluation mode.

        Args:
            weights: a name from `cricavpr weights list`, a weights file, or a folder written by `save_pretrained`.
            device: cpu, cuda or mps; "auto" takes the first of cuda, mps and cpu that works on this machine.

        Raises:
            WeightsError: the weights are missing or unsafe, or do not fit the network.
            InputError: the device cannot be used.

        Example:
            >>> CricaVPR.from_pretrained("cricavpr-tiny", device="cpu").config.backbone.width
            192
        """
        chosen = choose_device(device)
        file, config = read_cricavpr(weights)
        return network_from(file, config).eval().to(chosen)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the network to a folder: `config.json` and `model.safetensors`.

        Raises:
            InputError: the folder cannot be written.
            WeightsError: a weight is NaN or infinite.

        Example:
            >>> import tempfile
            >>> model = CricaVPR.from_pretrained("cricavpr-tiny", device="cpu")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save_pretrained(folder)
            ...     again = CricaVPR.from_pretrained(folder, device="cpu")
            >>> again.config == model.config
            True
        """
        config = to_plain(self.config)
        save_weights(Path(folder) / PRETRAINED, self.state_dict(), {"config": config})
        write_text(Path(folder) / CONFIG, json.dumps(config, indent=1) + "\n")


def _checked(groups: Sequence[int] | None, count: int) -> list[int]:
    """Return the group sizes; None means one group per image. Raise InputError if they do not add up to `count`."""
    sizes = [1] * count if groups is None else list(groups)
    if sum(sizes) != count or min(sizes, default=1) < 1:
        raise InputError(f"group sizes must be at least 1 and add up to the number of images, {count}; got {sizes}.")
    return sizes


def parameter_counts(model: CricaVPR) -> dict[str, int]:
    """Count parameters by part, as in Supplementary Table 1: total, backbone, adapter, others, tunable.

    The backbone is counted without its adapters; tunable parameters are those that training changes.
    """
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


# ---- files ----------------------------------------------------------------------------------------------------------

_AUTHORS_NAMES = {
    r"aggregation\.1\.p$": "aggregator.gem.p",
    r"(.*)\.adapter\.D_fc1\.": r"\1.adapter.down.",
    r"(.*)\.adapter\.D_fc2\.": r"\1.adapter.up.",
    r"(.*)\.adapter\.branch1\.": r"\1.adapter.mixer.branches.0.0.",
    r"(.*)\.adapter\.branch2\.": r"\1.adapter.mixer.branches.1.",
    r"(.*)\.adapter\.branch3\.": r"\1.adapter.mixer.branches.2.",
}


def from_authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' weights file to this package's parameter names."""
    return renamed(tensors, _AUTHORS_NAMES)


def read_cricavpr(weights: str | Path) -> tuple[WeightsFile, CricaVPRConfig]:
    """Read a weights file and the configuration of its network.

    The tensors are renamed to this package's parameter names. The configuration comes from `config.json` in the folder,
    or else from the header of the file. If neither exists, sizes are read from the tensors, all other settings get
    their published values, and a note is printed.

    Args:
        weights: a name from `cricavpr weights list`, a weights file, or a folder written by `save_pretrained`.

    Raises:
        WeightsError: the file is missing or unsafe, or the configuration is invalid or does not fit the tensors.
    """
    file = find_and_read(weights)
    file = replace(file, tensors=from_authors_names(file.tensors))
    beside = file.path.with_name(CONFIG)
    try:
        if Path(weights).is_dir() and beside.is_file():
            config = build(CricaVPRConfig, parse_json(beside.read_bytes(), str(beside)), str(beside))
        elif "config" in file.header:
            config = build(CricaVPRConfig, file.header["config"], "config")
        else:
            config = config_of(file.tensors)
            if str(weights) not in KNOWN:
                like, heads = published_like(config), config.encoder_heads
                note(f"{weights} has no configuration; using that of {like}, with {heads} heads in the encoder.")
        for prefix, depth in (("backbone.blocks.", config.backbone.depth), ("encoder.layers.", config.encoder_depth)):
            found = count_layers(file.tensors, prefix)
            if found != depth:  # before any layer is built
                raise InputError(f"the configuration has {depth} layers named {prefix}*, but the file has {found}")
    except (InputError, OSError) as error:
        raise unusable(file.path, f"its configuration is invalid ({str(error).rstrip('.')})") from None
    return file, config


def network_from(file: WeightsFile, config: CricaVPRConfig, dtype: torch.dtype = torch.float32) -> CricaVPR:
    """Build the network of `config` and load the tensors of `file` into it. Every tensor must fit its parameter."""
    return build_and_load(lambda: CricaVPR(config), file.tensors, str(file.path), dtype)


def config_of(tensors: Mapping[str, Tensor]) -> CricaVPRConfig:
    """Return a configuration for a state dict: its tensors give the sizes; all other settings are the published ones.

    The tensors must have this package's parameter names.
    """
    backbone = dinov2_of(tensors, "backbone.")
    plain = PUBLISHED[published_like(CricaVPRConfig(backbone, encoder_depth=0))]
    return replace(
        plain,
        backbone=backbone,
        adapter="mulconv" if any(".adapter." in name for name in tensors) else "none",
        encoder_depth=min(count_layers(tensors, "encoder.layers."), MOST_LAYERS),
        encoder_ffn=shape_of(tensors, "encoder.layers.0.linear1.bias", (plain.encoder_ffn,))[0],
    )
