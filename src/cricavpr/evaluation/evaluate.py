"""Evaluation of a method on a dataset: recall@N, and a card with all settings that influence it."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr import pages
from cricavpr.datasets.base import EvalDataset, Problem
from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.evaluation.answers import answers_of, write_answers
from cricavpr.evaluation.cards import Card, Counts, Timings, dependence
from cricavpr.evaluation.intervals import recall_intervals
from cricavpr.evaluation.markdown import table_of
from cricavpr.evaluation.protocols import HONEST, Protocol, groupings
from cricavpr.evaluation.protocols import protocol as protocol_named
from cricavpr.evaluation.recall import recall_at, replaced_ranks
from cricavpr.evaluation.streaming import describe_sides, in_precision, room_for, search_split
from cricavpr.grouping import Grouping
from cricavpr.index.search import Predictions
from cricavpr.methods import load_method
from cricavpr.methods.base import Method, TwoStageMethod
from cricavpr.pca import Pca
from cricavpr.progress import Report
from cricavpr.reranking import rerank as rerank_predictions
from cricavpr.schema import to_plain

Talk = Callable[[str], None]
AnyPath = Path | str


@dataclass(frozen=True, eq=False, repr=False)
class EvalResult:
    """The result of `evaluate`.

    Attributes:
        card: the recalls, and all settings that influence them.
        dataset: the evaluated dataset.
        predictions: the first matches of each query: database rows and scores of shape (Q, n). The row is -1 where
            there is no match, for example if the query could not be described.
        ranks: (Q,) rank of each query's best positive among all database images, counted from 1; 0 if the query has no
            positive or could not be described.
        failed_database: database photos that could not be described, so that no query can find them.
        failed_queries: queries that could not be described; they count as misses.
        failed_rerank: photos whose local features could not be computed; they keep their rank of the first search.
    """

    card: Card
    dataset: EvalDataset
    predictions: Predictions
    ranks: NDArray[np.int64]
    failed_database: tuple[Problem, ...] = ()
    failed_queries: tuple[Problem, ...] = ()
    failed_rerank: tuple[Problem, ...] = ()

    @property
    def recall_at(self) -> dict[int, float]:
        """Recall@N as a fraction; the keys are the values of N.

        The protocol decides whether queries without positives count as misses.
        """
        return self.card.recall_at

    @property
    def made_by(self) -> MadeBy:
        """Method, weights and settings that computed the descriptors of database and queries."""
        return self.card.made_by

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.card.method

    @property
    def grouping(self) -> str:
        """The grouping as text; "none (does not correlate)" for a method that describes each image by itself."""
        return "none (does not correlate)" if self.made_by.grouping == "none" else self.made_by.grouping

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All photos that could not be described or re-ranked, with the reasons."""
        return (*self.failed_database, *self.failed_queries, *self.failed_rerank)

    def __repr__(self) -> str:
        recalls = ", ".join(f"R@{n} {100 * recall:.1f}" for n, recall in self.recall_at.items())
        counts = f"{self.card.counts.queries:,} queries, {self.card.counts.database:,} database images"
        return f"<EvalResult {self.method} on {self.card.dataset}, grouping {self.grouping}: {recalls}; {counts}>"

    def _repr_html_(self) -> str:
        """Return the row of `table_row` as an HTML table, which notebooks show."""
        cells = self.table_row()
        return pages.table(list(cells), [("", [list(cells.values())])])

    def to_dict(self) -> dict[str, Any]:
        """Return the card and the photos that could not be described or re-ranked, ready for JSON."""
        failed = ("failed_database", "failed_queries", "failed_rerank")
        return {**self.card.to_dict(), **{name: to_plain(getattr(self, name)) for name in failed}}

    def table_row(self) -> dict[str, str]:
        """Return this result as a row of `format_table`: cell texts by column, with recall in per cent."""
        card, weights = self.card, self.made_by.weights
        return {
            "dataset": card.dataset,
            "method": self.method + (f" ({weights})" if weights.startswith("random") else ""),
            **({"re-ranked": f"{card.reranked:,}"} if card.reranked is not None else {}),
            "grouping": self.grouping,
            **{f"R@{n}": f"{100 * recall:.1f}" for n, recall in self.recall_at.items()},
            "protocol": str(card.protocol),
            "positives": card.rule,
            "database": f"{card.counts.database:,}",
            "queries": f"{card.counts.queries:,}",
            "without positives": f"{card.counts.without_positives:,}",
            "failed": f"{len(self.problems):,}",
        }

    def save(self, out: AnyPath) -> Path:
        """Write card.json and answers.jsonl into the subfolder `Card.folder_name` of `out`, and return this subfolder.

        Files of an earlier evaluation of the same images with the same settings are replaced.

        Raises:
            InputError: the files cannot be written.
        """
        folder = Path(out) / self.card.folder_name()
        write_answers(folder, answers_of(self.dataset, self.predictions, self.ranks, max(self.recall_at)))
        self.card.write(folder)  # last, because a card means that the answers are complete
        return folder


