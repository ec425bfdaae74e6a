"""Read lists from untrusted numpy files (.npy, .npz) without unpickling them.

A .npy file stores lists of different lengths as a pickle, which can run any code when `numpy.load` unpickles it. This
module interprets only the few pickle opcodes that build ints, texts, tuples, lists and arrays of ints. A file with any
other opcode or function is refused. All readers raise InputError for a file that they cannot read.
"""

from __future__ import annotations

import math
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError

LARGEST_BYTES = 2**28  # limit for a .npy file, or an unpacked .npz; the largest published list has 3e6 bytes
MOST_INDICES = 20_000_000  # a pickle can repeat a list, so a small file could expand to any number of indices

# Source: numpy's documentation of the format. numpy evaluates the header as a Python literal; this module matches a
# pattern.
_START = re.compile(rb"\x93NUMPY(?:\x01\x00(?P<short>..)|\x02\x00(?P<long>....))", re.DOTALL)
_HEADER = re.compile(
    rb"\{'descr': '(?P<type>\|O|[<>|][iuf][1248]|[<>]U\d{1,6})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,12}L?,? ?){0,4})\), \} *\n"
)
_INTEGERS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}


class _Unreadable(ValueError):
    """A file cannot be read. The message is the reason, such as "it is truncated"."""


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of texts, such as image paths, from a .npy file."""
    what = "a list of names"
    values = _read(path, what)
    try:
        names = values.tolist() if isinstance(values, np.ndarray) else list(values.items)
    except ValueError:  # four bytes per character, which are not a valid character
        raise _refused(path, what, "its texts contain invalid characters") from None
    if len(values.shape) != 1 or not all(isinstance(name, str) for name in names):
        raise _refused(path, what, "expected a one-dimensional array of texts only")
    return tuple(names)


def read_integers(path: Path) -> NDArray[np.int64]:  # (N,)
    """Read a list of whole numbers from a .npy file."""
    values = _read(path, "a list of whole numbers")
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        return values.astype(np.int64)
    raise _refused(path, "a list of whole numbers", "expected a one-dimensional array of integers only")


def read_index_lists(path: Path) -> tuple[NDArray[np.int64], ...]:
    """Read N lists of indices from a .npy file.

    The file holds an array of N lists, or integers of shape (N, k) for lists of k, or (N,) for lists of one index.
    """
    what = "a list of indices for each query"
    values = _read(path, what)
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "iu" or values.ndim not in (1, 2):
            raise _refused(path, what, f"expected integers (N, k) or (N,), got {values.dtype} {values.shape}")
        return tuple(np.atleast_1d(row).astype(np.int64) for row in values)
    if len(values.shape) != 1:
        raise _refused(path, what, f"expected shape (N,), got {values.shape}")
    return _index_arrays(path, what, values.items)


def read_numbered_lists(path: Path) -> dict[int, NDArray[np.int64]]:
    """Read a ground-truth file of VPR-Bench. Return a dict from each query number to the indices of its positives.

    The file holds an object array of shape (N, 2). Each row holds a query number and a list of indices.
    """
    what = "rows of (query, list of indices)"
    values = _read(path, what)
    if len(values.shape) != 2 or values.shape[1] != 2:
        raise _refused(path, what, f"expected shape (N, 2), got {values.shape}")
    items = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else values.items
    numbers = items[0::2]
    if not all(type(number) is int for number in numbers) or len(set(numbers)) != len(numbers):
        raise _refused(path, what, "expected a different whole number in each row of the first column")
    return dict(zip(numbers, _index_arrays(path, what, items[1::2]), strict=True))


def sorted_indices(path: Path, lists: Iterable[NDArray[np.int64]], count: int) -> tuple[NDArray[np.int64], ...]:
    """Return lists of indices, each sorted and without duplicates.

    Args:
        path: the file that the lists were read from, for error messages.
        count: number of database images.

    Raises:
        InputError: an index is negative, or is `count` or more.
    """
    sorted_lists = tuple(np.unique(indices) for indices in lists)
    for row, indices in enumerate(sorted_lists):
        if indices.size and not (indices[0] >= 0 and indices[-1] < count):
            worst = int(indices[0] if indices[0] < 0 else indices[-1])
            raise InputError(
                f"row {row} of {path} holds the index {worst}, expected 0 or more and below {count:,}, the number "
                "of database images. Fetch the lists again, all from one source."
            )
    return sorted_lists


def read_plain_arrays(path: Path, names: Sequence[str]) -> tuple[NDArray[Any], ...]:
    """Read the arrays `names`, which must hold numbers, from an .npz file."""
    what = f"the arrays {', '.join(names)}"
    try:
        with zipfile.ZipFile(path) as archive:
            held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [name for name in names if name not in held]:
                raise _Unreadable(f"it has no array {missing[0]!r}, only {', '.join(sorted(held)) or 'nothing'}")
            if sum(held[name].file_size for name in names) > LARGEST_BYTES:
                raise _Unreadable(f"it unpacks to more than {LARGEST_BYTES:,} bytes, the limit")
            arrays = tuple(_parse(archive.read(held[name])) for name in names)
    except _ODD as error:
        raise _refused(path, what, str(error)) from None
    plain = tuple(array for array in arrays if isinstance(array, np.ndarray))
    if len(plain) != len(arrays):
        raise _refused(path, what, "expected numbers, got Python objects")
    return plain


# --- files


@dataclass
class _Objects:
    """An array of objects: its shape, and the objects in C order."""

    shape: tuple[int, ...]
    items: list[Any]


_ODD = (ValueError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, MemoryError)


def _refused(path: Path, what: str, why: str) -> InputError:
    return InputError(f"{path} is not {what}: {why}. Fetch it again from its source.")


def _read(path: Path, what: str) -> NDArray[Any] | _Objects:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise _Unreadable(f"it has more than {LARGEST_BYTES:,} bytes, the limit")
        return _parse(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing. It should hold {what}.") from None
    except _ODD as error:
        raise _refused(path, what, str(error)) from None


def _parse(raw: bytes) -> NDArray[Any] | _Objects:
    start = _START.match(raw)
    header = _HEADER.match(raw, start.end()) if start is not None else None
    if start is None or header is None:
        raise _Unreadable("it does not begin like a .npy file of numbers, texts or lists")
    size = int.from_bytes(start["short"] or start["long"], "little")
    shape = tuple(int(side) for side in re.findall(rb"\d+", header["shape"]))
    data = raw[start.end() + size :]
    if header["type"] != b"|O":
        return _plain(data, np.dtype(header["type"].decode()), shape, header["fortran"] == b"True")
    try:
        built = _Machine().run(data)
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise _Unreadable(f"its pickle is damaged ({type(error).__name__})") from None
    if not isinstance(built, _Array) or not isinstance(built.value, _Objects):
        raise _Unreadable("expected an array of lists")
    if built.value.shape != shape:
        raise _Unreadable(f"its header says shape {shape}, but its data have shape {built.value.shape}")
    return built.value


def _plain(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> NDArray[Any]:
    needed = math.prod(shape) * dtype.itemsize
    if len(data) < needed or not dtype.itemsize:
        raise _Unreadable(f"it is truncated: expected {needed:,} bytes of data, got {len(data):,}")
    return np.frombuffer(data, dtype, math.prod(shape)).reshape(shape, order="F" if fortran else "C")


def _index_arrays(path: Path, what: str, items: Sequence[Any]) -> tuple[NDArray[np.int64], ...]:
    """Convert each item, a list, tuple, array or single number, to an array. Refuse nested lists."""
    values = [_flat(item) for item in items]
    if sum(np.size(v) if isinstance(v, np.ndarray) else len(v) for v in values if v is not None) > MOST_INDICES:
        raise _refused(path, what, f"it has more than {MOST_INDICES:,} indices, the limit")
    arrays = []
    for row, value in enumerate(values):
        if isinstance(value, np.ndarray):
            arrays.append(value.reshape(-1))
        elif value is not None and all(type(index) is int and abs(index) < 2**62 for index in value):
            arrays.append(np.array(value, np.int64))
        else:
            raise _refused(path, what, f"row {row} is not a list of whole numbers")
    return tuple(arrays)


def _flat(item: Any) -> NDArray[np.int64] | Sequence[Any] | None:
    value = item.value if isinstance(item, _Array) else item
    if isinstance(value, _Objects):
        return value.items
    if type(value) is int:
        return [value]
    return value if isinstance(value, np.ndarray | list | tuple) else None


# --- pickle opcodes (for their meanings see Python's `pickletools`)


@dataclass
class _Array:
    """An array that the pickle is building. The opcode BUILD sets its value."""

    value: NDArray[np.int64] | _Objects | None = None


@dataclass
class _Dtype:
    code: str
    order: str = "<"


@dataclass(frozen=True)
class _Function:
    """A function named in a pickle. It is never imported or called."""

    name: str


_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_FUNCTIONS = {
    **{(module, "_reconstruct"): "array" for module in _MODULES},
    **{(module, "scalar"): "scalar" for module in _MODULES},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # Python 3 writes bytes so in a pickle for Python 2
    ("__builtin__", "bytes"): "bytes",  # and empty bytes so
}
_MARK = object()


class _Machine:
    """An interpreter of the allowed pickle opcodes, with a stack and a memory."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def run(self, pickle: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name not in _STEPS:
                raise _Unreadable(f"it holds the pickle opcode {opcode.name}, which a list of numbers does not need")
            _STEPS[opcode.name](self, argument)
        raise _Unreadable("it is truncated")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise _damaged()
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def pop_to_mark(self) -> list[Any]:
        at = next((place for place in reversed(range(len(self.stack))) if self.stack[place] is _MARK), None)
        if at is None:
            raise _damaged()
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _damaged()
        self.stack[-1].extend(values)

    def remember(self, key: int | None) -> None:
        self.memory[len(self.memory) if key is None else key] = self.stack[-1]

    def name_function(self, argument: Any) -> None:
        module, name = argument.split(" ", 1) if argument is not None else self.pop(2)
        if (module, name) not in _FUNCTIONS:
            raise _Unreadable(f"it asks to run {module}.{name}, which no list of numbers needs")
        self.push(_Function(_FUNCTIONS[module, name]))

    def call(self, _: Any) -> None:
        function, arguments = self.pop(2)
        if not isinstance(function, _Function) or not isinstance(arguments, tuple):
            raise _damaged()
        self.push(_result(function.name, arguments))

    def build(self, _: Any) -> None:
        (state,) = self.pop(1)
        target = self.stack[-1]
        if isinstance(target, _Dtype) and isinstance(state, tuple) and state[1] in ("<", ">", "|", "="):
            target.order = state[1]
        elif isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
            target.value = _filled(*state[1:])
        else:
            raise _damaged()


