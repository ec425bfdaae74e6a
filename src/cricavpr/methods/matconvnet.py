"""Read NetVLAD as its first authors published it: a MATLAB file with a MatConvNet network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cricavpr.errors import WeightsError
from cricavpr.matlab import Unreadable, Value, read_variable
from cricavpr.models.weights import plain_state

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # numbered as torchvision numbers VGG-16
NETVLAD, WHITENING = 30, 33  # numbers of the layers

Mean = tuple[float, float, float]


def read_matconvnet(path: Path) -> tuple[dict[str, Tensor], Mean]:
    """Return the tensors of the network by our names, and the mean colour, 0 to 255, to subtract from pictures.

    Raises:
        WeightsError: damaged, too large, or not NetVLAD as its authors published it.
    """
    try:
        network = read_variable(path, "net")
        arrays, mean = _arrays(_list(_field(network, "layers"))), _mean(network)
    except Unreadable as error:
        raise WeightsError(f"cannot use {path} as weights: {error}.") from None
    return plain_state({name: _tensor(array) for name, array in arrays.items()}, str(path)), mean


def _arrays(layers: list[Any]) -> dict[str, NDArray[Any]]:
    if len(layers) <= NETVLAD:
        raise Unreadable(f"its network has {len(layers)} layers and ends before NetVLAD")
    arrays: dict[str, NDArray[Any]] = {}
    for number in CONVOLUTIONS:
        kernel, bias = _weights(layers, number, 4)
        arrays[f"backbone.{number}.weight"] = kernel.transpose(3, 2, 0, 1)  # (h, w, in, out) there
        arrays[f"backbone.{number}.bias"] = np.atleast_1d(bias)
    assignment, centres = _weights(layers, NETVLAD, 2)
    arrays["pool.conv.weight"] = assignment.T[:, :, None, None]  # (C, K) there
    arrays["pool.centroids"] = -centres.T  # (C, K) there, and subtracted by adding
    if len(layers) > WHITENING:
        projection, shift = _weights(layers, WHITENING, 2)
        arrays["whitening.weight"] = projection.T  # (K C, D) there
        arrays["whitening.bias"] = np.atleast_1d(shift)
    return arrays


def _weights(layers: list[Any], number: int, dims: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the two arrays of a layer, the first with `dims` dimensions."""
    both = _field(layers[number], "weights")
    if not isinstance(both, list) or len(both) != 2:
        raise Unreadable(f"its layer {number} must have two arrays of weights")
    first, second = both
    for array in both:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            raise Unreadable(f"its layer {number} has weights that are not floating-point numbers")
    if first.ndim != dims:
        raise Unreadable(f"the weights of its layer {number} must have {dims} dimensions, got the shape {first.shape}")
    return first, second


def _mean(network: Value) -> Mean:
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


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))
