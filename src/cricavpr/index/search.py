"""Exact search: the k best of a matrix of scores, and of a database too large for one matrix.

A database may be a memory-mapped file of any size: it is read once, block by block, and what was read is given back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.mapped import give_back

Indices = NDArray[np.int64]
Distance = Literal["dot", "l2"]  # the score is the dot product, or minus the squared Euclidean distance

SCORES_AT_ONCE = 4_000_000  # a block of scores: 16 MB of float32
VALUES_AT_ONCE = 16_000_000  # a block of database vectors in memory: 64 MB
QUERIES_AT_ONCE = 512
TIE = 1e-6  # of the lengths involved: scores of float32 vectors that are nearer than this count as equal ranks


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
    _check_k(k)
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
    database: NDArray[np.floating[Any]],  # (N, D), may be memory-mapped, and of half precision
    queries: NDArray[np.float32],  # (Q, D)
    k: int,
    block: int | None = None,
    *,
    distance: Distance = "dot",
    panoramas: Indices | None = None,  # (N,) rising numbers
) -> Predictions:  # (Q, min(k, N))
    """The k database vectors with the highest score for each query, exactly; ties to the lower index.

    Memory is bounded by `block` database vectors (left out: about 64 MB of them), whatever the database.

    Args:
        distance: "dot", or "l2" for minus the squared Euclidean distance.
        panoramas: which panorama each vector belongs to; only the best of each is then a prediction, so there are
            as many columns as panoramas at most.

    Raises:
        InputError: dimensions that differ, k or block below 1, vectors that are not finite, or panoramas that are
            not rising.
    """
    _check(database, queries, k, block)
    scan = _Scan(database, queries, k, distance, panoramas)
    for start, vectors in _blocks(database, block, panoramas):
        scan.take(start, vectors)
    return scan.best


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
    """`search`, and in the same pass the rank of the best right vector over the whole database, 0 where none is right.

    Scores are not sorted beyond k, only counted. There, two that differ by less than float32 can tell (`TIE`) count
    as equal, and the lower index comes first; within k the rank is the place among the predictions.

    Raises:
        InputError: as for `search`, or another number of queries in `right`.
    """
    _check(database, queries, k, block)
    if len(right) != len(queries):
        raise InputError(f"{len(right)} lists of right vectors do not fit {len(queries)} queries.")
    scan = _Scan(database, queries, k, distance, panoramas, _targets(database, queries, right, distance))
    for start, vectors in _blocks(database, block, panoramas):
        scan.take(start, vectors)
    return scan.best, scan.ranks(right)


@dataclass(frozen=True, eq=False)
class _Targets:
    """The best right vector of each query: what is to be ranked."""

    index: Indices  # (Q,), -1 where none is right
    score: NDArray[np.float64]  # (Q,)
    tie: NDArray[np.float64]  # (Q,) scores this near count as equal


class _Scan:
    """What one pass over a database has found so far."""

    def __init__(
        self,
        database: NDArray[np.floating[Any]],
        queries: NDArray[np.float32],
        k: int,
        distance: Distance,
        panoramas: Indices | None,
        targets: _Targets | None = None,
    ) -> None:
        self.queries, self.k, self.distance = queries, min(k, len(database)), distance
        self.panoramas, self.targets = panoramas, targets
        self.best = Predictions(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
        self.before = np.zeros(len(queries), np.int64)  # vectors, or panoramas, that come before the target

    def take(self, first: int, vectors: NDArray[np.float32]) -> None:  # (block, D)
        """Look at the vectors from row `first` on."""
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
        # Earlier blocks stand first, so among equal scores the lower database index stays first.
        both = np.concatenate([self.best.indices[rows], chosen], axis=1)
        places, values = top_k(np.concatenate([self.best.scores[rows], found], axis=1), self.k)
        return np.take_along_axis(both, places, axis=1), values

    def _before(self, rows: slice, indices: Indices, scores: NDArray[np.float32]) -> Indices:  # (q,)
        assert self.targets is not None
        target, tie = self.targets.index[rows, None], self.targets.tie[rows, None]
        score = self.targets.score[rows, None]
        earlier = (scores > score + tie) | ((scores >= score - tie) & (indices < target))
        if self.panoramas is not None:  # its own panorama stands at the target's place
            earlier &= self.panoramas[indices] != self.panoramas[target]
        counts: Indices = np.count_nonzero(earlier, axis=1)
        return np.where(target[:, 0] >= 0, counts, 0)

    def ranks(self, right: Sequence[Indices]) -> Indices:  # (Q,)
        """1 + what came before; where the predictions show it themselves, they are believed."""
        assert self.targets is not None
        ranks = np.zeros(len(self.queries), np.int64)
        for query, correct in enumerate(right):
            if not len(correct):
                continue
            hits = np.flatnonzero(np.isin(self.best.indices[query], correct))
            beyond = max(int(self.before[query]), self.best.indices.shape[1])
            ranks[query] = 1 + (int(hits[0]) if hits.size else beyond)
        return ranks


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"the {k} best of anything are not defined. Ask for 1 or more.")


def _check(database: NDArray[np.floating[Any]], queries: NDArray[np.floating[Any]], k: int, block: int | None) -> None:
    if database.ndim != 2 or queries.ndim != 2 or database.shape[1] != queries.shape[1]:
        raise InputError(f"a database of shape {database.shape} cannot be searched with {queries.shape}.")
    _check_k(k)
    if block is not None and block < 1:
        raise InputError(f"a database cannot be read in blocks of {block} rows. Give 1 or more.")


def _blocks(
    database: NDArray[np.floating[Any]], block: int | None, panoramas: Indices | None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The database in float32, some rows at a time; a panorama is never cut in two."""
    count, dim = database.shape
    block = block or max(1, min(VALUES_AT_ONCE // max(dim, 1), SCORES_AT_ONCE // QUERIES_AT_ONCE))
    ends = _ends(count, block, panoramas)
    for start, end in zip([0, *ends], ends, strict=False):
        part = database[start:end]
        yield start, np.ascontiguousarray(part, np.float32)
        give_back(part)  # not `database`, which need not be an array: of the vectors of an index each part has its map


def _ends(count: int, block: int, panoramas: Indices | None) -> list[int]:
    """Where each block ends."""
    if panoramas is None:
        return [*range(block, count, block), count] if count else []
    if len(panoramas) != count or (np.diff(panoramas) < 0).any():
        raise InputError(f"the panoramas of {count} vectors are not {count} rising numbers. Sort the images by them.")
    borders = np.append(np.flatnonzero(np.diff(panoramas)) + 1, count)  # where a panorama ends
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
    panoramas: Indices,  # (b,) rising
    first: int,
) -> tuple[Indices, NDArray[np.float32]]:  # (q, p) database indices, (q, p)
    """The best vector of each panorama, ties to the lower index."""
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
    """Score the right vectors of each query, and keep the best: the lowest index of those that are equally good."""
    counts = np.fromiter(map(len, right), np.int64, len(right))
    pairs = np.repeat(np.arange(len(right)), counts)  # (P,) which query
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
    """Scores of single pairs, and how near another score is as good; the file is read in its own order."""
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