def evaluate(
    method: Method | str,
    dataset: EvalDataset,
    grouping: Grouping | str | None = None,
    *,
    protocol: Protocol | str = "honest",
    recall_ns: Sequence[int] | None = None,
    rerank: int | None = None,
    pca: Pca | AnyPath | None = None,
    pca_dim: int | None = None,
    whiten_on_database: bool = False,
    cache: AnyPath | None = None,
    batch_size: int = 16,
    workers: int | None = None,
    progress: bool | Report = False,
    command: str = "",
) -> EvalResult:
    """Measure recall@N: describe database and queries, search exactly, optionally re-rank, and count correct matches.

    Descriptors that need more than 256 MB are kept on disk, so that memory does not grow with the dataset.

    Args:
        method: a method, or its name.
        grouping: which images are described together, so that they influence each other's descriptors. Database and
            queries are divided separately; a shuffled grouping gives each its own order. None takes the first
            grouping of the protocol.
        protocol: further settings that influence the recall: "honest", "paper", or a `Protocol`.
        recall_ns: the values of N for recall@N; None takes those of the protocol.
        rerank: number of candidates per query to re-rank by local features; None does not re-rank.
        pca: a PCA that reduces the descriptors, or its file. The protocol "paper" does not scale reduced descriptors to
            length 1 again.
        pca_dim: number of dimensions to keep of the PCA; None keeps all.
        whiten_on_database: fit a whitening on the database descriptors and apply it. This adapts the descriptors to
            the database, so do not use it to compare methods. The card records it as the PCA.
        cache: a folder that keeps descriptors, also those of an interrupted evaluation. A later evaluation of the
            same photos with the same method, weights and groups reads its descriptors from this folder.
        batch_size, workers, progress: as for `describe`; they do not change the result.
        command: the command line to record in the card.

    Raises:
        InputError: as for `describe`; an N is below 1; or two settings cannot be combined.
        MadeByError: the PCA was fitted on descriptors of another method, weights or settings.

    Example:
        >>> import tempfile
        >>> from cricavpr import load_method, open_dataset
        >>> from cricavpr.town import make_town
        >>> folder = Path(tempfile.mkdtemp()) / "town"
        >>> _ = make_town(folder, seed=7, places=4, layout="photos", image_size=(56, 56))
        >>> dataset, _ = open_dataset(folder)
        >>> evaluate(load_method("pixels"), dataset, recall_ns=(4,)).recall_at
        {4: 1.0}
    """
    method = _loaded(method, dataset)
    chosen = protocol_named(protocol, dataset) if isinstance(protocol, str) else protocol
    ns = sorted(set(chosen.recall_ns if recall_ns is None else recall_ns))
    _check(method, ns, rerank, pca is not None and whiten_on_database)
    if grouping is None:
        grouping = groupings(chosen.name, method.correlates, dataset.paper_grouping)[0]
    grouping = Grouping.parse(grouping)
    reduction, cache = _reduction(pca, pca_dim, chosen), None if cache is None else Path(cache)
    times = [time.perf_counter()]
    with room_for(method, dataset, cache) as folder:
        database, queries = describe_sides(
            in_precision(method, chosen.precision),
            dataset,
            grouping,
            reduction,
            whiten=whiten_on_database,
            folder=folder,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
        times.append(time.perf_counter())
        most = len(dataset.database)  # a search cannot return more images
        found, ranks = search_split(dataset, database, queries, chosen, min(most, max(*ns, rerank or 1)))
        times.append(time.perf_counter())
    failed_rerank: tuple[Problem, ...] = ()
    local = None
    if rerank is not None and isinstance(method, TwoStageMethod):
        sides, candidates = (dataset.database, dataset.queries), min(most, rerank)
        with tempfile.TemporaryDirectory() as spare:
            kept = cache or Path(spare)
            again = rerank_predictions(method, *sides, found, kept, candidates, workers=workers, progress=progress)
        found, ranks = again, replaced_ranks(ranks, again.indices, dataset.positives)
        failed_rerank = (*again.failed_database, *again.failed_queries)
        local = f"{method.local}; {method.matching}"
        times.append(time.perf_counter())
    made_by = database.descriptors.made_by
    skip, without = chosen.unanswered == "skip", sum(not len(positives) for positives in dataset.positives)
    recalls = recall_at(found.indices, dataset.positives, [min(n, most) for n in ns], skip_without_positives=skip)
    recalls = {n: recalls[min(n, most)] for n in ns}
    card = Card(
        dataset=dataset.name,
        split_hash=dataset.split_hash(),
        rule=dataset.rule,
        counts=Counts(
            len(dataset.database), len(dataset.queries), without, len(database.problems), len(queries.problems)
        ),
        method=made_by.method,
        weights=made_by.weights,
        made_by=made_by,
        grouping=made_by.grouping,
        protocol=replace(chosen, tolerance=dataset.rule, pca=made_by.pca),
        reranked=rerank,
        reranking=local,
        recall_at=recalls,
        intervals=recall_intervals(recalls, len(dataset.queries) - (without if skip else 0)),
        timings=Timings(*(round(end - start, 3) for start, end in itertools.pairwise(times))),
        versions={**{of: version(of) for of in ("cricavpr", "torch", "numpy")}, "python": platform.python_version()},
        command=command,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        interval_kind="wilson",
        query_sequences=_sequences(dataset.queries.keys),
    )
    return EvalResult(card, dataset, found, ranks, database.problems, queries.problems, failed_rerank)


def evaluate_protocol(
    method: Method | str,
    dataset: EvalDataset,
    protocol: Protocol | str = "honest",
    given: Sequence[Grouping | str] = (),
    *,
    out: AnyPath | None = None,
    cache: AnyPath | None = None,
    talk: Talk = lambda _: None,
    **settings: Any,
) -> list[EvalResult]:
    """Evaluate a method with every grouping of a protocol, as `cricavpr evaluate` does.

    Args:
        given: groupings to use instead of those of the protocol.
        out: folder for the card and answers of each result, as `EvalResult.save` writes them. Without `cache`, the
            descriptors are also kept in `out` until all groupings are done, so that an interrupted evaluation can
            continue.
        cache: a folder that keeps the descriptors for later evaluations.
        talk: called with one line of text for each folder that was written.
        settings: further keyword arguments of `evaluate`.

    Raises:
        InputError, MadeByError: as for `evaluate`.
    """
    method = _loaded(method, dataset)
    chosen = protocol_named(protocol, dataset) if isinstance(protocol, str) else protocol
    results = []
    with _kept(method, dataset, out, cache) as kept:
        for grouping in given or groupings(chosen.name, method.correlates, dataset.paper_grouping):
            results.append(evaluate(method, dataset, grouping, protocol=chosen, cache=kept, **settings))
            if out is not None:
                talk(f"card and answers: {results[-1].save(out)}")
    return results


def _loaded(method: Method | str, dataset: EvalDataset) -> Method:
    """Return the method, loaded if it is a name. Raise InputError if the dataset is not a dataset."""
    if not hasattr(dataset, "queries"):  # such as a path, or what `open_dataset` returns
        got = type(dataset).__name__
        raise InputError(f"expected a dataset, got {got}. Use: dataset, problems = open_dataset(FOLDER)")
    return load_method(method) if isinstance(method, str) else method


@contextlib.contextmanager
def _kept(method: Method, dataset: EvalDataset, out: AnyPath | None, cache: AnyPath | None) -> Iterator[Path | None]:
    """Yield the folder for the descriptors; None if neither `out` nor `cache` is given.

    This is `cache` if given, else a folder in `out` that is removed after success.
    """
    if cache is not None or out is None:
        yield None if cache is None else Path(cache)
        return
    folder = Path(out) / f".unfinished-{method.name}-{dataset.split_hash()[:12]}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def format_table(results: Iterable[EvalResult]) -> str:
    """Return a Markdown table with a row for each result; it is also readable as plain text."""
    rows = [result.table_row() for result in results]
    return table_of(rows, {"without positives": "0", "failed": "0", "protocol": HONEST.name}) if rows else ""


def small_print(results: Sequence[EvalResult]) -> Iterator[str]:
    """Yield lines about intervals, weights and images, which do not fit into the table of `format_table`."""
    for result in results:
        recalls = ", ".join(
            f"R@{n} {100 * result.recall_at[n]:.1f} ({100 * low:.1f} to {100 * high:.1f})"
            for n, (low, high) in result.card.intervals.items()
        )
        yield f"{result.method}, {result.grouping}: {recalls}; in brackets: 95 % Wilson confidence intervals"
    first = results[0].card
    if first.query_sequences is not None:
        yield dependence(first)
    if whole := ", ".join(f"R@{n}" for n in first.ns if n >= first.counts.database):
        yield f"{whole} covers all {first.counts.database:,} database photos, so it says nothing about the method"
    for made in dict.fromkeys((r.made_by.weights, r.made_by.preprocessing, r.made_by.dim) for r in results):
        yield f"weights {made[0]}; {made[1]}; {made[2]:,} dimensions"
    yield f"split {first.split_hash}"


def _check(method: Method, ns: Sequence[int], rerank: int | None, both: bool) -> None:
    if not ns or ns[0] < 1:
        raise InputError(f"recall@N needs at least one N, and each N must be at least 1, got {list(ns)}.")
    if both:
        raise InputError("whitening on the database cannot be combined with a PCA. Give only one of the two.")
    if rerank is not None and not isinstance(method, TwoStageMethod):
        raise InputError(f"{method.name} has no local features, so it cannot re-rank. Evaluate without re-ranking.")
    if rerank is not None and rerank < 1:
        raise InputError(f"the number of candidates per query to re-rank must be at least 1, got {rerank}.")


def _reduction(pca: Pca | AnyPath | None, dim: int | None, protocol: Protocol) -> Pca | None:
    if pca is None:
        if dim is not None:
            raise InputError("a PCA dimension was given without a PCA. Give the PCA too; `cricavpr pca fit` makes one.")
        return None
    pca = pca if isinstance(pca, Pca) else Pca.load(Path(pca))
    pca = pca if dim is None else pca.truncated(dim)
    return replace(pca, renormalise=False) if protocol.name == "paper" else pca


def _sequences(keys: Sequence[str] | None) -> int | None:
    """Return the number of sequences among the queries.

    It is None if the sequences are unknown, if there is only one, or if each query has a sequence of its own.
    """
    return len(set(keys)) if keys is not None and 1 < len(set(keys)) < len(keys) else None
