"""Asked to stop: SIGTERM or Ctrl-C ends a run after the step at hand, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass
class Asked:
    """The signal that came, or None. A second Ctrl-C does not wait for the step."""

    signal: int | None = None

    def _came(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextlib.contextmanager
def listening() -> Iterator[Asked]:
    """Listen for both signals during the block; elsewhere than in the main thread nothing is listened for."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, asked._came) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
