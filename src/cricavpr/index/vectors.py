"""The vectors of all segments as one array that is never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.index.columns import Indices
from cricavpr.index.segments import Segment
from cricavpr.mapped import give_back


class Vectors:
    """(N, D) float32, live rows in the order of adding; a slice or some rows of it are an array.

    How rows are spread over segments cannot be seen from here: a search in blocks of rows multiplies the same
    matrices however the photos were added, and so gives the same bits. Everything that comes out was checked.

    Raises:
        DamagedError: on reading rows that are not as they were written.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, segments: Sequence[Segment], dim: int) -> None:
        self.segments = tuple(segments)
        self.starts = np.cumsum([0, *(segment.piece.live for segment in self.segments)])  # (S + 1,)
        self.shape = (int(self.starts[-1]), dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Indices) -> NDArray[np.float32]:
        if isinstance(rows, slice):
            first, end, step = rows.indices(len(self))
            return self._stretch(first, max(first, end)) if step == 1 else self._some(np.arange(first, end, step))
        return self._some(self.numbered(rows))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype)

    def _stretch(self, first: int, end: int) -> NDArray[np.float32]:
        parts = []
        for number in range(int(np.searchsorted(self.starts, first, "right")) - 1, len(self.segments)):
            start, stop = int(self.starts[number]), int(self.starts[number + 1])
            if start >= end:
                break
            if first < stop:
                parts.append(self.segments[number].vectors(max(first, start) - start, min(end, stop) - start))
        if len(parts) == 1:
            return parts[0]
        gathered = np.concatenate([np.empty((0, self.shape[1]), np.float32), *parts])
        for part in parts:
            give_back(part)
        return gathered

    def numbered(self, asked: Any) -> Indices:
        """As numpy counts: from the end where negative, and a mask over all. Costs what was asked for, not N."""
        rows = np.asarray(asked)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape} does not fit {len(self)} rows")
            return np.flatnonzero(rows)
        rows = np.asarray(rows if rows.size else rows.astype(np.int64), np.int64)
        if ((rows < -len(self)) | (rows >= len(self))).any():
            raise IndexError(f"there are {len(self)} rows")
        return np.where(rows < 0, rows + len(self), rows)

    def _some(self, rows: Indices) -> NDArray[np.float32]:
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for number, here in self.by_segment(rows):
            found[here] = self.segments[number].vectors_of(rows[here] - self.starts[number])
        return found

    def by_segment(self, rows: Indices) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """The segments that some rows lie in, and which of the rows."""
        numbers = np.searchsorted(self.starts, rows, "right") - 1
        for number in np.unique(numbers).tolist():
            yield number, numbers == number
