"""Weights files: read them without running them, check every value, load them strictly, save them durably.

A weights file is data from strangers. Safetensors holds nothing but tensors; `torch_files` reads the rest without
running it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cricavpr.errors import WeightsError
from cricavpr.files import sha256_of, written_beside
from cricavpr.models.download import pull
from cricavpr.models.filetypes import FIRST_BYTES, what_else
from cricavpr.models.legacy import MAGIC
from cricavpr.models.registry import (
    KNOWN,
    KnownWeights,
    check_recorded,
    find_weights,
    known_weights,
    weights_folder,
)
from cricavpr.models.torch_files import Skipped, brief, names_of_bare_pickle, read_torch, refusal, shown

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "KNOWN",
    "KnownWeights",
    "WeightsFile",
    "convert",
    "find_weights",
    "known_weights",
    "load_strictly",
    "plain_state",
    "pull",
    "read_weights",
    "save_weights",
    "show",
    "weights_folder",
]

HEADER_KEY = "cricavpr"  # of the safetensors metadata: our JSON
STATE_KEYS = ("model_state_dict", "state_dict")  # where authors put them, beside epoch, optimizer, score
UNCOUNTED = "num_batches_tracked"  # batch norm's counter: changes no result, missing from older files
NAMES_IN_MESSAGE = 10
LARGEST_ALIASING = 4  # tensors that share memory may add up to this many times the file, not more


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds, and which file it was."""

    tensors: dict[str, Tensor]  # by the authors' names, without `module.`
    header: dict[str, Any]  # our configuration and provenance; empty for files that are not ours
    sha256: str  # of the file
    path: Path
    format: str  # "safetensors" or "torch"


# Reading


