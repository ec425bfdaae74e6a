"""The one home of faiss: product quantisers of 4 bits a part, and the scan over their codes.

Only plain arrays go in and out. faiss's own files are never read: its reader was not made for files of strangers.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.extras import extra
from cricavpr.index.engines.cores import share

Codes = NDArray[np.uint8]  # (N, M / 2), two parts a byte
Centroids = NDArray[np.float32]  # (M, 16, d / M)
Projected = NDArray[np.float32]  # (n, d)
Indices = NDArray[np.int64]

CENTROIDS = 16  # of each part: 4 bits
PIECE_ROWS = 1 << 18  # rows packed together
LOOSE_ROWS = 4096  # a last piece smaller than this is packed anew when rows come
CUT_ROWS = 1 << 14  # packed rows that do not count any more: asking for so many takes a millisecond
SPARE_PIECES = 8  # beyond twice as many as it takes: each has its own best, which are sorted together


def require_faiss() -> None:
    """Raises: MissingExtraError: faiss is not installed."""
    _faiss()


def _faiss() -> Any:
    with extra("faiss", "compressed search"):
        import faiss
    return faiss


def learn_centroids(vectors: Projected, parts: int) -> Centroids:
    """k-means of each part of the vectors; equal vectors give equal centroids."""
    faiss = _faiss()
    quantiser = faiss.ProductQuantizer(vectors.shape[1], parts, 4)
    quantiser.cp.min_points_per_centroid = 1  # or it warns on stderr
    quantiser.cp.max_points_per_centroid = max(CENTROIDS, len(vectors))
    quantiser.train(np.ascontiguousarray(vectors))
    centroids: Centroids = faiss.vector_to_array(quantiser.centroids).reshape(parts, CENTROIDS, -1)
    return centroids


def encode(centroids: Centroids, vectors: Projected) -> Codes:
    """The nearest centroid of each part, each vector by itself."""
    codes: Codes = _quantiser(centroids).compute_codes(np.ascontiguousarray(vectors))
    return codes


def _quantiser(centroids: Centroids) -> Any:
    faiss = _faiss()
    parts, _, width = centroids.shape
    quantiser = faiss.ProductQuantizer(parts * width, parts, 4)
    faiss.copy_array_to_vector(np.ascontiguousarray(centroids, np.float32).ravel(), quantiser.centroids)
    return quantiser


def products_of_halves(
    queries: NDArray[np.float32],  # (Q, D)
    vectors: NDArray[np.float16],  # (n, D)
) -> NDArray[np.float32]:  # (Q, n)
    """Dot products with vectors of half precision, which are widened value by value on the way and not before."""
    faiss = _faiss()
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.ascontiguousarray(vectors).view(np.uint8).reshape(-1), index.codes)
    index.is_trained, index.ntotal = True, len(vectors)
    with _one_thread(faiss):
        scores, rows = index.search(np.ascontiguousarray(queries), len(vectors))
    found = np.full((len(queries), len(vectors)), np.nan, np.float32)  # faiss does not name what is not a number
    query, place = np.nonzero(rows >= 0)
    found[query, rows[query, place]] = scores[query, place]
    return found


@contextlib.contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    """Keep faiss from sharing out what takes a millisecond: its threads then wait for more at full load, and what
    comes next waits for them. The setting is the calling thread's own."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@dataclass(frozen=True, eq=False)
class _Piece:
    packed: Any  # faiss.IndexPQFastScan; may hold more than the rows that count, at its end
    rows: int
    codes: Codes | None  # as they came, kept while the piece is small

    @classmethod
    def of(cls, centroids: Centroids, codes: Codes) -> Self:
        faiss = _faiss()
        parts, _, width = centroids.shape
        flat = faiss.IndexPQ(parts * width, parts, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.ascontiguousarray(centroids, np.float32).ravel(), flat.pq.centroids)
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), flat.codes)
        flat.is_trained, flat.ntotal = True, len(codes)
        return cls(faiss.IndexPQFastScan(flat), len(codes), codes if len(codes) < LOOSE_ROWS else None)

    def best(self, query: Projected, count: int) -> tuple[NDArray[np.float32], Indices]:  # (1, d) -> (n,) twice
        count = min(count, self.rows)
        with _one_thread(_faiss()):
            scores, rows = self.packed.search(query, count + self.beyond)
        kept = np.flatnonzero((rows[0] >= 0) & (rows[0] < self.rows))[:count]
        return _with_last(scores[0][kept], rows[0][kept], self.rows, count)

    @property
    def beyond(self) -> int:
        """Rows that are packed and do not count: each has to be asked for, in case it is among the best."""
        return int(self.packed.ntotal) - self.rows

    def first(self, rows: int) -> _Piece:
        """The same without the rows from `rows` on."""
        if rows >= self.rows:
            return self
        return _Piece(self.packed, rows, None if self.codes is None else self.codes[:rows])


