"""CricaVPR as a method: with the authors' weights, weights trained by this package, or random weights."""

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

MOST_PIXELS = 4096 * 4096  # limit for the image size in a weights file, which may be untrusted


@dataclass(frozen=True)
class Settings:
    """Settings of the network and of preprocessing. Weights files of this package store all of them but `dtype`."""

    config: CricaVPRConfig
    image_size: tuple[int, int]
    resize: Resize
    dtype: DType = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the header of a weights file."""
        return {key: value for key, value in to_plain(self).items() if key != "dtype"}


class CricaVPRMethod(TorchMethod):
    """A method that computes descriptors with a CricaVPR network, of single images or of groups."""

    network: CricaVPR

    def __init__(self, name: str, network: CricaVPR, settings: Settings, weights: str, device: str) -> None:
        super().__init__(name, network, settings, weights, device)
        self.correlates = network.config.encoder_depth > 0
        self.preprocessing = f"{self.preprocess.describe()}{_departures(settings)}"
        if settings.config.aggregator == "pyramid":  # raise early if the image size is too small
            height, width = (side // settings.config.backbone.patch for side in settings.image_size)
            pyramid_regions(height, width, settings.config.levels, settings.config.region_cuts)

    def forward(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """Run the network: images (B, 3, h, w) and group sizes to descriptors (B, D)."""
        return self.network(images, groups)  # type: ignore[no-any-return]


def _departures(settings: Settings) -> str:
    """Return a text with all non-default settings that change descriptors and are not visible in the weights."""
    config, plain = settings.config, CricaVPRConfig()
    names = ("adapter_scale", "region_cuts", "levels", "aggregator")
    changed = [f"{name}={getattr(config, name)}" for name in names if getattr(config, name) != getattr(plain, name)]
    if settings.dtype != "float32":
        changed.append(settings.dtype)
    return "".join(f"; {change}" for change in changed)


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> CricaVPRMethod:
    """Load the method `cricavpr` or `cricavpr-tiny`; see `cricavpr.methods.load_method`."""
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
    """Return the settings of `cricavpr` in the paper, or of `cricavpr-tiny`, which this package publishes."""
    if name == "cricavpr-tiny":
        return Settings(PUBLISHED[name], (112, 112), "tensor")
    return Settings(PUBLISHED[name], (224, 224), "tensor_no_antialias")


def _overridden(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Return a copy of `settings` with some settings replaced, of preprocessing or of the network.

    Args:
        settings: the settings to start from.
        overrides: new values by name: image_size, resize, dtype, or any attribute of `CricaVPRConfig`.

    Raises:
        InputError: a setting is unknown, or its value is invalid.
    """
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
    """Return a Markdown table of parameter counts in millions, as in the paper's Supplementary Table 1."""
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
