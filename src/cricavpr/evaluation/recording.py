"""An evaluation on disk: a folder with card.json and answers.jsonl, named after what was evaluated."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.evaluation.answers import Answer, Match, Pair, write_answers
from cricavpr.evaluation.cards import Card, Counts, Timings
from cricavpr.evaluation.evaluate import EvalResult
from cricavpr.geo import Positions, distances_m

QUERIES_AT_ONCE = 256


def record(result: EvalResult, dataset: EvalDataset, out: Path, command: str = "") -> Path:
    """Write answers and then the card into a folder of their own below `out`; the path of that folder.

    An evaluation of the same images by the same means takes the place of an older one; any other has another folder.

    Raises:
        InputError: the place cannot be written.
    """
    card = card_of(result, command)
    folder = Path(out) / slug(card)
    write_answers(folder, answers_of(result, dataset))
    card.write(folder)  # last: it says that all is there
    return folder


def card_of(result: EvalResult, command: str = "", date: str | None = None) -> Card:
    """The card of a result, dated now unless told otherwise."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Card(
        dataset=result.dataset,
        split_hash=result.split_hash,
        rule=result.rule,
        counts=Counts(
            database=result.database,
            queries=result.queries,
            without_positives=result.queries_without_positives,
            failed_database=len(result.failed_database),
            failed_queries=len(result.failed_queries),
        ),
        method=result.method,
        weights=result.made_by.weights,
        made_by=result.made_by.to_dict(),
        grouping=result.made_by.grouping,
        protocol=result.protocol,
        reranked=result.reranked,
        reranking=result.reranking,
        recall_at=dict(result.recall_at),
        intervals=dict(result.intervals),
        timings=Timings(
            *(round(seconds, 3) for seconds in (result.describe_s, result.search_s, result.rerank_s)),
        ),
        versions=versions(),
        command=command,
        date=date or now,
    )


def versions() -> dict[str, str]:
    """Of what computes; digits may differ between them."""
    installed = {name: version(name) for name in ("cricavpr", "torch", "numpy")}
    return {**installed, "python": platform.python_version()}


def slug(card: Card) -> str:
    """A folder's name: readable, and different for whatever differs in more than time and versions."""
    deciding: dict[str, Any] = {
        "split": [card.split_hash, card.rule],
        "made_by": card.made_by,
        "protocol": asdict(card.protocol),
        "reranked": [card.reranked, card.reranking],
        "ns": card.ns,
    }
    mark = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]
    reranked = [] if card.reranked is None else [f"reranked-{card.reranked}"]
    parts = [card.dataset, card.method, card.grouping, card.protocol.name, *reranked, mark]
    return "--".join(re.sub(r"[^A-Za-z0-9_.-]+", "-", part).strip("-.")[:60] or "x" for part in parts)


def answers_of(result: EvalResult, dataset: EvalDataset) -> Iterator[Answer]:
    """What was answered to each query, in order; the first N are the largest N of recall@N."""
    width = max(result.recall_at)
    for start in range(0, len(dataset.queries), QUERIES_AT_ONCE):
        queries = np.arange(start, min(start + QUERIES_AT_ONCE, len(dataset.queries)))
        yield from _answers(result, dataset, queries, result.predictions.indices[queries, :width])


def _answers(
    result: EvalResult,
    dataset: EvalDataset,
    queries: NDArray[np.int64],  # (q,)
    indices: NDArray[np.int64],  # (q, n), -1 for nothing
) -> Iterator[Answer]:
    metres = _distances(dataset, queries, [row[row >= 0] for row in indices])
    to_positives = _distances(dataset, queries, [dataset.positives[query] for query in queries.tolist()])
    places = _latlon(dataset.queries, queries)
    for row, query in enumerate(queries.tolist()):
        found = indices[row][indices[row] >= 0]
        scores = result.predictions.scores[query][: indices.shape[1]][indices[row] >= 0]
        rank = int(result.ranks[query])
        yield Answer(
            query=dataset.queries.names[query],
            index=query,
            position=_metres(dataset.queries.positions, query),
            latlon=places[row],
            condition=None if dataset.queries.conditions is None else dataset.queries.conditions[query],
            positives=len(dataset.positives[query]),
            nearest_m=min((metre for metre in to_positives[row] if metre is not None), default=None),
            first_right_rank=rank or None,
            matches=tuple(_matches(dataset, query, found, scores, metres[row])),
        )


def _matches(
    dataset: EvalDataset,
    query: int,
    found: NDArray[np.int64],  # (n,)
    scores: NDArray[np.floating[Any]],  # (n,)
    metres: list[float | None],
) -> Iterator[Match]:
    right = np.isin(found, dataset.positives[query])
    latlon = _latlon(dataset.database, found)
    for place, index in enumerate(found.tolist()):
        name = dataset.database.names[index]
        yield Match(name, index, float(scores[place]), metres[place], bool(right[place]), latlon[place])


def _distances(
    dataset: EvalDataset,
    queries: NDArray[np.int64],  # (q,)
    columns: list[NDArray[np.int64]],  # q arrays of database indices
) -> list[list[float | None]]:
    """Metres from each query to some database images, to the millimetre."""
    base, asked = dataset.database.positions, dataset.queries.positions
    if base is None or asked is None or (base.zones is None) != (asked.zones is None):
        return [[None] * len(row) for row in columns]
    counts = [len(row) for row in columns]
    flat = np.concatenate([*columns, np.empty(0, np.int64)])
    metres = distances_m(base.take(flat), asked.take(np.repeat(queries, counts)))
    values = [None if np.isnan(metre) else round(metre, 3) for metre in metres.tolist()]
    ends = np.cumsum(counts).tolist()
    return [values[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _latlon(images: ImageSet, rows: NDArray[np.int64]) -> list[Pair | None]:
    """Degrees to about a millimetre; None where unknown or in a local frame."""
    if images.positions is None or images.positions.zones is None:
        return [None] * len(rows)
    degrees = images.positions.take(rows).latlon().tolist()
    return [None if np.isnan(lat) else (round(lat, 8), round(lon, 8)) for lat, lon in degrees]


def _metres(positions: Positions | None, row: int) -> Pair | None:
    if positions is None or np.isnan(positions.metres[row, 0]):
        return None
    east, north = positions.metres[row].tolist()
    return round(east, 3), round(north, 3)
