"""A file of known checksums, mapped into memory: no byte of it is believed before its block was checked."""

from __future__ import annotations

import itertools
import mmap
import os
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.index.damage import DamagedError
from cricavpr.index.durable import refuse_too_many_files
from cricavpr.mapped import give_back

READ_BYTES = 1 << 24  # at a time; one call of the system never reads more than two gigabytes
GIVE_BACK_BLOCKS = 4096  # 32 MB of blocks of 8 KiB
Bytes = NDArray[np.uint8]

_close = os.close  # of a file that was only read: nobody is there to be told when it fails


class CheckedFile:
    """A mapped file whose blocks are compared with their checksums when they are first needed.

    The map outlives the file's name: a reader goes on reading what a later compaction has removed.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Map the first bytes of a file that must have exactly `length`.

        Raises:
            DamagedError: it cannot be read or has another length.
            InputError: this process has too many files open.
        """
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
            weakref.finalize(self, _close, self._descriptor)
            found = os.fstat(self._descriptor).st_size
            if found != length:
                raise DamagedError(path, f"has {found} bytes instead of {length}")
            self._map = mmap.mmap(self._descriptor, length, access=mmap.ACCESS_READ)
        except OSError as error:
            refuse_too_many_files(path.parent, error)
            raise DamagedError(path, f"cannot be read ({error.strerror or error})") from error
        self.bytes = np.frombuffer(self._map, np.uint8)
        self.data_bytes = 0  # what has checksums: all but the footer
        self.block_bytes = 1
        self._sums = np.empty(0, np.uint32)
        self._sound = np.empty(0, np.bool_)

    def stands(self) -> bool:
        """Whether the file is still at its place, so that who opens it there gets this one."""
        try:
            there = self.path.stat()
        except OSError:
            return False
        return os.path.samestat(os.fstat(self._descriptor), there) and there.st_size == len(self._map)

    def trust(self, data_bytes: int, sums: NDArray[np.uint32], block_bytes: int) -> None:
        """Take the checksums of the first `data_bytes` bytes, block by block, which somebody has vouched for."""
        self.data_bytes, self.block_bytes = data_bytes, block_bytes
        self._sums, self._sound = sums, np.zeros(len(sums), np.bool_)

    def require(self, first: int, end: int) -> None:
        """Make sure that the bytes from `first` to before `end` are as they were written.

        Raises:
            DamagedError: naming the file and where the first block begins that is not.
        """
        low, high = first // self.block_bytes, -(-end // self.block_bytes)
        unknown = low + np.flatnonzero(~self._sound[low:high]) if first < end else np.empty(0, np.int64)
        for block in unknown.tolist():
            if not self._check(block):
                raise self._damage(block)

    def rows(self, starts: NDArray[np.int64], length: int) -> NDArray[np.uint8]:  # (n,) -> (n, length)
        """Many stretches of `length` bytes each, checked, and read without the map: each of its pages that is touched
        costs more than a few thousand bytes do.

        Raises:
            DamagedError: as for `require`, or the file cannot be read.
        """
        found = np.empty((len(starts), length), np.uint8)
        into = found.reshape(-1).data
        breaks = np.flatnonzero(np.diff(starts) != length) + 1  # stretches that lie end to end are read together
        most = max(1, READ_BYTES // max(1, length))
        for first, end in itertools.pairwise([0, *breaks.tolist(), len(starts)] if len(starts) else []):
            for row in range(first, end, most):
                start, stop = int(starts[row]), min(row + most, end)
                into[row * length : stop * length] = self._read(start, start + (stop - row) * length)
        return found

    def _read(self, first: int, end: int) -> memoryview:
        low, high = first // self.block_bytes, -(-end // self.block_bytes)
        start, stop = low * self.block_bytes, min(high * self.block_bytes, self.data_bytes)
        try:
            content = memoryview(self._bytes_at(start, stop))
        except OSError as error:
            raise DamagedError(self.path, f"cannot be read ({error.strerror or error})") from error
        if len(content) < stop - start:
            raise DamagedError(self.path, "has become shorter", start + len(content))
        for block, known in enumerate(self._sums[low:high].tolist()):
            at = block * self.block_bytes
            if zlib.crc32(content[at : at + self.block_bytes]) != known:
                raise self._damage(low + block)
        return content[first - start : end - start]

    def _bytes_at(self, start: int, stop: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, stop - start, start)
        return self.bytes[start:stop].tobytes()

    def _check(self, block: int) -> bool:
        end = min((block + 1) * self.block_bytes, self.data_bytes)
        sound = zlib.crc32(self.bytes[block * self.block_bytes : end].data) == int(self._sums[block])
        self._sound[block] = sound
        return sound

    def damages(self) -> Iterator[DamagedError]:
        """Every block that is not as it was written, read anew from the file and given back."""
        for block in range(len(self._sums)):
            if not self._check(block):
                yield self._damage(block)
            if block % GIVE_BACK_BLOCKS == 0:
                give_back(self.bytes)
        give_back(self.bytes)

    def _damage(self, block: int) -> DamagedError:
        return DamagedError(self.path, "does not have the checksum it was written with", block * self.block_bytes)

    def view(self, first: int, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Part of the file as an array; nothing of it is checked yet."""
        count = int(np.prod(shape, dtype=object))
        part = self.bytes[first : first + count * np.dtype(kind).itemsize]
        array: NDArray[Any] = part.view(kind).reshape(shape)
        return array