def read_weights(path: str | Path) -> WeightsFile:
    """Read a weights file, safetensors or `.pth`, told apart by their content and not by their names.

    Raises:
        WeightsError: missing, damaged, not plain tensors, not finite, or not the file recorded beside it.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise refusal(path, "it is a folder" if path.is_dir() else "there is no such file")
        sha256 = sha256_of(path)
        check_recorded(path, sha256)
        with path.open("rb") as file:
            form = _form(path, file)
            loaded: object
            if form == "safetensors":
                loaded, header = _read_safetensors(path)
            else:
                loaded, header = read_torch(path, file), {}
        tensors = plain_state(loaded, str(path))
        _check_aliasing(path, tensors)
    except (OSError, ValueError) as error:
        raise refusal(path, f"it cannot be read ({brief(error)})") from None
    return WeightsFile(tensors=tensors, header=header, sha256=sha256, path=path, format=form)


def _form(path: Path, file: BinaryIO) -> str:
    """ "safetensors" or "torch", told by the first bytes; everything else is refused by what it is."""
    start = file.read(FIRST_BYTES)
    file.seek(0)
    if start.startswith((b"PK\x03\x04", MAGIC)):
        return "torch"
    if len(start) > 8 and start[8:9] == b"{":
        return "safetensors"
    what = what_else(start)
    if what is None and start[0] == 0x80 and start[1:2] <= b"\x05":
        what = "a bare pickle, which is a program and not data" + names_of_bare_pickle(file)
    raise refusal(path, f"it is {what or 'neither safetensors nor a file that torch.save wrote'}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as opened:
            header = _header_of(path, opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise refusal(path, f"its safetensors header is cut off or damaged ({brief(error)})") from None
    except WeightsError:
        raise
    except Exception as error:  # whatever a damaged file brings up is the file's fault
        raise refusal(path, f"it cannot be read as safetensors ({brief(error)})") from None
    return tensors, header


def _header_of(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if HEADER_KEY not in metadata:
        return {}
    try:
        header = json.loads(metadata[HEADER_KEY])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise refusal(path, f"its metadata entry {HEADER_KEY!r} is not a JSON object")
    return header


# Checking


def plain_state(loaded: object, source: str = "the weights") -> dict[str, Tensor]:
    """The tensors in one of the forms that authors publish.

    A flat state dict, or one under `model_state_dict` or `state_dict` with anything beside it; `module.` of
    DataParallel goes where every name has it. Each value must be a plain, dense, finite tensor.

    Raises:
        WeightsError: it has another form, or a value is not such a tensor.
    """
    state = _state_in(loaded, source)
    if not state:
        raise WeightsError(f"{source} holds no tensors.")
    for name, value in state.items():
        if not isinstance(name, str):
            raise WeightsError(f"{source} has an entry whose name is no text: {shown(repr(name))}.")
        _check_value(name, value, source)
    prefix = "module."
    if all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value.detach() for name, value in state.items()}
    return {name: value.detach() for name, value in state.items()}


def _state_in(loaded: object, source: str) -> Mapping[Any, Any]:
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{source} holds a {type(loaded).__name__}, not a dictionary of tensors.")
    for key in STATE_KEYS:
        if isinstance(loaded.get(key), Mapping):
            state: Mapping[Any, Any] = loaded[key]
            return state
    import torch

    if loaded and not any(isinstance(value, torch.Tensor) for value in loaded.values()):
        entries = ", ".join(shown(str(name)) for name in list(loaded)[:NAMES_IN_MESSAGE])
        raise WeightsError(f"{source} holds neither tensors nor {' nor '.join(STATE_KEYS)}; its entries are {entries}.")
    return loaded


def _check_value(name: str, value: object, source: str) -> None:
    import torch

    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        kind = "a numpy value" if isinstance(value, Skipped) else f"of type {type(value).__name__}"
        raise WeightsError(f"{source}: the entry {shown(name)} is {kind}, not a tensor.")
    assert isinstance(value, torch.Tensor)
    reason = _odd_tensor(value)
    if reason is not None:
        raise WeightsError(f"{source}: the tensor {shown(name)} {reason}.")


def _odd_tensor(value: Tensor) -> str | None:
    """Why a tensor cannot be a weight, or None."""
    if value.layout is not _strided() or value.is_nested or value.is_quantized:
        return "is sparse, nested or quantized, not plain"
    if value.device.type != "cpu":
        return f"has no data (device {value.device.type})"
    if value.is_complex():
        return "has complex values"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"claims {value.numel():,} values but the file holds fewer"
    if value.is_floating_point() and not _finite(value):
        return "has values that are not finite (NaN or infinite)"
    return None


def _strided() -> object:
    import torch

    return torch.strided


def _finite(value: Tensor) -> bool:
    import torch

    exotic = value.element_size() == 1  # 8-bit floats know no isfinite
    return bool(torch.isfinite(value.float() if exotic else value).all())


def _check_aliasing(path: Path, tensors: Mapping[str, Tensor]) -> None:
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > LARGEST_ALIASING * path.stat().st_size:
        raise refusal(path, f"its tensors share memory so often that they would grow to {total:,} bytes")


# Loading


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill a network with weights, all or nothing.

    Every missing, unexpected and misshapen entry is named in one error, and then nothing has been loaded.
    Floating kinds convert into the network's own; batch norm's counter may be missing or present.

    Raises:
        WeightsError: the weights do not fit.
    """
    own = module.state_dict()
    problems = _misfits(own, tensors)
    if problems:
        raise WeightsError(f"{source} does not fit the network, nothing was loaded: {'; '.join(problems)}.")
    module.load_state_dict({name: tensors.get(name, value) for name, value in own.items()})


