"""Weights files: safe reading, checks of every value, loading into networks, and saving.

A weights file may be untrusted. A safetensors file holds only tensors. A `.pth` file holds a pickle, which could run
code, so `torch_files` reads it with its own checks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cricavpr.errors import WeightsError
from cricavpr.files import sha256_of, written_beside
from cricavpr.models.filetypes import FIRST_BYTES, other_filetype
from cricavpr.models.registry import KNOWN, check_recorded, find_weights
from cricavpr.models.torch_files import MAGIC, Skipped, brief, names_in_bare_pickle, read_torch, shown, unusable
from cricavpr.progress import note

T = TypeVar("T")
HEADER_KEY = "cricavpr"  # entry of the safetensors metadata that holds this package's header as JSON
STATE_KEYS = ("model_state_dict", "state_dict")  # keys of the weights in files that also hold epoch, optimizer, score
COMPILED = "_orig_mod."  # added by torch.compile
WRAPPERS = (
    COMPILED,
    "_fsdp_wrapped_module.",
    "module.",
    "model.",
    "net.",
    "network.",
)  # added to names
UNCOUNTED = "num_batches_tracked"  # counter of batch norm: changes no result, missing from older files
NAMES_IN_MESSAGE = 10
LARGEST_ALIASING = 4  # tensors that share memory may add up to this many times the size of the file


@dataclass(frozen=True)
class WeightsFile:
    """Content of a weights file, and which file it came from.

    Attributes:
        tensors: tensors by name. The names are those in the file, without the prefix `removed`.
        header: configuration and provenance, in files that this package wrote; empty for other files.
        sha256: SHA-256 of the file.
        path: path of the file.
        format: "safetensors" or "torch".
        removed: prefix that wrappers had added to the names, such as "module."; empty if there was none.
    """

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    sha256: str
    path: Path
    format: str
    removed: str = ""


# Reading


def read_weights(path: str | Path) -> WeightsFile:
    """Read a weights file, safetensors or `.pth`. The content decides the format; the file name does not matter.

    Raises:
        WeightsError: the file is missing or damaged, holds anything but dense tensors of finite values, or does not
            have the SHA-256 in the record beside it.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise unusable(path, "it is a folder" if path.is_dir() else "there is no such file")
        sha256 = sha256_of(path)
        check_recorded(path, sha256)
        with path.open("rb") as file:
            form = _form(path, file)
            loaded: object
            if form == "safetensors":
                loaded, header = _read_safetensors(path)
            else:
                loaded, header = read_torch(path, file), {}
        state = checked_state(loaded, str(path))
        claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        if claimed > LARGEST_ALIASING * path.stat().st_size:
            raise unusable(
                path, f"its tensors share memory; separate copies would need too much memory, {claimed:,} bytes"
            )
    except (OSError, ValueError) as error:
        raise unusable(path, f"it cannot be read ({brief(error)})") from None
    tensors, removed = remove_wrappers(state)
    return WeightsFile(tensors, header, sha256, path, form, removed)


def find_and_read(weights: str | Path) -> WeightsFile:
    """Read a weights file, given its path or a name from `cricavpr weights list`.

    Prefixes of wrappers, such as "module.", are removed from the names. For a file that is not from the list, a note is
    printed.
    """
    file = read_weights(find_weights(weights))
    if file.removed and str(weights) not in KNOWN:  # published files are as their authors left them
        note(f"{weights}: removed the prefix {file.removed!r} of a wrapper from the names of the weights.")
    return file


