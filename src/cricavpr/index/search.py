"""Ranking of a whole database for evaluation: the best matches of each query, and the rank of a correct match.

The database may be a memory-mapped file of any size: it is read once, block by block. Scores are computed as in
published evaluations, with one matrix product for each block and up to 512 queries. A search of an index (`exact.py`)
scores each pair of query and photo alone instead. That is not done here, because it could change the last digit of
published figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.files import give_back

Indices = NDArray[np.int64]
Distance = Literal["dot", "l2"]  # the score is the dot product, or minus the squared Euclidean distance

SCORES_AT_ONCE = 4_000_000  # scores in a block: 16 MB of float32
VALUES_AT_ONCE = 16_000_000  # values of the database vectors in a block: 64 MB of float32
QUERIES_AT_ONCE = 512
TIE = 1e-6  # scores count as equal in ranks if they differ by at most this, for vectors of length 1


@dataclass(frozen=True, eq=False)
class Predictions:
    """The matches of each query, best first.

    Attributes:
        indices: (Q, n) row in the database of each match; -1 where a query has fewer than n matches.
        scores: (Q, n) score of each match, higher is better; -inf where a query has fewer than n matches.
    """

    indices: Indices
    scores: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.indices.ndim != 2 or self.indices.shape != self.scores.shape:
            raise InputError(
                f"indices and scores must both be (Q, n), got {self.indices.shape} and {self.scores.shape}."
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        queries, matches = self.indices.shape
        return f"{type(self).__name__}({queries:,} queries, {matches:,} matches each)"


def top_k(
    scores: NDArray[Any],  # (Q, N)
    k: int,
) -> tuple[Indices, NDArray[Any]]:  # (Q, min(k, N)) twice
    """For each row, return the columns of the k highest scores, and these scores. Ties go to the lower column.

    The highest score comes first. The result is that of a stable sort of each row, but it is computed faster.

    Raises:
        InputError: k is below 1, or a score is NaN.

    Example:
        >>> top_k(np.array([[1.0, 3.0, 2.0]]), 2)[0].tolist()
        [[1, 2]]
    """
    check_k(k)
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if np.isnan(scores).any():
        raise InputError("a score is NaN because a descriptor contains NaN. Describe the photos again.")
    k = min(k, scores.shape[1])
    columns = _chosen(scores, k)
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")  # columns are ascending, so ties go to the lower column
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _chosen(scores: NDArray[Any], k: int) -> Indices:  # (Q, N) -> (Q, k), ascending columns
    queries, count = scores.shape
    if k == count or not queries:
        return np.tile(np.arange(k), (queries, 1))
    least = np.partition(scores, count - k, axis=1)[:, count - k, None]  # (Q, 1) the k-th highest score
    chosen = scores >= least
    for row in np.flatnonzero(chosen.sum(axis=1) > k):  # in a tie for the last place, keep the lower columns
        last = np.flatnonzero(scores[row] == least[row])
        chosen[row, last[k - int(chosen[row].sum()) :]] = False
    return np.nonzero(chosen)[1].reshape(queries, k)


def search(
    database: NDArray[np.floating[Any]],  # (N, D), may be memory-mapped, and of half precision
    queries: NDArray[np.float32],  # (Q, D)
    k: int,
    block: int | None = None,
    *,
    distance: Distance = "dot",
    panoramas: Indices | None = None,  # (N,) sorted numbers
) -> Predictions:  # (Q, min(k, N))
    """Return the k database vectors with the highest scores for each query, best first. Ties go to the lower index.

    Args:
        k: number of matches for each query.
        block: number of database vectors in memory at a time; by default, at most about 64 MB of vectors.
        distance: the score: "dot" for the dot product, or "l2" for minus the squared Euclidean distance.
        panoramas: the number of the panorama that each vector was cut from. If given, only the best vector of each
            panorama is returned.

    Raises:
        InputError: the dimensions differ, k or block is below 1, a score is NaN, or `panoramas` is not sorted.

    Example:
        >>> database = np.array([[1, 0], [0, 1]], np.float32)
        >>> search(database, np.array([[0.6, 0.8]], np.float32), 2).indices.tolist()
        [[1, 0]]
    """
    return _scanned(database, queries, k, block, distance, panoramas).best


def search_and_rank(
    database: NDArray[np.floating[Any]],  # (N, D)
    queries: NDArray[np.float32],  # (Q, D)
    k: int,
    right: Sequence[Indices],  # Q arrays of database indices
    block: int | None = None,
    *,
    distance: Distance = "dot",
    panoramas: Indices | None = None,  # (N,)
) -> tuple[Predictions, Indices]:  # (Q, min(k, N)) and (Q,)
    """Search as `search` does, and find the rank of the best correct database vector of each query in the same pass.

    A rank up to k is the position of the first correct vector among the predictions, counted from 1. A higher rank is
    1 plus the number of database vectors with better scores; scores that differ by less than `TIE` count as equal, and
    ties go to the lower index. The rank is 0 if no database vector is correct for the query.

    Args:
        right: the correct database vectors of each query, as arrays of database indices.

    Returns:
        The predictions, and the rank (Q,) for each query.

    Raises:
        InputError: as `search`, or `right` does not have one array for each query.

    Example:
        >>> database = np.array([[1, 0], [0, 1]], np.float32)
        >>> search_and_rank(database, np.array([[0.6, 0.8]], np.float32), 1, [np.array([0])])[1].tolist()
        [2]
    """
    scan = _scanned(database, queries, k, block, distance, panoramas, right)
    return scan.best, scan.ranks(right)


def check_k(k: int) -> None:
    """Raise InputError if `k`, the number of matches, is below 1."""
    if k < 1:
        raise InputError(f"the number of matches must be at least 1, got {k}.")


def _scanned(
    database: NDArray[np.floating[Any]],
    queries: NDArray[np.float32],
    k: int,
    block: int | None,
    distance: Distance,
    panoramas: Indices | None,
    right: Sequence[Indices] | None = None,
) -> _Scan:
    """Check the arguments and scan the whole database. Ranks are counted only if `right` is given."""
    if database.ndim != 2 or queries.ndim != 2 or database.shape[1] != queries.shape[1]:
        raise InputError(
            f"database (N, D) and queries (Q, D) must have the same D, got {database.shape} and {queries.shape}."
        )
    check_k(k)
    if block is not None and block < 1:
        raise InputError(f"block must be at least 1 row, got {block}.")
    if right is not None and len(right) != len(queries):
        raise InputError(
            f"expected {len(queries)} arrays of correct database indices, one for each query, got {len(right)}."
        )
    targets = None if right is None else _targets(database, queries, right, distance)
    scan = _Scan(queries, min(k, len(database)), distance, panoramas, targets)
    for start, vectors in _blocks(database, block, panoramas):
        scan.take(start, vectors)
    return scan


@dataclass(frozen=True, eq=False)
class _Targets:
    """The best correct vector of each query, called its target, whose rank is to be found.

    Attributes:
        index: (Q,) database index of the target, -1 if no vector is correct.
        score: (Q,) score of the target.
        tie: (Q,) largest difference from the score of the target at which another score counts as equal.
    """

    index: Indices
    score: NDArray[np.float64]
    tie: NDArray[np.float64]


class _Scan:
    """One pass over a database: it keeps the best matches so far and counts the vectors ranked before each target."""

    def __init__(
        self,
        queries: NDArray[np.float32],
        k: int,
        distance: Distance,
        panoramas: Indices | None,
        targets: _Targets | None,
    ) -> None:
        self.queries, self.k, self.distance = queries, k, distance
        self.panoramas, self.targets = panoramas, targets
        self.best = Predictions(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
        self.before = np.zeros(len(queries), np.int64)  # vectors, or panoramas, that are ranked before the target

    def take(self, first: int, vectors: NDArray[np.float32]) -> None:  # (block, D)
        """Add the next block of vectors, which begins at row `first`."""
        parts = []
        for start in range(0, len(self.queries), QUERIES_AT_ONCE):
            rows = slice(start, start + QUERIES_AT_ONCE)
            scores = _scores(self.queries[rows], vectors, self.distance)  # (q, block)
            indices = np.arange(first, first + len(vectors))[None]  # (1, block), the same for every query
            if self.panoramas is not None:
                indices, scores = _best_of_each(scores, self.panoramas[first : first + len(vectors)], first)
            parts.append(self._merged(rows, indices, scores))
            if self.targets is not None:
                self.before[rows] += self._before(rows, indices, scores)
        if parts:
            self.best = Predictions(*(np.concatenate(side) for side in zip(*parts, strict=True)))

    def _merged(
        self, rows: slice, indices: Indices, scores: NDArray[np.float32]
    ) -> tuple[Indices, NDArray[np.float32]]:
        columns, found = top_k(scores, self.k)
        chosen = np.take_along_axis(np.broadcast_to(indices, scores.shape), columns, axis=1)
        # The matches from earlier blocks come first in `both`, so ties go to the lower database index.
        both = np.concatenate([self.best.indices[rows], chosen], axis=1)
        places, values = top_k(np.concatenate([self.best.scores[rows], found], axis=1), self.k)
        return np.take_along_axis(both, places, axis=1), values

    def _before(self, rows: slice, indices: Indices, scores: NDArray[np.float32]) -> Indices:  # (q,)
        assert self.targets is not None
        target, tie = self.targets.index[rows, None], self.targets.tie[rows, None]
        score = self.targets.score[rows, None]
        earlier = (scores > score + tie) | ((scores >= score - tie) & (indices < target))
        if self.panoramas is not None:  # the other vectors of the target's panorama do not count
            earlier &= self.panoramas[indices] != self.panoramas[target]
        counts: Indices = np.count_nonzero(earlier, axis=1)
        return np.where(target[:, 0] >= 0, counts, 0)

    def ranks(self, right: Sequence[Indices]) -> Indices:  # (Q,)
        """Return the rank of each query's best correct vector, 0 if no vector is correct; see `search_and_rank`."""
        assert self.targets is not None
        ranks = np.zeros(len(self.queries), np.int64)
        for query, correct in enumerate(right):
            if not len(correct):
                continue
            hits = np.flatnonzero(np.isin(self.best.indices[query], correct))
            beyond = max(int(self.before[query]), self.best.indices.shape[1])
            ranks[query] = 1 + (int(hits[0]) if hits.size else beyond)
        return ranks