def _misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    shared = [(name, given[name], own[name]) for name in own if name in given]
    found = {
        "missing": [name for name in own if name not in given and not _uncounted(name)],
        "unexpected": [shown(name) for name in given if name not in own and not _uncounted(name)],
        "of another shape": [
            f"{name} (file {_shape(file)}, network {_shape(network)})"
            for name, file, network in shared
            if file.shape != network.shape
        ],
        "of another kind": [
            f"{name} (file {file.dtype}, network {network.dtype})"
            for name, file, network in shared
            if file.is_floating_point() != network.is_floating_point()
        ],
        "too large for the network's precision": [
            name for name, file, network in shared if not _survives(file, network)
        ],
    }
    return [f"{len(names)} {what}: {_listed(names)}" for what, names in found.items() if names]


def _survives(given: Tensor, own: Tensor) -> bool:
    """Whether finite values stay finite in the network's own precision."""
    if not (given.is_floating_point() and own.is_floating_point()) or given.dtype == own.dtype:
        return True
    return not _finite(given) or _finite(given.to(own.dtype))


def _uncounted(name: str) -> bool:
    return name.rpartition(".")[2] == UNCOUNTED


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMES_IN_MESSAGE
    return ", ".join(names[:NAMES_IN_MESSAGE]) + (f" and {rest} more" if rest > 0 else "")


# Saving


def save_weights(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], half: bool = False
) -> None:
    """Write safetensors with our header, durably; the same input gives the same bytes.

    Args:
        half: store floating values in 16 bits, half the size; networks fill up in their own precision again.

    Raises:
        WeightsError: a value is not finite, or becomes infinite in 16 bits, or the header is not JSON.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    plain = plain_state(dict(tensors), "the weights to save")
    ready = {name: _storable(name, plain[name], half) for name in sorted(plain)}
    metadata = {HEADER_KEY: _json(header)}
    with written_beside(path) as beside:
        beside.touch()
        mode = beside.stat().st_mode  # safetensors makes private files; keep to what this user's files are
        try:
            save_file(ready, str(beside), metadata=metadata)
            beside.chmod(mode)
        except SafetensorError as error:
            raise WeightsError(f"cannot write {path}: {brief(error)}.") from None


def _storable(name: str, tensor: Tensor, half: bool) -> Tensor:
    import torch

    if not (half and tensor.is_floating_point()):
        return tensor.clone(memory_format=torch.contiguous_format)  # safetensors stores no shared memory
    halved = tensor.to(torch.float16, memory_format=torch.contiguous_format, copy=True)
    if not _finite(halved):
        raise WeightsError(f"the tensor {shown(name)} has values too large for 16 bits. Save without half.")
    return halved


def _json(header: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(header), sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"the header of the weights cannot be written as JSON: {brief(error)}.") from None


def convert(
    source: str | Path, target: str | Path, header: Mapping[str, Any] | None = None, half: bool = False
) -> WeightsFile:
    """Turn any weights file we can read into safetensors, and read it back.

    The header is the one given, or the source's own; it gains `converted_from`: name and SHA-256.

    Raises:
        WeightsError: the source cannot be used, or source and target are one file.
    """
    source, target = Path(source), Path(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise WeightsError(f"{source} cannot be converted onto itself. Name another target.")
    read = read_weights(source)
    kept = read.header if header is None else header
    origin = {"name": source.name, "sha256": read.sha256, "half": half}
    save_weights(target, read.tensors, {**kept, "converted_from": origin}, half)
    return read_weights(target)


def show(path: str | Path) -> dict[str, Any]:
    """What a weights file holds, as plain values ready for printing or JSON."""
    read = read_weights(path)
    counted = [tensor for name, tensor in read.tensors.items() if not _uncounted(name)]
    return {
        "path": str(read.path),
        "format": read.format,
        "sha256": read.sha256,
        "file_bytes": read.path.stat().st_size,
        "header": read.header,
        "tensors": len(read.tensors),
        "values": sum(tensor.numel() for tensor in counted),  # parameters and running statistics
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in read.tensors.values()),
        "kinds": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in read.tensors.values()}),
        "first": [
            {"name": name, "shape": list(tensor.shape)}
            for name, tensor in list(read.tensors.items())[:NAMES_IN_MESSAGE]
        ],
    }
