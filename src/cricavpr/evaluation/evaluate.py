"""evaluate: a method on a dataset under one grouping; recall out, with everything that decided it."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cricavpr.datasets.base import EvalDataset, ImageSet, Problem
from cricavpr.describing import Described, Report, cache_key, describe
from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import InputError
from cricavpr.evaluation.recall import recall_at
from cricavpr.files import write_text
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index.search import Predictions, search
from cricavpr.methods.base import Method, TwoStageMethod
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
        rerank_s: seconds; what came from the cache took none.
        failed_rerank: photos that could be described but gave no local features; they keep their place.
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
    rerank_s: float = 0.0
    failed_rerank: tuple[Problem, ...] = ()

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
            "database": self.database,
            "queries": self.queries,
            "queries_without_positives": self.queries_without_positives,
            "failed_database": [_problem_dict(problem) for problem in self.failed_database],
            "failed_queries": [_problem_dict(problem) for problem in self.failed_queries],
            "describe_s": self.describe_s,
            "search_s": self.search_s,
            **(
                {
                    "reranked": self.reranked,
                    "rerank_s": self.rerank_s,
                    "failed_rerank": [_problem_dict(problem) for problem in self.failed_rerank],
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
) -> EvalResult:
    """Describe database and queries, each under `grouping`, search exactly, re-rank if wanted, and count.

    A shuffle draws database and queries apart: one order for both would put each query in the company that its
    match had.

    Args:
        recall_ns: the N of recall@N.
        cache: a folder that keeps descriptors, also half-finished ones, for the next run with the same
            photos, method, weights and groups.
        rerank: compare so many candidates of each query again by their local features, for a method that has them.

    Raises:
        InputError: as for `describe`, an N below 1, or a method that does not re-rank.
    """
    if not recall_ns or min(recall_ns) < 1:
        raise InputError(f"recall@N for N of {list(recall_ns)} is not defined. Give one or more N of 1 or more.")
    if rerank is not None:
        _check_rerank(method, rerank)
    sides: list[Described] = []
    started = time.perf_counter()
    for draw, images in enumerate((dataset.database, dataset.queries)):
        out = _cached_file(cache, method, images, grouping, draw)
        sides.append(
            _from_cache(out, images) or _described(method, images, grouping, draw, batch_size, workers, out, progress)
        )
    described = time.perf_counter()
    database, queries = sides
    database.descriptors.made_by.require_same(queries.descriptors.made_by, "the database and the queries")
    width = max(*recall_ns, rerank or 1)
    found = search(database.descriptors.vectors, queries.descriptors.vectors, width)
    predictions = _over_whole_split(found, database, queries, len(dataset.queries), width)
    searched = time.perf_counter()
    failed_rerank: tuple[Problem, ...] = ()
    rerank_s = 0.0
    if rerank is not None:
        predictions = again = _reranked(method, dataset, predictions, rerank, workers, cache, progress)
        failed_rerank = (*again.failed_database, *again.failed_queries)
        rerank_s = time.perf_counter() - searched
    return EvalResult(
        dataset=dataset.name,
        split_hash=dataset.split_hash(),
        rule=dataset.rule,
        made_by=database.descriptors.made_by,
        recall_at=recall_at(predictions.indices, dataset.positives, recall_ns),
        database=len(dataset.database),
        queries=len(dataset.queries),
        queries_without_positives=sum(not len(positives) for positives in dataset.positives),
        failed_database=database.problems,
        failed_queries=queries.problems,
        describe_s=described - started,
        search_s=searched - described,
        predictions=predictions,
        reranked=rerank,
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
    """All columns, recalls by rising N after the grouping; two columns only when they say something."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    recalls = sorted((name for name in names if name.startswith("R@")), key=lambda name: int(name[2:]))
    quiet = {name for name in ("without positives", "failed") if all(row[name] == "0" for row in rows)}
    others = [name for name in names if name not in recalls and name not in quiet]
    place = others.index("grouping") + 1
    return [*others[:place], *recalls, *others[place:]]


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "").isdecimal()


def _problem_dict(problem: Problem) -> dict[str, str]:
    return {"name": problem.name, "stage": problem.stage, "reason": problem.reason}


def _over_whole_split(
    found: Predictions,  # rows and indices count described images only
    database: Described,
    queries: Described,
    count: int,  # queries in the split
    n: int,
) -> Predictions:  # (count, n)
    indices = np.full((count, n), -1, np.int64)
    scores = np.full((count, n), -np.inf, np.float32)
    width = found.indices.shape[1]
    indices[queries.kept, :width] = database.kept[found.indices]
    scores[queries.kept, :width] = found.scores
    return Predictions(indices, scores)


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


# --- cache


def _cached_file(cache: Path | None, method: Method, images: ImageSet, grouping: Grouping, draw: int) -> Path | None:
    if cache is None:
        return None
    return Path(cache) / f"{method.name}-{cache_key(method, images, grouping, draw)[:24]}.safetensors"


def _described(
    method: Method,
    images: ImageSet,
    grouping: Grouping,
    draw: int,
    batch_size: int,
    workers: int | None,
    out: Path | None,
    progress: bool | Report,
) -> Described:
    described = describe(
        method,
        images,
        grouping,
        batch_size=batch_size,
        workers=workers,
        out=out,
        progress=progress,
        draw=draw,
    )
    if out is not None:
        problems = [_problem_dict(problem) for problem in described.problems]
        write_text(_problems_file(out), json.dumps(problems, indent=1))  # last: it says that all is there
    return described


def _from_cache(out: Path | None, images: ImageSet) -> Described | None:
    """What an earlier evaluation kept, or None; anything wrong with it means describing again."""
    if out is None or not _problems_file(out).exists():
        return None
    try:
        problems = tuple(Problem(**entry) for entry in json.loads(_problems_file(out).read_text(encoding="utf-8")))
        descriptors = DescriptorSet.load(out)
    except (OSError, ValueError, TypeError, InputError):
        return None
    failed = {problem.name for problem in problems}
    kept = np.array([row for row, name in enumerate(images.names) if name not in failed], np.int64)
    if descriptors.names != tuple(images.names[row] for row in kept.tolist()):
        return None
    return Described(descriptors, kept, problems)


def _problems_file(out: Path) -> Path:
    return out.with_suffix(".problems.json")
