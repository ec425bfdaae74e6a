"""BoQ with weights: on DINOv2 at 322 x 322, or on ResNet-50 at 384 x 384."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import WeightsError
from cricavpr.images import Preprocess
from cricavpr.methods.single import Settings, SingleImageMethod, with_weights
from cricavpr.methods.whole_patches import check_patches

if TYPE_CHECKING:
    from torch import Tensor

    from cricavpr.models.boq import BoQ

BACKBONES = {"boq": "dinov2", "boq-resnet50": "resnet50"}
PUBLISHED = {"dinov2": Settings((322, 322), "tensor"), "resnet50": Settings((384, 384), "tensor")}


@dataclass(frozen=True)
class Bicubic(Preprocess):
    """Normalise, then bicubic on the tensor with antialias. The authors resize first: the same but for rounding."""

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:  # (H, W, 3) to (3, h, w)
        import torch.nn.functional as F

        pixels = Preprocess(None, mean=self.mean, std=self.std)(image)
        if self.image_size is None or tuple(pixels.shape[-2:]) == tuple(self.image_size):
            return pixels
        return F.interpolate(pixels[None], self.image_size, mode="bicubic", align_corners=False, antialias=True)[0]

    def describe(self) -> str:
        return super().describe().replace(f"resize {self.resize}", "resize tensor_bicubic")


class BoQMethod(SingleImageMethod):
    """A BoQ ready to describe images."""

    def __init__(self, name: str, model: BoQ, settings: Settings, weights: str, device: str) -> None:
        super().__init__(name, model, settings, weights, device)
        bilinear, self.preprocess = self.preprocess, Bicubic(settings.image_size, resize=settings.resize)
        self.preprocessing = self.preprocessing.replace(bilinear.describe(), self.preprocess.describe())


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> BoQMethod:
    """Build the network that the weights are for, and load them strictly.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network of this name.
        InputError: an override that is no setting, or a size that is not made of whole patches.
    """
    from cricavpr.models import boq

    backbone = BACKBONES[name]
    settings = PUBLISHED[backbone].overridden(overrides, name, fixed=("resize",))

    def fitting(tensors: Mapping[str, Tensor], source: str) -> BoQ:
        _check_backbone(name, boq.backbone_of(tensors), source)
        return boq.network_of(tensors, source)

    model, mark = with_weights(
        weights,
        settings.dtype,
        published=lambda: boq.BoQ(boq.PUBLISHED[backbone]),
        fitting=fitting,
        renamed=boq.from_authors_names,
    )
    if not isinstance(model.config.backbone, int):
        check_patches(settings.image_size, model.config.backbone.patch)
    return BoQMethod(name, model, settings, mark, device)


def _check_backbone(name: str, found: str, source: str) -> None:
    """Tables of results name the method: a file on another backbone must not stand under this name."""
    if found != BACKBONES[name]:
        fitting = next((repr(other) for other, backbone in BACKBONES.items() if backbone == found), None)
        advice = f"Load it as {fitting}." if fitting else "No method here is made for that."
        raise WeightsError(f"{source} is a BoQ on {found}, and {name!r} is one on {BACKBONES[name]}. {advice}")
