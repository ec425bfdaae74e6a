"""Requests to stop a training run: Ctrl-C (SIGINT) and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Raised when SIGINT or SIGTERM stops the program at once; `signal` is the number of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class StopRequest:
    """Handler of SIGINT and SIGTERM, which ask the program to stop.

    By default, a signal raises `Interrupted`. If `finish_step` is true, the first signal is only recorded, so that the
    program can finish its step. A second Ctrl-C raises `Interrupted`.

    Attributes:
        signal: number of the recorded signal; None before a signal.
        finish_step: whether to record signals instead of raising `Interrupted`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.finish_step = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record a signal, or raise `Interrupted`."""
        if not self.finish_step or (number == signal.SIGINT and self.signal == signal.SIGINT):
            raise Interrupted(number)
        self.signal = number


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Handle Ctrl-C and SIGTERM in this block. Outside the main thread, which alone can handle signals, do nothing."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
