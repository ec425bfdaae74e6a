"""Results on disk, appended query by query, so that an interrupted run can be resumed."""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.files import growing
from cricavpr.locks import exclusive

FORMAT = "cricavpr.reranked.1"
SYNC_EVERY_S = 5.0  # work that a crash may lose


class Journal:
    """File with one record for each query, in order: candidates, scores, and a checksum over both.

    Bytes after the last intact record are from an interrupted write, and are removed.
    """

    def __init__(self, path: Path, mark: str, width: int) -> None:
        self.path, self.width = path, width
        self.head = json.dumps({"format": FORMAT, "mark": mark, "width": width}).encode() + b"\n"
        self.rows: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self.file: IO[bytes] | None = None
        self.open = contextlib.ExitStack()
        self.synced_at = time.monotonic()

    def __enter__(self) -> Self:
        with growing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(exclusive(self.path.with_suffix(".lock"), str(self.path)))
            with growing(self.path):
                self.file = stack.enter_context(self.path.open("a+b"))
                self._resume(self.file)
            self.open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, InputError):  # what is not synced is computed again
            self._sync()
        with contextlib.suppress(OSError):
            self.open.close()

    def _resume(self, file: IO[bytes]) -> None:
        file.seek(0)
        if file.readline() != self.head:
            file.truncate(0)
            file.write(self.head)
            return
        sound = file.tell()
        while (row := self._unpacked(file.read(16 * self.width + 4))) is not None:
            self.rows.append(row)
            sound = file.tell()
        file.truncate(sound)

    def append(self, indices: NDArray[np.int64], scores: NDArray[np.float64]) -> None:  # (n,) each
        """Append the record of the next query.

        Raises:
            InputError: the file cannot be written.
        """
        assert self.file and len(indices) == len(scores) == self.width
        record = indices.astype("<i8").tobytes() + scores.astype("<f8").tobytes()
        with growing(self.path):
            self.file.write(record + zlib.crc32(record).to_bytes(4, "little"))
        self.rows.append((indices, scores))
        if time.monotonic() - self.synced_at >= SYNC_EVERY_S:
            self._sync()

    def _unpacked(self, record: bytes) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        values, checksum = record[:-4], record[-4:]
        if len(record) != 16 * self.width + 4 or zlib.crc32(values).to_bytes(4, "little") != checksum:
            return None
        indices, scores = values[: 8 * self.width], values[8 * self.width :]
        return np.frombuffer(indices, "<i8").astype(np.int64), np.frombuffer(scores, "<f8").astype(np.float64)

    def _sync(self) -> None:
        assert self.file
        with growing(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
        self.synced_at = time.monotonic()
