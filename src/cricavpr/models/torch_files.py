"""Reader of `torch.save` files that is safe for untrusted files.

A `.pth` file contains a pickle: a program of opcodes, which rebuilds tensors but could call any Python function. This
module first inspects the opcodes without running them, and refuses the file if they name anything but tensors and
plain values. Then torch's restricted reader (`weights_only=True`) opens the file. Every `.pth` file is read this way:
today's zip archives, and the format before torch 1.6 ("the old format").

The old format begins with five pickles: a magic number, a version, facts about the machine, the program, and the names
of the storages. The storages follow, each as a count of values and their bytes. torch allocates as much memory as the
program asks for, and leaves it uninitialised where the file holds less. So this module checks that the storages in the
file are exactly those that the program asks for. The old format has no checksum: a flipped bit in the data goes
unnoticed.
"""

from __future__ import annotations

import io
import pickletools
import re
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cricavpr.errors import WeightsError
from cricavpr.terminal import printable

OLDEST_TORCH = (2, 10)  # the restricted readers of older versions can be made to write outside their memory
LARGEST_PROGRAM_BYTES = 8 * 2**20  # limit for the pickle in a .pth file; the largest known pickle is under 1 MiB

# Classes and functions that the pickle in a .pth file may name. The numpy names belong to scores stored beside the
# weights: these values become `Skipped` objects, and numpy itself is never called.
_SKIPPED_NAMES = (
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
)
_ALLOWED_NAMES = {
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
    "__builtin__.set",
    "builtins.set",
    *_SKIPPED_NAMES,
}
_STORAGE_OR_DTYPE = re.compile(r"torch\.([A-Z]\w*Storage|b?float\d+|u?int\d+|bool)")
_NEVER_WRITTEN = {"INST", "OBJ", "STACK_GLOBAL", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}

# --- the format before torch 1.6

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_VERSION = b"\x80\x02M\xe9\x03."  # 1001, the only version there is
_ITEM_BYTES = {  # bytes of one value, for each type of storage that weights use
    "torch.DoubleStorage": 8,
    "torch.LongStorage": 8,
    "torch.FloatStorage": 4,
    "torch.IntStorage": 4,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
}
_FRAME = {"PROTO", "STOP", "MARK", "BINPUT", "LONG_BINPUT"}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1"}
_IN_FACTS = {*_FRAME, *_NUMBERS, "EMPTY_DICT", "BINUNICODE", "NEWTRUE", "NEWFALSE", "SETITEM", "SETITEMS", "BINGET"}
_IN_KEYS = {*_FRAME, "EMPTY_LIST", "BINUNICODE", "APPEND", "APPENDS"}

Value = tuple[str, Any]  # what an opcode leaves on the stack: (kind: text, number, name, none or other; value)
_OTHER: Value = ("other", None)


class Skipped:
    """Placeholder that replaces a numpy value stored beside the weights, so that numpy is never called."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_torch(path: Path, file: BinaryIO) -> object:
    """Read a file of `torch.save` that holds only tensors and plain values.

    Raises:
        WeightsError: the file is damaged, or its pickle names anything else; then nothing in the file was run.
    """
    check_torch_version(torch.__version__)
    if file.read(len(MAGIC)) == MAGIC:
        _check_old_format(path, file)
    else:
        _check_program(path, _program_in_archive(path, file))
    file.seek(0)
    skipped: list[Any] = [(Skipped, name) for name in _SKIPPED_NAMES]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(skipped):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file can raise anything
        found = re.search(
            r"WeightsUnpickler error: ([^\n]*)", str(error)
        )  # leaves out torch's advice to turn protection off
        reason = shown(found[1].strip(), 200) if found else brief(error)
        raise unusable(path, f"torch's restricted reader refuses it ({reason})") from None


def check_torch_version(version: str) -> None:
    """Raise WeightsError if torch is older than 2.10: the restricted readers of older versions are unsafe."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_TORCH:
        raise WeightsError(
            f"torch {version} cannot open .pth files safely. Upgrade to torch 2.10 or newer, or convert "
            "the file to safetensors on a machine that has torch 2.10."
        )


# --- zip archives


