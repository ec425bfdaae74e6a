"""CricaVPR with weights: the authors' checkpoint, our own files, or seeded random weights for experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.errors import InputError
from cricavpr.images import Preprocess, Resize
from cricavpr.methods.single import RANDOM, DType, seeded, torch_dtype
from cricavpr.schema import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig

OWN = ("image_size", "resize", "dtype")  # settings that are not the network's


@dataclass(frozen=True)
class Settings:
    """What a CricaVPR file says beside its tensors: the network, and how pictures reach it. `dtype` is the user's."""

    config: CricaVPRConfig
    image_size: tuple[int, int]
    resize: Resize
    dtype: DType = "float32"

    def to_dict(self) -> dict[str, Any]:
        return {"config": self.config.to_dict(), "image_size": list(self.image_size), "resize": self.resize}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        from cricavpr.models.cricavpr import CricaVPRConfig

        height, width = values["image_size"]
        return cls(CricaVPRConfig.from_dict(values["config"]), (height, width), values["resize"])


class CricaVPRMethod:
    """A CricaVPR network ready to describe images, alone or in groups."""

    def __init__(self, name: str, model: CricaVPR, settings: Settings, weights: str, device: str) -> None:
        self.name = name
        self.dim = model.config.dim
        self.correlates = model.config.encoder_depth > 0
        self.image_size: tuple[int, int] | None = settings.image_size
        self.weights = weights
        self.settings = settings
        self.model = model.eval().to(device)
        self.preprocess = Preprocess(settings.image_size, resize=settings.resize)  # goes to worker processes by itself
        _require_fitting(settings)
        self.preprocessing = f"{self.preprocess.describe()}{_departures(settings)}"

    def describe(self, images: Tensor, groups: Sequence[int] | None = None) -> Tensor:  # (B, 3, h, w)
        import torch

        weight = next(self.model.parameters())
        with torch.inference_mode():
            return self.model(images.to(weight.device, weight.dtype), groups).cpu()  # type: ignore[no-any-return]


def _require_fitting(settings: Settings) -> None:
    """An image size that the network cannot take is refused before a photo is read.

    Raises:
        InputError: sides that do not divide into patches, or too few patches for the regions.
    """
    from cricavpr.models.aggregators import pyramid_regions

    (height, width), patch = settings.image_size, settings.config.backbone.patch
    if height % patch or width % patch:
        raise InputError(f"images of {height} x {width} px do not divide into patches. Use multiples of {patch}.")
    if settings.config.aggregator == "pyramid":
        pyramid_regions(height // patch, width // patch, settings.config.levels, settings.config.region_cuts)


def _departures(settings: Settings) -> str:
    """Settings that change a descriptor and leave no trace in the weights."""
    from cricavpr.models.cricavpr import CricaVPRConfig

    config, plain = settings.config, CricaVPRConfig()
    names = ("adapter_scale", "region_cuts", "levels", "aggregator")
    changed = [f"{name}={getattr(config, name)}" for name in names if getattr(config, name) != getattr(plain, name)]
    if settings.dtype != "float32":
        changed.append(settings.dtype)
    return "".join(f"; {change}" for change in changed)


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> CricaVPRMethod:
    """Build the network that the weights are for, and load them strictly.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: an override that is no setting.
    """
    from cricavpr.models.cricavpr import CricaVPR

    text = str(weights)
    if text.startswith(RANDOM):
        settings = _overridden(default_settings(name), overrides)
        model = seeded(text, lambda: CricaVPR(settings.config)).to(torch_dtype(settings.dtype))
        return CricaVPRMethod(name, model, settings, text, device)
    return _load_file(name, text, device, overrides)


def _load_file(name: str, weights: str, device: str, overrides: dict[str, Any]) -> CricaVPRMethod:
    from cricavpr.models.cricavpr import CricaVPR, config_of, from_authors_names
    from cricavpr.models.registry import find_weights
    from cricavpr.models.weights import load_strictly, read_weights

    file = read_weights(find_weights(weights))
    tensors = from_authors_names(file.tensors)
    if "config" in file.header:
        settings = Settings.from_dict(file.header)
    else:
        settings = replace(default_settings("cricavpr"), config=config_of(tensors))
    settings = _overridden(settings, overrides)
    # The first values are overwritten: leave the caller's random numbers alone.
    model = seeded("random:0", lambda: CricaVPR(settings.config)).to(torch_dtype(settings.dtype))
    load_strictly(model, tensors, str(file.path))
    return CricaVPRMethod(name, model, settings, file.sha256, device)


def default_settings(name: str) -> Settings:
    """The network behind a name, as published: `cricavpr` (the paper's) or `cricavpr-tiny` (ours)."""
    from cricavpr.models.cricavpr import CricaVPRConfig
    from cricavpr.models.vit import BACKBONES

    if name == "cricavpr-tiny":
        tiny = CricaVPRConfig(backbone=BACKBONES["tiny"], tuning="full", encoder_heads=6, encoder_ffn=256)
        return Settings(tiny, (112, 112), "tensor")
    return Settings(CricaVPRConfig(), (224, 224), "tensor_no_antialias")


def _overridden(settings: Settings, overrides: dict[str, Any]) -> Settings:
    own = {key: overrides[key] for key in OWN if key in overrides}
    network = {key: value for key, value in overrides.items() if key not in own}
    known = [field.name for field in fields(settings.config)]
    for key in network:
        if key not in known:
            raise InputError(f"{key!r} is not a setting of CricaVPR. {nearest(key, [*known, *OWN])}")
    return replace(settings, config=replace(settings.config, **network), **own)
