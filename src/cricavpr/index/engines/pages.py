"""What the system is told of memory-mapped vectors before and after they are read. Arrays in memory are left alone.

Vectors are arrays, or something that reads like one and has the map they lie in as `mapped` (see rows.Part).
"""

from __future__ import annotations

import mmap
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cricavpr.mapped import give_back, map_of


def expect(vectors: Any, order: Literal["random", "sequential"]) -> None:
    """Say how a map will be read: at random nothing is read ahead, in sequence as much as possible."""
    mapping = map_of(_plain(vectors))
    advice = getattr(mmap, "MADV_RANDOM" if order == "random" else "MADV_SEQUENTIAL", None)
    if mapping is not None and advice is not None:
        mapping.madvise(advice)


def let_go(vectors: Any) -> None:
    """Give the pages back that were read."""
    give_back(_plain(vectors))


def _plain(vectors: Any) -> NDArray[Any]:
    plain: NDArray[Any] = vectors if isinstance(vectors, np.ndarray) else vectors.mapped
    return plain
