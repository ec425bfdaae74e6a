"""The file answers.jsonl of an evaluation: one JSON line per query with its best matches.

With these files two evaluations can be compared query by query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.errors import InputError
from cricavpr.evaluation.cards import Card
from cricavpr.files import written_beside
from cricavpr.geo import Positions, distances_m
from cricavpr.index.search import Predictions
from cricavpr.schema import build, parse_json, to_plain

FILE = "answers.jsonl"
QUERIES_AT_ONCE = 256
Pair = tuple[float, float]


@dataclass(frozen=True)
class Match:
    """One database image that the search returned for a query.

    Attributes:
        name, index: name of the image, and its row in the database.
        score: similarity to the query; higher is better.
        distance_m: distance to the query in metres; None if either position is unknown.
        right: whether the image is correct, that is, shows the place of the query (a positive).
        latlon: latitude and longitude of the image in degrees; None if unknown or in local coordinates.
    """

    name: str
    index: int
    score: float
    distance_m: float | None
    right: bool
    latlon: Pair | None = None


@dataclass(frozen=True)
class Answer:
    """The search result of one query, checked against the ground truth.

    Attributes:
        query, index: name of the query image, and its row among the queries.
        position: easting and northing of the query in metres; None if unknown.
        latlon: latitude and longitude of the query in degrees; None if unknown or in local coordinates.
        condition: condition of the photo, for example "night"; None if the dataset has no conditions.
        positives: number of database images that show the same place as the query.
        nearest_m: distance to the nearest positive in metres; None if there is no positive or positions are unknown.
        first_right_rank: rank of the best positive among all database images, counted from 1; None if the query has no
            positive or could not be described.
        matches: the first matches of the query, best first.
    """

    query: str
    index: int
    position: Pair | None
    latlon: Pair | None
    condition: str | None
    positives: int
    nearest_m: float | None
    first_right_rank: int | None
    matches: tuple[Match, ...]

    def __post_init__(self) -> None:
        if self.first_right_rank is not None and self.first_right_rank < 1:
            raise ValueError(f"first_right_rank must be at least 1, got {self.first_right_rank}")

    @property
    def right(self) -> bool:
        """Whether the first match is correct."""
        return bool(self.matches) and self.matches[0].right

    def found(self, n: int) -> bool:
        """Return whether one of the first `n` matches is correct."""
        return self.first_right_rank is not None and self.first_right_rank <= n


def write_answers(folder: Path, answers: Iterable[Answer]) -> Path:
    """Write answers.jsonl into a folder, one line per query, and return its path.

    Answers are written as they arrive. An existing file is replaced only when the new file is complete.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(folder) / FILE
    with written_beside(path) as beside, beside.open("w", encoding="utf-8") as file:
        for answer in answers:
            file.write(json.dumps(to_plain(answer), separators=(",", ":"), allow_nan=False) + "\n")
    return path


def read_answers(folder: Path, card: Card | None = None) -> tuple[Answer, ...]:
    """Read the answers.jsonl of an evaluation, in the order of the queries.

    Args:
        card: the card of the same evaluation, whose counts and recalls must agree with the answers. None skips the
            check.

    Raises:
        InputError: the file does not exist, a line is invalid or missing, or the card does not agree with the answers.
    """
    answers = tuple(_lines(Path(folder) / FILE))
    if card is not None:
        _require_agreement(card, answers, folder)
    return answers


def counted(card: Card, answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """Return the answers that count for recall.

    These are all answers. If the protocol of the card skips queries without positives, their answers are left out.
    """
    return tuple(answer for answer in answers if answer.positives or card.protocol.unanswered == "miss")


def _require_agreement(card: Card, answers: tuple[Answer, ...], folder: Path) -> None:
    if len(answers) != card.counts.queries:
        raise InputError(
            f"{folder} has {len(answers)} answers, but its card counts {card.counts.queries} queries. Evaluate again."
        )
    over = counted(card, answers)
    for n in card.ns:
        recall = sum(answer.found(n) for answer in over) / len(over) if over else 0.0
        if abs(recall - card.recall_at[n]) > 1e-9:
            raise InputError(
                f"the answers in {folder} give an R@{n} of {100 * recall:.1f}, but the card in this folder says "
                f"{100 * card.recall_at[n]:.1f}. The card or {FILE} was changed; evaluate again."
            )


def _lines(path: Path) -> Iterator[Answer]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                where = f"{path}, line {number + 1}"
                answer = build(Answer, parse_json(line, where), where)
                if answer.index != number:
                    raise InputError(
                        f"{where} must hold query number {number + 1}, got query number {answer.index + 1}: a line is "
                        "missing or in the wrong place. Evaluate again."
                    )
                yield answer
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}. Evaluate again.") from error


# --- from a search


def answers_of(
    dataset: EvalDataset,
    found: Predictions,  # (Q, n)
    ranks: NDArray[np.int64],  # (Q,) rank of each query's best positive, 0 if it has none
    n: int,
) -> Iterator[Answer]:
    """Yield an `Answer` for each query, in order. It has the first `n` matches, and says which of them are correct.

    Args:
        found: the search results of all queries.
        ranks: rank of each query's best positive among all database images, counted from 1; 0 if it has none.
    """
    for start in range(0, len(dataset.queries), QUERIES_AT_ONCE):
        queries = np.arange(start, min(start + QUERIES_AT_ONCE, len(dataset.queries)))
        rows = [row[row >= 0] for row in found.indices[queries, :n]]
        metres = _distances(dataset, queries, rows)
        to_positives = _distances(dataset, queries, [dataset.positives[query] for query in queries.tolist()])
        places = _latlon(dataset.queries, queries)
        for place, query in enumerate(queries.tolist()):
            scores = found.scores[query, :n][found.indices[query, :n] >= 0].tolist()
            right = np.isin(rows[place], dataset.positives[query]).tolist()
            latlon = _latlon(dataset.database, rows[place])
            matches = zip(rows[place].tolist(), scores, metres[place], right, latlon, strict=True)
            conditions, near = dataset.queries.conditions, to_positives[place]
            yield Answer(
                query=dataset.queries.names[query],
                index=query,
                position=_metres(dataset.queries.positions, query),
                latlon=places[place],
                condition=None if conditions is None else conditions[query],
                positives=len(dataset.positives[query]),
                nearest_m=min((metre for metre in near if metre is not None), default=None),
                first_right_rank=int(ranks[query]) or None,
                matches=tuple(Match(dataset.database.names[columns[0]], *columns) for columns in matches),
            )


def _distances(
    dataset: EvalDataset,
    queries: NDArray[np.int64],  # (q,)
    columns: list[NDArray[np.int64]],  # q arrays of database indices
) -> list[list[float | None]]:
    """Return the distances in metres from each query to some database images, rounded to the millimetre.

    Args:
        queries: rows of the queries.
        columns: for each query, the rows of the database images to measure to.
    """
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
    """Return latitude and longitude of the images in `rows`, in degrees, rounded to about a millimetre.

    The entry of an image is None if its position in degrees is unknown.
    """
    if images.positions is None or images.positions.zones is None:
        return [None] * len(rows)
    degrees = images.positions.take(rows).latlon().tolist()
    return [None if np.isnan(lat) else (round(lat, 8), round(lon, 8)) for lat, lon in degrees]


def _metres(positions: Positions | None, row: int) -> Pair | None:
    if positions is None or np.isnan(positions.metres[row, 0]):
        return None
    east, north = positions.metres[row].tolist()
    return round(east, 3), round(north, 3)
