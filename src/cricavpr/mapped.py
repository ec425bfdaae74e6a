"""Memory-mapped arrays: pages that were read are released, so that memory stays bounded."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def give_back(array: NDArray[Any]) -> None:
    """Release the pages of a memory-mapped array that were read; they count as memory of this process otherwise.

    Values are read from the file again when needed. Arrays in memory and writable maps are left alone.
    """
    mapping = map_of(array)
    if mapping is not None and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the memory map behind an array, or None for an array in memory."""
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None
