"""What a run writes about itself.

log.jsonl    a line for each step and each validation. The same recipe gives the same bytes, however often the run was
             interrupted
speed.jsonl  images per second, share of time spent waiting for data, memory, time so far and left
curves.*     the log as a picture, SVG and PNG, drawn again while the run goes on
tensorboard/ the log as event files, if asked for
stderr       a progress line now and then, and each photo that cannot be used

log.jsonl is part of the result: where it cannot be written the run stops. The others are services: the run goes on
without them, and says so once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from cricavpr.datasets.base import Problem
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.extras import extra
from cricavpr.terminal import printable
from cricavpr.training.curves import draw_curves

SAY_EVERY_S = 10.0
DRAW_EVERY_S = 60.0


def warn(text: str) -> None:
    """Print one line on stderr; a run goes on where nobody reads it any more."""
    with contextlib.suppress(BrokenPipeError):
        print(printable(text), file=sys.stderr, flush=True)


class UnusablePhotos:
    """Photos that could not be used, each named on stderr once, though every epoch meets it again."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.problems: list[Problem] = []
        self._names: set[str] = set()

    def add(self, problems: Iterable[Problem]) -> None:
        """Keep and name those that are new."""
        for problem in problems:
            if problem.name not in self._names:
                self._names.add(problem.name)
                self.problems.append(problem)
                if not self.quiet:
                    warn(f"cannot use {problem.name}: {problem.reason} [{problem.stage}]")


class Log:
    """log.jsonl, which a checkpoint can cut back to where it was.

    Args:
        length: bytes to keep; what follows them is removed.

    Raises:
        InputError: it cannot be written, or is shorter than `length`.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path = path
        with self._explained():
            self._file = path.open("ab")
            found = self._file.tell()
            if found < length:
                self._file.close()
                raise InputError(
                    f"{path} must have at least {length:,} bytes, as recorded in the checkpoint, got {found:,}. "
                    "Restore it."
                )
            self._file.truncate(length)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot write {self.path}: {error.strerror}. Free some space or check permissions, then go on with "
                "--resume."
            ) from error

    def write(self, values: Mapping[str, Any]) -> None:
        """Append a line."""
        with self._explained():
            self._file.write(json.dumps(values).encode() + b"\n")
            self._file.flush()

    def synced_length(self) -> int:
        """Flush the log to the disk and return its length in bytes."""
        with self._explained():
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file; every line was flushed when it was written."""
        with self._explained():
            self._file.close()


class Monitor:
    """Progress lines, speed.jsonl, curves and event files of a run from step `first` on.

    Args:
        total: number of steps of the run.
        quiet: print no progress lines; warnings are printed all the same.
        tensorboard: write event files.
    """

    def __init__(self, run: Path, total: int, first: int = 0, quiet: bool = False, tensorboard: bool = False) -> None:
        self.run, self.total, self.first, self.quiet = run, total, first, quiet
        self._board = Board(run) if tensorboard else None
        self._began = self._said = self._drawn = time.monotonic()
        self._images, self._waited_s = 0, 0.0  # since the last line
        self._earlier_s = elapsed_s(run)  # of the processes that worked on this run before
        self._failed: set[str] = set()

    @contextlib.contextmanager
    def _optional(self, what: str) -> Iterator[None]:
        """Go on where this fails, and say so once."""
        try:
            yield
        except (OSError, ValueError, CricaVPRError) as error:
            if what not in self._failed:
                self._failed.add(what)
                warn(f"note: the run goes on without {what}: {error}")

    def say(self, text: str) -> None:
        """Print a progress line."""
        if not self.quiet:
            warn(text)

    def show(self, line: Mapping[str, Any]) -> None:
        """Add a line of log.jsonl to the event files."""
        if self._board is not None:
            with self._optional("the event files of TensorBoard"):
                self._board.show(line)

    def step_done(self, line: Mapping[str, Any], images: int, waited_s: float) -> None:
        """Count a step, given its line of log.jsonl; now and then say how fast the run is, and draw its curves."""
        self.show(line)
        step, now = line["step"], time.monotonic()
        self._images += images
        self._waited_s += waited_s
        last = step == self.total
        if step == self.first + 1 or last or now - self._said >= SAY_EVERY_S:
            self._say_speed(line, now)
        if last or now - self._drawn >= DRAW_EVERY_S:
            self.draw()

    def _say_speed(self, line: Mapping[str, Any], now: float) -> None:
        step, seconds = line["step"], max(now - self._said, 1e-9)
        left_s = (now - self._began) / (step - self.first) * (self.total - step)
        speed = {
            "step": step,
            "images_per_s": round(self._images / seconds, 1),
            "waiting": round(self._waited_s / seconds, 3),
            "memory_mb": round(memory_bytes() / 1e6),
            "left_s": round(left_s),
        }
        self._said, self._images, self._waited_s = now, 0, 0.0
        self._write_speed(speed, now)
        self.say(
            f"step {step:,}/{self.total:,}  loss {line['loss']:.4f}  mined {line['mined']:.0%}  "
            f"rate {line['rate']:.2e}  {speed['images_per_s']:,} images/s  waiting {speed['waiting']:.0%}  "
            f"{speed['memory_mb'] / 1000:.1f} GB  {_duration(left_s)} left"
        )

    def _write_speed(self, speed: Mapping[str, Any], now: float) -> None:
        line = {**speed, "elapsed_s": round(self._earlier_s + now - self._began, 1)}
        path = self.run / "speed.jsonl"
        with self._optional(str(path)), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def end(self, step: int) -> None:
        """Finish at this step, or stop there for a while: the time since the last line counts too."""
        self._write_speed({"step": step, "memory_mb": round(memory_bytes() / 1e6)}, time.monotonic())
        self.draw()
        if self._board is not None:
            with self._optional("the event files of TensorBoard"):
                self._board.close()

    def draw(self) -> None:
        """Draw the curves."""
        self._drawn = time.monotonic()
        with self._optional("curves"):
            draw_curves(self.run / "log.jsonl", self.run / "curves.svg")


class Board:
    """Event files of TensorBoard in RUN/tensorboard.

    A resumed run opens a file of its own, which says from which step on earlier files do not count: no step is shown
    twice. Nothing is written before the first line.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / "tensorboard"
        self._writer: Any = None

    def show(self, line: Mapping[str, Any]) -> None:
        """Add a line of log.jsonl: a step or a validation."""
        step = int(line["step"])
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=step, flush_secs=10)
        for name in ("loss", "distillation", "mined", "rate"):
            if line.get(name) is not None:
                self._writer.add_scalar(f"training/{name}", line[name], step)
        for name, share in line.get("measured", {}).items():
            tag = name.replace(" ", "/").replace("@", "_at_").replace(":", "_")  # only letters, digits and _-./
            self._writer.add_scalar(f"recall/{tag}", share, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def require_tensorboard() -> None:
    """Raise MissingExtraError if TensorBoard is not installed."""
    with extra("tensorboard", "--tensorboard"):
        import tensorboard  # noqa: F401


def elapsed_s(run: Path) -> float:
    """Return the time spent on a run so far, in seconds, from speed.jsonl; 0 if there is none.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        lines = (run / "speed.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return 0.0
    for line in reversed(lines):  # the last one may be incomplete
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return float(json.loads(line)["elapsed_s"])
    return 0.0


def memory_bytes() -> int:
    """Return the peak memory so far: of the GPU if one is in use, else of this process."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
