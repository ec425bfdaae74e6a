"""Logs of a run. If log.jsonl cannot be written, the run stops. If another log cannot be written, the run goes on.

log.jsonl    a line for each step and each validation; the same recipe gives the same bytes, however often the run was
             interrupted
speed.jsonl  images per second, share of time spent waiting for data, memory, time spent and time left
curves.*     log.jsonl drawn as SVG and PNG, updated during the run
tensorboard/ log.jsonl as TensorBoard's event files, with --tensorboard
stderr       a progress line every few seconds
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from cricavpr.errors import CricaVPRError, InputError
from cricavpr.extras import extra
from cricavpr.terminal import printable
from cricavpr.training.curves import draw_curves

SAY_EVERY_S = 10.0
DRAW_EVERY_S = 60.0


def warn(text: str) -> None:
    """Print one line on stderr. If the reader has closed the pipe, go on without an error."""
    with contextlib.suppress(BrokenPipeError):
        print(printable(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn an OSError in this block into an InputError that says how to resume the run.

    Args:
        what: name of what is written, for the message.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {what}: {error.strerror or error}. Free some space or check permissions, then continue the "
            "run with --resume."
        ) from error


class Log:
    """The file log.jsonl. On opening, all but the first `length` bytes are removed; a resumed run writes them again.

    Raises:
        InputError: the file cannot be written, or is shorter than `length`.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path = path
        with writing(str(path)):
            self._file = path.open("ab")
            found = self._file.tell()
            if found < length:
                self._file.close()
                raise InputError(f"{path} must have at least {length:,} bytes, got {found:,}. Restore this file.")
            self._file.truncate(length)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line, given as a dictionary."""
        with writing(str(self.path)):
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()

    def synced_length(self) -> int:
        """Flush the log to the disk and return its length in bytes."""
        with writing(str(self.path)):
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        with writing(str(self.path)):
            self._file.close()


class Monitor:
    """Writer of progress lines, speed.jsonl, curves and event files.

    Args:
        run: folder of the run.
        total: number of steps of the run.
        first: number of steps that were done before this process started.
        quiet: whether to print no progress lines.
        tensorboard: whether to write event files for TensorBoard.
    """

    def __init__(self, run: Path, total: int, first: int = 0, quiet: bool = False, tensorboard: bool = False) -> None:
        self.run, self.total, self.first, self.quiet = run, total, first, quiet
        self._events: Any = None  # the writer of event files, opened with the first line
        self._tensorboard = tensorboard
        self._began = self._said = self._drawn = time.monotonic()
        self._images, self._waited_s = 0, 0.0  # since the last line
        self._earlier_s = elapsed_s(run)  # time spent on this run by earlier processes
        self._failed: set[str] = set()

    @contextlib.contextmanager
    def _optional(self, what: str) -> Iterator[None]:
        """Print a note about an error in this block and go on. For each `what`, print only the first error."""
        try:
            yield
        except (OSError, ValueError, CricaVPRError) as error:
            if what not in self._failed:
                self._failed.add(what)
                warn(f"note: the run goes on without {what}: {error}")

    def say(self, text: str) -> None:
        """Print a progress line, unless the run is quiet."""
        if not self.quiet:
            warn(text)

    def show(self, line: Mapping[str, Any]) -> None:
        """Add a line of log.jsonl to the event files of TensorBoard, if `tensorboard` is set."""
        if not self._tensorboard:
            return
        with self._optional("event files for TensorBoard"):
            if self._events is None:  # purge_step: events of earlier files from this step on do not count
                from torch.utils.tensorboard import SummaryWriter

                self._events = SummaryWriter(str(self.run / "tensorboard"), purge_step=line["step"], flush_secs=10)
            values = {f"training/{n}": line[n] for n in ("loss", "distillation", "mined", "rate") if n in line}
            for name, share in line.get("measured", {}).items():  # a tag may hold only letters, digits and _-./
                values["recall/" + name.replace(" ", "/").replace("@", "_at_").replace(":", "_")] = share
            for tag, value in values.items():
                self._events.add_scalar(tag, value, line["step"])

    def step_done(self, line: Mapping[str, Any], images: int, waited_s: float) -> None:
        """Count a step. Every few seconds report the speed, and every minute draw the curves.

        Args:
            line: the line of the step in log.jsonl.
            images: number of images of the step.
            waited_s: seconds that the step waited for its data.
        """
        self.show(line)
        step, now = line["step"], time.monotonic()
        self._images += images
        self._waited_s += waited_s
        if step in (self.first + 1, self.total) or now - self._said >= SAY_EVERY_S:
            self._report_speed(line, now)
        if now - self._drawn >= DRAW_EVERY_S:
            self.draw()

    def _report_speed(self, line: Mapping[str, Any], now: float) -> None:
        step, seconds = line["step"], max(now - self._said, 1e-9)
        left_s = (now - self._began) / (step - self.first) * (self.total - step)
        rate, waiting = self._images / seconds, self._waited_s / seconds
        self._said, self._images, self._waited_s = now, 0, 0.0
        speed = {"images_per_s": round(rate, 1), "waiting": round(waiting, 3), "left_s": round(left_s)}
        self._write_speed(step, now, speed)
        self.say(
            f"step {step:,}/{self.total:,}  loss {line['loss']:.4f}  mined {line['mined']:.0%}  "
            f"rate {line['rate']:.2e}  {rate:,.1f} images/s  waiting {waiting:.0%}  "
            f"{memory_bytes() / 1e9:.1f} GB  {_duration(left_s)} left"
        )

    def _write_speed(self, step: int, now: float, speed: Mapping[str, float]) -> None:
        line = {"step": step, **speed, "memory_mb": round(memory_bytes() / 1e6)}
        line["elapsed_s"] = round(self._earlier_s + now - self._began, 1)
        path = self.run / "speed.jsonl"
        with self._optional(str(path)), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def end(self, step: int) -> None:
        """Record the time spent so far, and draw the curves. The run ends or stops after `step`."""
        self._write_speed(step, time.monotonic(), {})
        self.draw()

    def close(self) -> None:
        """Close the event files."""
        if self._events is not None:
            with self._optional("event files for TensorBoard"):
                self._events.close()

    def draw(self) -> None:
        """Draw the curves of the run."""
        self._drawn = time.monotonic()
        with self._optional("curves"):
            draw_curves(self.run / "log.jsonl", self.run / "curves.svg")


def require_tensorboard() -> None:
    """Raise MissingExtraError if TensorBoard is not installed."""
    with extra("tensorboard", "--tensorboard"):
        import tensorboard  # noqa: F401


def elapsed_s(run: Path) -> float:
    """Return the seconds spent on a run so far, read from its speed.jsonl; return 0 if the file has no entry."""
    try:
        lines = (run / "speed.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return 0.0
    for line in reversed(lines):  # the last one may be incomplete
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return float(json.loads(line)["elapsed_s"])
    return 0.0


def memory_bytes() -> int:
    """Return the peak memory use so far: of the GPU if it is in use, else of this process; 0 on Windows."""
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
