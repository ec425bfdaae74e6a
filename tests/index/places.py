"""Small indexes whose every row can be told by eye."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.geo import Positions
from cricavpr.index.codes.compressed import Quantiser
from cricavpr.index.codes.fast_scan import Packed, pack
from cricavpr.index.columns import Photos
from cricavpr.index.photo_index import Change
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.storage import LOCK

MADE_BY = MadeBy("mean_colour", "none", (2, 2), "plain", "none", None, 4)
WIDE = MadeBy("mean_colour", "none", (2, 2), "plain", "none", None, 64)


def vector_of(number: int, dim: int) -> np.ndarray:
    vector = np.random.default_rng(number).normal(size=dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


def photos(numbers: Sequence[int], made_by: MadeBy = MADE_BY) -> DescriptorSet:
    """Photo 7 is called 7.jpg, and has the same descriptor wherever it occurs."""
    vectors = np.array([vector_of(number, made_by.dim) for number in numbers], np.float32)
    return DescriptorSet(tuple(f"{n}.jpg" for n in numbers), vectors.reshape(-1, made_by.dim), made_by)


def places(numbers: Sequence[int]) -> Positions:
    """Photo 7 was taken 7 m east and 70 m north of a corner of zone 33N; every tenth nobody knows where."""
    metres = np.array([[400_000.0 + n, 6_000_000.0 + 10 * n] for n in numbers]).reshape(-1, 2)
    unknown = np.array([n % 10 == 0 for n in numbers], bool)
    metres[unknown] = np.nan
    return Positions(metres, tuple("" if gone else "33N" for gone in unknown))


def ids(numbers: Sequence[int]) -> list[bytes]:
    return [hashlib.sha256(str(number).encode()).digest() for number in numbers]


def given(numbers: Sequence[int], made_by: MadeBy = MADE_BY, **more: Any) -> Photos:
    """Photos with all that is known of them."""
    return Photos(photos(numbers, made_by), Path("/photos"), places(numbers), ids(numbers), **more)


def built(to: Path, numbers: Sequence[int], made_by: MadeBy = MADE_BY, **more: Any) -> PlaceIndex:
    return PlaceIndex.build(given(numbers, made_by), to, **more)


def added(
    index: PlaceIndex, numbers: Sequence[int], made_by: MadeBy = MADE_BY, wait_s: float = 0.0
) -> Change[PlaceIndex]:
    return index.add(given(numbers, made_by), wait_s=wait_s)


def numbers_of(index: PlaceIndex) -> list[int]:
    """Which photos an index holds, after everything about each was compared with what it must be."""
    numbers = [int(name.removesuffix(".jpg")) for name in index.names]
    want = places(numbers)
    assert np.array_equal(index.vectors[:], photos(numbers, index.made_by).vectors)
    assert np.array_equal(index.positions.metres, want.metres, equal_nan=True)
    assert not numbers or index.positions.zones == want.zones
    assert [row.tobytes() for row in index.facts.ids] == ids(numbers)
    assert len(set(numbers)) == len(numbers)
    return numbers


def laid_out(quantiser: Quantiser, codes: Sequence[np.ndarray]) -> tuple[Packed, ...]:
    return tuple(piece for part in codes for piece in pack(quantiser.centroids, part))


def scored(vectors: np.ndarray, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores (Q, top) by one stable sort of the score of every pair, each in float64 rounded to float32."""
    pairs = vectors.astype(np.float64)[None] * queries.astype(np.float64)[:, None]
    scores = pairs.sum(axis=2).astype(np.float32)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return rows, np.take_along_axis(scores, rows, axis=1)


def same_answers(one: PlaceIndex, other: PlaceIndex, queries: DescriptorSet, top: int = 7) -> bool:
    """To the last bit."""
    a, b = one.search(queries, top), other.search(queries, top)
    return a.indices.tobytes() == b.indices.tobytes() and a.scores.tobytes() == b.scores.tobytes()


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All files but the lock, which says who wrote last and when."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != LOCK}


def files_of(folder: Path) -> list[str]:
    """What an index consists of: without the lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
