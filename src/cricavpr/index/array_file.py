"""Named arrays in one memory-mapped file. Each block of 8 KiB has a checksum, checked when the block is first read.

The layout of a file:

    magic    64 bytes that identify the format
    arrays   each array begins at a multiple of 64 bytes
    footer   JSON (kind of file; offset, type and shape of each array), CRC-32 of every 8 KiB before the footer,
             length of the JSON (8 bytes), SHA-256 of these three parts of the footer

Files may be damaged or malicious: types, shapes and lengths are checked before use, and reading runs no code.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.files import give_back, open_regular
from cricavpr.index.storage import DamagedError, FileError, failed_read, write_new

MAGIC = b"cricavpr.arrays.2\n".ljust(64, b"\0")
ALIGNMENT = 64
BLOCK_BYTES = 1 << 13  # 4096 values of float16; small, so that reading a few rows checks few other bytes
TAIL = 8 + 32  # bytes at the end of the footer: length of the JSON, and SHA-256
JSON_BYTES = 1 << 26  # the longest JSON that is accepted
TYPES = frozenset({"|u1", "|i1", "<u4", "<u8", "<i8", "<f2", "<f4", "<f8"})
LONGEST = 1 << 48  # the largest offset or dimension of an array that is accepted

READ_BYTES = 1 << 24  # bytes to read in one system call, which cannot read more than two gigabytes
RELEASE_BLOCKS = 4096  # memory is released every 4096 blocks (32 MB)

_close = os.close  # a separate name: tests replace `os.close` to count how often written files are closed


# --- writing


class Column(NamedTuple):
    """An array to write: its type (such as "<f4"), its shape, and its bytes as an iterable of chunks."""

    type: str
    shape: tuple[int, ...]
    chunks: Iterable[bytes]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Self:
        plain: NDArray[Any] = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return cls(plain.dtype.str, plain.shape, [plain.tobytes()])


def write_arrays(path: Path, about: Mapping[str, Any], columns: Mapping[str, Column]) -> tuple[int, str]:
    """Write named arrays to a new file and sync it. Equal content gives equal bytes.

    Args:
        about: JSON values that describe the file, such as its kind.
        columns: the arrays by name.

    Returns:
        The length of the file in bytes, and its checksum (SHA-256 of the footer, in hexadecimal).

    Raises:
        OSError: the file exists already or cannot be written. A partial file is removed.
    """
    writing = _Writing(about, columns)
    return write_new(path, writing.chunks()), writing.checksum


class _Writing:
    """A file that is being written. `chunks` yields the bytes of the file, and adds each chunk to the checksums."""

    def __init__(self, about: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
        self.about, self.columns = dict(about), columns
        self.at, self.open, self.checksum = 0, b"", ""
        self.sums: list[int] = []

    def chunks(self) -> Iterator[bytes]:
        places = {}
        yield self._counted(MAGIC)
        for number, (name, column) in enumerate(self.columns.items()):
            # The first array holds the vectors. It begins at a block boundary, so that each row touches few blocks.
            yield self._counted(b"\0" * (-self.at % (ALIGNMENT if number else BLOCK_BYTES)))
            places[name] = {"start": self.at, "type": column.type, "shape": column.shape}
            for chunk in column.chunks:
                yield self._counted(chunk)
        if self.open:
            self.sums.append(zlib.crc32(self.open))
        text = json.dumps({"about": self.about, "bytes": self.at, "arrays": places}, separators=(",", ":")).encode()
        footer = text + np.array(self.sums, "<u4").tobytes() + len(text).to_bytes(8, "little")
        digest = hashlib.sha256(footer)
        self.checksum = digest.hexdigest()
        yield footer + digest.digest()

    def _counted(self, chunk: bytes) -> bytes:
        self.at += len(chunk)
        view = memoryview(self.open + chunk) if self.open else memoryview(chunk)
        whole = len(view) // BLOCK_BYTES * BLOCK_BYTES
        self.sums += [zlib.crc32(view[start : start + BLOCK_BYTES]) for start in range(0, whole, BLOCK_BYTES)]
        self.open = bytes(view[whole:])
        return chunk


# --- reading


@dataclass(frozen=True)
class Place:
    """Offset, type and shape of an array in a file."""

    start: int
    type: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * np.dtype(self.type).itemsize

    @property
    def end(self) -> int:
        return self.start + self.shape[0] * self.row_bytes


class ArrayFile:
    """An open file of named arrays. Each block is compared with its checksum when it is first read.

    The memory map stays valid when the file is removed. So a reader can go on reading after `compact` has removed the
    file.

    Attributes:
        about: the JSON metadata passed to `write_arrays`.
        arrays: the offset, type and shape of each array, by name.
    """

    def __init__(
        self,
        path: Path,
        length: int | None = None,
        checksum: str | None = None,
        error: type[FileError] = DamagedError,
    ) -> None:
        """Open a file and check its footer.

        Args:
            length, checksum: the values that `write_arrays` returned; None if they are not known.
            error: the error class to raise if the file is damaged.

        Raises:
            FileError: the file is damaged or unreadable.
            InputError: the process has too many open files.
        """
        self.path, self.error = path, error
        self._open(length)
        try:
            self._read_footer(checksum)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError) as wrong:
            raise error(path, f"has an invalid footer ({wrong})") from wrong

    def _open(self, length: int | None) -> None:
        try:
            self._descriptor = open_regular(self.path)
            weakref.finalize(self, _close, self._descriptor)
            found = os.fstat(self._descriptor).st_size
            if found != (found if length is None else length):
                raise self.error(self.path, f"has {found} bytes, expected {length}")
            if found < len(MAGIC) + TAIL:
                raise self.error(self.path, "is truncated, or does not have the file format of this release")
            self._map = mmap.mmap(self._descriptor, found, access=mmap.ACCESS_READ)
        except OSError as error:
            raise failed_read(self.path, error, self.error) from error
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def _read_footer(self, checksum: str | None) -> None:
        size = len(self.bytes)
        if self.bytes[: len(MAGIC)].tobytes() != MAGIC:
            raise self.error(self.path, "does not have the file format of this release", 0)
        length = int.from_bytes(self.bytes[size - TAIL : size - 32].tobytes(), "little")
        blocks = -(-(size - TAIL - length) // (BLOCK_BYTES + 4))  # each block has a checksum of four bytes
        start = size - TAIL - length - 4 * blocks
        if length > JSON_BYTES or start < len(MAGIC):
            raise self.error(self.path, "is truncated, or does not have the file format of this release", size - TAIL)
        digest = hashlib.sha256(self.bytes[start : size - 32].data).hexdigest()
        if digest != self.bytes[size - 32 :].tobytes().hex() or checksum not in (None, digest):
            raise self.error(self.path, "does not match its checksum", start)
        values = json.loads(self.bytes[start : start + length].tobytes())
        if values["bytes"] != start or -(-start // BLOCK_BYTES) != blocks:
            raise ValueError("the lengths in the footer do not match the length of the file")
        self.checksum, self.about, self.data_bytes = digest, dict(values["about"]), start
        self._sums = np.frombuffer(self.bytes[start + length : size - TAIL].tobytes(), "<u4")
        self._sound = np.zeros(blocks, np.bool_)
        self.arrays = {str(name): self._place(**place) for name, place in values["arrays"].items()}

    def _place(self, start: Any, type: Any, shape: Any) -> Place:
        numbers = (start, *shape)
        if type not in TYPES or not all(isinstance(one, int) and 0 <= one <= LONGEST for one in numbers):
            raise ValueError(f"an array has the type {type} and the shape {shape}, and one of the two is invalid")
        place = Place(start, type, tuple(shape))
        if not shape or place.end > self.data_bytes or start % ALIGNMENT:
            raise ValueError("an array begins or ends at an invalid offset")
        return place

    def is_current(self) -> bool:
        """Return whether the file at `path` is still the file that was opened."""
        try:
            there = self.path.stat(follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(os.fstat(self._descriptor), there) and there.st_size == len(self._map)

    def mapped(self, name: str) -> NDArray[Any]:
        """Return an array without checking or copying it."""
        place = self.arrays[name]
        return self.bytes[place.start : place.end].view(place.type).reshape(place.shape)

    def read(self, name: str, first: int = 0, end: int | None = None) -> NDArray[Any]:
        """Return rows `first` to `end` (exclusive) of an array; by default, return all rows.

        The checksums of these rows are checked. The rows are a view of the memory map, not a copy.

        Raises:
            FileError: a block with one of these rows is damaged.
        """
        place = self.arrays[name]
        end = place.shape[0] if end is None else end
        self.check(place.start + first * place.row_bytes, place.start + end * place.row_bytes)
        return self.mapped(name)[first:end]

    def read_rows(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:  # (n,) -> (n, ...)
        """Return a copy of some rows of an array, after checking their checksums.

        The rows are read with system calls and not through the memory map, because a page fault takes longer than
        reading a few thousand bytes.

        Raises:
            FileError: a block with one of these rows is damaged or cannot be read.
        """
        place = self.arrays[name]
        found = np.empty((len(rows), *place.shape[1:]), place.type)
        into = found.reshape(-1).view(np.uint8).data
        stretches = _end_to_end(place.start + rows * place.row_bytes, place.row_bytes)
        parts = [(into[row * place.row_bytes :][: end - start], start) for row, start, end in stretches]
        if hasattr(os, "posix_fadvise"):
            for part, start in parts:  # announce all reads first, so that the disk can serve many of them at once
                os.posix_fadvise(self._descriptor, start, len(part), os.POSIX_FADV_WILLNEED)
        for part, start in parts:
            self._read(part, start)
        return found

    def check(self, first: int, end: int) -> None:
        """Check the blocks that hold the bytes `first` to `end` (exclusive). Raises FileError if one is damaged."""
        low, high = first // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        if first < end:
            for block in (low + np.flatnonzero(~self._sound[low:high])).tolist():
                if not self._check(block):
                    raise self._damage(block)

    def damages(self) -> Iterator[FileError]:
        """Read every block, also those that were checked before, and yield an error for each damaged block."""
        for block in range(len(self._sums)):
            if not self._check(block):
                yield self._damage(block)
            if block % RELEASE_BLOCKS == 0:
                give_back(self.bytes)
        give_back(self.bytes)

    def _check(self, block: int) -> bool:
        end = min((block + 1) * BLOCK_BYTES, self.data_bytes)
        sound = zlib.crc32(self.bytes[block * BLOCK_BYTES : end].data) == int(self._sums[block])
        self._sound[block] = sound
        return sound

    def _damage(self, block: int) -> FileError:
        return self.error(self.path, "does not match its checksum", block * BLOCK_BYTES)

    def _read(self, into: memoryview, first: int) -> None:
        """Fill `into` with the bytes of the file from offset `first` on.

        Complete blocks are read, because a checksum covers a complete block.
        """
        end = first + len(into)
        low, high = first // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        start, stop = low * BLOCK_BYTES, min(high * BLOCK_BYTES, self.data_bytes)
        parts, at = [], start
        try:
            while at < stop and (part := os.pread(self._descriptor, stop - at, at)):
                parts.append(part)
                at += len(part)  # `os.pread` may return fewer bytes than requested
        except OSError as error:
            raise failed_read(self.path, error, self.error) from error
        if at < stop:
            raise self.error(self.path, "was truncated while it was open", at)
        whole = memoryview(b"".join(parts))
        for block, known in enumerate(self._sums[low:high].tolist()):
            at = block * BLOCK_BYTES
            if zlib.crc32(whole[at : at + BLOCK_BYTES]) != known:
                raise self._damage(low + block)
        into[:] = whole[first - start : end - start]


def _end_to_end(starts: NDArray[np.int64], length: int) -> list[tuple[int, int, int]]:
    """Join rows that are adjacent in the file into runs of about READ_BYTES.

    Args:
        starts: the offset in bytes of each row.
        length: the length of a row in bytes.

    Returns:
        For each run: the index in `starts` of its first row, the offset of its first byte, and the offset after its
        last byte.
    """
    found: list[tuple[int, int, int]] = []
    for row, start in enumerate(starts.tolist()):
        first, begin, end = found[-1] if found else (0, 0, -1)
        if start == end and end - begin < READ_BYTES:
            found[-1] = first, begin, end + length
        else:
            found.append((row, start, start + length))
    return found
