"""Progress of long work: a bar on stderr, calls of a function, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Self

from cricavpr.terminal import printable

Report = Callable[[int, int], None]  # called with (done, total)


class Progress:
    """A progress bar on stderr, calls of a function, or nothing.

    Args:
        progress: True for a bar, False for nothing, or a function to call with (done, total).
        total: number of items; 0 if unknown.
        unit: name of the items, for the bar; "B" counts bytes in kB, MB and so on.

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
        """Start counting at `done`, the number of items that an earlier run has finished."""
        self.done = done
        if self.wants_bar:
            from tqdm import tqdm

            unit: dict[str, Any] = {"unit": f" {self.unit}", "unit_scale": self.unit == "B"}
            self.bar = tqdm(total=self.total, initial=done, file=sys.stderr, dynamic_ncols=True, **unit)

    def advance(self, count: int) -> None:
        """Count some more items as done, and show them."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        if self.report is not None:
            self.report(self.done, self.total)

    def reach(self, done: int, total: int) -> None:
        """Set the number of done items and the total. Pass this method to functions that take a `Report`."""
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
    """Print one line on stderr about something that is not an error but may matter to the user."""
    print(f"note: {printable(text)}", file=sys.stderr)