@dataclass(frozen=True, eq=False)
class Scan:
    """Codes laid out for scanning. It never changes: `extended` shares what is already packed."""

    centroids: Centroids
    pieces: tuple[_Piece, ...] = ()

    def __len__(self) -> int:
        return sum(piece.rows for piece in self.pieces)

    @property
    def worn(self) -> bool:
        """Whether so much was cut off, or came in so many small parts, that the same rows are better packed anew."""
        cut = sum(piece.beyond for piece in self.pieces)
        return cut > CUT_ROWS or len(self.pieces) > SPARE_PIECES + 2 * len(self) // PIECE_ROWS

    def first(self, rows: int) -> Scan:
        """The same without the rows from `rows` on."""
        starts = itertools.accumulate((piece.rows for piece in self.pieces), initial=0)
        kept = (piece.first(rows - start) for piece, start in zip(self.pieces, starts, strict=False) if start < rows)
        return Scan(self.centroids, tuple(kept))

    def extended(self, codes: Iterable[Codes]) -> Scan:
        """The same with more rows at the end, which come part by part; small parts go together."""
        scan = self
        for part in _gathered(codes):
            scan = scan._with(part)
        return scan

    def _with(self, codes: Codes) -> Scan:
        kept = list(self.pieces)
        if kept and kept[-1].codes is not None:
            codes = _joined(kept.pop(), codes)
        for start in range(0, len(codes), PIECE_ROWS):
            kept.append(_Piece.of(self.centroids, codes[start : start + PIECE_ROWS]))
        return Scan(self.centroids, tuple(kept))

    def best(
        self,
        query: Projected,  # (1, d)
        count: int,
    ) -> Indices:  # (min(count, N),) best first
        """Rows by estimated score; of equal estimates the lower row comes first.

        One query at a time: what a scan of several estimates is the same, but not which of equals it drops.
        """
        found = self._each(query, count)
        starts = np.cumsum([0, *(piece.rows for piece in self.pieces)])
        scores = np.concatenate([scores for scores, _ in found])
        rows = np.concatenate([rows + start for (_, rows), start in zip(found, starts.tolist(), strict=False)])
        return rows[np.lexsort((rows, -scores))[:count]]

    def _each(self, query: Projected, count: int) -> list[tuple[NDArray[np.float32], Indices]]:
        query = np.ascontiguousarray(query, np.float32)
        if len(self.pieces) < 2 or len(self) < PIECE_ROWS:
            return [piece.best(query, count) for piece in self.pieces]
        return share(lambda piece: piece.best(query, count), self.pieces)  # faiss lets go of the interpreter


def _with_last(
    scores: NDArray[np.float32],  # (n,)
    rows: Indices,  # (n,)
    there: int,
    count: int,
) -> tuple[NDArray[np.float32], Indices]:  # (count,) twice
    """With the rows that faiss does not name: their estimate is the lowest that any code can have, so they are last."""
    if len(rows) == count:
        return scores, rows
    last = np.setdiff1d(np.arange(there), rows)[: count - len(rows)]
    return np.append(scores, np.full(len(last), -np.inf, np.float32)), np.append(rows, last)


def _gathered(codes: Iterable[Codes]) -> Iterator[Codes]:
    """Neighbouring parts in one until there are enough rows; nothing is held that was given out."""
    waiting: list[Codes] = []
    for part in codes:
        waiting.append(part)
        if sum(map(len, waiting)) >= PIECE_ROWS:
            yield _taken(waiting)
    if waiting:
        yield _taken(waiting)


def _taken(waiting: list[Codes]) -> Codes:
    whole = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
    waiting.clear()
    return whole


def _joined(piece: _Piece, codes: Codes) -> Codes:
    assert piece.codes is not None
    return np.concatenate([piece.codes, codes])
