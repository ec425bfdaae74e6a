"""Work of milliseconds, shared among the cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def share(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[work(item) for item in items]`, by this thread and by others that wait for it.

    Worth it where `work` lets go of the interpreter. This thread takes part because threads that all have to be woken
    are often woken on one core.
    """
    done: dict[int, R] = {}
    todo = iter(range(len(items)))

    def take() -> None:
        for number in todo:
            done[number] = work(items[number])

    helpers = _helpers(take, min(_cores(), len(items)) - 1)
    try:
        take()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    return [done[number] for number in range(len(items))]


def _helpers(work: Callable[[], None], count: int) -> list[Future[None]]:
    helpers: list[Future[None]] = []
    try:
        for _ in range(count):
            helpers.append(_threads().submit(work))
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise
        # The main thread has ended, and those that are still at work get no help any more.
    return helpers


@cache
def _threads() -> ThreadPoolExecutor:
    """For all searches: to start threads takes as long as to scan a hundred thousand codes."""
    return ThreadPoolExecutor(max(1, _cores() - 1), "cricavpr-search")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a process that was forked has none of these threads
