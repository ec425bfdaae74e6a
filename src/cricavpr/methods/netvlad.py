"""NetVLAD and SFRS as methods: VGG-16, NetVLAD and, if the weights file has it, a whitening.

Sources: Arandjelovic et al., "NetVLAD: CNN architecture for weakly supervised place recognition" (CVPR 2016), as
published by its authors and as trained again by Nanne/pytorch-NetVlad; Ge et al., "Self-supervising Fine-grained
Region Similarities for Large-scale Image Localization" (ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cricavpr.errors import WeightsError
from cricavpr.files import sha256_of
from cricavpr.images import IMAGENET_MEAN, IMAGENET_STD
from cricavpr.matlab import Unreadable, Value, is_matlab, read_variable
from cricavpr.methods.families import Colour, DType, Settings, TorchMethod, is_random, torch_dtype, with_weights
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
from cricavpr.models.weights import plain_state

CAFFE_MEAN: Colour = (
    0.48501960784313836,
    0.4579568627450961,
    0.4076039215686255,
)  # on a scale of 0..1; 123.68, 116.78, 103.94 of 255
CAFFE_STD: Colour = (0.00392156862745098,) * 3  # 1/255: pixels stay in 0..255
SFRS_SIZE = (480, 640)
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # layer numbers of VGG-16
NETVLAD, WHITENING = 30, 33  # layer numbers in the authors' MatConvNet file


@dataclass(frozen=True)
class VLADSettings(Settings):
    """Settings of `netvlad` and `sfrs` that a user may change.

    Attributes:
        whitening: whether to whiten descriptors if the weights file has a whitening.
        shorten_to: number of values of a whitened descriptor to keep, the first ones; None keeps all.
    """

    whitening: bool = True
    shorten_to: int | None = None


class VLADMethod(TorchMethod):
    """A method that computes descriptors with a network that has a NetVLAD layer."""

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
    """Load the method `netvlad` or `sfrs`; see `cricavpr.methods.load_method`.

    `netvlad` takes one of two weights files: its authors' MATLAB file, which has a whitening, or a checkpoint of
    Nanne/pytorch-NetVlad, which has none.
    """
    settings = VLADSettings(SFRS_SIZE if name == "sfrs" else None).overridden(overrides, name)
    if name == "sfrs":
        network, mark = from_torch(weights, settings.dtype, OPENIBL, (CLUSTERS, "clusters", WHITENED))
        return VLADMethod(name, network, settings, mark, device, CAFFE_MEAN, CAFFE_STD)
    if not is_random(weights) and is_matlab(path := find_weights(weights)):
        network, mark, mean = _from_matlab(path, settings.dtype)
        return VLADMethod(name, network, settings, mark, device, mean, CAFFE_STD)
    network, mark = from_torch(weights, settings.dtype, NANNE, (CLUSTERS, "channels", WHITENED))
    if is_random(weights):  # preprocessing as for the MATLAB file
        return VLADMethod(name, network, settings, mark, device, CAFFE_MEAN, CAFFE_STD)
    return VLADMethod(name, network, settings, mark, device)


def from_torch(
    weights: str | Path,
    dtype: DType,
    names: Mapping[str, str],
    published: tuple[int, Flattening, int | None],  # clusters, order of values, length of a whitened descriptor
) -> tuple[VLADNet, str]:
    """Load a network from a torch file, or build it with random weights.

    Return the network, and a text that identifies its weights: the SHA-256 of the weights file, or random:SEED.

    Args:
        weights: a weights file, a name from `cricavpr weights list`, or random:SEED.
        dtype: precision of the network.
        names: table for renaming the tensors: NANNE or OPENIBL of `cricavpr.models.netvlad`.
        published: clusters, order of values and dimension of the published network, used for random weights.
    """
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


# ---- the MATLAB file of NetVLAD's authors, a MatConvNet network


def read_matconvnet(path: Path) -> tuple[dict[str, Tensor], Colour]:
    """Read the authors' MATLAB file of NetVLAD.

    Return the tensors by this package's parameter names, and the mean colour: red, green and blue from 0 to 255. The
    mean colour is subtracted from photos.

    Raises:
        WeightsError: the file is damaged or too large, or is not the network that the authors published.
    """
    try:
        network = read_variable(path, "net")
        layers = _field(network, "layers")
        arrays, mean = _arrays(layers if isinstance(layers, list) else [layers]), _mean(network)
    except Unreadable as error:
        raise WeightsError(f"cannot use {path} as weights: {error}.") from None
    return plain_state(
        {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}, str(path)
    ), mean


def _arrays(layers: list[Any]) -> dict[str, NDArray[Any]]:
    if len(layers) <= NETVLAD:
        raise Unreadable(f"its network has {len(layers)} layers and ends before the NetVLAD layer")
    arrays: dict[str, NDArray[Any]] = {}
    for number in CONVOLUTIONS:
        kernel, bias = _weights(layers, number, 4)
        arrays[f"backbone.{number}.weight"] = kernel.transpose(3, 2, 0, 1)  # (h, w, in, out) in the file
        arrays[f"backbone.{number}.bias"] = np.atleast_1d(bias)
    assignment, centres = _weights(layers, NETVLAD, 2)
    arrays["pool.conv.weight"] = assignment.T[:, :, None, None]  # (C, K) in the file
    arrays["pool.centroids"] = -centres.T  # (C, K) in the file, with the sign changed
    if len(layers) > WHITENING:
        projection, shift = _weights(layers, WHITENING, 2)
        arrays["whitening.weight"] = projection.T  # (K C, D) in the file
        arrays["whitening.bias"] = np.atleast_1d(shift)
    return arrays


def _weights(layers: list[Any], number: int, dims: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights and the biases of a layer; raise Unreadable if the weights do not have `dims` dimensions."""
    both = _field(layers[number], "weights")
    if not isinstance(both, list) or len(both) != 2:
        raise Unreadable(f"its layer {number} must have two arrays, weights and biases")
    first, second = both
    for array in both:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            raise Unreadable(f"its layer {number} has weights that are not floating-point numbers")
    if first.ndim != dims:
        raise Unreadable(f"the weights of its layer {number} must have {dims} dimensions, got the shape {first.shape}")
    return first, second


def _mean(network: Value) -> Colour:
    image = _field(_field(_field(network, "meta"), "normalization"), "averageImage")
    colour = np.asarray(image, np.float64) if isinstance(image, np.ndarray) else np.empty(0)
    colour = colour[0, 0] if colour.ndim == 3 and colour.size else colour
    if colour.shape != (3,) or not np.isfinite(colour).all():
        raise Unreadable("its averageImage must be three finite numbers")
    red, green, blue = colour.tolist()
    return red, green, blue


def _field(structure: Any, name: str) -> Any:
    if not isinstance(structure, dict) or name not in structure:
        raise Unreadable(f"its network lacks the field {name}")
    return structure[name]
