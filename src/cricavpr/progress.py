"""Progress of long work: a bar on stderr, a function of the caller's, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Self

from cricavpr.terminal import printable

Report = Callable[[int, int], None]  # called with (done, total)


class Progress:
    """A bar on stderr, a call of the caller's function, or nothing.

    Args:
        progress: True for a bar, False for nothing, or a function that is called with (done, total).
        total: how many items there are; 0 if unknown.
        unit: name of one item, for the bar; "B" counts in kB, MB and so on.

    Example:
        >>> with Progress(print, 2) as progress:
        ...     progress.start(0)
        ...     progress.advance(2)
        2 2
    """

    def __init__(self, progress: bool | Report, total: int, unit: str = "images") -> None:
        self.total, self.done, self.unit = total, 0, unit
        self.report: Report | None = None if isinstance(progress, bool) else progress
        self.wants_bar = progress is True
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, done: int) -> None:
        """Start counting; an earlier run has finished `done` items."""
        self.done = done
        if self.wants_bar:
            from tqdm import tqdm

            scale = self.unit == "B"
            self.bar = tqdm(
                total=self.total,
                initial=done,
                unit=f" {self.unit}",
                unit_scale=scale,
                file=sys.stderr,
                dynamic_ncols=True,
            )

    def advance(self, count: int) -> None:
        """Count some more items as done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        if self.report is not None:
            self.report(self.done, self.total)

    def reach(self, done: int, total: int) -> None:
        """Count up to `done`: a `Report`, for functions that take one. The bar starts with the first call."""
        self.total = total
        if self.bar is None and self.wants_bar:
            self.start(0)
        if self.bar is not None:
            self.bar.total = total
        self.advance(done - self.done)

    def note(self, text: str) -> None:
        """Print one line beside the bar."""
        note(text)


def note(text: str) -> None:
    """Print one line on stderr: something that the user may want to know and that is not an error."""
    print(f"note: {printable(text)}", file=sys.stderr)
