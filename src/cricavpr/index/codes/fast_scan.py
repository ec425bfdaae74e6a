"""Product quantisation with 4 bits for each part of a code, and the scan over codes. The only module that uses faiss.

Only arrays are exchanged with faiss. Files in the format of faiss are never read, because the reader of faiss is not
safe for untrusted files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.extras import extra

Codes = NDArray[np.uint8]  # (N, M / 2), with two parts in each byte
Centroids = NDArray[np.float32]  # (M, 16, d / M)
Projected = NDArray[np.float32]  # (n, d)
Indices = NDArray[np.int64]
T = TypeVar("T")
R = TypeVar("R")

CENTROIDS = 16  # number of centroids of each part, because a part of a code has 4 bits
PACKED_ROWS = 1 << 18  # rows in one `Packed` at most


def require_faiss() -> Any:
    """Return faiss. Raises MissingExtraError if it is not installed."""
    with extra("faiss", "compressed search"):
        import faiss
    return faiss


def learn_centroids(vectors: Projected, parts: int) -> Centroids:
    """Return 16 centroids for each part of the vectors, found by k-means. Equal vectors give equal centroids."""
    faiss = require_faiss()
    quantiser = faiss.ProductQuantizer(vectors.shape[1], parts, 4)
    quantiser.cp.min_points_per_centroid = 1  # otherwise faiss prints a warning to stderr
    quantiser.cp.max_points_per_centroid = max(CENTROIDS, len(vectors))
    quantiser.train(np.ascontiguousarray(vectors))
    centroids: Centroids = faiss.vector_to_array(quantiser.centroids).reshape(parts, CENTROIDS, -1)
    return centroids


def encode(centroids: Centroids, vectors: Projected) -> Codes:
    """Return the codes of vectors: for each part, the number of the nearest centroid."""
    faiss = require_faiss()
    parts, _, width = centroids.shape
    quantiser = faiss.ProductQuantizer(parts * width, parts, 4)
    faiss.copy_array_to_vector(np.ascontiguousarray(centroids, np.float32).ravel(), quantiser.centroids)
    codes: Codes = quantiser.compute_codes(np.ascontiguousarray(vectors))
    return codes


def products_of_halves(
    queries: NDArray[np.float32],  # (Q, D)
    vectors: NDArray[np.float16],  # (n, D)
) -> NDArray[np.float32]:  # (Q, n)
    """Return the dot products of queries with float16 vectors, without converting the vectors to float32 first."""
    faiss = require_faiss()
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.ascontiguousarray(vectors).view(np.uint8).reshape(-1), index.codes)
    index.is_trained, index.ntotal = True, len(vectors)
    with _one_thread(faiss):
        scores, rows = index.search(np.ascontiguousarray(queries), len(vectors))
    # faiss does not return scores that are NaN, so they are filled in here.
    found = np.full((len(queries), len(vectors)), np.nan, np.float32)
    query, place = np.nonzero(rows >= 0)
    found[query, rows[query, place]] = scores[query, place]
    return found


@contextlib.contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    """Make faiss use one thread in the block, because its threads would keep the cores busy after a scan has ended.

    The setting applies to the calling thread only.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@dataclass(frozen=True, eq=False)
class Packed:
    """The codes of some rows, in the memory layout that the scan of faiss needs."""

    index: Any  # faiss.IndexPQFastScan
    rows: int

    @classmethod
    def of(cls, centroids: Centroids, codes: Codes) -> Self:
        faiss = require_faiss()
        parts, _, width = centroids.shape
        flat = faiss.IndexPQ(parts * width, parts, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.ascontiguousarray(centroids, np.float32).ravel(), flat.pq.centroids)
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), flat.codes)
        flat.is_trained, flat.ntotal = True, len(codes)
        return cls(faiss.IndexPQFastScan(flat), len(codes))

    def best(self, query: Projected, count: int) -> tuple[NDArray[np.float32], Indices]:  # (1, d) -> (n,) twice
        """Return the estimated scores and the rows of the `count` best codes, in any order."""
        count = min(count, self.rows)
        with _one_thread(require_faiss()):
            scores, rows = self.index.search(query, count)
        there = rows[0] >= 0
        if there.all():
            return scores[0], rows[0]
        # faiss does not return rows whose estimated score is the lowest possible value: append them at the end.
        last = np.setdiff1d(np.arange(self.rows), rows[0])[: count - np.count_nonzero(there)]
        worst = np.full(len(last), -np.inf, np.float32)
        return np.append(scores[0][there], worst), np.append(rows[0][there], last)


def pack(centroids: Centroids, codes: Codes) -> tuple[Packed, ...]:
    """Convert codes to the memory layout that the scan of faiss needs, in pieces of at most `PACKED_ROWS` rows."""
    starts = range(0, len(codes), PACKED_ROWS)
    return tuple(Packed.of(centroids, codes[start : start + PACKED_ROWS]) for start in starts)


def best_codes(
    pieces: Sequence[Packed],  # N rows together
    query: Projected,  # (1, d)
    count: int,
) -> Indices:  # (min(count, N),) best first
    """Return the `count` rows with the highest estimated scores. Ties go to the lower row.

    The scan takes one query at a time, because faiss may resolve ties differently when it scans for several queries.
    """
    query, starts = np.ascontiguousarray(query, np.float32), np.cumsum([0, *(piece.rows for piece in pieces)])
    if len(pieces) < 2 or starts[-1] < PACKED_ROWS:
        found = [piece.best(query, count) for piece in pieces]
    else:
        found = share(lambda piece: piece.best(query, count), pieces)  # faiss releases the global interpreter lock
    scores = np.concatenate([scores for scores, _ in found])
    rows = np.concatenate([rows + start for (_, rows), start in zip(found, starts.tolist(), strict=False)])
    return rows[np.lexsort((rows, -scores))[:count]]


def share(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return `[work(item) for item in items]`, computed in several threads.

    This is faster only if `work` releases the global interpreter lock.
    """
    try:
        return list(_threads().map(work, items))
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise
    return [work(item) for item in items]  # the interpreter is shutting down and starts no new thread


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the pool of threads that all searches share.

    Starting a new pool for each search would take as long as scanning a hundred thousand codes.
    """
    return ThreadPoolExecutor(_cores(), "cricavpr-search")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # the threads do not exist in a forked process