def _program_in_archive(path: Path, file: BinaryIO) -> bytes:
    """Check a zip archive of torch.save without running anything, and return the pickle in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = _checked_names(path, archive)
            damaged = archive.testzip()  # torch does not check the checksums
            if damaged is not None:
                raise unusable(path, f"the checksum of its entry {shown(damaged)} is wrong; fetch the file again")
            return archive.read(next(name for name in names if name.endswith("/data.pkl")))
    except WeightsError:
        raise
    except zipfile.BadZipFile as error:
        raise unusable(path, f"it is truncated or damaged ({brief(error)}); fetch it again") from None
    except Exception as error:  # zipfile raises many types over damaged archives
        raise unusable(path, f"the archive is damaged ({brief(error)}); fetch it again") from None


def _checked_names(path: Path, archive: zipfile.ZipFile) -> list[str]:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise unusable(path, "two entries of the archive have the same name")
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise unusable(path, "it is a TorchScript archive, which is a program; ask for the plain state dict")
    if any(name.endswith(".npy") for name in names):
        raise unusable(path, "it is a NumPy archive, not weights of torch")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1 for entry in entries):
        raise unusable(path, "it is a compressed or encrypted zip archive, which torch.save never writes")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise unusable(path, "the entries of the archive claim more bytes than the file has")
    programs = [entry for entry in entries if entry.filename.endswith(".pkl")]
    if len(programs) != 1 or programs[0].filename.split("/")[1:] != ["data.pkl"]:
        raise unusable(path, "it is a zip archive, but not one that torch.save wrote")
    if programs[0].file_size > LARGEST_PROGRAM_BYTES:
        raise unusable(path, "the pickle inside is too large; it should only list tensors")
    return names


# --- the pickle, in either format


def _check_program(path: Path, program: bytes) -> None:
    """Inspect a pickle without running it; raise WeightsError if it names anything but tensors and plain values."""
    try:
        named, odd = _names_in(io.BytesIO(program))
    except Exception as error:  # a truncated or damaged pickle
        raise unusable(path, f"the pickle inside is damaged ({brief(error)})") from None
    foreign = [name for name in named if name not in _ALLOWED_NAMES and not _STORAGE_OR_DTYPE.fullmatch(name)]
    if foreign or odd:
        found = ", ".join(shown(name) for name in (foreign or odd)[:3])
        raise unusable(path, f"it must hold only tensors, but its pickle calls {found}; nothing in it was run")


def _names_in(stream: BinaryIO) -> tuple[list[str], list[str]]:
    """Return the classes and functions that a pickle names, and its opcodes that torch.save never writes."""
    named: dict[str, None] = {}
    odd: dict[str, None] = {}
    strings: list[str] = ["?", "?"]
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name in {"GLOBAL", "INST"}:
            named[str(argument).replace(" ", ".", 1)] = None
        elif isinstance(argument, str):
            strings = [strings[-1], argument]
        if operation.name == "STACK_GLOBAL":
            named[".".join(strings)] = None
        if operation.name in _NEVER_WRITTEN:
            odd[f"the pickle operation {operation.name}"] = None
    return list(named), list(odd)


def names_in_bare_pickle(file: BinaryIO) -> str:
    """Return a clause for a message that names the first classes and functions that a bare pickle calls.

    Return an empty text if it calls none.
    """
    try:
        named, _ = _names_in(io.BytesIO(file.read(LARGEST_PROGRAM_BYTES)))
    except Exception:  # only for the message
        return ""
    return f" (it calls {', '.join(shown(name) for name in named[:3])})" if named else ""


# --- the format before torch 1.6


class _Unsound(ValueError):
    """Raised when a file of the old format is refused; the message is a clause without a subject."""


def _check_old_format(path: Path, file: BinaryIO) -> None:
    """Check the pickle opcodes of a file in the old format, and that the file holds the storages that they ask for."""
    file.seek(0)
    try:
        if tarfile.is_tarfile(file):  # torch would take it for its oldest format and begin to unpack it
            raise _Unsound("it is a tar archive (torch's oldest format, or another)")
        file.seek(0)
        program = _old_program(file)
        _check_program(path, program)
        _check_storages(file, _storages_wanted(program))
    except _Unsound as error:
        raise unusable(path, str(error)) from None


def _old_program(file: BinaryIO) -> bytes:
    """Return the pickle that rebuilds the tensors in a file of the old format; move the file position to its end."""
    if file.read(len(MAGIC) + len(_VERSION)) != MAGIC + _VERSION:
        raise _Unsound("it begins like a file of torch before 1.6, but its format version is unknown")
    facts = list(_operations(_next_pickle(file)))
    _only(facts, _IN_FACTS)
    order = ("BINUNICODE", ("text", "little_endian"))
    if order not in facts:
        raise _Unsound("it does not say in which byte order it was written")
    after = facts[facts.index(order) + 1 :]
    if not after or after[0][0] != "NEWTRUE":
        raise _Unsound("it was written on a big-endian machine")
    return _next_pickle(file)


def _check_storages(file: BinaryIO, wanted: dict[str, tuple[str, int]]) -> None:
    """Raise _Unsound unless the rest of the file, to its last byte, consists of exactly the wanted storages.

    Args:
        file: positioned at the pickle with the names of the storages.
        wanted: type and number of values of each storage, by name.
    """
    keys = list(_operations(_next_pickle(file)))
    _only(keys, _IN_KEYS)
    named = [value for kind, value in (value for _, value in keys) if kind == "text"]
    if sorted(named) != sorted(wanted):
        raise _Unsound("its storages are not those that its tensors need")
    position, end = file.tell(), file.seek(0, io.SEEK_END)
    for key in named:
        storage, count = wanted[key]
        if position > end:
            break
        file.seek(position)
        if int.from_bytes(file.read(8), "little", signed=True) != count:
            raise _Unsound(f"a storage has another length than the {count:,} values that its tensors need")
        position += 8 + count * _ITEM_BYTES[storage]
    if position != end:
        raise _Unsound("it is truncated; fetch it again" if position > end else "it has extra bytes after its tensors")


def _next_pickle(file: BinaryIO) -> bytes:
    """Return the bytes of the pickle at the file's position, without running it; move the position to its end."""
    start = file.tell()
    window = io.BytesIO(file.read(LARGEST_PROGRAM_BYTES))
    try:
        for _ in pickletools.genops(window):
            pass
    except Exception as error:  # a truncated or damaged pickle raises many types
        raise _Unsound("a pickle inside is truncated, damaged or too long; fetch it again") from error
    file.seek(start + window.tell())
    return window.getvalue()[: window.tell()]


