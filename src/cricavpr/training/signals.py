"""Requests to stop: Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal, SIGINT or SIGTERM, stopped the program at once."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class StopRequest:
    """A request to stop, by SIGINT or SIGTERM; `signal` is None until one comes.

    A signal raises `Interrupted`. With `finish_step` it is only recorded; a second Ctrl-C raises all the same.
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
