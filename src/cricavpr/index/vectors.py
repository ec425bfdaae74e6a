"""Views of the descriptors (vectors) of an index, which are read from the disk in parts.

`Rows` holds the vectors of all rows of the files, including removed photos; `Vectors` holds those of the photos only.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.files import give_back, map_of

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

VALUES_AT_ONCE = 4_000_000  # values of vectors in memory at a time: 16 MB of float32
SPARSE = 4  # if fewer than one row in 4 is allowed, only the allowed rows are read


class Part(Protocol):
    """The vectors (n, D) of one file. Indexing reads rows and checks their checksums. A numpy array is a Part, too."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
class Rows:
    """The vectors of all N rows of several files, one file after another.

    Search engines use this class. Removed rows are included.

    Attributes:
        parts: the vectors of each file, (n, D) float16 or float32.
        live: (N,) mask of the rows that are not removed; None if no row is removed.
        dim: D, the number of values of a vector.

    Raises:
        InputError: a part or the mask `live` has the wrong shape or type.
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
        """(P + 1,) the first row of each of the P parts, and at the end the number of all rows."""
        return np.array([0, *itertools.accumulate(map(len, self.parts))], np.int64)

    def allowed(self, also: Mask | None = None) -> Mask | None:
        """Return the mask (N,) of the rows that are not removed and are True in `also`; None stands for all rows."""
        if also is not None:
            _check_mask(also, len(self))
        masks = [mask for mask in (self.live, also) if mask is not None]
        both = np.logical_and.reduce(masks) if masks else None
        return None if both is None or both.all() else both

    def by_part(self, rows: Indices) -> Iterator[tuple[int, Indices, Mask]]:
        """Group rows by the part that holds them.

        Yields:
            The number of the part, the rows counted from the start of this part, and a mask of `rows` that selects
            them.
        """
        numbers = np.searchsorted(self.starts, rows, "right") - 1
        for number in np.unique(numbers).tolist():
            here = numbers == number
            yield number, rows[here] - self.starts[number], here

    def read(self, rows: Indices) -> Floats:  # (n,) -> (n, D)
        """Return the vectors in these rows, in the type in which they are stored."""
        kinds = {part.dtype for part in self.parts} or {np.dtype(np.float32)}
        vectors = np.empty((len(rows), self.dim), np.result_type(*kinds))
        for number, own, here in self.by_part(rows):
            vectors[here] = self.parts[number][own]
            release(self.parts[number])
        return vectors

    def blocks(self, allowed: Mask | None = None) -> Iterator[tuple[Indices, Floats]]:
        """Yield blocks of b rows: the row numbers (b,), and the vectors (b, D) in the type in which they are stored.

        Args:
            allowed: mask of the rows to yield; None for all rows.
        """
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


class Vectors:
    """The vectors (N, D) of the photos in float32, without removed photos. The photo added first comes first.

    Use it like a numpy array. Indexing reads rows from the disk and checks their checksums.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, rows: Rows) -> None:
        self.rows, self.live = rows, None if rows.live is None else np.flatnonzero(rows.live)
        self.shape = (len(rows) if self.live is None else len(self.live), rows.dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, asked: slice | Indices) -> NDArray[np.float32]:
        """Return the vectors of some photos. A slice of a float32 index with only one file is not copied."""
        if isinstance(asked, slice):
            first, end, step = asked.indices(len(self))
            if self.live is None and step == 1 and len(self.rows.parts) == 1:
                return np.asarray(self.rows.parts[0][first : max(first, end)], np.float32)
            asked = np.arange(first, end, step)
        return self.rows.read(self.file_rows(asked)).astype(np.float32, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype)

    def file_rows(self, asked: Any) -> Indices:
        """Convert numbers of photos to rows of the files; negative numbers and masks work as in numpy."""
        rows = np.asarray(asked)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise IndexError(f"expected a mask of shape ({len(self)},), got {rows.shape}")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        if ((rows < -len(self)) | (rows >= len(self))).any():
            raise IndexError(f"row out of range: there are {len(self)} rows")
        rows = np.where(rows < 0, rows + len(self), rows)
        return rows if self.live is None else self.live[rows]


def _check_mask(mask: Mask, count: int) -> None:
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise InputError(f"expected a mask of shape ({count},) and type bool, got {mask.shape} and {mask.dtype}.")


def advise(part: Part, order: Literal["random", "sequential"]) -> None:
    """Tell the operating system whether a memory-mapped part will be read in order or at random.

    With "random", the system reads no pages ahead.
    """
    mapping = map_of(_plain(part))
    advice = getattr(mmap, "MADV_RANDOM" if order == "random" else "MADV_SEQUENTIAL", None)
    if mapping is not None and advice is not None:
        mapping.madvise(advice)


def release(part: Part) -> None:
    """Release the memory of a part after it was read; see `files.give_back`."""
    give_back(_plain(part))


def _plain(part: Any) -> NDArray[Any]:
    plain: NDArray[Any] = part if isinstance(part, np.ndarray) else part.mapped
    return plain