def _operations(program: bytes) -> Iterator[tuple[str, Value]]:
    """Yield each opcode of a pickle, and what it leaves on the stack if that is a plain value."""
    memo: dict[Any, Value] = {}
    last = _OTHER
    for operation, argument, _ in pickletools.genops(program):
        name = operation.name
        if name in {"BINPUT", "LONG_BINPUT", "PUT"}:
            memo[argument] = last  # the top of the stack is what the last opcode left there
            continue
        if name == "MEMOIZE":
            raise _Unsound("it has pickle operations that torch does not write in this format")
        if name == "BINUNICODE":
            last = ("text", argument)
        elif name in _NUMBERS:
            last = ("number", argument)
        elif name == "GLOBAL":
            last = ("name", str(argument).replace(" ", ".", 1))
        elif name == "NONE":
            last = ("none", None)
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            last = memo.get(argument, _OTHER)
        else:
            last = _OTHER
        yield name, last


def _only(operations: list[tuple[str, Value]], allowed: set[str]) -> None:
    odd = next((name for name, _ in operations if name not in allowed), None)
    if odd is not None:
        raise _Unsound(f"it has the pickle operation {odd} where torch writes plain values")


def _storages_wanted(program: bytes) -> dict[str, tuple[str, int]]:
    """Return the type and the number of values of each storage that a pickle asks for, by storage name.

    torch writes each reference to a storage as eight opcodes: mark, "storage", type, name, device, length, none, tuple.
    No other form is accepted.
    """
    wanted: dict[str, tuple[str, int]] = {}
    recent: list[tuple[str, Value]] = []
    for operation in _operations(program):
        if operation[0] == "BINPERSID":
            match recent:
                case [
                    ("MARK", _),
                    (_, ("text", "storage")),
                    (_, ("name", kind)),
                    (_, ("text", key)),
                    (_, ("text", _)),
                    (_, ("number", count)),
                    (_, ("none", _)),
                    ("TUPLE", _),
                ]:
                    pass
                case _:
                    raise _Unsound("its references to storages do not have the form that torch writes")
            if kind not in _ITEM_BYTES:
                raise _Unsound(f"it has storages of the unsupported type {kind[:80]}")
            if count < 0:
                raise _Unsound(f"the length of a storage must be at least 0, got {count}")
            if wanted.setdefault(key, (kind, count)) != (kind, count):
                raise _Unsound("two of its storages have the same name")
        recent = [*recent[-7:], operation]
    return wanted


# --- messages


def unusable(path: Path, reason: str) -> WeightsError:
    """Return a WeightsError which says that a file cannot be used as weights; `reason` is a clause that says why."""
    return WeightsError(f"cannot use {shown(str(path), 300)} as weights: {reason}.")


def shown(text: str, longest: int = 80) -> str:
    """Return text from an untrusted file in a form fit for messages: printable, and cut to `longest` characters."""
    clean = printable(text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def brief(error: BaseException) -> str:
    """Return the type and the first line of an error as one short line."""
    lines = str(error).strip().splitlines()
    return shown(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, 200)
