"""What compression costs an index in recall, measured on its own vectors: nobody shall give recall up unknowingly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.engines.compressed import SHORTLIST_PER_RESULT, CompressedEngine
from cricavpr.index.engines.exact import ExactEngine, Queries, Report
from cricavpr.index.search import Predictions

SHORTLISTS = (110, 200, 400, 800, 1600)
TARGET = 0.99
BEST = 10  # recall is counted over this many

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Setting:
    """One shortlist, measured.

    Attributes:
        shortlist: vectors read for a query.
        recall_at_1: share of queries whose exact best row comes first.
        recall_at_10: share of the exact ten best rows that are among the ten found.
        p50_ms: of one query alone.
        p95_ms: of one query alone.
    """

    shortlist: int
    recall_at_1: float
    recall_at_10: float
    p50_ms: float
    p95_ms: float

    def __str__(self) -> str:
        recalls = f"{self.recall_at_1:>7.1%} {self.recall_at_10:>7.1%}"
        return f"{self.shortlist:>9} {recalls} {self.p50_ms:>8.1f} {self.p95_ms:>8.1f}"


@dataclass(frozen=True)
class Tuning:
    """All settings that were measured, and what was asked of them.

    Attributes:
        rows: of the index.
        queries: how many were searched for.
        settings: shortest first.
        target: recall at 10 to keep.
    """

    rows: int
    queries: int
    settings: tuple[Setting, ...]
    target: float = TARGET

    @property
    def keeps(self) -> Setting | None:
        """The shortest shortlist that keeps the target at 1 and at 10, or None."""
        kept = (one for one in self.settings if min(one.recall_at_1, one.recall_at_10) >= self.target)
        return next(kept, None)

    @property
    def advice(self) -> str:
        """One line: what to take."""
        if self.keeps is None:
            return f"No shortlist keeps {self.target:.0%} of exact search. Use a longer one, or the exact engine."
        return f"A shortlist of {self.keeps.shortlist} keeps {self.target:.0%} of what exact search finds."

    def to_dict(self) -> dict[str, Any]:
        keeps = self.keeps.shortlist if self.keeps else None
        return {**asdict(self), "settings": [asdict(one) for one in self.settings], "shortlist": keeps}

    def __str__(self) -> str:
        lines = [
            f"{self.queries} of {self.rows:,} descriptors as queries, each without itself, next to exact search:",
            f"{'shortlist':>9} {'R@1':>7} {'R@10':>7} {'p50 ms':>8} {'p95 ms':>8}",
            *map(str, self.settings),
            self.advice,
        ]
        return "\n".join(lines)


def tune(
    engine: CompressedEngine,
    sample: int = 100,
    shortlists: Sequence[int] = SHORTLISTS,
    target: float = TARGET,
    seed: int = 0,
    report: Report | None = None,
) -> Tuning:
    """Take some of the index's own rows as queries, each without itself, and compare with exact search.

    Exact search reads the whole index once. Rows stand for the photos that will be looked for: where those differ
    from the database, by night say, measure on some of them.

    Raises:
        InputError: too few rows, or no query or shortlist asked for.
    """
    mask = engine.rows.allowed()
    live = np.arange(len(engine.rows)) if mask is None else np.flatnonzero(mask)
    require_measurable(len(live), sample, shortlists)
    own = np.sort(np.random.default_rng(seed).choice(live, min(sample, len(live)), replace=False))
    queries = engine.rows.read(own)
    exact = without_itself(ExactEngine(engine.rows).search(queries, BEST + 1, report=report), own)
    least = SHORTLIST_PER_RESULT * (BEST + 1)  # an engine reads no fewer for so many results: say what was measured
    lengths = sorted({max(one, least) for one in shortlists})
    settings = tuple(_measure(engine.with_shortlist(one), queries, own, exact) for one in lengths)
    return Tuning(len(live), len(own), settings, target)


def require_measurable(rows: int, sample: int, shortlists: Sequence[int]) -> None:
    """Worth asking before codes are made. Raises: InputError: too few rows, or no query or shortlist asked for."""
    if rows < 2 or sample < 1 or not shortlists or min(shortlists) < 1:
        raise InputError(
            f"{rows} rows, {sample} queries and shortlists {list(shortlists)} leave nothing to measure. "
            "Take 2 photos or more, and a sample and shortlists of 1 or more."
        )


def _measure(engine: CompressedEngine, queries: Queries, own: Indices, exact: Indices) -> Setting:
    engine.search(queries[:1], BEST + 1)  # what is paid once is not a query's
    found, times_ms = [], []
    for query, row in zip(queries, own, strict=True):
        started = time.perf_counter()
        one = engine.search(query[None], BEST + 1)
        times_ms.append(1000 * (time.perf_counter() - started))
        found.append(without_itself(one, row[None])[0])
    first, all_of_them = recalls(np.stack(found), exact)
    p50, p95 = np.percentile(times_ms, [50, 95])
    return Setting(engine.shortlist, first, all_of_them, float(p50), float(p95))


def without_itself(found: Predictions, own: Indices) -> Indices:  # (Q, n), (Q,) -> (Q, n - 1)
    """Rows found, less each query's own; where that was not found the last one goes."""
    others = found.indices != own[:, None]
    others[others.all(axis=1), -1] = False
    rows: Indices = found.indices[others].reshape(len(own), -1)
    return rows


def recalls(found: Indices, exact: Indices) -> tuple[float, float]:  # (Q, n) twice
    """The share of queries with the right first row, and the share of right rows that were found at all."""
    among = [np.isin(right, got).mean() for got, right in zip(found, exact, strict=True)]
    return float((found[:, 0] == exact[:, 0]).mean()), float(np.mean(among))
