"""Requests to stop: Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Stopped at once by `signal`: SIGINT or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class StopRequest:
    """The signal that asked to stop, or None.

    It raises `Interrupted`; with `finish_step` it is only recorded, unless it is a second Ctrl-C.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.finish_step = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if not self.finish_step or (number == signal.SIGINT and self.signal == signal.SIGINT):
            raise Interrupted(number)
        self.signal = number


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Handle Ctrl-C and SIGTERM during the block; only the main thread can."""
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
