"""What a run says of itself.

log.jsonl    what was learnt: a line for each step and each measurement. The same recipe gives the same bytes,
             however often the run was interrupted
speed.jsonl  how it went: images per second, share of time spent waiting for data, memory, time so far and left
curves.*     the log as a picture, SVG and PNG, drawn anew while the run goes on
tensorboard/ the log once more, as event files, where they were asked for; see `board`
stderr       one line now and then
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cricavpr.errors import InputError, MissingExtraError
from cricavpr.training.board import Board
from cricavpr.training.curves import draw_curves

SAY_EVERY_S = 10.0
DRAW_EVERY_S = 60.0


class Log:
    """log.jsonl, which a checkpoint can cut back to where it was."""

    def __init__(self, path: Path, length: int = 0, board: Board | None = None) -> None:
        """Open the log and forget what lies behind its first `length` bytes.

        Args:
            board: is shown each line too.

        Raises:
            InputError: it cannot be written, or is shorter.
        """
        self.path = path
        self.board = board
        with self._explained():
            self._file = path.open("ab")
            there = self._file.tell()
            if there < length:
                self._file.close()
                raise InputError(f"{path} has {there:,} bytes, and the checkpoint knows {length:,}. Put it back.")
            self._file.truncate(length)

    @contextlib.contextmanager
    def _explained(self) -> Any:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}. Free the place, then --resume.") from error

    def write(self, values: Mapping[str, Any]) -> None:
        with self._explained():
            self._file.write(json.dumps(values).encode() + b"\n")
            self._file.flush()
            if self.board is not None:
                self.board.show(values)

    def synced_length(self) -> int:
        """Bytes that are on the disk for good."""
        with self._explained():
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            if self.board is not None:
                self.board.close()


@dataclass
class _Since:
    """What happened since the last line."""

    began: float
    images: int = 0
    waited_s: float = 0.0


class Progress:
    """A line on stderr now and then, speed.jsonl, and the curves."""

    def __init__(self, run: Path, total: int, step: int, quiet: bool) -> None:
        self.run, self.total, self.quiet = run, total, quiet
        self._began, self._first = time.monotonic(), step
        self._since = _Since(self._began)
        self._drawn = self._began
        self._drawable = True
        self._before_s = elapsed_s(run)  # of the processes that had this run before

    def step_done(self, step: int, images: int, waited_s: float, learnt: Mapping[str, Any]) -> None:
        self._since.images += images
        self._since.waited_s += waited_s
        now = time.monotonic()
        first = step == self._first + 1
        if first or step == self.total or now - self._since.began >= SAY_EVERY_S:
            self._say(step, now, learnt)
        if step == self.total or now - self._drawn >= DRAW_EVERY_S:
            self.draw()

    def _say(self, step: int, now: float, learnt: Mapping[str, Any]) -> None:
        seconds = max(now - self._since.began, 1e-9)
        left_s = (now - self._began) / (step - self._first) * (self.total - step)
        speed = {
            "step": step,
            "images_per_s": round(self._since.images / seconds, 1),
            "waiting": round(self._since.waited_s / seconds, 3),
            "memory_mb": round(memory_bytes() / 1e6),
            "left_s": round(left_s),
        }
        self._since = _Since(now)
        self._write(speed, now)
        self.say(
            f"step {step:,}/{self.total:,}  loss {learnt['loss']:.4f}  mined {learnt['mined']:.0%}  "
            f"rate {learnt['rate']:.2e}  {speed['images_per_s']:,} images/s  waiting {speed['waiting']:.0%}  "
            f"{speed['memory_mb'] / 1000:.1f} GB  {_duration(left_s)} left"
        )

    def _write(self, speed: Mapping[str, Any], now: float) -> None:
        line = {**speed, "elapsed_s": round(self._before_s + now - self._began, 1)}
        with contextlib.suppress(OSError), (self.run / "speed.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def end(self, step: int) -> None:
        """The run ends here, or stops for a while: what its last measurement took is counted too."""
        self._write({"step": step, "memory_mb": round(memory_bytes() / 1e6)}, time.monotonic())
        self.draw()

    def say(self, text: str) -> None:
        """How it goes: nothing that must be known."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def draw(self) -> None:
        """The curves are a service: where they cannot be drawn the run goes on."""
        self._drawn = time.monotonic()
        try:
            if self._drawable:
                draw_curves(self.run / "log.jsonl", self.run / "curves.svg")
        except MissingExtraError:
            self._drawable = False
            self.say("no curves are drawn, for want of matplotlib: pip install 'cricavpr[plots]'")
        except (OSError, InputError, ValueError):
            pass


def elapsed_s(run: Path) -> float:
    """The time that went into a run so far, as speed.jsonl has it; 0 where it has none."""
    try:
        lines = (run / "speed.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    for line in reversed(lines):  # the last one may be half written
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return float(json.loads(line)["elapsed_s"])
    return 0.0


def memory_bytes() -> int:
    """The most that was held so far: of the GPU where there is one, else of this process."""
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
