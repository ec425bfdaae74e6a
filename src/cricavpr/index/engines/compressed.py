"""Compressed search: codes in memory name a shortlist, and the vectors on disk decide."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.engines.exact import SINGLE_ROWS, Queries, exact_over, products, require_queries
from cricavpr.index.engines.fast_scan import Scan, products_of_halves
from cricavpr.index.engines.pages import expect
from cricavpr.index.engines.quantiser import Quantiser
from cricavpr.index.engines.rows import Indices, Mask, Rows
from cricavpr.index.search import Predictions

SHORTLIST = 400  # vectors read for each query; `tune` says what an index needs
SHORTLIST_PER_RESULT = 10  # and no fewer than this for each result asked for
FEW = 20  # shortlists: when no more rows than this are allowed, all of them are read, and the answer is exact


class CompressedEngine:
    """Scores are exact; what may be missing is a row that its code did not bring to the shortlist."""

    name: ClassVar[str] = "compressed"

    def __init__(self, rows: Rows, quantiser: Quantiser, scan: Scan, shortlist: int = SHORTLIST) -> None:
        """An engine over rows whose codes are laid out in their order.

        Raises:
            InputError: codes that do not fit the rows, or a shortlist below 1.
        """
        if shortlist < 1:
            raise InputError(f"a shortlist of {shortlist} is none. Give 1 or more.")
        if len(scan) != len(rows) or rows.dim != quantiser.dim:
            raise InputError(
                f"codes of {len(scan)} rows of {quantiser.dim} values do not fit {len(rows)} rows of {rows.dim}."
            )
        self.rows, self.quantiser, self.scan, self.shortlist = rows, quantiser, scan, shortlist
        for part in rows.parts:
            expect(part, "random")

    def with_shortlist(self, shortlist: int) -> CompressedEngine:
        """The same codes, another shortlist."""
        return CompressedEngine(self.rows, self.quantiser, self.scan, shortlist)

    def search(
        self,
        queries: Queries,  # (Q, D)
        k: int,
        allowed: Mask | None = None,  # (N,)
    ) -> Predictions:  # (Q, min(k, rows allowed))
        """The best allowed rows of each query's shortlist, as `ExactEngine.search` scores and orders them.

        Raises:
            InputError: shapes that do not fit, k below 1, or vectors that are not finite.
        """
        require_queries(queries, k, self.rows.dim)
        mask = self.rows.allowed(allowed)
        count = len(self.rows) if mask is None else int(np.count_nonzero(mask))
        wanted = max(self.shortlist, SHORTLIST_PER_RESULT * k)
        if count <= (wanted if mask is None else FEW * wanted) or not len(queries):
            return exact_over(self.rows, queries, k, None if mask is None else np.flatnonzero(mask))
        found = [self._one(query[None], k, wanted, mask, count) for query in queries]
        return Predictions(
            np.concatenate([one.indices for one in found]), np.concatenate([one.scores for one in found])
        )

    def _one(self, query: Queries, k: int, wanted: int, mask: Mask | None, count: int) -> Predictions:
        nearest = np.sort(self._nominated(self.quantiser.project(query[0]), wanted, mask, count))
        if len(nearest) > SINGLE_ROWS:
            return exact_over(self.rows, query, k, nearest)
        vectors = self.rows.stored(nearest)  # so few are read once, and kept
        nominating = products_of_halves if vectors.dtype == np.float16 else products
        found = exact_over(Rows((vectors,)), query, k, nominating=nominating)
        return Predictions(nearest[found.indices], found.scores)

    def _nominated(self, projected: NDArray[np.float32], wanted: int, mask: Mask | None, count: int) -> Indices:
        """The `wanted` allowed rows with the best codes."""
        if mask is None:
            return self.scan.best(projected, wanted)
        asked = int(1.25 * wanted * len(mask) / count)  # as if allowed rows were spread evenly
        while True:
            nearest = self.scan.best(projected, min(asked, len(mask)))
            nearest = nearest[mask[nearest]][:wanted]
            if len(nearest) == wanted or asked >= len(mask):
                return nearest
            asked *= 4
