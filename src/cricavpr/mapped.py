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
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
