"""Plain arrays in a file of our own: a header with the checksum of every block, so that damage has a place.

Reading runs nothing and believes nothing: names, types, shapes and lengths are checked before a byte is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.files import written_beside
from cricavpr.index.durable import write_new

MAGIC = b"cricavpr.arrays.1\n"
BLOCK_BYTES = 1 << 20
HEADER_BYTES_MOST = 64 << 20
TYPES = ("<f4", "|u1")
_START = len(MAGIC) + 8 + 32  # the length of the header, and its SHA-256


class ArrayFileError(InputError):
    """A file of arrays is missing, not ours, damaged, or another's. `offset` is where the damaged block begins."""

    def __init__(self, file: Path, why: str, offset: int | None = None) -> None:
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{file} {why}{where}. Remove it: it can be made again from the vectors.")
        self.file, self.why, self.offset = Path(file), why, offset

    def __reduce__(self) -> tuple[type[ArrayFileError], tuple[Path, str, int | None]]:
        return type(self), (self.file, self.why, self.offset)


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """What such a file holds.

    Attributes:
        about: what the arrays are, in values of JSON.
        arrays: by name; float32 or uint8.
    """

    about: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def write(self, path: Path) -> None:
        """Write it durably. Equal content gives equal bytes.

        Raises:
            InputError: the place cannot be written.
        """
        entries = [_entry(name, array) for name, array in sorted(self.arrays.items())]
        header = json.dumps({"about": dict(self.about), "arrays": entries}, sort_keys=True).encode()
        start = MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header
        with written_beside(Path(path)) as beside:
            write_new(beside, [start, *(_bytes_of(array) for _, array in sorted(self.arrays.items()))])

    @classmethod
    def read(cls, path: Path) -> ArrayFile:
        """Read and check all of it.

        Raises:
            ArrayFileError: no such file, not one of these, or damaged; it says where.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                about, entries, place = _read_header(path, file)
                _check_length(path, os.fstat(file.fileno()).st_size, entries, place)
                arrays = {}
                for entry in entries:
                    arrays[entry.name] = entry.read(path, file, place)
                    place += entry.length
        except OSError as error:
            raise ArrayFileError(path, f"cannot be read ({error.strerror or error})") from error
        return cls(about, arrays)


@dataclass(frozen=True)
class _Entry:
    name: str
    type: str
    shape: tuple[int, ...]
    blocks: tuple[str, ...]  # SHA-256 of each, in hexadecimal

    def __post_init__(self) -> None:
        blocks = -(-self.length // BLOCK_BYTES)
        sound = self.type in TYPES and min(self.shape, default=0) >= 0 and len(self.blocks) == blocks
        if not sound:
            raise ValueError("an array that cannot be")

    @property
    def length(self) -> int:  # bytes
        return math.prod(self.shape) * np.dtype(self.type).itemsize

    def read(self, path: Path, file: Any, place: int) -> NDArray[Any]:
        content = np.empty(self.length, np.uint8)
        for number, digest in enumerate(self.blocks):
            start = number * BLOCK_BYTES
            block = file.read(min(BLOCK_BYTES, self.length - start))
            if hashlib.sha256(block).hexdigest() != digest:
                raise ArrayFileError(path, "is damaged", place + start)
            content[start : start + len(block)] = np.frombuffer(block, np.uint8)
        try:
            return content.view(self.type).reshape(self.shape)
        except ValueError as error:  # nothing, in more or longer dimensions than an array can have
            raise ArrayFileError(path, f"has a header that describes no arrays ({error})") from error


def _entry(name: str, array: NDArray[Any]) -> dict[str, Any]:
    content = _bytes_of(array)
    blocks = (content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES))
    digests = [hashlib.sha256(block).hexdigest() for block in blocks]
    return {"name": name, "type": array.dtype.newbyteorder("<").str, "shape": list(array.shape), "blocks": digests}


def _bytes_of(array: NDArray[Any]) -> memoryview:
    plain: Any = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return memoryview(plain.reshape(-1).view(np.uint8))


def _read_header(path: Path, file: Any) -> tuple[Mapping[str, Any], list[_Entry], int]:
    start = file.read(_START)
    if len(start) < _START or not start.startswith(MAGIC):
        raise ArrayFileError(
            path, f"does not begin as {MAGIC.decode().strip()}: cut off, of another version, or not ours"
        )
    length = int.from_bytes(start[len(MAGIC) : len(MAGIC) + 8], "little")
    header = file.read(length) if length <= HEADER_BYTES_MOST else b""
    if hashlib.sha256(header).digest() != start[len(MAGIC) + 8 :]:
        raise ArrayFileError(path, "is damaged in its header", 0)
    try:
        values = json.loads(header)
        entries = [
            _Entry(str(one["name"]), str(one["type"]), tuple(map(int, one["shape"])), tuple(map(str, one["blocks"])))
            for one in values["arrays"]
        ]
        return dict(values["about"]), entries, _START + length
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ArrayFileError(path, f"has a header that describes no arrays ({error})") from error


def _check_length(path: Path, length: int, entries: list[_Entry], place: int) -> None:
    expected = place + sum(entry.length for entry in entries)
    if length != expected:
        raise ArrayFileError(path, f"has {length} bytes instead of {expected}")
