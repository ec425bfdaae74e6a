"""The vectors of an index in two views that are never whole in memory: by photo, and by row of the files."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.columns import Indices
from cricavpr.mapped import give_back, map_of

if TYPE_CHECKING:
    from cricavpr.index.segments import Segment

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

VALUES_AT_ONCE = 4_000_000  # vectors in memory at a time: 16 MB of float32
SPARSE = 4  # if fewer than one row in so many is allowed, only the allowed ones are read


class Vectors:
    """(N, D) float32 of the photos in the order of adding; a slice or some rows of it are an array.

    Everything that is read was checked.

    Raises:
        FileError: on reading rows of a damaged block.
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
        """Return row numbers from 0, as numpy counts: from the end if negative, and a mask over all rows."""
        rows = np.asarray(asked)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise IndexError(f"expected a mask of shape ({len(self)},), got {rows.shape}")
            return np.flatnonzero(rows)
        rows = np.asarray(rows if rows.size else rows.astype(np.int64), np.int64)
        if ((rows < -len(self)) | (rows >= len(self))).any():
            raise IndexError(f"row out of range: there are {len(self)} rows")
        return np.where(rows < 0, rows + len(self), rows)

    def _some(self, rows: Indices) -> NDArray[np.float32]:
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for number, here in self.by_segment(rows):
            found[here] = self.segments[number].vectors_of(rows[here] - self.starts[number])
        return found

    def by_segment(self, rows: Indices) -> Iterator[tuple[int, Mask]]:
        """Yield the number of each segment that some rows lie in, and which of the rows."""
        numbers = np.searchsorted(self.starts, rows, "right") - 1
        for number in np.unique(numbers).tolist():
            yield number, numbers == number


class Part(Protocol):
    """(n, D) vectors of one file: read like an array, and checked on the way. An array is one, too."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
class Rows:
    """N vectors of several parts end to end, removed ones too: what search engines read.

    Attributes:
        parts: each (n, D), float16 or float32.
        live: (N,) which rows may be found, or None for all.
        dim: D.

    Raises:
        InputError: parts of another shape or type, or a mask of another shape.
    """

    parts: Sequence[Part]
    live: Mask | None
    dim: int

    def __post_init__(self) -> None:
        for part in self.parts:
            if part.shape[1:] != (self.dim,) or part.dtype not in (np.float16, np.float32):
                raise InputError(
                    f"vectors must be (n, {self.dim}) float16 or float32, got {part.dtype} of shape {part.shape}."
                )
        if self.live is not None:
            _check_mask(self.live, len(self))

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> Indices:
        """(P + 1,) where each part begins, and where the last one ends."""
        return np.array([0, *itertools.accumulate(map(len, self.parts))], np.int64)

    def allowed(self, also: Mask | None = None) -> Mask | None:
        """Return (N,) the rows that are live and in `also`; None for all rows."""
        if also is not None:
            _check_mask(also, len(self))
        masks = [mask for mask in (self.live, also) if mask is not None]
        both = np.logical_and.reduce(masks) if masks else None
        return None if both is None or both.all() else both

    def read(
        self,
        chosen: Indices,  # (n,) rising
    ) -> Floats:  # (n, D)
        """Return some rows as they are stored, read in the order of the files."""
        kinds = {part.dtype for part in self.parts} or {np.dtype(np.float32)}
        vectors = np.empty((len(chosen), self.dim), np.result_type(*kinds))
        borders = np.searchsorted(chosen, self.starts)
        for number in np.flatnonzero(np.diff(borders)).tolist():
            here = slice(int(borders[number]), int(borders[number + 1]))
            vectors[here] = self.parts[number][chosen[here] - self.starts[number]]
            release(self.parts[number])
        return vectors

    def blocks(self, allowed: Mask | None = None) -> Iterator[tuple[Indices, Floats]]:
        """Yield the rows, or the allowed ones, some at a time: their numbers (b,) and vectors (b, D) as stored."""
        step = max(1, VALUES_AT_ONCE // self.dim)
        if allowed is not None and np.count_nonzero(allowed) * SPARSE < len(allowed):
            chosen = np.flatnonzero(allowed)
            for start in range(0, len(chosen), step):
                yield chosen[start : start + step], self.read(chosen[start : start + step])
            return
        for part, first in zip(self.parts, self.starts.tolist(), strict=False):
            advise(part, "sequential")
            for start in range(0, len(part), step):
                block = part[start : start + step]
                numbers = np.arange(first + start, first + start + len(block))
                if allowed is None:
                    yield numbers, block
                elif (here := allowed[numbers]).any():
                    yield numbers[here], block[here]
                release(part)
            advise(part, "random")


def _check_mask(mask: Mask, count: int) -> None:
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise InputError(f"expected a mask of shape ({count},) and type bool, got {mask.shape} and {mask.dtype}.")


def advise(part: Part, order: Literal["random", "sequential"]) -> None:
    """Tell the system how a memory-mapped part will be read: at random nothing is read ahead."""
    mapping = map_of(_plain(part))
    advice = getattr(mmap, "MADV_RANDOM" if order == "random" else "MADV_SEQUENTIAL", None)
    if mapping is not None and advice is not None:
        mapping.madvise(advice)


def release(part: Part) -> None:
    """Release the pages of a memory-mapped part that were read."""
    give_back(_plain(part))


def _plain(part: Any) -> NDArray[Any]:
    plain: NDArray[Any] = part if isinstance(part, np.ndarray) else part.mapped
    return plain
