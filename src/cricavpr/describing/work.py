"""Where descriptors grow: in memory, or on disk where an interrupted run is taken up again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.describing.reading import Failures
from cricavpr.descriptors import DescriptorSet, MadeBy, save_rows
from cricavpr.errors import InputError
from cricavpr.files import growing, sync, write_text
from cricavpr.locks import exclusive

STATE_EVERY_S = 5.0  # how much work a crash may cost


class Work(Protocol):
    """Descriptors in the making: one row for each image, failed or not."""

    made: MadeBy
    done: int  # batches
    failed: Failures

    def put(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None: ...
    def batch_done(self, failures: Failures) -> None: ...
    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet: ...
    def give_up(self) -> None: ...


class InMemory:
    def __init__(self, count: int, made: MadeBy) -> None:
        self.made, self.done = made, 0
        self.failed: Failures = {}
        self.rows = np.zeros((count, made.dim), np.float32)

    def put(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self.rows[indices] = vectors

    def batch_done(self, failures: Failures) -> None:
        self.failed |= failures
        self.done += 1

    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet:
        return DescriptorSet(names, self.rows if len(kept) == len(self.rows) else self.rows[kept], self.made)

    def give_up(self) -> None:
        """Nothing was kept."""


class OnDisk:
    """A folder `.NAME.partial` beside the file: the rows so far, and how far that is.

    The rows are synced before the state that counts them, so a crash at any moment costs a few seconds of
    work and never leaves a row that is counted but not there. Rows are written, not mapped: a full disk is
    then an error and not the end of the process.
    """

    def __init__(self, out: Path, count: int, made: MadeBy, mark: str, note: Callable[[str], None]) -> None:
        self.out, self.count, self.made, self.mark, self.note = out, count, made, mark, note
        self.folder = out.with_name(f".{out.name}.partial")
        self.done, self.saved_at = 0, time.monotonic()
        self.failed: Failures = {}
        self.file: IO[bytes] | None = None
        self.lock = contextlib.ExitStack()

    @property
    def rows(self) -> Path:
        return self.folder / "vectors.f32"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    def __enter__(self) -> Self:
        if self.out.is_dir():
            raise InputError(f"{self.out} is a folder. Give the name of a file for the descriptors.")
        with growing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.lock.enter_context(exclusive(self.folder / "lock", str(self.out)))
        try:
            with growing(self.folder):
                if not self._take_up():
                    self._start_afresh()
        except BaseException:
            self.lock.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if self.file:
            if kind:
                with contextlib.suppress(OSError, InputError):  # the first error is the one to report
                    self._save_state()
            with contextlib.suppress(OSError):
                self.file.close()
        self.lock.close()

    def _take_up(self) -> bool:
        """Go on with the work of an earlier run, if it was the same work."""
        if not self.state.exists():
            return False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            state = json.loads(self.state.read_text(encoding="utf-8"))
            whole = self.rows.stat().st_size == self.count * self.made.dim * 4
            if state["mark"] == self.mark and whole:
                failed = {int(index): (str(stage), str(reason)) for index, (stage, reason) in state["failed"].items()}
                done = int(state["batches_done"])
                self.file = self.rows.open("r+b")
                self.done, self.failed = done, failed
                return True
        self.note(f"the unfinished work in {self.folder} was for other photos or settings; starting afresh.")
        return False

    def _start_afresh(self) -> None:
        self.state.unlink(missing_ok=True)  # first, so that no state ever speaks of the new rows
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
        self.failed |= failures
        self.done += 1
        if time.monotonic() - self.saved_at >= STATE_EVERY_S:
            self._save_state()

    def _save_state(self) -> None:
        assert self.file
        with growing(self.folder):
            self.file.flush()
            os.fsync(self.file.fileno())
        failed = {str(index): list(why) for index, why in self.failed.items()}
        write_text(self.state, json.dumps({"mark": self.mark, "batches_done": self.done, "failed": failed}))
        self.saved_at = time.monotonic()

    def finish(self, names: tuple[str, ...], kept: NDArray[np.int64]) -> DescriptorSet:
        self._save_state()
        rows = np.memmap(self.rows, "<f4", "r", shape=(self.count, self.made.dim))
        save_rows(self.out, names, rows, kept, self.made)
        self.give_up()
        return DescriptorSet.load(self.out)

    def give_up(self) -> None:
        """Remove the folder: the work is either in its place or worth nothing."""
        if self.file:
            self.file.close()
            self.file = None
        self.state.unlink(missing_ok=True)  # first: a folder without a state is never taken up
        shutil.rmtree(self.folder, ignore_errors=True)
