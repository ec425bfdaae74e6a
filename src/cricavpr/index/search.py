"""Exact search: the k best of a matrix of scores, and of a database too large for one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError

Indices = NDArray[np.int64]

SCORES_AT_ONCE = 4_000_000  # a block of scores: 16 MB of float32
VALUES_AT_ONCE = 16_000_000  # a block of database vectors in memory: 64 MB
QUERIES_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a search returns for each query, best first.

    Attributes:
        indices: (Q, n) rows of the database, -1 where there is nothing.
        scores: (Q, n) higher is better; -inf where there is nothing.
    """

    indices: Indices
    scores: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.indices.ndim != 2 or self.indices.shape != self.scores.shape:
            shapes = f"{self.indices.shape} and scores of shape {self.scores.shape}"
            raise InputError(f"indices of shape {shapes} do not fit. Give (Q, n) for both.")

    def __len__(self) -> int:
        return len(self.indices)


def top_k(
    scores: NDArray[Any],  # (Q, N)
    k: int,
) -> tuple[Indices, NDArray[Any]]:  # (Q, min(k, N)) twice
    """The k best columns of each row, best first; of equal scores the lower column comes first.

    Exactly what a stable sort of each whole row would give, without sorting it.

    Raises:
        InputError: k below 1, or a score that is not a number.
    """
    if k < 1:
        raise InputError(f"the {k} best of anything are not defined. Ask for 1 or more.")
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if np.isnan(scores).any():
        raise InputError("a score is not a number: a descriptor is damaged. Describe again.")
    k = min(k, scores.shape[1])
    columns = _chosen(scores, k)
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")  # columns rise, so equal scores keep the lower first
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _chosen(scores: NDArray[Any], k: int) -> Indices:  # (Q, N) -> (Q, k), rising columns
    queries, count = scores.shape
    if k == count or not queries:
        return np.tile(np.arange(k), (queries, 1))
    least = np.partition(scores, count - k, axis=1)[:, count - k, None]  # (Q, 1) the k-th best
    chosen = scores >= least
    for row in np.flatnonzero(chosen.sum(axis=1) > k):  # several share the last place: the lower ones get it
        last = np.flatnonzero(scores[row] == least[row])
        chosen[row, last[k - int(chosen[row].sum()) :]] = False
    return np.nonzero(chosen)[1].reshape(queries, k)


def search(
    database: NDArray[np.float32],  # (N, D), may be memory-mapped: it is read once, block by block
    queries: NDArray[np.float32],  # (Q, D)
    k: int,
    block: int | None = None,
) -> Predictions:  # (Q, min(k, N))
    """The k database vectors with the highest dot product for each query, exactly; ties to the lower index.

    Memory is bounded by `block` database vectors (left out: about 64 MB of them), whatever the database.

    Raises:
        InputError: dimensions that differ, k or block below 1, or vectors that are not finite.
    """
    if database.ndim != 2 or queries.ndim != 2 or database.shape[1] != queries.shape[1]:
        raise InputError(f"a database of shape {database.shape} cannot be searched with {queries.shape}.")
    if k < 1 or (block is not None and block < 1):
        raise InputError(f"search for the {k} best in blocks of {block} is not defined. Give 1 or more.")
    count, dim = database.shape
    width = min(k, count)
    block = block or max(1, min(VALUES_AT_ONCE // max(dim, 1), SCORES_AT_ONCE // QUERIES_AT_ONCE))
    best = Predictions(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
    for start in range(0, count, block):
        vectors = np.ascontiguousarray(database[start : start + block], np.float32)
        best = _merged(best, vectors, start, queries, width)
    return best


def _merged(
    best: Predictions,  # (Q, m) of the blocks before
    vectors: NDArray[np.float32],  # (block, D)
    first: int,
    queries: NDArray[np.float32],  # (Q, D)
    k: int,
) -> Predictions:  # (Q, min(k, m + block))
    width = min(k, best.indices.shape[1] + len(vectors))
    indices = np.empty((len(queries), width), np.int64)
    scores = np.empty((len(queries), width), np.float32)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        columns, found = top_k(queries[rows] @ vectors.T, k)
        # Earlier blocks stand first, so among equal scores the lower database index stays first.
        both = np.concatenate([best.indices[rows], columns + first], axis=1)
        places, scores[rows] = top_k(np.concatenate([best.scores[rows], found], axis=1), k)
        indices[rows] = np.take_along_axis(both, places, axis=1)
    return Predictions(indices, scores)
