"""What a run says of itself.

log.jsonl    what was learnt: a line for each step and each measurement. The same recipe gives the same bytes,
             however often the run was interrupted
speed.jsonl  how it went: images per second, share of time spent waiting for data, memory
curves.svg   both as a picture, drawn anew while the run goes on
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

from cricavpr.errors import InputError
from cricavpr.training.curves import draw_curves

SAY_EVERY_S = 10.0
DRAW_EVERY_S = 60.0


class Log:
    """log.jsonl, which a checkpoint can cut back to where it was."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open the log and forget what lies behind its first `length` bytes.

        Raises:
            InputError: it cannot be written, or is shorter.
        """
        self.path = path
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

    def synced_length(self) -> int:
        """Bytes that are on the disk for good."""
        with self._explained():
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


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
        with contextlib.suppress(OSError), (self.run / "speed.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(speed) + "\n")
        self.say(
            f"step {step:,}/{self.total:,}  loss {learnt['loss']:.4f}  mined {learnt['mined']:.0%}  "
            f"rate {learnt['rate']:.2e}  {speed['images_per_s']:,} images/s  waiting {speed['waiting']:.0%}  "
            f"{speed['memory_mb'] / 1000:.1f} GB  {_duration(left_s)} left"
        )

    def say(self, text: str) -> None:
        """How it goes: nothing that must be known."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def draw(self) -> None:
        """The curves are a service: where they cannot be drawn the run goes on."""
        self._drawn = time.monotonic()
        with contextlib.suppress(OSError, InputError, ValueError):
            draw_curves(self.run / "log.jsonl", self.run / "curves.svg")


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
