"""Progress of long work, shown as a bar on stderr or reported to a function; and notes for the user."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Self

from cricavpr.terminal import printable

Report = Callable[[int, int], None]  # called with (done, total)


class Progress:
    """Counter of progress, which shows a bar on stderr, or calls a function, or does nothing.

    Args:
        progress: True shows a bar, False shows nothing, a function is called with (done, total).
        total: number of items; 0 if unknown.
        unit: name of the items in the bar; with "B" the bar shows bytes as kB, MB and so on.

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
        """Start counting.

        Args:
            done: number of items that are already done, for example by an earlier run.
        """
        self.done = done
        if self.wants_bar:
            from tqdm import tqdm

            unit: dict[str, Any] = {"unit": f" {self.unit}", "unit_scale": self.unit == "B"}
            self.bar = tqdm(total=self.total, initial=done, file=sys.stderr, dynamic_ncols=True, **unit)

    def advance(self, count: int) -> None:
        """Count `count` more items as done, and show or report the progress."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        if self.report is not None:
            self.report(self.done, self.total)

    def reach(self, done: int, total: int) -> None:
        """Set the number of done items and the total. This method can be passed to functions that take a `Report`."""
        self.total = total
        if self.bar is None and self.wants_bar:
            self.start(0)
        if self.bar is not None:
            self.bar.total = total
        self.advance(done - self.done)

    def note(self, text: str) -> None:
        """Print a note on stderr, see the function `note`."""
        note(text)


def note(text: str) -> None:
    """Print one line on stderr with information for the user that is not an error."""
    print(f"note: {printable(text)}", file=sys.stderr)
