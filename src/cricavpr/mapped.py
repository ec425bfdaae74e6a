"""Arrays that are files: what was read of them is given back, so that memory stays bounded whatever their size."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def give_back(array: NDArray[Any]) -> None:
    """Let go of the pages of a memory-mapped file that were read; otherwise they count as this process's memory.

    The values stay what they are and are read again when they are needed. Arrays in memory, and those that may be
    written, are left alone.
    """
    mapping = map_of(array)
    if mapping is not None and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """The map that an array lies in, or None for an array in memory."""
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None
