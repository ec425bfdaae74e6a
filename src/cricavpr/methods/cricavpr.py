"""CricaVPR as a method: the authors' weights, our own files, or random weights for experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.errors import InputError, WeightsError
from cricavpr.images import Preprocess, Resize
from cricavpr.methods.single import DType, TorchMethod, check_dtype, drawn, is_random, tell_removed, torch_dtype
from cricavpr.schema import build, nearest, to_plain

if TYPE_CHECKING:
    from torch import Tensor

    from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig

MOST_PIXELS = 4096 * 4096  # of the image size in a file, which may come from a stranger
_IN_A_FILE = ("image_size", "resize")  # settings beside the network's that a file of ours has


@dataclass(frozen=True)
class Settings:
    """The network, and how pictures reach it; a file of ours has all of it but `dtype`."""

    config: CricaVPRConfig
    image_size: tuple[int, int]
    resize: Resize
    dtype: DType = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Return the header of a weights file."""
        return {key: to_plain(getattr(self, key)) for key in ("config", *_IN_A_FILE)}


@dataclass(frozen=True)
class _InAFile:
    """What a file of ours says beside the network's configuration."""

    image_size: tuple[int, int]
    resize: Resize

    def __post_init__(self) -> None:
        height, width = self.image_size
        if min(height, width) < 1 or height * width > MOST_PIXELS:
            raise ValueError(f"image_size must have from 1 to {MOST_PIXELS:,} pixels")


class CricaVPRMethod(TorchMethod["CricaVPR"]):
    """A CricaVPR network that describes images, alone or in groups."""

    def __init__(self, name: str, network: CricaVPR, settings: Settings, weights: str, device: str) -> None:
        _check_image_size(settings)
        super().__init__(name, network, Preprocess(settings.image_size, settings.resize), weights, device)
        self.dim = network.config.dim
        self.correlates = network.config.encoder_depth > 0
        self.settings = settings
        self.preprocessing += _departures(settings)

    def forward(self, images: Tensor, groups: Sequence[int] | None) -> Tensor:
        """Run the network."""
        return self.network(images, groups)  # type: ignore[no-any-return]


def _check_image_size(settings: Settings) -> None:
    """Raise InputError if the network does not take the image size, before a photo is read."""
    from cricavpr.models.aggregators import pyramid_regions

    (height, width), patch = settings.image_size, settings.config.backbone.patch
    if height % patch or width % patch or min(height, width) < 1:
        raise InputError(f"image_size must be multiples of {patch} px, got {height} x {width}.")
    if settings.config.aggregator == "pyramid":
        pyramid_regions(height // patch, width // patch, settings.config.levels, settings.config.region_cuts)


def _departures(settings: Settings) -> str:
    """Return the settings that change a descriptor and leave no trace in the weights."""
    from cricavpr.models.cricavpr import CricaVPRConfig

    config, plain = settings.config, CricaVPRConfig()
    names = ("adapter_scale", "region_cuts", "levels", "aggregator")
    changed = [f"{name}={getattr(config, name)}" for name in names if getattr(config, name) != getattr(plain, name)]
    if settings.dtype != "float32":
        changed.append(settings.dtype)
    return "".join(f"; {change}" for change in changed)


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> CricaVPRMethod:
    """Load `cricavpr` or `cricavpr-tiny`.

    Raises:
        WeightsError: the weights are missing, unsafe, or do not fit.
        InputError: an unknown setting, or a value that it does not take.
    """
    from cricavpr.models.cricavpr import CricaVPR, network_from, read_cricavpr

    if is_random(weights):
        settings = _overridden(default_settings(name), overrides)
        network = drawn(weights, lambda: CricaVPR(settings.config), settings.dtype)
        return CricaVPRMethod(name, network, settings, str(weights), device)
    file, config = read_cricavpr(weights)
    tell_removed(weights, file.removed)
    ours = "config" in file.header
    settings = replace(default_settings(name if ours else "cricavpr"), config=config)
    settings = _overridden(_with_header(settings, file.header, file.path), overrides)
    network = network_from(file, settings.config, torch_dtype(settings.dtype))
    return CricaVPRMethod(name, network, settings, file.sha256, device)


def default_settings(name: str) -> Settings:
    """Return the published settings of `cricavpr` (the paper's) or `cricavpr-tiny` (ours)."""
    from cricavpr.models.cricavpr import CricaVPRConfig
    from cricavpr.models.vit import BACKBONES

    if name == "cricavpr-tiny":
        tiny = CricaVPRConfig(backbone=BACKBONES["tiny"], tuning="full", encoder_heads=6, encoder_ffn=256)
        return Settings(tiny, (112, 112), "tensor")
    return Settings(CricaVPRConfig(), (224, 224), "tensor_no_antialias")


def _with_header(settings: Settings, header: Mapping[str, Any], path: Path) -> Settings:
    """Replace settings by those of a file."""
    plain = {key: header.get(key, to_plain(getattr(settings, key))) for key in _IN_A_FILE}
    try:
        found = build(_InAFile, plain, "header")
    except InputError as error:
        raise WeightsError(f"cannot use {path} as weights: {error}") from None
    return replace(settings, image_size=found.image_size, resize=found.resize)


def _overridden(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Replace settings by those of the caller."""
    from cricavpr.models.cricavpr import CricaVPRConfig

    own = {key: value for key, value in overrides.items() if key in (*_IN_A_FILE, "dtype")}
    network = {key: value for key, value in overrides.items() if key not in own}
    known = [field.name for field in fields(settings.config)]
    for key in network:
        if key not in known:
            raise InputError(f"unknown setting {key!r} of CricaVPR. {nearest(key, [*known, *_IN_A_FILE, 'dtype'])}")
    check_dtype(own.get("dtype", settings.dtype))
    config = build(CricaVPRConfig, {**to_plain(settings.config), **to_plain(network)}, "settings of CricaVPR")
    return replace(settings, config=config, **own)
