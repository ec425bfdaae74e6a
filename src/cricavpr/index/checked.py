"""A file of known checksums, mapped into memory: no byte of it is believed before its block was checked."""

from __future__ import annotations

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
NOW = getattr(os, "RWF_NOWAIT", 0)  # read what the system has in memory, or nothing
Bytes = NDArray[np.uint8]

_close = os.close  # of a file that was only read: nobody is there to be told when it fails


def _end_to_end(starts: NDArray[np.int64], length: int) -> list[tuple[int, int, int]]:
    """Stretches that lie end to end as one, up to READ_BYTES: the first of them, and where they start and end."""
    found: list[tuple[int, int, int]] = []
    for row, start in enumerate(starts.tolist()):
        first, begin, end = found[-1] if found else (0, 0, -1)
        if start == end and end - begin < READ_BYTES:
            found[-1] = first, begin, end + length
        else:
            found.append((row, start, start + length))
    return found


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
        parts = [(into[row * length :][: end - start], start) for row, start, end in _end_to_end(starts, length)]
        waiting = [part for part in parts if not self._read(*part, now=True)] if NOW and len(parts) > 1 else parts
        self._announce(waiting)
        for part in waiting:
            self._read(*part)
        return found

    def _announce(self, parts: list[tuple[memoryview, int]]) -> None:
        """Ask for them together: a disk that serves many requests at once then serves them at once."""
        if hasattr(os, "posix_fadvise") and len(parts) > 1:
            for into, start in parts:
                os.posix_fadvise(self._descriptor, start, len(into), os.POSIX_FADV_WILLNEED)

    def _read(self, into: memoryview, first: int, *, now: bool = False) -> bool:
        """Read whole blocks, which only together with all their bytes have a checksum.

        Returns:
            Whether it was read: with `now`, what the system does not have in memory is not waited for.
        """
        end = first + len(into)
        low, high = first // self.block_bytes, -(-end // self.block_bytes)
        start, stop = low * self.block_bytes, min(high * self.block_bytes, self.data_bytes)
        whole = into if (start, stop) == (first, end) else memoryview(bytearray(stop - start))
        try:
            count = self._fill(whole, start, NOW if now else 0)
        except OSError as error:
            if now:
                return False
            raise DamagedError(self.path, f"cannot be read ({error.strerror or error})") from error
        if count < len(whole):
            if now:
                return False
            raise DamagedError(self.path, "has become shorter", start + count)
        for block, known in enumerate(self._sums[low:high].tolist()):
            at = block * self.block_bytes
            if zlib.crc32(whole[at : at + self.block_bytes]) != known:
                raise self._damage(low + block)
        if whole is not into:
            into[:] = whole[first - start : end - start]
        return True

    def _fill(self, into: memoryview, start: int, flags: int) -> int:
        if not hasattr(os, "preadv"):
            into[:] = self.bytes[start : start + len(into)].data
            return len(into)
        count = there = os.preadv(self._descriptor, [into], start, flags)
        while not flags and there and count < len(into):  # less than was asked for is the end only where nothing comes
            there = os.preadv(self._descriptor, [into[count:]], start + count, flags)
            count += there
        return count

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
