"""How long work shows how far it is: a bar on stderr, a function of the caller's, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Self

Report = Callable[[int, int], None]  # images done, images in all


class Progress:
    """A bar on stderr, a function of the caller's, or nothing. The only place here that prints."""

    def __init__(self, progress: bool | Report, total: int) -> None:
        self.total, self.done = total, 0
        self.report: Report | None = None if isinstance(progress, bool) else progress
        self.wants_bar = progress is True
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, done: int) -> None:
        """Begin to count; `done` images were described by an earlier run."""
        self.done = done
        if self.wants_bar:
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, initial=done, unit=" images", file=sys.stderr, dynamic_ncols=True)

    def advance(self, count: int) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        if self.report is not None:
            self.report(self.done, self.total)

    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr)