def _form(path: Path, file: BinaryIO) -> str:
    """Return "safetensors" or "torch", judged by the first bytes; raise WeightsError for every other format."""
    start = file.read(FIRST_BYTES)
    file.seek(0)
    if start.startswith((b"PK\x03\x04", MAGIC)):
        return "torch"
    if len(start) > 8 and start[8:9] == b"{":
        return "safetensors"
    what = other_filetype(start)
    if what is None and start[0] == 0x80 and start[1:2] <= b"\x05":
        what = "a bare pickle, which may run any code when it is opened" + names_in_bare_pickle(file)
    raise unusable(path, f"it is {what or 'neither safetensors nor a file that torch.save wrote'}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as opened:
            header = _header_of(path, opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise unusable(path, f"its safetensors header is truncated or damaged ({brief(error)})") from None
    except WeightsError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise unusable(path, f"it cannot be read as safetensors ({brief(error)})") from None
    return tensors, header


def _header_of(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if HEADER_KEY not in metadata:
        return {}
    try:
        header = json.loads(metadata[HEADER_KEY])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise unusable(path, f"its metadata entry {HEADER_KEY!r} is not a JSON object")
    return header


# Checking


def remove_wrappers(state: Mapping[str, T]) -> tuple[dict[str, T], str]:
    """Remove the prefixes that wrappers add to names; return the renamed state and the removed prefix.

    DataParallel puts "module." in front of every name, torch.compile puts "_orig_mod.", and training frameworks put
    "model." or "net.". A name may have several prefixes in any order. If only a part of a network was compiled,
    "_orig_mod." is in the middle of its names. It is removed there, too.

    Example:
        >>> remove_wrappers({"module._orig_mod.conv.weight": 1, "module._orig_mod.conv.bias": 2})
        ({'conv.weight': 1, 'conv.bias': 2}, 'module._orig_mod.')
        >>> remove_wrappers({"module.conv.weight": 1, "loss.weight": 2})
        ({'module.conv.weight': 1, 'loss.weight': 2}, '')
    """
    prefix = ""
    while found := next((w for w in WRAPPERS if all(n.startswith(prefix + w) and n != prefix + w for n in state)), ""):
        prefix += found
    plain = {name.removeprefix(prefix).replace(f".{COMPILED}", "."): value for name, value in state.items()}
    if len(plain) < len(state):  # two names would become one
        return dict(state), ""
    inside = any(f".{COMPILED}" in name.removeprefix(prefix) for name in state)
    return plain, prefix or (COMPILED if inside else "")


def plain_state(loaded: object, source: str = "the weights") -> dict[str, Tensor]:
    """Check a state dict with `checked_state`. Return its tensors by name, with the prefixes of wrappers removed."""
    return remove_wrappers(checked_state(loaded, source))[0]


def checked_state(loaded: object, source: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict, by name.

    Args:
        loaded: the state dict itself, or a dictionary with the state dict under `model_state_dict` or `state_dict`.
        source: name of the file in messages.

    Raises:
        WeightsError: `loaded` has another form, or a value is not a dense tensor of finite values.
    """
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{source} holds a {type(loaded).__name__}, not a dictionary of tensors.")
    state: Mapping[Any, Any] | None = next((loaded[k] for k in STATE_KEYS if isinstance(loaded.get(k), Mapping)), None)
    if state is None:
        state = loaded
        if loaded and not any(isinstance(value, Tensor) for value in loaded.values()):
            names = ", ".join(shown(str(name)) for name in list(loaded)[:NAMES_IN_MESSAGE])
            raise WeightsError(
                f"{source} holds neither tensors nor {' nor '.join(STATE_KEYS)}; its entries are {names}."
            )
    if not state:
        raise WeightsError(f"{source} holds no tensors.")
    for name, value in state.items():
        if not isinstance(name, str):
            raise WeightsError(f"{source}: the name of an entry must be text, got {shown(repr(name))}.")
        if type(value) not in (Tensor, nn.Parameter):
            kind = "a numpy value" if isinstance(value, Skipped) else f"of type {type(value).__name__}"
            raise WeightsError(f"{source}: the entry {shown(name)} is {kind}, not a tensor.")
        if reason := _tensor_problem(value):
            raise WeightsError(f"{source}: the tensor {shown(name)} {reason}.")
    return {name: value.detach() for name, value in state.items()}


def _tensor_problem(value: Tensor) -> str | None:
    """Return why a tensor cannot be used as a weight, as a clause for a message; return None if it can."""
    if value.layout is not torch.strided or value.is_nested or value.is_quantized:
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


def _finite(value: Tensor) -> bool:
    eight_bits = value.element_size() == 1  # torch.isfinite does not take 8-bit types
    return bool(torch.isfinite(value.float() if eight_bits else value).all())


# Loading


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a network; if any entry does not fit, load nothing.

    Floating-point values are converted to the precision of the network.

    Args:
        module: the network.
        tensors: state dict with the parameter names of the network.
        source: name of the file in messages.

    Raises:
        WeightsError: the weights do not fit (see `check_fit`); the network is unchanged.
    """
    check_fit(module, tensors, source)
    load_checked(module, tensors)


def load_checked(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load weights that `check_fit` has accepted. Parameters that `tensors` lacks keep their values."""
    own = module.state_dict()
    module.load_state_dict({name: tensors.get(name, value) for name, value in own.items()})


def check_fit(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise WeightsError if weights do not fit a network.

    The message lists the entries that are missing, unexpected, of another shape or of another type. The counters of
    batch norm (`num_batches_tracked`) change no result, so they may be missing or unexpected.
    """
    own, given = module.state_dict(), tensors
    shared = [(name, given[name], own[name]) for name in own if name in given]
    found = {
        "missing": [name for name in own if name not in given and not _uncounted(name)],
        "unexpected": [shown(name) for name in given if name not in own and not _uncounted(name)],
        "of another shape": [
            f"{name} (file {_shape(file)}, network {_shape(network)})"
            for name, file, network in shared
            if file.shape != network.shape
        ],
        "of another type": [
            f"{name} (file {file.dtype}, network {network.dtype})"
            for name, file, network in shared
            if file.is_floating_point() != network.is_floating_point()
        ],
        "too large for the network's precision": [
            name for name, file, network in shared if not _survives(file, network)
        ],
    }
    problems = [f"{len(names)} {what}: {_listed(names)}" for what, names in found.items() if names]
    if problems:
        other = "" if own.keys() & given.keys() else " Is it a file of another method?"
        raise WeightsError(f"{source} does not fit the network, nothing was loaded: {'; '.join(problems)}.{other}")


def _survives(given: Tensor, own: Tensor) -> bool:
    """Return whether the finite values of `given` stay finite in the precision of `own`, a tensor of the network."""
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
    """Write a safetensors file with this package's header. The same input gives the same bytes.

    The file gets its name only when it is complete and synced to disk.

    Args:
        path: path of the new file.
        tensors: state dict.
        header: configuration and provenance, stored as JSON in the metadata of the file.
        half: store floating-point values in 16 bits, for half the size; networks convert them back when they load.

    Raises:
        WeightsError: a value is not finite or too large for 16 bits, or the header cannot be written as JSON.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(f"{folder}/a.safetensors", {"w": torch.ones(2)}, {"dim": 2})
        ...     read_weights(f"{folder}/a.safetensors").header
        {'dim': 2}
    """
    path = Path(path)
    plain = plain_state(dict(tensors), "the weights to save")
    ready = {name: _storable(name, plain[name], half) for name in sorted(plain)}
    try:
        metadata = {HEADER_KEY: json.dumps(dict(header), sort_keys=True, allow_nan=False, separators=(",", ":"))}
    except (TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"the header of the weights cannot be written as JSON: {brief(error)}.") from None
    with written_beside(path) as beside:
        beside.touch()
        mode = beside.stat().st_mode  # safetensors creates private files: use the mode of this user's other files
        try:
            save_file(ready, str(beside), metadata=metadata)
            beside.chmod(mode)
        except SafetensorError as error:
            raise WeightsError(f"cannot write {path}: {brief(error)}.") from None


def _storable(name: str, tensor: Tensor, half: bool) -> Tensor:
    if not (half and tensor.is_floating_point()):
        return tensor.clone(memory_format=torch.contiguous_format)  # safetensors stores no shared memory
    halved = tensor.to(torch.float16, memory_format=torch.contiguous_format, copy=True)
    if not _finite(halved):
        raise WeightsError(
            f"the tensor {shown(name)} has values too large for 16 bits; save without half (16-bit) precision."
        )
    return halved


def convert(
    source: str | Path, target: str | Path, header: Mapping[str, Any] | None = None, half: bool = False
) -> WeightsFile:
    """Convert a weights file to safetensors; return the content of the new file.

    Args:
        source: weights file to convert.
        target: path of the new file.
        header: header of the new file; None keeps the header of the source. An entry `converted_from` with the name
            and SHA-256 of the source is added.
        half: store floating-point values in 16 bits, as in `save_weights`.

    Raises:
        WeightsError: the source cannot be used, or source and target are the same file.
    """
    source, target = Path(source), Path(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise WeightsError(f"source and target are the same file, {source}; give another target.")
    read = read_weights(source)
    kept = read.header if header is None else header
    origin = {"name": source.name, "sha256": read.sha256, "half": half}
    save_weights(target, read.tensors, {**kept, "converted_from": origin}, half)
    return read_weights(target)


def show(path: str | Path) -> dict[str, Any]:
    """Return a summary of a weights file, as plain values for printing or JSON."""
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
