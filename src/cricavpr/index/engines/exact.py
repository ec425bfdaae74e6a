"""Exact search over rows in files: one matrix product for each block, and a last word that no batch can change.

A matrix product rounds differently for one query than for fifty, so it only nominates: the best and a few more are
scored again one pair at a time, in float64 rounded to float32. Every engine ends here, so engines agree to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.engines.rows import Indices, Mask, Rows
from cricavpr.index.search import Predictions, top_k

MARGIN = 16  # nominated beyond k
WIDEST = 4096  # nominated at most: of more vectors than this that are equal, the product decides which come first
ROUNDING = 4e-6  # by which a product of float32 vectors of unit length may be wrong
QUERIES_AT_ONCE = 512
SINGLE_ROWS = 4096  # fewer are not worth the threads of a matrix product

Queries = NDArray[np.float32]  # (Q, D)
Products = Callable[[Queries, NDArray[np.floating[Any]]], NDArray[np.float32]]  # (Q, D), (n, D) -> (Q, n)
Report = Callable[[int, int], None]  # rows read, and how many will be


class ExactEngine:
    """Reads every vector for every search: nothing in memory, nothing missed."""

    name: ClassVar[str] = "exact"

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def search(
        self,
        queries: Queries,  # (Q, D)
        k: int,
        allowed: Mask | None = None,  # (N,)
        report: Report | None = None,
    ) -> Predictions:  # (Q, min(k, rows allowed))
        """The k best allowed rows for each query, best first; of equal scores the lower row comes first.

        Raises:
            InputError: shapes that do not fit, k below 1, or vectors that are not finite.
        """
        require_queries(queries, k, self.rows.dim)
        mask = self.rows.allowed(allowed)
        return exact_over(self.rows, queries, k, None if mask is None else np.flatnonzero(mask), report)


def require_queries(queries: Queries, k: int, dim: int) -> None:
    """Raises: InputError: queries of another shape, not finite, or k below 1."""
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise InputError(f"queries of shape {queries.shape} do not fit rows of {dim} values. Give (Q, {dim}).")
    if k < 1:
        raise InputError(f"the {k} best of anything are not defined. Ask for 1 or more.")
    if not np.isfinite(queries).all():
        raise InputError("a query is not finite: a descriptor is damaged. Describe again.")


def products(queries: Queries, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:  # (Q, D), (n, D) -> (Q, n)
    """Scores of vectors of any precision, as float32 rounds them."""
    singles = vectors.astype(np.float32, copy=False)
    if len(queries) == 1 and len(vectors) <= SINGLE_ROWS:
        # Not by BLAS: its threads wait for more at full load, where the next query needs the cores.
        alone: NDArray[np.float32] = np.einsum("d,nd->n", queries[0], singles)
        return alone[None]
    return queries @ singles.T


def exact_over(
    rows: Rows,
    queries: Queries,  # (Q, D)
    k: int,
    chosen: Indices | None = None,  # (n,) rising
    report: Report | None = None,
    nominating: Products = products,
) -> Predictions:  # (Q, min(k, n))
    """The k best of all rows, or of the chosen ones, for each query, whatever the rounding of what nominates them."""
    count = len(rows) if chosen is None else len(chosen)
    k, extra = min(k, count), MARGIN
    if not k or not len(queries):
        return Predictions(np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32))
    while True:
        wanted = min(count, k + extra)
        nominated, scores = _nominate(rows, queries, wanted, chosen, report, nominating)
        best = [_settle(rows, query, found, k) for query, found in zip(queries, nominated, strict=True)]
        indices, values = (np.stack(side) for side in zip(*best, strict=True))
        sure = wanted == count or bool((scores[:, -1] + ROUNDING < values[:, -1]).all())
        if sure or wanted >= WIDEST:
            return Predictions(indices, values)
        extra *= 8  # more rows share the last place than were nominated


def _nominate(
    rows: Rows, queries: Queries, wanted: int, chosen: Indices | None, report: Report | None, nominating: Products
) -> tuple[Indices, NDArray[np.float32]]:  # (Q, wanted) twice
    best = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    count, done = len(rows) if chosen is None else len(chosen), 0
    for indices, vectors in rows.blocks(chosen):
        parts = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = slice(start, start + QUERIES_AT_ONCE)
            columns, found = top_k(nominating(queries[some], vectors), wanted)
            # Earlier rows stand first, so of equal scores the lower row stays first.
            both = np.concatenate([best[0][some], indices[columns]], axis=1)
            places, values = top_k(np.concatenate([best[1][some], found], axis=1), wanted)
            parts.append((np.take_along_axis(both, places, axis=1), values))
        best = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        done += len(indices)
        if report:
            report(done, count)
    return best


def _settle(rows: Rows, query: NDArray[np.float32], found: Indices, k: int) -> tuple[Indices, NDArray[np.float32]]:
    """The k best of the nominated, scored pair by pair."""
    order = np.sort(found)
    products = rows.read(order).astype(np.float64) * query.astype(np.float64)  # (n, D)
    scores = products.sum(axis=1).astype(np.float32)  # each row by itself, whatever stands beside it
    best = np.argsort(-scores, kind="stable")[:k]
    return order[best], scores[best]
