"""MixVPR with its authors' weights: 4096, 512 or 128 dimensions, from images of exactly 320 x 320 px."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.errors import WeightsError
from cricavpr.methods.single import Settings, SingleImageMethod, shape_of, with_weights

if TYPE_CHECKING:
    from torch import Tensor

    from cricavpr.models.mixvpr import MixVPR

PUBLISHED = Settings(image_size=(320, 320))  # squeezed; bilinear as in their training and validation, not as in demos


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> SingleImageMethod:
    """Build the network that the weights are for, and load them strictly.

    Raises:
        WeightsError: no such file, an unsafe one, or one that does not fit the network.
        InputError: an override that is no setting; the size of the images is none here, the weights decide it.
    """
    from cricavpr.models.mixvpr import STRIDE, MixVPR, MixVPRConfig, from_authors_names

    settings = PUBLISHED.overridden(overrides, name, fixed=("image_size",))
    model, mark = with_weights(
        weights,
        settings.dtype,
        published=lambda: MixVPR(MixVPRConfig()),
        fitting=_network_of,
        renamed=from_authors_names,
    )
    pixels = STRIDE * model.config.side
    return SingleImageMethod(name, model, replace(settings, image_size=(pixels, pixels)), mark, device)


def _network_of(tensors: Mapping[str, Tensor], source: str) -> MixVPR:
    from cricavpr.models.cnn import resnet_depth_of
    from cricavpr.models.mixvpr import MixVPR, MixVPRConfig

    depth = resnet_depth_of(tensors, third_stage="backbone.layer3.")
    if depth is None:
        raise WeightsError(f"{source} holds no ResNet that we know. Is it a file of another method?")
    channels, _ = shape_of(tensors, "aggregator.channel_proj.weight", 2, source)
    rows, positions = shape_of(tensors, "aggregator.row_proj.weight", 2, source)
    hidden, _ = shape_of(tensors, "aggregator.mix.0.mix.1.weight", 2, source)
    mixer = "aggregator.mix."
    mixers = len({name[len(mixer) :].split(".")[0] for name in tensors if name.startswith(mixer)})
    return MixVPR(MixVPRConfig(depth, isqrt(positions), channels, rows, mixers, hidden))
