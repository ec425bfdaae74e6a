"""NetVLAD in the form of its first authors: a MATLAB file with a MatConvNet network in it.

scipy reads such a file as arrays, texts and bare structures; it knows no way to run anything that stands in one. What
it can do is grow: its parts are compressed, so their size is counted before it is read. We take arrays of numbers
from it and nothing else.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"MATLAB 5.0"
HEADER_BYTES = 128
COMPRESSED = 15  # the kind of an element that zlib packed
LARGEST_BYTES = 2**31  # of all elements unpacked; the published networks have 0.6e9
STEP = 2**20

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # numbered as torchvision numbers VGG-16
NETVLAD, WHITENING = 30, 33

Mean = tuple[float, float, float]


def is_matconvnet(path: Path) -> bool:
    """Whether a file begins like a MATLAB file."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_matconvnet(path: Path) -> tuple[dict[str, Tensor], Mean]:
    """The tensors of the network under our names, and the mean colour, 0 to 255, that its pictures lose.

    Raises:
        WeightsError: damaged, too large, or not NetVLAD as its authors published it.
    """
    from cricavpr.models.weights import plain_state

    network = _network(path)
    layers = np.atleast_1d(_field(network, "layers", path))
    if len(layers) <= NETVLAD:
        raise _refusal(path, f"its network has {len(layers)} layers, fewer than NetVLAD")
    arrays: dict[str, NDArray[Any]] = {}
    for number in CONVOLUTIONS:
        kernel, bias = _weights(layers, number, 4, path)
        arrays[f"backbone.{number}.weight"] = kernel.transpose(3, 2, 0, 1)  # (h, w, in, out) there
        arrays[f"backbone.{number}.bias"] = np.atleast_1d(bias)
    assignment, centres = _weights(layers, NETVLAD, 2, path)
    arrays["pool.conv.weight"] = assignment.T[:, :, None, None]  # (C, K) there
    arrays["pool.centroids"] = -centres.T  # (C, K) there, and subtracted by adding
    if len(layers) > WHITENING:
        projection, shift = _weights(layers, WHITENING, 2, path)
        arrays["whitening.weight"] = projection.T  # (K C, D) there
        arrays["whitening.bias"] = np.atleast_1d(shift)
    return plain_state({name: _tensor(array) for name, array in arrays.items()}, str(path)), _mean(network, path)


def _network(path: Path) -> object:
    from scipy.io import loadmat

    try:
        with path.open("rb") as file:
            _check_size(path, file)
            file.seek(0)
            found = loadmat(file, struct_as_record=False, squeeze_me=True, variable_names=["net"])
    except WeightsError:
        raise
    except Exception as error:  # a damaged file brings up many kinds
        raise _refusal(path, f"it cannot be read as a MATLAB file ({type(error).__name__}); fetch it again") from None
    if "net" not in found:
        raise _refusal(path, "it holds no network called net")
    return found["net"]


def _check_size(path: Path, file: BinaryIO) -> None:
    """Count what the elements of the file come to once they are unpacked, without keeping them."""
    order = "little" if file.read(HEADER_BYTES)[126:] == b"IM" else "big"
    total = 0
    while len(tag := file.read(8)) == 8:
        kind, length = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)  # type: ignore[arg-type]
        after = file.tell() + length
        unpacker = zlib.decompressobj()
        while kind == COMPRESSED and file.tell() < after and total <= LARGEST_BYTES:
            packed = file.read(min(STEP, after - file.tell()))
            if not packed:
                break
            while packed and total <= LARGEST_BYTES:
                total += len(unpacker.decompress(packed, STEP))
                packed = unpacker.unconsumed_tail
        total += length
        if total > LARGEST_BYTES:
            raise _refusal(path, f"it holds more than {LARGEST_BYTES:,} bytes")
        file.seek(after)


def _field(structure: object, name: str, path: Path) -> Any:
    value = getattr(structure, "__dict__", {}).get(name)
    if value is None:
        raise _refusal(path, f"its network has no {name}")
    return value


def _weights(layers: NDArray[Any], number: int, dims: int, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """The two arrays of a layer, the first with `dims` dimensions."""
    both = np.atleast_1d(_field(layers[number], "weights", path))
    if both.dtype != object or len(both) != 2:
        raise _refusal(path, f"layer {number} has not two arrays of weights")
    first, second = (np.asarray(array) for array in both)
    if first.dtype.kind != "f" or second.dtype.kind != "f" or first.ndim != dims:
        raise _refusal(path, f"layer {number} has {first.dtype} weights of shape {first.shape}, not {dims} dimensions")
    return first, second


def _mean(network: object, path: Path) -> Mean:
    normalisation = _field(_field(network, "meta", path), "normalization", path)
    image = np.asarray(_field(normalisation, "averageImage", path))
    colour = image if image.ndim == 1 else image[0, 0] if image.ndim == 3 else np.empty(0)
    if colour.dtype.kind not in "fiu" or colour.shape != (3,) or not np.isfinite(colour.astype(np.float64)).all():
        raise _refusal(path, "its averageImage is no colour")
    red, green, blue = map(float, colour)
    return red, green, blue


def _tensor(array: NDArray[Any]) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def _refusal(path: Path, reason: str) -> WeightsError:
    return WeightsError(f"cannot use {path} as weights: {reason}.")