def _blocks(
    database: NDArray[np.floating[Any]], block: int | None, panoramas: Indices | None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the first row and the float32 vectors of each block. All vectors of a panorama are in the same block."""
    count, dim = database.shape
    block = block or max(1, min(VALUES_AT_ONCE // max(dim, 1), SCORES_AT_ONCE // QUERIES_AT_ONCE))
    ends = _ends(count, block, panoramas)
    for start, end in zip([0, *ends], ends, strict=False):
        part = database[start:end]
        yield start, np.ascontiguousarray(part, np.float32)
        give_back(part)


def _ends(count: int, block: int, panoramas: Indices | None) -> list[int]:
    """Return the end (exclusive) of each block of rows. All vectors of a panorama are in the same block."""
    if panoramas is None:
        return [*range(block, count, block), count] if count else []
    if len(panoramas) != count or (np.diff(panoramas) < 0).any():
        raise InputError(f"panoramas must be {count} sorted numbers, one for each vector. Sort the images by panorama.")
    borders = np.append(np.flatnonzero(np.diff(panoramas)) + 1, count)  # the end row of each panorama
    ends: list[int] = []
    while count and (not ends or ends[-1] < count):
        start = ends[-1] if ends else 0
        within = borders[(borders > start) & (borders <= start + block)]
        ends.append(int(within[-1] if within.size else borders[borders > start][0]))
    return ends


def _scores(
    queries: NDArray[np.float32],  # (q, D)
    vectors: NDArray[np.float32],  # (b, D)
    distance: Distance,
) -> NDArray[np.float32]:  # (q, b)
    scores = queries @ vectors.T
    if distance == "l2":  # -(|q|^2 - 2 q.v + |v|^2)
        scores *= 2
        scores -= _squared(vectors)[None]
        scores -= _squared(queries)[:, None]
    return scores


def _squared(vectors: NDArray[np.float32]) -> NDArray[np.float32]:  # (n, D) -> (n,)
    squares: NDArray[np.float32] = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64).astype(np.float32)
    return squares


def _best_of_each(
    scores: NDArray[np.float32],  # (q, b)
    panoramas: Indices,  # (b,) ascending
    first: int,
) -> tuple[Indices, NDArray[np.float32]]:  # (q, p) database indices, (q, p)
    """Return the database index and the score of the best vector of each panorama. Ties go to the lower index.

    Args:
        first: database index of the first vector of the block.
    """
    starts = np.append(0, np.flatnonzero(np.diff(panoramas)) + 1)
    best = np.maximum.reduceat(scores, starts, axis=1)  # NaN stays NaN
    sizes = np.diff(np.append(starts, len(panoramas)))
    columns = np.where(scores == np.repeat(best, sizes, axis=1), np.arange(len(panoramas)), len(panoramas))
    return np.minimum.reduceat(columns, starts, axis=1) + first, best


def _targets(
    database: NDArray[np.floating[Any]],
    queries: NDArray[np.float32],
    right: Sequence[Indices],
    distance: Distance,
) -> _Targets:
    """Return, for each query, the correct database vector with the highest score. Ties go to the lowest index."""
    counts = np.fromiter(map(len, right), np.int64, len(right))
    pairs = np.repeat(np.arange(len(right)), counts)  # (P,) the query of each pair
    columns = np.concatenate([np.asarray(one, np.int64) for one in right]) if len(right) else np.empty(0, np.int64)
    scores, ties = _pair_scores(database, queries, pairs, columns, distance)
    index, score, tie = np.full(len(right), -1, np.int64), np.zeros(len(right)), np.zeros(len(right))
    for query, end in zip(np.flatnonzero(counts).tolist(), np.cumsum(counts)[counts > 0].tolist(), strict=True):
        own = slice(end - int(counts[query]), end)
        best = int(np.argmax(scores[own])) + own.start
        score[query], tie[query] = scores[best], ties[best]
        index[query] = columns[own][scores[own] >= scores[best] - ties[best]].min()
    return _Targets(index, score, tie)


def _pair_scores(
    database: NDArray[np.floating[Any]],
    queries: NDArray[np.float32],
    pairs: Indices,  # (P,) query of each pair
    columns: Indices,  # (P,) database row of each pair
    distance: Distance,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (P,) each
    """Return the score of each pair of a query and a database row, and the tie of each pair; see `_Targets.tie`.

    The rows are read in the order of the file, which is faster.
    """
    scores, ties = np.empty(len(pairs)), np.empty(len(pairs))
    order = np.argsort(columns, kind="stable")
    step = max(1, VALUES_AT_ONCE // 8 // max(1, database.shape[1]))
    for start in range(0, len(order), step):
        chosen = order[start : start + step]
        asked = queries[pairs[chosen]].astype(np.float64)
        vectors = np.asarray(database[columns[chosen]]).astype(np.float64)
        give_back(database)
        lengths = np.einsum("nd,nd->n", asked, asked), np.einsum("nd,nd->n", vectors, vectors)
        product = np.einsum("nd,nd->n", asked, vectors)
        scores[chosen] = product if distance == "dot" else 2 * product - lengths[0] - lengths[1]
        ties[chosen] = TIE * (np.sqrt(lengths[0] * lengths[1]) if distance == "dot" else lengths[0] + lengths[1])
    return scores, ties
