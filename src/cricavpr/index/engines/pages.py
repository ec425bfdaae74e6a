"""What the system is told of memory-mapped vectors before and after they are read. Arrays in memory are left alone.

Vectors are arrays, or something that reads like one and has the map they lie in as `mapped` (see rows.Part).
"""

from __future__ import annotations

import mmap
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cricavpr.mapped import give_back, map_of

Indices = NDArray[np.int64]


def expect(vectors: Any, order: Literal["random", "sequential"]) -> None:
    """Say how a map will be read: at random nothing is read ahead, in sequence as much as possible."""
    found = _mapping(_plain(vectors))
    advice = getattr(mmap, "MADV_RANDOM" if order == "random" else "MADV_SEQUENTIAL", None)
    if found is not None and advice is not None:
        found[0].madvise(advice)


def let_go(vectors: Any) -> None:
    """Give the pages back that were read."""
    give_back(_plain(vectors))


def _plain(vectors: Any) -> NDArray[Any]:
    plain: NDArray[Any] = vectors if isinstance(vectors, np.ndarray) else vectors.mapped
    return plain


def _mapping(vectors: NDArray[Any]) -> tuple[mmap.mmap, int] | None:
    """The map that an array lies in, and where in it the array begins, in bytes."""
    mapping = map_of(vectors)
    if mapping is None or not hasattr(mapping, "madvise") or not vectors.flags.c_contiguous:
        return None
    start = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    return mapping, int(vectors.__array_interface__["data"][0] - start)
