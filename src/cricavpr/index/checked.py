"""A file of known checksums, mapped into memory: no byte of it is believed before its block was checked."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.index.damage import DamagedError

BLOCK_BYTES = 1 << 16


class CheckedFile:
    """A mapped file whose blocks are compared with their checksums when they are first needed.

    The map outlives the file's name: a reader goes on reading what a later compaction has removed.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Map the first bytes of a file that must have exactly `length`.

        Raises:
            DamagedError: it cannot be read or has another length.
        """
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                found = os.fstat(descriptor).st_size
                if found != length:
                    raise DamagedError(path, f"has {found} bytes instead of {length}")
                self._map = mmap.mmap(descriptor, length, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DamagedError(path, f"cannot be read ({error.strerror or error})") from error
        self.bytes = np.frombuffer(self._map, np.uint8)
        self.data_bytes = 0  # what has checksums: all but the footer
        self._sums = np.empty(0, np.uint32)
        self._sound = np.empty(0, np.bool_)

    def trust(self, data_bytes: int, sums: NDArray[np.uint32]) -> None:
        """Take the checksums of the first `data_bytes` bytes, block by block, which somebody has vouched for."""
        self.data_bytes, self._sums, self._sound = data_bytes, sums, np.zeros(len(sums), np.bool_)

    def require(self, first: int, end: int) -> None:
        """Make sure that the bytes from `first` to before `end` are as they were written.

        Raises:
            DamagedError: naming the file and where the first block begins that is not.
        """
        low, high = first // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        if first < end:
            self._require(np.arange(low, high)[~self._sound[low:high]])

    def require_rows(self, starts: NDArray[np.int64], length: int) -> None:
        """The same for many stretches of `length` bytes each."""
        if not len(starts) or not length:
            return
        low, high = starts // BLOCK_BYTES, (starts + length - 1) // BLOCK_BYTES
        wide = int((high - low).max()) + 1
        blocks = np.unique(np.minimum(low[:, None] + np.arange(wide), high[:, None]))
        self._require(blocks[~self._sound[blocks]])

    def _require(self, blocks: NDArray[np.int64]) -> None:
        for block in blocks.tolist():
            if not self._check(block):
                raise DamagedError(self.path, "does not have the checksum it was written with", block * BLOCK_BYTES)

    def _check(self, block: int) -> bool:
        end = min((block + 1) * BLOCK_BYTES, self.data_bytes)
        sound = zlib.crc32(self.bytes[block * BLOCK_BYTES : end].data) == int(self._sums[block])
        self._sound[block] = sound
        return sound

    def damages(self) -> Iterator[DamagedError]:
        """Every block that is not as it was written, read anew from the file."""
        for block in range(len(self._sums)):
            if not self._check(block):
                yield DamagedError(self.path, "does not have the checksum it was written with", block * BLOCK_BYTES)

    def view(self, first: int, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Part of the file as an array; nothing of it is checked yet."""
        count = int(np.prod(shape, dtype=object))
        part = self.bytes[first : first + count * np.dtype(kind).itemsize]
        array: NDArray[Any] = part.view(kind).reshape(shape)
        return array
