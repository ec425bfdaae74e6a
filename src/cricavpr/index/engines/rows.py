"""Rows: the vectors of an index as engines see them, several memory-mapped arrays laid end to end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.engines.pages import expect, let_go

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Part(Protocol):
    """Vectors in a file that are checked as they are read: sliced and indexed like the array they lie in."""

    @property
    def mapped(self) -> NDArray[np.floating[Any]]:
        """(n, D) that array, not checked: only to tell the system what will be read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Indices) -> NDArray[np.floating[Any]]: ...


Vectors = NDArray[np.floating[Any]] | Part

VALUES_AT_ONCE = 4_000_000  # vectors in memory at a time: 16 MB of float32


@dataclass(frozen=True, eq=False)
class Rows:
    """N vectors in several arrays; row i counts through all of them.

    Attributes:
        parts: each (n, D), of half or single precision, usually memory-mapped, or read like it.
        live: (N,) which rows may be found, or None for all.

    Raises:
        InputError: no part, parts of several dimensions, or a mask that does not fit.
    """

    parts: tuple[Vectors, ...]
    live: Mask | None = None

    def __post_init__(self) -> None:
        shapes = {part.shape[1:] for part in self.parts}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise InputError(f"vectors of shapes {[part.shape for part in self.parts]} are no rows. Give (n, D) each.")
        if any(part.dtype not in (np.float16, np.float32) for part in self.parts):
            raise InputError("vectors of an index are float16 or float32. Convert them.")
        if self.live is not None:
            require_mask(self.live, len(self))

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def dim(self) -> int:
        return int(self.parts[0].shape[1])

    @cached_property
    def starts(self) -> Indices:
        """(P + 1,) where each part begins, and where the last one ends."""
        return np.array([0, *itertools.accumulate(map(len, self.parts))], np.int64)

    def allowed(self, also: Mask | None = None) -> Mask | None:
        """(N,) rows that are live and in `also`; None when that is all of them.

        Raises:
            InputError: a mask that does not fit.
        """
        if also is not None:
            require_mask(also, len(self))
        masks = [mask for mask in (self.live, also) if mask is not None]
        both = np.logical_and.reduce(masks) if masks else None
        return None if both is None or both.all() else both

    def read(
        self,
        chosen: Indices,  # (n,) rising
    ) -> NDArray[np.float32]:  # (n, D)
        """Some rows, read in the order in which they lie in the files."""
        return self.stored(chosen).astype(np.float32, copy=False)

    def stored(
        self,
        chosen: Indices,  # (n,) rising
    ) -> NDArray[np.floating[Any]]:  # (n, D)
        """As `read`, in the precision that the files have."""
        vectors = np.empty((len(chosen), self.dim), np.result_type(*(part.dtype for part in self.parts)))
        for number, own, here in self._by_part(chosen):
            vectors[here] = self.parts[number][own]
            let_go(self.parts[number])
        return vectors

    def _by_part(self, chosen: Indices) -> Iterator[tuple[int, Indices, slice]]:
        """The parts that rows lie in: which rows of theirs, and where these stand among the chosen."""
        borders = np.searchsorted(chosen, self.starts)
        for number in np.flatnonzero(np.diff(borders)).tolist():
            here = slice(int(borders[number]), int(borders[number + 1]))
            yield number, chosen[here] - self.starts[number], here

    def blocks(self, chosen: Indices | None = None) -> Iterator[tuple[Indices, NDArray[np.floating[Any]]]]:
        """All rows, or the chosen ones (rising), some at a time: their numbers (b,) and vectors (b, D) as stored."""
        step = max(1, VALUES_AT_ONCE // self.dim)
        if chosen is not None:
            for start in range(0, len(chosen), step):
                yield chosen[start : start + step], self.stored(chosen[start : start + step])
            return
        for part, first in zip(self.parts, self.starts.tolist(), strict=False):
            expect(part, "sequential")
            for start in range(0, len(part), step):
                block = part[start : start + step]
                yield np.arange(first + start, first + start + len(block)), block
                let_go(part)
            expect(part, "random")


def require_mask(mask: Mask, count: int) -> None:
    """Raises: InputError: something that is not one yes or no for each of `count` rows."""
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise InputError(
            f"a mask of {mask.dtype} and shape {mask.shape} does not fit {count} rows. Give ({count},) bool."
        )
