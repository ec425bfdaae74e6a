"""evaluate: a method on a dataset under one grouping; recall out, with everything that decided it."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, Problem
from cricavpr.describing import Report
from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.evaluation.intervals import bootstrap_intervals
from cricavpr.evaluation.precision import in_precision
from cricavpr.evaluation.protocols import HONEST, Protocol, describe_protocol
from cricavpr.evaluation.recall import counted_ranks, recall_at, replaced_ranks
from cricavpr.evaluation.streaming import Describing, describe_sides, problem_dict, room_for, search_split
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index.search import Predictions
from cricavpr.methods.base import Method, TwoStageMethod
from cricavpr.pca import Pca
from cricavpr.reranking import Reranked
from cricavpr.reranking import rerank as rerank_predictions

DOES_NOT_CORRELATE = "none (does not correlate)"


@dataclass(frozen=True, eq=False)
class EvalResult:
    """All that a row of a table of results needs, and what it takes to draw the figures.

    Attributes:
        dataset, split_hash, rule: which split, and how its positives were decided.
        made_by: the same for database and queries: method, weights, image size, preprocessing, grouping.
        recall_at: fraction of all queries, by N.
        database, queries: images in the split, those that failed included.
        queries_without_positives: they count as misses.
        failed_database: photos that could not be described, so nothing can find them.
        failed_queries: photos that could not be described; they count as misses.
        describe_s, search_s: seconds; descriptors that came from the cache took none.
        predictions: (Q, n) indices into the whole database; -1 for a failed query or beyond a small database.
        reranked: how many candidates of each query were compared again by local features; None where none were.
        reranking: which local features, and how they were compared, in one line; None where none were.
        rerank_s: seconds; what came from the cache took none.
        failed_rerank: photos that could be described but gave no local features; they keep their place.
        ranks: (Q,) rank of the best positive over the whole database; 0 where nothing can be found.
        intervals: 95 % bootstrap intervals of the recall over queries, by N.
        protocol: what else decided the recall.
    """

    dataset: str
    split_hash: str
    rule: str
    made_by: MadeBy
    recall_at: dict[int, float]
    database: int
    queries: int
    queries_without_positives: int
    failed_database: tuple[Problem, ...]
    failed_queries: tuple[Problem, ...]
    describe_s: float
    search_s: float
    predictions: Predictions
    reranked: int | None = None
    reranking: str | None = None
    rerank_s: float = 0.0
    failed_rerank: tuple[Problem, ...] = ()
    ranks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    intervals: dict[int, tuple[float, float]] = field(default_factory=dict)
    protocol: Protocol = HONEST

    @property
    def method(self) -> str:
        return self.made_by.method

    @property
    def grouping(self) -> str:
        """As recorded with the descriptors."""
        return DOES_NOT_CORRELATE if self.made_by.grouping == "none" else self.made_by.grouping

    def to_dict(self) -> dict[str, Any]:
        """Everything but the predictions."""
        return {
            "dataset": self.dataset,
            "split_hash": self.split_hash,
            "rule": self.rule,
            "method": self.method,
            "weights": self.made_by.weights,
            "grouping": self.grouping,
            "made_by": self.made_by.to_dict(),
            "recall_at": {str(n): recall for n, recall in self.recall_at.items()},
            "intervals": {str(n): list(interval) for n, interval in self.intervals.items()},
            "protocol": asdict(self.protocol),
            "database": self.database,
            "queries": self.queries,
            "queries_without_positives": self.queries_without_positives,
            "failed_database": [problem_dict(problem) for problem in self.failed_database],
            "failed_queries": [problem_dict(problem) for problem in self.failed_queries],
            "describe_s": self.describe_s,
            "search_s": self.search_s,
            **(
                {
                    "reranked": self.reranked,
                    "reranking": self.reranking,
                    "rerank_s": self.rerank_s,
                    "failed_rerank": [problem_dict(problem) for problem in self.failed_rerank],
                }
                if self.reranked is not None
                else {}
            ),
        }

    def table_row(self) -> dict[str, str]:
        """Column to cell; recall in per cent."""
        return {
            "dataset": self.dataset,
            "method": self.method + (f" ({self.made_by.weights})" if self.made_by.weights.startswith("random") else ""),
            **({"re-ranked": f"{self.reranked:,}"} if self.reranked is not None else {}),
            "grouping": self.grouping,
            **{f"R@{n}": f"{100 * recall:.1f}" for n, recall in self.recall_at.items()},
            "protocol": describe_protocol(self.protocol),
            "positives": self.rule,
            "database": f"{self.database:,}",
            "queries": f"{self.queries:,}",
            "without positives": f"{self.queries_without_positives:,}",
            "failed": f"{len(self.failed_database) + len(self.failed_queries) + len(self.failed_rerank):,}",
        }


def evaluate(
    method: Method,
    dataset: EvalDataset,
    grouping: Grouping = ALONE,
    *,
    recall_ns: Sequence[int] = (1, 5, 10),
    batch_size: int = 16,
    workers: int | None = None,
    progress: bool | Report = False,
    cache: Path | None = None,
    rerank: int | None = None,
    protocol: Protocol = HONEST,
    pca: Pca | None = None,
    whiten_on_database: bool = False,
) -> EvalResult:
    """Describe database and queries, each under `grouping`, search exactly, re-rank if wanted, and count.

    A shuffle draws database and queries apart: one order for both would put each query in the company that its
    match had. Memory does not grow with the number of descriptors: beyond a quarter of a gigabyte they lie on disk.

    Args:
        recall_ns: the N of recall@N.
        cache: a folder that keeps descriptors, also half-finished ones, for the next run with the same
            photos, method, weights and groups.
        rerank: compare so many candidates of each query again by their local features, for a method that has them.
        protocol: what else decides the recall; see `cricavpr.evaluation.protocols`.
        pca: what reduces the descriptors before the search.
        whiten_on_database: whiten by what is learnt on the database that is searched, as GCL does: fair for a map of
            one's own, not for comparing methods. Recorded as PCA.

    Raises:
        InputError: as for `describe`, an N below 1, or a method that does not re-rank.
        MadeByError: a PCA that was fitted on other descriptors.
    """
    _check(method, recall_ns, rerank)
    started = time.perf_counter()
    with room_for(method, dataset, cache) as folder:
        how = Describing(grouping, pca, folder, batch_size, workers, progress, whiten_on_database)
        database, queries = describe_sides(in_precision(method, protocol.precision), dataset, how)
        described = time.perf_counter()
        width = max(*recall_ns, rerank or 1)
        predictions, ranks = search_split(dataset, database, queries, protocol, width)
    searched = time.perf_counter()
    failed_rerank: tuple[Problem, ...] = ()
    rerank_s = 0.0
    if rerank is not None:
        predictions = again = _reranked(method, dataset, predictions, rerank, workers, cache, progress)
        ranks = replaced_ranks(ranks, predictions.indices, dataset.positives)
        failed_rerank = (*again.failed_database, *again.failed_queries)
        rerank_s = time.perf_counter() - searched
    made_by = database.descriptors.made_by
    skip = protocol.unanswered == "skip"
    return EvalResult(
        dataset=dataset.name,
        split_hash=dataset.split_hash(),
        rule=dataset.rule,
        made_by=made_by,
        recall_at=recall_at(predictions.indices, dataset.positives, recall_ns, skip_without_positives=skip),
        database=len(dataset.database),
        queries=len(dataset.queries),
        queries_without_positives=sum(not len(positives) for positives in dataset.positives),
        failed_database=database.problems,
        failed_queries=queries.problems,
        describe_s=described - started,
        search_s=searched - described,
        predictions=predictions,
        ranks=ranks,
        intervals=bootstrap_intervals(counted_ranks(ranks, dataset.positives, skip=skip), recall_ns),
        protocol=replace(protocol, tolerance=dataset.rule, pca=made_by.pca),
        reranked=rerank,
        reranking=f"{method.local}; {method.matching}" if isinstance(method, TwoStageMethod) and rerank else None,
        rerank_s=rerank_s,
        failed_rerank=failed_rerank,
    )


def format_table(results: Iterable[EvalResult]) -> str:
    """A Markdown table that also reads as plain text: one row for each result, always with its grouping."""
    rows = [result.table_row() for result in results]
    if not rows:
        return ""
    columns = _columns(rows)
    cells = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    widths = [max(3, *(len(line[place]) for line in cells)) for place in range(len(columns))]
    numeric = [all(_is_number(line[place]) for line in cells[1:]) for place in range(len(columns))]
    lines = ["| " + " | ".join(map(_pad, line, widths, numeric)) + " |" for line in cells]
    rule = [("-" * (width - 1) + ":") if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]]) + "\n"


def _columns(rows: Sequence[dict[str, str]]) -> list[str]:
    """All columns, recalls by rising N after the grouping; three columns only when they say something."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    recalls = sorted((name for name in names if name.startswith("R@")), key=lambda name: int(name[2:]))
    quiet = {name for name in ("without positives", "failed") if all(row[name] == "0" for row in rows)}
    quiet |= {"protocol"} if all(row["protocol"] == HONEST.name for row in rows) else set()
    others = [name for name in names if name not in recalls and name not in quiet]
    place = others.index("grouping") + 1
    return [*others[:place], *recalls, *others[place:]]


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "").isdecimal()


def _check(method: Method, recall_ns: Sequence[int], rerank: int | None) -> None:
    if not recall_ns or min(recall_ns) < 1:
        raise InputError(f"recall@N for N of {list(recall_ns)} is not defined. Give one or more N of 1 or more.")
    if rerank is not None:
        _check_rerank(method, rerank)


def _check_rerank(method: Method, candidates: int) -> None:
    if not isinstance(method, TwoStageMethod):
        raise InputError(f"{method.name} has no local features to re-rank by. Leave re-ranking out.")
    if candidates < 1:
        raise InputError(f"re-ranking the first {candidates} is not possible. Give 1 or more.")


def _reranked(
    method: Method,
    dataset: EvalDataset,
    predictions: Predictions,
    candidates: int,
    workers: int | None,
    cache: Path | None,
    progress: bool | Report,
) -> Reranked:
    assert isinstance(method, TwoStageMethod)
    with contextlib.ExitStack() as stack:
        folder = cache if cache is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return rerank_predictions(
            method,
            dataset.database,
            dataset.queries,
            predictions,
            folder,
            candidates,
            workers=workers,
            progress=progress,
        )
