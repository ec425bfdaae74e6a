"""Evaluate a method on a dataset: recall@N, with everything that decides it."""

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
        card: recall with everything that decides it.
        dataset: the dataset.
        predictions: (Q, n) rows of the database, n at most its size; -1 for no prediction.
        ranks: (Q,) rank of the best positive over the whole database; 0 without a positive.
        failed_database: database photos that could not be described, so no query can find them.
        failed_queries: queries that could not be described; they count as misses.
        failed_rerank: photos without local features; they keep the rank of the search.
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
        """Recall by N, as fractions of the counted queries."""
        return self.card.recall_at

    @property
    def made_by(self) -> MadeBy:
        """Provenance of the descriptors of database and queries."""
        return self.card.made_by

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.card.method

    @property
    def grouping(self) -> str:
        """The grouping; "none (does not correlate)" for a method whose images do not see one another."""
        return "none (does not correlate)" if self.made_by.grouping == "none" else self.made_by.grouping

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All photos that could not be used."""
        return (*self.failed_database, *self.failed_queries, *self.failed_rerank)

    def __repr__(self) -> str:
        recalls = ", ".join(f"R@{n} {100 * recall:.1f}" for n, recall in self.recall_at.items())
        counts = f"{self.card.counts.queries:,} queries, {self.card.counts.database:,} database images"
        return f"<EvalResult {self.method} on {self.card.dataset}, grouping {self.grouping}: {recalls}; {counts}>"

    def _repr_html_(self) -> str:
        """Show the row of `table_row` in a notebook."""
        cells = self.table_row()
        return pages.table(list(cells), [("", [list(cells.values())])])

    def to_dict(self) -> dict[str, Any]:
        """Return the card and the photos that could not be used, for JSON."""
        failed = ("failed_database", "failed_queries", "failed_rerank")
        return {**self.card.to_dict(), **{name: to_plain(getattr(self, name)) for name in failed}}

    def table_row(self) -> dict[str, str]:
        """Return a row of `format_table`: cells by column, recall in per cent."""
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
        """Write card and answers into their own folder in `out`, and return that folder.

        The folder replaces that of an earlier evaluation of the same images with the same settings.

        Raises:
            InputError: the files cannot be written.
        """
        folder = Path(out) / self.card.folder_name()
        write_answers(folder, answers_of(self.dataset, self.predictions, self.ranks, max(self.recall_at)))
        self.card.write(folder)  # last: it says that the answers are complete
        return folder


def evaluate(
    method: Method,
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
    """Measure recall@N: describe database and queries, search exactly, optionally re-rank, and count.

    A shuffle orders database and queries differently: the same order would group each query like its match. Memory does
    not grow with the number of descriptors: beyond a quarter of a gigabyte they are kept on disk.

    Args:
        grouping: which images see one another, on each side; None takes the first grouping of the protocol.
        protocol: the other settings that decide the recall: a name, or a value from `cricavpr.evaluation.protocols`.
        recall_ns: the N of recall@N; None takes those of the protocol.
        rerank: compare this many candidates of each query again by local features, if the method has them.
        pca: a PCA, or the file of one, to reduce the descriptors; the paper's protocol does not renormalise them.
        pca_dim: keep only this many values of the PCA.
        whiten_on_database: fit a whitening on the database, as GCL does: fair for a map of your own, not for comparing
            methods. The card records it as the PCA.
        cache: a folder that keeps descriptors, also unfinished ones, for the next run with the same photos, method,
            weights and groups.
        batch_size, workers, progress: as for `describe`; they do not change the result.
        command: the command line, for the card.

    Raises:
        InputError: as for `describe`; an N is below 1; or settings exclude one another.
        MadeByError: the PCA was fitted on other descriptors.

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
        most = len(dataset.database)  # no search can find more
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
    method: Method,
    dataset: EvalDataset,
    protocol: Protocol | str = "honest",
    given: Sequence[Grouping | str] = (),
    *,
    out: AnyPath | None = None,
    cache: AnyPath | None = None,
    talk: Talk = lambda _: None,
    **settings: Any,
) -> list[EvalResult]:
    """Evaluate under every grouping of a protocol, as `cricavpr evaluate` does.

    Args:
        given: groupings to use instead of those of the protocol.
        out: write a card and answers for each result into this folder, as `EvalResult.save` does. Without `cache` it
            also keeps the descriptors until all is done, so that an interrupted evaluation can continue.
        talk: called with one line for each folder that was written.
        settings: as for `evaluate`.

    Raises:
        InputError, MadeByError: as for `evaluate`.
    """
    chosen = protocol_named(protocol, dataset) if isinstance(protocol, str) else protocol
    results = []
    with _kept(method, dataset, out, cache) as kept:
        for grouping in given or groupings(chosen.name, method.correlates, dataset.paper_grouping):
            results.append(evaluate(method, dataset, grouping, protocol=chosen, cache=kept, **settings))
            if out is not None:
                talk(f"card and answers: {results[-1].save(out)}")
    return results


