"""Measurement of the recall of compressed search on the photos of an index, stored in the folder of the index.

The stored file lists the quantiser and the segments that were measured. It is ignored once more than a fifth of the
photos have changed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from cricavpr.errors import InputError
from cricavpr.files import write_text
from cricavpr.index.checksummed_json import seal, unseal
from cricavpr.index.codes.compressed import SHORTLIST_PER_RESULT, CompressedEngine
from cricavpr.index.columns import Indices
from cricavpr.index.exact import ExactEngine, Queries
from cricavpr.index.manifest import TUNED, Piece
from cricavpr.index.search import Predictions
from cricavpr.index.storage import TuningError, failed_read, read_whole
from cricavpr.progress import Report
from cricavpr.schema import build, to_plain

SHORTLISTS = (110, 200, 400, 800, 1600)
TARGET = 0.99
BEST = 10  # the number of best matches that are compared for each query

FORMAT = "cricavpr.tuned.3"
MOST_BYTES = 1 << 24
SAME_ENOUGH = 0.8  # the result is used if at least this share of the photos were measured
TUNE = "Run `cricavpr index tune`"


# --- measuring


@dataclass(frozen=True)
class Setting:
    """The measurement for one length of the shortlist.

    Attributes:
        shortlist: number of vectors that are read for each query.
        recall_at_1: share of queries whose best match is the same as in exact search.
        recall_at_10: share of the ten best matches of exact search that compressed search finds among its ten best.
        p50_ms, p95_ms: median and 95th percentile of the time for one query, in milliseconds.
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
    """The measurements for several lengths of the shortlist.

    Attributes:
        rows: number of photos in the index.
        queries: number of photos that were used as queries.
        settings: one measurement for each length, the shortest first.
        target: the lowest acceptable recall, from 0 to 1, where 1 is the recall of exact search.
    """

    rows: int
    queries: int
    settings: tuple[Setting, ...]
    target: float = TARGET

    def __post_init__(self) -> None:
        if min(self.rows, self.queries, *(one.shortlist for one in self.settings)) < 1 or not 0 < self.target <= 1:
            raise ValueError("rows, queries and shortlists must be at least 1, and the target must be in (0, 1]")

    @property
    def keeps(self) -> Setting | None:
        """The measurement of the shortest shortlist that reaches the target, or None if no shortlist reaches it.

        A shortlist reaches the target if its recall at 1 and its recall at 10 do.
        """
        return next((one for one in self.settings if min(one.recall_at_1, one.recall_at_10) >= self.target), None)

    @property
    def advice(self) -> str:
        """Advice on which shortlist to use, as one line for printing."""
        if self.keeps is None:
            return (
                f"No measured shortlist finds {self.target:.0%} of what exact search finds. "
                "Measure longer shortlists, or use the exact engine."
            )
        return f"A shortlist of {self.keeps.shortlist} finds at least {self.target:.0%} of what exact search finds."

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = to_plain(self)
        return {**plain, "shortlist": self.keeps.shortlist if self.keeps else None}

    def __str__(self) -> str:
        lines = [
            f"Recall compared with exact search, with {self.queries} of {self.rows:,} photos as queries:",
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
    """Search for some photos of the index among its other photos: exactly, and with codes. Compare the results.

    See `PlaceIndex.tune`. The recall may be lower for queries that differ from the photos of the index, for example
    photos taken at night.
    """
    mask = engine.rows.allowed()
    live = np.arange(len(engine.rows)) if mask is None else np.flatnonzero(mask)
    check_measurable(len(live), sample, shortlists)
    own = np.sort(np.random.default_rng(seed).choice(live, min(sample, len(live)), replace=False))
    queries = engine.rows.read(own).astype(np.float32, copy=False)
    exact = without_itself(ExactEngine(engine.rows).search(queries, BEST + 1, report=report), own)
    least = SHORTLIST_PER_RESULT * (BEST + 1)  # an engine reads at least so many vectors for BEST + 1 results
    lengths = sorted({max(one, least) for one in shortlists})
    settings = tuple(_measure(engine.with_shortlist(one), queries, own, exact) for one in lengths)
    return Tuning(len(live), len(own), settings, target)


def check_measurable(rows: int, sample: int, shortlists: Sequence[int]) -> None:
    """Raise InputError if there is nothing to measure. Call this before codes are made, to fail early.

    Args:
        rows: number of photos in the index.
        sample: number of photos to use as queries.
        shortlists: the lengths of the shortlist to measure.
    """
    if rows < 2 or sample < 1 or not shortlists or min(shortlists) < 1:
        raise InputError(
            f"tuning needs at least 2 photos, at least 1 query, and shortlists of at least 1, got {rows} photos, "
            f"{sample} queries, and the shortlists {list(shortlists)}."
        )


def _measure(engine: CompressedEngine, queries: Queries, own: Indices, exact: Indices) -> Setting:
    engine.search(queries[:1], BEST + 1)  # the first search takes longer
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
    """Return the rows that were found, without the row of the query itself.

    If a query did not find its own row, its last row is left out instead. So n - 1 rows are left for every query.

    Args:
        own: for each query, the row that holds the query itself.
    """
    others = found.indices != own[:, None]
    others[others.all(axis=1), -1] = False
    rows: Indices = found.indices[others].reshape(len(own), -1)
    return rows


def recalls(found: Indices, exact: Indices) -> tuple[float, float]:  # (Q, n) twice
    """Return the recall at 1 and at n.

    Args:
        found: the n best rows of each query by compressed search.
        exact: the n best rows of each query by exact search.

    Returns:
        Two shares: of queries whose first row is the same in both, and of rows in `exact` that are also in `found`.
    """
    among = [np.isin(right, got).mean() for got, right in zip(found, exact, strict=True)]
    return float((found[:, 0] == exact[:, 0]).mean()), float(np.mean(among))


# --- keeping the result


@dataclass(frozen=True)
class Tuned:
    """The measurement that is stored in the folder of an index.

    Attributes:
        quantiser: fingerprint of the quantiser that made the codes.
        segments: the number of measured photos in each segment, by the checksum of the segment.
        tuning: the measurement.
    """

    quantiser: str
    segments: dict[str, int]
    tuning: Tuning

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the measurement of an index. Raises InputError if it is missing, damaged or unreadable."""
        path = folder / TUNED
        try:
            values = unseal(read_whole(path, MOST_BYTES))
            if values.pop("format", None) != FORMAT:
                raise ValueError(f"is not of the format {FORMAT}")
            return build(cls, values, "it")
        except FileNotFoundError:
            raise InputError(
                f"the recall of compressed search was never measured for {folder}. {TUNE} to search faster."
            ) from None
        except OSError as error:
            raise failed_read(path, error, TuningError) from error
        except ValueError as error:
            raise TuningError(path, str(error)) from error
        except InputError as error:
            raise TuningError(path, f"is damaged ({str(error).rstrip('.')})") from error

    def write(self, folder: Path) -> None:
        """Write the measurement to the folder of an index. Raises InputError if the file cannot be written."""
        write_text(folder / TUNED, seal({"format": FORMAT, **to_plain(self)}, indent=1) + "\n")

    def shortlist(self, pieces: Sequence[Piece], quantiser: str) -> int:
        """Return the length of the shortlist to use for these segments.

        Args:
            pieces: the segments of the version that is searched.
            quantiser: fingerprint of the quantiser of its codes.

        Raises:
            InputError: the measurement was made with other photos or codes, or no shortlist reached the target.
        """
        photos, measured, same = sum(piece.live for piece in pieces), self.tuning.rows, self.same(pieces)
        if self.quantiser != quantiser:
            raise InputError(f"the codes have changed since they were measured. {TUNE} again.")
        if same < SAME_ENOUGH * max(photos, measured):
            raise InputError(
                f"only {same:,} of {photos:,} photos are among the {measured:,} photos measured before. {TUNE} again."
            )
        if self.tuning.keeps is None:
            raise InputError(
                f"no measured shortlist finds {self.tuning.target:.0%} of what exact search finds. Measure longer "
                "shortlists: cricavpr index tune --shortlist"
            )
        return self.tuning.keeps.shortlist

    def same(self, pieces: Sequence[Piece]) -> int:
        """Return how many photos of these segments were measured."""
        return sum(min(piece.live, self.segments.get(piece.checksum, 0)) for piece in pieces)

    def carry(self, old: Sequence[Piece], new: Sequence[Piece]) -> Self:
        """Return the measurement for an index whose segments `old` were merged into the segments `new`.

        It lists the old segments, too, because they are in use until the new version is committed.
        """
        left, segments = self.same(old), dict(self.segments)
        kept = {piece.checksum for piece in new} & set(segments)
        left -= sum(segments[one] for one in kept)
        for piece in new:
            if piece.checksum not in kept:
                segments[piece.checksum] = max(0, min(left, piece.live))
                left -= segments[piece.checksum]
        there = {piece.checksum for piece in (*old, *new)}
        return replace(self, segments={one: count for one, count in segments.items() if one in there})
