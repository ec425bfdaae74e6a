"""Exact search of an index. A score depends only on its query and its photo, bit for bit.

The rounding of a matrix product depends on the number of queries and on the other rows. So the matrix product only
chooses candidates: the rows that may be among the best, given the largest possible rounding error. Each pair of query
and candidate is then scored alone, in float64 rounded to float32. Every search engine gets its scores here. So a score
does not depend on the engine, on filters, on other queries, or on the order in which photos were added.

For evaluation, `search.py` ranks whole databases in another way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import UNIT_TOLERANCE
from cricavpr.errors import InputError
from cricavpr.index.columns import Indices
from cricavpr.index.search import Predictions, check_k
from cricavpr.index.vectors import Floats, Mask, Rows
from cricavpr.progress import Report

QUERIES_AT_ONCE = 512
PAIRS_AT_ONCE = 1 << 20  # candidates are scored in blocks of at most this many values

Queries = NDArray[np.float32]  # (Q, D)
Scores = NDArray[np.float32]
Products = Callable[[Queries, Floats], Scores]  # (Q, D), (n, D) -> (Q, n)


@dataclass(frozen=True, eq=False)
class ExactEngine:
    """The exact search engine, which reads every vector in each search."""

    rows: Rows

    def search(
        self,
        queries: Queries,  # (Q, D)
        k: int,
        allowed: Mask | None = None,  # (N,)
        report: Report | None = None,
    ) -> Predictions:  # (Q, min(k, rows allowed))
        """Return the k rows with the highest scores for each query, best first. Ties go to the lower row.

        Args:
            allowed: which rows may be found; None for all. Removed rows are never found.
            report: called with (rows done, rows in all).

        Raises:
            InputError: the queries have the wrong shape or are not finite, k is below 1, or a vector is not finite.
        """
        check_queries(queries, k, self.rows.dim)
        return search_rows(self.rows, queries, k, self.rows.allowed(allowed), report=report)


def check_queries(queries: Queries, k: int, dim: int) -> None:
    """Raise InputError if the queries have the wrong shape or are not finite, or if k is below 1."""
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise InputError(f"queries must be (Q, {dim}), got {queries.shape}.")
    check_k(k)
    if not np.isfinite(queries).all():
        raise InputError("the descriptor of a query is not finite. Describe the photo again.")


def products(queries: Queries, vectors: Floats) -> Scores:  # (Q, D), (n, D) -> (Q, n)
    """Return dot products in float32."""
    scores: Scores = queries @ vectors.astype(np.float32, copy=False).T
    return scores


def search_rows(
    rows: Rows,
    queries: Queries,  # (Q, D)
    k: int,
    allowed: Mask | None = None,  # (N,), live rows only
    *,
    nominate: Products = products,
    report: Report | None = None,
) -> Predictions:  # (Q, min(k, rows allowed))
    """Return the k rows with the highest scores for each query, best first. Ties go to the lower row.

    Args:
        allowed: which rows may be found; None for all.
        nominate: the function that computes matrix products to choose candidates; it must be at least as accurate as
            a product in float32.
        report: called with (rows done, rows in all).
    """
    count = len(rows) if allowed is None else int(np.count_nonzero(allowed))
    best, done = _Best(queries, min(k, count), nominate), 0
    for numbers, vectors in rows.blocks(allowed) if best.k and len(queries) else ():
        best.take(numbers, vectors)
        done += len(numbers)
        if report is not None:
            report(done, count)
    return Predictions(best.rows, best.scores)


class _Best:
    """The k best rows of each query among the blocks taken so far. Blocks must be taken in the order of their rows."""

    def __init__(self, queries: Queries, k: int, nominate: Products) -> None:
        self.queries, self.k, self.nominate = queries, k, nominate
        self.rows = np.full((len(queries), k), -1, np.int64)
        self.scores = np.full((len(queries), k), -np.inf, np.float32)
        # A float32 sum of D products has an error of at most D * 2^-24 times the product of the lengths of the two
        # vectors, whatever the order of summation (Higham, "Accuracy and Stability of Numerical Algorithms", 2002,
        # 3.1). D + 8 instead of D allows for the rounding of the result to float32.
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1) * (1 + 2 * UNIT_TOLERANCE)
        self.slack = ((queries.shape[1] + 8) * 2.0**-24 * lengths).astype(np.float32)  # (Q,)

    def take(self, numbers: Indices, vectors: Floats) -> None:  # (b,), (b, D)
        for start in range(0, len(self.queries), QUERIES_AT_ONCE):
            asked = np.arange(start, min(start + QUERIES_AT_ONCE, len(self.queries)))
            query, place = self._near(asked, vectors)
            if len(query):
                self._keep(query, numbers[place], _scored(self.queries, query, vectors, place))

    def _near(self, asked: Indices, vectors: Floats) -> tuple[Indices, Indices]:  # (n,) twice
        """Return the rows of the block that may be among the k best of a query, as pairs of a query and a row."""
        scores, slack = self.nominate(self.queries[asked], vectors), self.slack[asked]
        if not np.isfinite(scores).all():
            raise InputError("a score is not finite: a descriptor of the index is damaged. Build the index again.")
        least = self.scores[asked, -1] - slack  # -inf until k rows are known
        near = scores >= least[:, None]
        crowded = np.flatnonzero(np.count_nonzero(near, axis=1) > self.k)
        if len(crowded):  # leave out rows that are clearly worse than k other rows of the block
            last = scores.shape[1] - self.k
            kth = np.partition(scores[crowded], last, axis=1)[:, last]
            near[crowded] &= scores[crowded] >= (kth - 2 * slack[crowded])[:, None]
        query, place = np.nonzero(near)
        return asked[query], place

    def _keep(self, query: Indices, row: Indices, score: Scores) -> None:  # (n,) each
        """Compare new rows with the best rows so far, and keep the k best of each query.

        For each i, the row `row[i]` has the score `score[i]` for the query `query[i]`.
        """
        some = np.unique(query)
        query = np.concatenate([np.repeat(some, self.k), query])
        row = np.concatenate([self.rows[some].ravel(), row])
        score = np.concatenate([self.scores[some].ravel(), score])
        order = np.lexsort((row, -score, query))
        first = np.searchsorted(query[order], some)  # position of the first pair of each query
        chosen = order[first[:, None] + np.arange(self.k)]
        self.rows[some], self.scores[some] = row[chosen], score[chosen]


def _scored(queries: Queries, query: Indices, vectors: Floats, place: Indices) -> Scores:  # (n,)
    """Return the scores of n pairs, computed in float64 and rounded to float32.

    Pair i is the query `query[i]` and the row `place[i]` of `vectors`.
    """
    scores = np.empty(len(query), np.float32)
    step = max(1, PAIRS_AT_ONCE // queries.shape[1])
    for start in range(0, len(query), step):
        some = slice(start, start + step)
        pairs = vectors[place[some]].astype(np.float64) * queries[query[some]].astype(np.float64)  # (n, D)
        scores[some] = pairs.sum(axis=1)  # a sum along the last axis, so that no row depends on the rows beside it
    return scores