@contextlib.contextmanager
def _kept(method: Method, dataset: EvalDataset, out: AnyPath | None, cache: AnyPath | None) -> Iterator[Path | None]:
    """Yield the folder of the descriptors: the cache, or a folder in `out` that is removed when all is done."""
    if cache is not None or out is None:
        yield None if cache is None else Path(cache)
        return
    folder = Path(out) / f".unfinished-{method.name}-{dataset.split_hash()[:12]}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def format_table(results: Iterable[EvalResult]) -> str:
    """Return a Markdown table that is also readable as plain text, with a row and a grouping for each result."""
    rows = [result.table_row() for result in results]
    return table_of(rows, {"without positives": "0", "failed": "0", "protocol": HONEST.name}) if rows else ""


def small_print(results: Sequence[EvalResult]) -> Iterator[str]:
    """Yield lines about intervals, weights and images, for which `format_table` has no room."""
    for result in results:
        recalls = ", ".join(
            f"R@{n} {100 * result.recall_at[n]:.1f} ({100 * low:.1f} to {100 * high:.1f})"
            for n, (low, high) in result.card.intervals.items()
        )
        yield f"{result.method}, {result.grouping}: {recalls}; 95 % Wilson intervals over the queries"
    first = results[0].card
    if first.query_sequences is not None:
        yield dependence(first)
    if whole := ", ".join(f"R@{n}" for n in first.ns if n >= first.counts.database):
        yield f"{whole} covers all {first.counts.database:,} database photos, so it does not measure the search"
    for made in dict.fromkeys((r.made_by.weights, r.made_by.preprocessing, r.made_by.dim) for r in results):
        yield f"weights {made[0]}; {made[1]}; {made[2]:,} values"
    yield f"split {first.split_hash}"


def _check(method: Method, ns: Sequence[int], rerank: int | None, both: bool) -> None:
    if not ns or ns[0] < 1:
        raise InputError(f"recall@N needs one or more N of at least 1, got {list(ns)}.")
    if both:
        raise InputError("whitening on the database cannot follow a PCA. Give one of the two.")
    if rerank is not None and not isinstance(method, TwoStageMethod):
        raise InputError(f"{method.name} has no local features, so it cannot re-rank. Leave re-ranking out.")
    if rerank is not None and rerank < 1:
        raise InputError(f"the number of candidates to re-rank must be at least 1, got {rerank}.")


def _reduction(pca: Pca | AnyPath | None, dim: int | None, protocol: Protocol) -> Pca | None:
    if pca is None:
        if dim is not None:
            raise InputError("a PCA dimension needs a PCA. Fit one with `cricavpr pca fit`.")
        return None
    pca = pca if isinstance(pca, Pca) else Pca.load(Path(pca))
    pca = pca if dim is None else pca.truncated(dim)
    return replace(pca, renormalise=False) if protocol.name == "paper" else pca


def _sequences(keys: Sequence[str] | None) -> int | None:
    """Return the number of sequences of the queries; None if unknown, or if all or no queries share a sequence."""
    return len(set(keys)) if keys is not None and 1 < len(set(keys)) < len(keys) else None
