"""Read arrays, texts, cells and structures from MATLAB files in the default format (level 5), in pure Python.

scipy can read these files too. But its compiled reader crashes the process on about one damaged file in a hundred, so
it is not used for untrusted files. Objects, functions and sparse or complex arrays are skipped.
Source: MathWorks, "MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAGIC = b"MATLAB 5.0"
LARGEST_BYTES = 2**31  # unpacked bytes read from one file; the largest published network has 0.6e9
DEEPEST = 24  # levels of nested cells and structures
HEADER_BYTES = 128

MATRIX, COMPRESSED = 14, 15  # element types with content to parse
STORED = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
ENCODINGS = {2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}  # by element type
CELL, STRUCTURE, TEXT = 1, 2, 4  # array classes (a file calls every value a matrix)
NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = 0x0800

# A cell array becomes a list, and a structure a dict; an array of structures becomes a list of dicts. A text becomes a
# str, and a text of several rows a list of str. Numbers become an array; everything else becomes None.
Value = NDArray[Any] | list[Any] | dict[str, Any] | str | None


class Unreadable(ValueError):
    """A file cannot be read. The message is the reason, such as "it is damaged or too large"."""


class Head(NamedTuple):
    """The header of a matrix, before its data."""

    kind: int  # array class, such as CELL or TEXT
    complex: bool
    shape: tuple[int, ...]
    name: bytes


def is_matlab(path: Path) -> bool:
    """Return whether a file begins with the signature of a MATLAB file of level 5."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_variable(path: Path, name: str) -> Value:
    """Read one variable of a MATLAB file, without axes of length 1.

    Raises:
        Unreadable: the file is damaged, too large, in format 7.3 or big-endian, or does not contain the variable.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        if header.startswith(b"MATLAB 7.3"):
            raise Unreadable("it is in MATLAB's format 7.3, which is HDF5; save it again with -v7")
        if header[126:] != b"IM":
            raise Unreadable("it was written on a big-endian machine, or is cut off")
        left = LARGEST_BYTES
        while tag := file.read(8):
            kind, length = _unpacked("<II", tag)
            if kind not in (MATRIX, COMPRESSED) or length > left:
                raise Unreadable("it is damaged or too large")
            content = file.read(length)
            left -= length
            if kind == COMPRESSED:
                content = _inflated(content, left)
                left -= len(content)
                kind, content = _first_element(content)
            reader = _Reader(memoryview(content))
            if kind == MATRIX and reader.head().name == name.encode():
                return _Reader(memoryview(content)).matrix(0)
    raise Unreadable(f"it has no variable {name}")


def _inflated(content: bytes, left: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(content, max(left, 1))  # to zlib, 0 means no limit
    except zlib.error:
        raise Unreadable("it is damaged (its compressed data cannot be unpacked); fetch it again") from None
    if unpacker.unconsumed_tail:
        raise Unreadable(f"it holds more than {LARGEST_BYTES:,} bytes")
    if not unpacker.eof:
        raise Unreadable("it is cut off; fetch it again")
    return unpacked


def _first_element(content: bytes) -> tuple[int, bytes]:
    kind, length = _unpacked("<II", content[:8])
    if length > len(content) - 8:
        raise Unreadable("it is damaged (an element is longer than the compressed data that hold it)")
    return kind, content[8 : 8 + length]


class _Reader:
    """Reader of the elements in the bytes of a matrix, one after the other."""

    def __init__(self, content: memoryview) -> None:
        self.content, self.at = content, 0

    def element(self) -> tuple[int, memoryview]:
        """Return the type and data of the next element. A short element is eight bytes: type, length and data."""
        (first,) = _unpacked("<I", self._take(4))
        if first >> 16:
            kind, length = first & 0xFFFF, first >> 16
            if length > 4:
                raise Unreadable("it is damaged (a short element has more than 4 bytes of data)")
            return kind, self._take(4)[:length]
        (length,) = _unpacked("<I", self._take(4))
        data = self._take(length)
        self.at = min(len(self.content), self.at + -length % 8)
        return first, data

    def _take(self, length: int) -> memoryview:
        taken = self.content[self.at : self.at + length]
        if len(taken) != length:
            raise Unreadable("it is cut off or damaged; fetch it again")
        self.at += length
        return taken

    def head(self) -> Head:
        flags = self._numbers()
        shape = self._numbers()
        _, name = self.element()
        if flags.shape != (2,) or not len(shape) or (shape < 0).any():
            raise Unreadable("it is damaged (the header of a matrix is invalid)")
        return Head(int(flags[0]) & 0xFF, bool(int(flags[0]) & COMPLEX), tuple(shape.tolist()), bytes(name))

    def matrix(self, depth: int) -> Value:
        if depth > DEEPEST:
            raise Unreadable("its cells and structures are nested too deeply")
        if not len(self.content):
            return np.empty(0)  # an empty cell
        head = self.head()
        if head.kind in NUMBERS and not head.complex:
            return self._array(head)
        if head.kind == CELL:
            return [self._inner(depth) for _ in range(self._countable(math.prod(head.shape)))]
        if head.kind == STRUCTURE:
            return self._structure(math.prod(head.shape), depth)
        if head.kind == TEXT:
            return self._text(head.shape)
        return None

    def _inner(self, depth: int) -> Value:
        kind, data = self.element()
        if kind != MATRIX:
            raise Unreadable("it is damaged (a cell or structure holds an element that is not a matrix)")
        return _Reader(data).matrix(depth + 1)

    def _array(self, head: Head) -> NDArray[Any]:
        values = self._numbers()
        if values.size != math.prod(head.shape):
            raise Unreadable("it is damaged (the values of a matrix do not match its shape)")
        return values.astype(NUMBERS[head.kind], copy=False).reshape(head.shape, order="F").squeeze()

    def _text(self, shape: tuple[int, ...]) -> Value:
        """Return a text of one row as a str, of several rows as a list. Characters are stored column by column."""
        kind, data = self.element()
        try:
            text = bytes(data).decode(ENCODINGS[kind])
        except (KeyError, UnicodeDecodeError):
            raise Unreadable("it is damaged (a text cannot be decoded)") from None
        rows, width = shape[0], math.prod(shape[1:])
        if rows * width != len(text) and not (rows == 1 and len(text) <= width):  # some writers give the width in bytes
            raise Unreadable("it is damaged (the length of a text does not match its shape)")
        return text if rows == 1 or not text else [text[row::rows] for row in range(rows)]

    def _structure(self, count: int, depth: int) -> Value:
        width = self._numbers()
        _, packed = self.element()
        if width.shape != (1,) or width[0] < 1:
            raise Unreadable("it is damaged (the field names of a structure are invalid)")
        step = int(width[0])
        names = [bytes(packed[at : at + step]).split(b"\0")[0].decode("latin-1") for at in range(0, len(packed), step)]
        self._countable(count * len(names))
        found = [{name: self._inner(depth) for name in names} for _ in range(count if names else 0)]
        return found[0] if len(found) == 1 else list(found)

    def _countable(self, count: int) -> int:
        """Return `count`, the number of matrices to read. Raise if fewer than 8 bytes per matrix are left."""
        if 8 * count > len(self.content) - self.at:
            raise Unreadable("it is damaged (its header announces more elements than the file can hold)")
        return count

    def _numbers(self) -> NDArray[Any]:
        kind, data = self.element()
        if kind not in STORED or len(data) % np.dtype(STORED[kind]).itemsize:
            raise Unreadable("it is damaged (numbers have an unknown type or an incomplete last value)")
        return np.frombuffer(data, STORED[kind])


def _unpacked(form: str, data: bytes | memoryview) -> tuple[int, ...]:
    if len(data) != struct.calcsize(form):
        raise Unreadable("it is cut off; fetch it again")
    return struct.unpack(form, data)