_Step = Callable[[_Machine, Any], None]
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, argument: None),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _Machine.push),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINSTRING", "BINSTRING"), _Machine.push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES"), _Machine.push),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, key: machine.push(machine.memory[key])),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _Machine.name_function),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(_MARK),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "LIST": lambda machine, _: machine.push(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}


def _damaged() -> _Unreadable:
    return _Unreadable("its pickle is damaged")


def _result(function: str, arguments: tuple[Any, ...]) -> Any:
    """Compute what one of the allowed functions of a pickle returns."""
    if function == "array" and len(arguments) == 3:
        return _Array()
    if function == "dtype" and isinstance(arguments[0], str):
        return _Dtype(arguments[0])
    if function == "scalar" and len(arguments) == 2:
        return int(_numbers(*arguments, (1,), False)[0])
    if function == "encode" and len(arguments) == 2 and arguments[1] == "latin1":
        return arguments[0].encode("latin1") if isinstance(arguments[0], str) else None
    if function == "bytes" and not arguments:
        return b""
    raise _damaged()


def _filled(shape: Any, dtype: Any, fortran: Any, data: Any) -> NDArray[np.int64] | _Objects:
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise _damaged()
    if not isinstance(dtype, _Dtype) or dtype.code not in ("O", "O8", "O4"):
        return _numbers(dtype, data, shape, bool(fortran))
    if not isinstance(data, list) or len(data) != math.prod(shape):
        raise _Unreadable("it is truncated: a list is too short for its shape")
    return _Objects(shape, data)  # numpy pickles objects in C order, even if the array is in Fortran order


def _numbers(dtype: Any, data: Any, shape: tuple[int, ...], fortran: bool) -> NDArray[np.int64]:
    if not isinstance(dtype, _Dtype) or dtype.code not in _INTEGERS:
        raise _Unreadable(f"expected integers as indices, got numbers of type {getattr(dtype, 'code', 'nothing')!r}")
    raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 used one type for text and bytes
    if not isinstance(raw, bytes):
        raise _damaged()
    order = "<" if dtype.order in "|=" else dtype.order
    return _plain(raw, np.dtype(order + dtype.code), shape, fortran).astype(np.int64)
