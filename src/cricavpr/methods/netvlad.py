"""NetVLAD and SFRS as methods: VGG-16, NetVLAD and, if the file has one, a whitening.

Sources: Arandjelovic et al., "NetVLAD: CNN architecture for weakly supervised place recognition" (CVPR 2016), as
published by its authors and as trained again by Nanne/pytorch-NetVlad; Ge et al., "Self-supervising Fine-grained
Region Similarities for Large-scale Image Localization" (ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cricavpr.files import sha256_of
from cricavpr.images import IMAGENET_MEAN, IMAGENET_STD
from cricavpr.matlab import is_matlab
from cricavpr.methods.families import Colour, DType, Settings, TorchMethod, is_random, torch_dtype, with_weights
from cricavpr.methods.matconvnet import read_matconvnet
from cricavpr.models.fitting import build_and_load
from cricavpr.models.netvlad import (
    CLUSTERS,
    NANNE,
    OPENIBL,
    WHITENED,
    Flattening,
    VLADNet,
    from_authors_names,
    network_of,
)
from cricavpr.models.registry import check_recorded, find_weights

CAFFE_MEAN: Colour = (0.48501960784313836, 0.4579568627450961, 0.4076039215686255)  # of 0..1: 123.68, 116.78, 103.94
CAFFE_STD: Colour = (0.00392156862745098,) * 3  # 1/255: pixels stay in 0..255
SFRS_SIZE = (480, 640)


@dataclass(frozen=True)
class VLADSettings(Settings):
    """Settings that a user may change.

    Attributes:
        whitening: False leaves out the whitening of the file.
        shorten_to: number of values of a whitened descriptor to keep; None keeps all.
    """

    whitening: bool = True
    shorten_to: int | None = None


class VLADMethod(TorchMethod):
    """A network with NetVLAD that describes images."""

    network: VLADNet

    def __init__(
        self,
        name: str,
        network: VLADNet,
        settings: VLADSettings,
        weights: str,
        device: str,
        mean: Colour = IMAGENET_MEAN,
        std: Colour = IMAGENET_STD,
    ) -> None:
        if not settings.whitening:
            network.remove_whitening()
        if settings.shorten_to is not None:
            network.shorten(settings.shorten_to)
        super().__init__(name, network, settings, weights, device, mean, std)
        if not settings.whitening:
            self.preprocessing += "; not whitened"


def load(name: str, weights: str | Path, device: str, **overrides: Any) -> VLADMethod:
    """Load `netvlad` or `sfrs`.

    NetVLAD comes in two forms: the MATLAB file of its first authors, whitened, and Nanne's checkpoint, which is not.

    Raises:
        WeightsError: the weights are missing, unsafe, or do not fit.
        InputError: an unknown setting, or a value that it does not take.
    """
    settings = VLADSettings(SFRS_SIZE if name == "sfrs" else None).overridden(overrides, name)
    if name == "sfrs":
        network, mark = from_torch(weights, settings.dtype, OPENIBL, (CLUSTERS, "clusters", WHITENED))
        return VLADMethod(name, network, settings, mark, device, CAFFE_MEAN, CAFFE_STD)
    if not is_random(weights) and is_matlab(path := find_weights(weights)):
        network, mark, mean = _from_matlab(path, settings.dtype)
        return VLADMethod(name, network, settings, mark, device, mean, CAFFE_STD)
    network, mark = from_torch(weights, settings.dtype, NANNE, (CLUSTERS, "channels", WHITENED))
    if is_random(weights):  # the form of its first authors
        return VLADMethod(name, network, settings, mark, device, CAFFE_MEAN, CAFFE_STD)
    return VLADMethod(name, network, settings, mark, device)


def from_torch(
    weights: str | Path,
    dtype: DType,
    names: Mapping[str, str],
    published: tuple[int, Flattening, int | None],  # clusters, order of values, values after whitening
) -> tuple[VLADNet, str]:
    """Return a network from a file of torch, or of the published size with random weights; and the weights' SHA-256."""
    return with_weights(
        weights,
        dtype,
        lambda tensors: network_of(tensors) if tensors else VLADNet(*published),
        lambda tensors: from_authors_names(tensors, names),
    )


def _from_matlab(path: Path, dtype: DType) -> tuple[VLADNet, str, Colour]:
    mark = sha256_of(path)
    check_recorded(path, mark)
    tensors, mean = read_matconvnet(path)
    network = build_and_load(lambda: network_of(tensors, "channels"), tensors, str(path), torch_dtype(dtype))
    red, green, blue = (level / 255 for level in mean)
    return network, mark, (red, green, blue)
