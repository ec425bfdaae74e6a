"""Counter-based random numbers: the same integers give the same number on every machine.

numpy's generators are not used, because they may change between versions. Bits are mixed by the finaliser of
MurmurHash3 (public domain).
"""

from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MASK = 0xFFFFFFFF
_FIRST, _SECOND = 0x85EBCA6B, 0xC2B2AE35
_STEP = 0x9E3779B9  # 2^32 / golden ratio: spreads small keys over all bits before mixing


def hash_int(*keys: int) -> int:
    """Return a 32-bit hash of a few integers.

    Example:
        >>> hash_int(1, 2) == int(hash_array(1, 2)[0])
        True
    """
    value = 0
    for key in keys:
        value = ((value ^ (key & _MASK)) * _STEP + _STEP) & _MASK
        value ^= value >> 16
        value = value * _FIRST & _MASK
        value ^= value >> 13
        value = value * _SECOND & _MASK
        value ^= value >> 16
    return value


def hash_array(
    *keys: "int | Array",  # ints, or integer arrays that broadcast
) -> Array:  # uint32, the broadcast shape
    """Return `hash_int` of each element of arrays of keys."""
    scalars = [int(key) for key in takewhile(lambda key: isinstance(key, int), keys)]
    value = np.array([hash_int(*scalars)], np.uint32)  # keys before the first array are hashed once for all elements
    for key in keys[len(scalars) :]:
        value = _mixed((value ^ _as_uint32(key)) * np.uint32(_STEP) + np.uint32(_STEP))
    return value


def hash_cells(
    column: Array,  # (N,) int32
    row: Array,  # (N,) int32
    key: "int | Array",  # one key, or (N,) uint32
) -> Array:  # (N,) uint32
    """Return a hash of column, row and key. It is mixed only once, so that it is fast enough for every pixel."""
    value = column.view(np.uint32) * np.uint32(_STEP)
    value ^= row.view(np.uint32) * np.uint32(0x7FEB352D)
    value ^= _as_uint32(key)
    return _mixed(value)


def _mixed(value: Array) -> Array:  # uint32, changed in place
    value ^= value >> np.uint32(16)
    value *= np.uint32(_FIRST)
    value ^= value >> np.uint32(13)
    value *= np.uint32(_SECOND)
    value ^= value >> np.uint32(16)
    return value


def unit(bits: Array) -> Array:  # uint32 -> float32 in [0, 1)
    """Convert 32 random bits to a random number in [0, 1). The upper 24 bits are used, so float32 holds it exactly."""
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def unit_float(*keys: int) -> float:
    """Return a random number in [0, 1), always the same for the same integers."""
    return (hash_int(*keys) >> 8) * 2.0**-24


def between(low: float, high: float, *keys: int) -> float:
    """Return a random number in [low, high), always the same for the same integers."""
    return low + (high - low) * unit_float(*keys)


def _as_uint32(key: "int | Array") -> Array:
    if isinstance(key, int):
        return np.array([key & _MASK], np.uint32)
    if key.dtype == np.uint32:
        return key
    return key.astype(np.int64).astype(np.uint32)
