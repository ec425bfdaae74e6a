"""Storage for the descriptors of an unfinished run: in memory, or on disk, from where an interrupted run is resumed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.describing.reading import Failures
from cricavpr.descriptors import DescriptorSet, MadeBy, save_rows
from cricavpr.errors import InputError
from cricavpr.files import growing, sync, write_text
from cricavpr.locks import exclusive
from cricavpr.schema import build, parse_json, to_plain

STATE_EVERY_S = 5.0  # seconds between saves: a crash loses at most the work since the last save


@dataclass(frozen=True)
class _State:
    """Content of the state file of an unfinished run."""

    mark: str  # text that identifies the run
    batches_done: int  # number of finished batches
    failed: Failures  # photos that failed so far

    def __post_init__(self) -> None:
        if self.batches_done < 0:
            raise ValueError(f"batches_done must be at least 0, got {self.batches_done}")


class Work(ABC):
    """Storage for the descriptors of an unfinished run, with a row for each image, even if the image failed.

    Attributes:
        made: provenance of the descriptors: method, weights and settings.
        done: number of finished batches.
        failed: photos that failed so far.
    """

    def __init__(self, made: MadeBy) -> None:
        self.made, self.done = made, 0
        self.failed: Failures = {}

    @abstractmethod
    def put(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Store the descriptors of the images with these indices."""

    def batch_done(self, failures: Failures) -> None:
        """Count a batch as finished, and remember its photos that failed."""
        self.failed |= failures
        self.done += 1

    @abstractmethod
    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet:
        """Return the descriptors of the images that did not fail.

        Args:
            names: names of these images.
            kept: their indices, increasing.
        """

    def give_up(self) -> None:  # noqa: B027  # in memory there is nothing to remove
        """Remove unfinished work from disk."""


class InMemory(Work):
    """Storage for the descriptors of an unfinished run in memory."""

    def __init__(self, count: int, made: MadeBy) -> None:
        super().__init__(made)
        self.rows = np.zeros((count, made.dim), np.float32)

    def put(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self.rows[indices] = vectors

    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet:
        return DescriptorSet(names, self.rows if len(kept) == len(self.rows) else self.rows[kept], self.made)


class OnDisk(Work):
    """Storage for the descriptors of an unfinished run on disk, in a folder `.NAME.partial` beside the output file.

    The folder holds the rows, and a state file that counts finished batches. Rows are synced to disk before the state
    that counts them. So every counted row is on disk, and a crash loses only a few seconds of work. Rows are written
    and not memory-mapped: on a full disk, writing raises an error, but a memory map would kill the process.
    """

    def __init__(self, out: Path, count: int, made: MadeBy, mark: str, note: Callable[[str], None]) -> None:
        super().__init__(made)
        self.out, self.count, self.mark, self.note = out, count, mark, note
        self.folder = out.with_name(f".{out.name}.partial")
        self.rows, self.state = self.folder / "vectors.f32", self.folder / "state.json"
        self.saved_at = time.monotonic()
        self.file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self.out.is_dir():
            raise InputError(f"{self.out} is a folder; give the name of a file for the descriptors.")
        with growing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(exclusive(self.folder / "lock", str(self.out)))
            with growing(self.folder):
                if not self._resume():
                    self._start_again()
            self.lock = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.lock, contextlib.suppress(OSError):
            if self.file and kind:
                with contextlib.suppress(OSError, InputError):  # report the first error
                    self._save_state()
            if self.file:
                self.file.close()

    def _resume(self) -> bool:
        """Resume the work of an earlier run if that run had the same mark; return whether work was resumed."""
        if not self.state.exists():
            return False
        with contextlib.suppress(OSError, InputError):
            state = build(_State, parse_json(self.state.read_bytes(), str(self.state)), str(self.state))
            whole = self.rows.stat().st_size == self.count * self.made.dim * 4
            if state.mark == self.mark and whole and all(index < self.count for index in state.failed):
                self.file = self.rows.open("r+b")
                self.done, self.failed = state.batches_done, state.failed
                return True
        self.note(f"the unfinished work in {self.folder} belongs to other photos or settings; starting again.")
        return False

    def _start_again(self) -> None:
        self.state.unlink(missing_ok=True)  # first, so that the old state does not count the new rows
        sync(self.folder)
        self.file = self.rows.open("w+b")
        self.file.truncate(self.count * self.made.dim * 4)
        self._save_state()

    def put(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        assert self.file
        with growing(self.folder):
            for index, vector in zip(indices.tolist(), vectors.astype("<f4", copy=False), strict=True):
                self.file.seek(index * self.made.dim * 4)
                self.file.write(vector.tobytes())

    def batch_done(self, failures: Failures) -> None:
        super().batch_done(failures)
        if time.monotonic() - self.saved_at >= STATE_EVERY_S:
            self._save_state()

    def _save_state(self) -> None:
        assert self.file
        with growing(self.folder):
            self.file.flush()
            os.fsync(self.file.fileno())
        write_text(self.state, json.dumps(to_plain(_State(self.mark, self.done, self.failed))))
        self.saved_at = time.monotonic()

    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet:
        self._save_state()
        rows = np.memmap(self.rows, "<f4", "r", shape=(self.count, self.made.dim))
        save_rows(self.out, names, rows, kept, self.made)
        self.give_up()
        return DescriptorSet.load(self.out)

    def give_up(self) -> None:
        """Remove the folder: the result is written elsewhere, or there is no result."""
        if self.file:
            self.file.close()
            self.file = None
        self.state.unlink(missing_ok=True)  # first: a folder without a state is never resumed
        shutil.rmtree(self.folder, ignore_errors=True)
