"""CricaVPR as a method: the authors' weights, our own files, or random weights for experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cricavpr.errors import InputError
from cricavpr.images import Resize
from cricavpr.methods.families import DType, TorchMethod, draw_weights, is_random, torch_dtype
from cricavpr.models.aggregators import pyramid_regions
from cricavpr.models.cricavpr import (
    PUBLISHED,
    CricaVPR,
    CricaVPRConfig,
    network_from,
    parameter_counts,
    published_like,
    read_cricavpr,
)
from cricavpr.models.torch_files import unusable
from cricavpr.schema import build, nearest, to_plain

MOST_PIXELS = 4096 * 4096  # of the image size in a file, which may come from a stranger


@dataclass(frozen=True)
class Settings:
    """Settings of the network and of preprocessing. A weights file of ours stores all of them but `dtype`."""

    config: CricaVPRConfig
    image_size: tuple[int, int]
    resize: Resize
    dtype: DType = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Return the header of a weights file."""
        return {key: value for key, value in to_plain(self).items() if key != "dtype"}


class CricaVPRMethod(TorchMethod):
    """A CricaVPR network that describes images, alone or in groups."""

    network: CricaVPR

    def __init__(self, name: str, network: CricaVPR, settings: Settings, weights: str, device: str) -> None:
        super().__init__(name, network, settings, weights, device)
        self.correlates = network.config.encoder_depth > 0
        self.preprocessing = f"{self.preprocess.describe()}{_departures(settings)}"
        if settings.config.aggregator == "pyramid":  # refuse a size that it cannot cut before a photo is read
            height, width = (side // settings.config.backbone.patch for side in settings.image_size)
            pyramid_regions(height, width, settings.config.levels, settings.config.region_cuts)

    def forward(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """Run the network."""
        return self.network(images, groups)  # type: ignore[no-any-return]


def _departures(settings: Settings) -> str:
    """Return the settings that change a descriptor but are not visible in the weights."""
    config, plain = settings.config, CricaVPRConfig()
    names = ("adapter_scale", "region_cuts", "levels", "aggregator")
    changed = [f"{name}={getattr(config, name)}" for name in names if getattr(config, name) != getattr(plain, name)]
    if settings.dtype != "float32":
        changed.append(settings.dtype)
    return "".join(f"; {change}" for change in changed)


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> CricaVPRMethod:
    """Load `cricavpr` or `cricavpr-tiny`."""
    if is_random(weights):
        settings = _overridden(default_settings(name), overrides)
        network = draw_weights(weights, lambda: CricaVPR(settings.config), settings.dtype)
        return CricaVPRMethod(name, network, settings, str(weights), device)
    file, config = read_cricavpr(weights)
    plain = replace(default_settings(published_like(config)), config=config).to_dict()
    said = {key: file.header[key] for key in ("image_size", "resize") if key in file.header}
    try:
        settings = build(Settings, {**plain, **said}, "header")
        if settings.image_size[0] * settings.image_size[1] > MOST_PIXELS:
            raise InputError(f"image_size must have at most {MOST_PIXELS:,} pixels")
    except InputError as error:
        raise unusable(file.path, f"its header is invalid ({str(error).rstrip('.')})") from None
    settings = _overridden(settings, overrides)
    network = network_from(file, settings.config, torch_dtype(settings.dtype))
    return CricaVPRMethod(name, network, settings, file.sha256, device)


def default_settings(name: str) -> Settings:
    """Return the published settings of `cricavpr` (the paper's) or `cricavpr-tiny` (ours)."""
    if name == "cricavpr-tiny":
        return Settings(PUBLISHED[name], (112, 112), "tensor")
    return Settings(PUBLISHED[name], (224, 224), "tensor_no_antialias")


def _overridden(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Return the settings, those of the network included, with some of them replaced."""
    plain, known = to_plain(settings), [one.name for one in fields(settings.config)]
    for key, value in overrides.items():
        if key in known:
            plain["config"][key] = to_plain(value)
        elif key in ("image_size", "resize", "dtype"):
            plain[key] = value
        else:
            near = nearest(key, [*known, "image_size", "resize", "dtype"])
            raise InputError(f"unknown setting {key!r} of CricaVPR. {near}")
    return build(Settings, plain, "settings of CricaVPR")


def parameter_table() -> str:
    """Return the parameter counts of Supplementary Table 1 in millions, as Markdown; allocate no memory for weights."""
    lines = [
        "| parameters (M)               | total | backbone | adapter | others | tunable |",
        "|------------------------------|------:|---------:|--------:|-------:|--------:|",
    ]
    networks = {
        "CricaVPR (paper: Ours)": CricaVPRConfig(),
        "full tuning, no adapter": CricaVPRConfig(adapter="none", tuning="full"),
        "cricavpr-tiny": PUBLISHED["cricavpr-tiny"],
    }
    for label, config in networks.items():
        with torch.device("meta"):
            millions = {part: count / 1e6 for part, count in parameter_counts(CricaVPR(config)).items()}
        lines.append(
            f"| {label:<28} | {millions['total']:5.1f} | {millions['backbone']:8.1f} | {millions['adapter']:7.1f} "
            f"| {millions['others']:6.1f} | {millions['tunable']:7.1f} |"
        )
    return "\n".join(lines)
