"""Reading what `torch.save` wrote without running it.

A `.pth` file is a program that torch runs to rebuild tensors: we look through that program first and refuse it unless
it names nothing but tensors, hand it to torch's restricted reader only after that, and know no other way to open it.
That holds for the zip archives of today and for the form of torch before 1.6 alike.
"""

from __future__ import annotations

import io
import pickletools
import re
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from cricavpr.errors import WeightsError
from cricavpr.models.legacy import MAGIC, Unsound, check_storages, program_in

OLDEST_TORCH = (2, 10)  # older restricted readers can be made to write outside their memory
LARGEST_PROGRAM_BYTES = 8 * 2**20  # of the pickle inside a .pth; the largest we know of has well under 1 MiB

# What the program inside a .pth may name. The numpy names carry scores beside the weights: they are read as
# "something skipped" and numpy itself is never called.
_SKIPPED_NAMES = tuple(
    f"numpy{module}.{name}"
    for module, name in (
        (".core.multiarray", "_reconstruct"),
        (".core.multiarray", "scalar"),
        ("._core.multiarray", "_reconstruct"),
        ("._core.multiarray", "scalar"),
        ("", "ndarray"),
        ("", "dtype"),
    )
)
_NAMED_FREELY = {
    "collections.OrderedDict",
    "collections.Counter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
    "torch.storage.UntypedStorage",
    "torch.storage.TypedStorage",
    "_codecs.encode",
    *_SKIPPED_NAMES,
}
_STORAGE_OR_DTYPE = re.compile(r"torch\.([A-Z]\w*Storage|b?float\d+|u?int\d+|bool)")
_NEVER_WRITTEN = {"INST", "OBJ", "STACK_GLOBAL", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}


class Skipped:
    """Stands for a value beside the weights that is never built."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_torch(path: Path, file: BinaryIO) -> object:
    """What `torch.save` wrote, if it is nothing but tensors and plain values."""
    import torch

    check_torch_version(torch.__version__)
    if file.read(len(MAGIC)) == MAGIC:
        _check_legacy(path, file)
    else:
        _check_program(path, _program(path, file))
    file.seek(0)
    skipped: list[Any] = [(Skipped, name) for name in _SKIPPED_NAMES]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(skipped):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file can bring up anything; none of it is ours to pass on
        raise refusal(path, f"torch's restricted reader refuses it ({_torch_reason(error)})") from None


def _torch_reason(error: Exception) -> str:
    """The reason without torch's advice to try again with the protection off."""
    reason = re.search(r"WeightsUnpickler error: ([^\n]*)", str(error))
    return shown(reason[1].strip(), 200) if reason else brief(error)


def check_torch_version(version: str) -> None:
    """Refuse to open `.pth` files with a torch whose restricted reader is known to be unsafe.

    Raises:
        WeightsError: torch is older than 2.10.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_TORCH:
        raise WeightsError(
            f"torch {version} cannot open .pth files safely. Upgrade to torch 2.10 or newer, or convert "
            "the file to safetensors on a machine that has it."
        )


def _check_legacy(path: Path, file: BinaryIO) -> None:
    """Look through a file of torch before 1.6: its program first, then whether it holds what the program wants."""
    file.seek(0)
    try:
        if tarfile.is_tarfile(file):  # torch would take it for its oldest form and begin to unpack it
            raise refusal(path, "it is a tar archive (torch's oldest format, or another)")
        file.seek(0)
        program = program_in(file, LARGEST_PROGRAM_BYTES)
        _check_program(path, program)
        check_storages(file, program, LARGEST_PROGRAM_BYTES)
    except Unsound as error:
        raise refusal(path, str(error)) from None


def _program(path: Path, file: BinaryIO) -> bytes:
    """The pickle inside a zip archive of torch.save, once the archive around it has been checked."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = _checked_names(path, archive)
            damaged = archive.testzip()  # torch does not look at the checksums
            if damaged is not None:
                raise refusal(path, f"the checksum of {shown(damaged)} inside is wrong; fetch it again")
            return archive.read(next(name for name in names if name.endswith("/data.pkl")))
    except WeightsError:
        raise
    except zipfile.BadZipFile as error:
        raise refusal(path, f"it is cut off or damaged ({brief(error)}); fetch it again") from None
    except Exception as error:  # zipfile brings up many kinds over damaged archives
        raise refusal(path, f"the archive is damaged ({brief(error)}); fetch it again") from None


def _checked_names(path: Path, archive: zipfile.ZipFile) -> list[str]:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise refusal(path, "two entries of the archive bear one name")
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise refusal(path, "it is a TorchScript archive, which is a program; ask for the plain state dict")
    if any(name.endswith(".npy") for name in names):
        raise refusal(path, "it is a NumPy archive, not weights of torch")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1 for entry in entries):
        raise refusal(path, "it is a compressed or encrypted zip archive, which torch.save never writes")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise refusal(path, "the entries of the archive claim more bytes than the file has")
    programs = [entry for entry in entries if entry.filename.endswith(".pkl")]
    if len(programs) != 1 or programs[0].filename.split("/")[1:] != ["data.pkl"]:
        raise refusal(path, "it is a zip archive, but not one that torch.save wrote")
    if programs[0].file_size > LARGEST_PROGRAM_BYTES:
        raise refusal(path, "the pickle inside is larger than any list of tensors needs")
    return names


def _check_program(path: Path, program: bytes) -> None:
    """Look through a pickle without running it; refuse it when it names anything but tensors."""
    try:
        named, odd = _names_in(io.BytesIO(program))
    except Exception as error:  # a cut or damaged pickle
        raise refusal(path, f"the pickle inside is damaged ({brief(error)})") from None
    foreign = [name for name in named if name not in _NAMED_FREELY and not _STORAGE_OR_DTYPE.fullmatch(name)]
    foreign = [name for name in foreign if name not in {"__builtin__.set", "builtins.set"}]
    if foreign or odd:
        named_here = ", ".join(shown(name) for name in (foreign or odd)[:3])
        raise refusal(path, f"it is not plain tensors: it calls for {named_here}, and nothing of it was run")


def _names_in(stream: BinaryIO) -> tuple[list[str], list[str]]:
    """The classes and functions a pickle names, and the operations in it that torch.save never writes."""
    named: dict[str, None] = {}
    odd: dict[str, None] = {}
    strings: list[str] = ["?", "?"]
    for operation, argument, _ in pickletools.genops(stream):
        if isinstance(argument, str) and operation.name not in {"GLOBAL", "INST"}:
            strings = [strings[-1], argument]
        elif operation.name in {"GLOBAL", "INST"}:
            named[str(argument).replace(" ", ".", 1)] = None
        if operation.name == "STACK_GLOBAL":
            named[".".join(strings)] = None
        if operation.name in _NEVER_WRITTEN:
            odd[f"the pickle operation {operation.name}"] = None
    return list(named), list(odd)


def names_of_bare_pickle(file: BinaryIO) -> str:
    try:
        named, _ = _names_in(io.BytesIO(file.read(LARGEST_PROGRAM_BYTES)))
    except Exception:  # only for the message
        return ""
    return f" (it calls for {', '.join(shown(name) for name in named[:3])})" if named else ""


# Words


def refusal(path: Path, reason: str) -> WeightsError:
    return WeightsError(f"cannot use {shown(str(path), 300)} as weights: {reason}.")


def shown(text: str, longest: int = 80) -> str:
    """A name from a stranger's file, fit for one line."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shown(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, 200)
