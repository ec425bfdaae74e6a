"""The compressed engine: codes in memory give a shortlist, whose vectors are read from the disk and scored exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.codes.fast_scan import Packed, best_codes, products_of_halves
from cricavpr.index.codes.quantiser import Quantiser
from cricavpr.index.exact import Queries, Scores, check_queries, search_rows
from cricavpr.index.search import Predictions
from cricavpr.index.vectors import Floats, Indices, Mask, Rows, advise

SHORTLIST = 400  # vectors read for each query; `tune` measures how many an index needs
SHORTLIST_PER_RESULT = 10  # vectors read for each result, at least
READ_ROWS = 4096  # vectors of a shortlist in memory at a time
FEW = 20  # if at most 20 times the shortlist is allowed, all allowed rows are read, and the result is exact


@dataclass(frozen=True, eq=False)
class CompressedEngine:
    """The engine that searches with codes. Scores are exact; a row that is not on the shortlist is missed.

    Attributes:
        rows: the vectors.
        pieces: their codes in the same order.
        shortlist: how many vectors are read for each query.

    Raises:
        InputError: codes and rows do not match, or the shortlist is below 1.
    """

    rows: Rows
    quantiser: Quantiser
    pieces: Sequence[Packed]
    shortlist: int = SHORTLIST

    def __post_init__(self) -> None:
        if self.shortlist < 1:
            raise InputError(f"shortlist must be at least 1, got {self.shortlist}.")
        coded = sum(piece.rows for piece in self.pieces)
        if coded != len(self.rows) or self.rows.dim != self.quantiser.dim:
            raise InputError(
                f"codes of {coded} rows of {self.quantiser.dim} values do not match {len(self.rows)} rows of "
                f"{self.rows.dim}."
            )
        for part in self.rows.parts:
            advise(part, "random")

    def with_shortlist(self, shortlist: int) -> Self:
        return replace(self, shortlist=shortlist)

    def search(
        self,
        queries: Queries,  # (Q, D)
        k: int,
        allowed: Mask | None = None,  # (N,)
    ) -> Predictions:  # (Q, min(k, rows allowed))
        """Return the k best allowed rows of each query's shortlist; scores and order are those of `ExactEngine`."""
        check_queries(queries, k, self.rows.dim)
        mask = self.rows.allowed(allowed)
        count = len(self.rows) if mask is None else int(np.count_nonzero(mask))
        wanted = max(self.shortlist, SHORTLIST_PER_RESULT * k)
        if count <= (wanted if mask is None else FEW * wanted) or not len(queries):
            return search_rows(self.rows, queries, k, mask)
        found = [self._one(query[None], k, wanted, mask, count) for query in queries]
        return Predictions(
            np.concatenate([one.indices for one in found]), np.concatenate([one.scores for one in found])
        )

    def _one(self, query: Queries, k: int, wanted: int, mask: Mask | None, count: int) -> Predictions:
        nearest = np.sort(self.nominated(self.quantiser.project(query[0]), wanted, mask, count))
        if len(nearest) > READ_ROWS:
            return search_rows(self.rows, query, k, np.isin(np.arange(len(self.rows)), nearest, assume_unique=True))
        vectors = self.rows.read(nearest)
        nominate = products_of_halves if vectors.dtype == np.float16 else _products_of_one
        found = search_rows(Rows((vectors,), None, self.rows.dim), query, k, nominate=nominate)
        return Predictions(nearest[found.indices], found.scores)

    def nominated(self, projected: NDArray[np.float32], wanted: int, mask: Mask | None, count: int) -> Indices:
        """Return the `wanted` allowed rows with the best codes; `count` rows are allowed."""
        if mask is None:
            return best_codes(self.pieces, projected, wanted)
        asked = int(1.25 * wanted * len(mask) / count)  # enough if allowed rows are spread evenly
        while True:
            nearest = best_codes(self.pieces, projected, min(asked, len(mask)))
            nearest = nearest[mask[nearest]][:wanted]
            if len(nearest) == wanted or asked >= len(mask):
                return nearest
            asked *= 4


def _products_of_one(query: Queries, vectors: Floats) -> Scores:  # (1, D), (n, D) -> (1, n)
    """Return dot products without BLAS, whose threads would keep the cores busy while the next query is searched."""
    alone: Scores = np.einsum("d,nd->n", query[0], vectors)
    return alone[None]
