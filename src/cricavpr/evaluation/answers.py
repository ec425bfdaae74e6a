"""answers.jsonl: what was answered to each query, one JSON line each, so that runs can be compared query by query."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cricavpr.errors import InputError
from cricavpr.evaluation.cards import Card
from cricavpr.files import written_beside

FILE = "answers.jsonl"
Pair = tuple[float, float]


@dataclass(frozen=True)
class Match:
    """One database image that was answered.

    Attributes:
        name, index: in the database.
        score: higher is better.
        distance_m: from the query; None where a position is unknown.
        right: whether it is a positive.
        latlon: degrees; None where unknown or in a local frame.
    """

    name: str
    index: int
    score: float
    distance_m: float | None
    right: bool
    latlon: Pair | None = None


@dataclass(frozen=True)
class Answer:
    """What was answered to one query.

    Attributes:
        query, index: its name and its place among the queries.
        position: easting, northing in metres; None where unknown.
        latlon: degrees; None where unknown or in a local frame.
        condition: such as "night"; None where the dataset does not say.
        positives: how many database images show the same place.
        nearest_m: distance to the nearest of these; None where there is none, or no position.
        first_right_rank: rank of the best positive over the whole database, 1 for the first; None where there is
            none, or the query could not be described.
        matches: best first.
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

    def found(self, n: int) -> bool:
        """Whether one of the first `n` is right."""
        return self.first_right_rank is not None and self.first_right_rank <= n

    def to_line(self) -> str:
        """One line of JSON, without the line break."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Answer:
        """The inverse of the JSON; raises TypeError, KeyError or ValueError for anything else."""
        matches = tuple(Match(**{**match, "latlon": _pair(match["latlon"])}) for match in values["matches"])
        pairs = {key: _pair(values[key]) for key in ("position", "latlon")}
        answer = cls(**{**values, **pairs, "matches": matches})
        rank = answer.first_right_rank
        if not (isinstance(answer.query, str) and type(answer.index) is int and type(answer.positives) is int):
            raise TypeError("a query without its name, its place or its number of positives")
        if rank is not None and (type(rank) is not int or rank < 1):
            raise ValueError(f"{rank!r} is no rank")
        return answer


def _pair(values: Any) -> Pair | None:
    if values is None:
        return None
    first, second = values
    return float(first), float(second)


def write_answers(folder: Path, answers: Iterable[Answer]) -> Path:
    """Write one line per query, streaming and durably; the path of the file.

    Raises:
        InputError: the place cannot be written.
    """
    path = Path(folder) / FILE
    with written_beside(path) as beside, beside.open("w", encoding="utf-8") as file:
        for answer in answers:
            file.write(answer.to_line() + "\n")
    return path


def read_answers(folder: Path) -> tuple[Answer, ...]:
    """All answers of an evaluation, in the order of the queries.

    Raises:
        InputError: no such file, or a line that is no answer, by number.
    """
    return tuple(_lines(Path(folder) / FILE))


def read_answers_of(card: Card, folder: Path) -> tuple[Answer, ...]:
    """The answers beside a card, and nothing where the two tell different stories.

    Raises:
        InputError: as for `read_answers`, or answers that give other counts or another recall than the card.
    """
    answers = read_answers(folder)
    if len(answers) != card.counts.queries:
        raise InputError(f"{folder} holds {len(answers)} answers to {card.counts.queries} queries. Evaluate again.")
    counted = [answer for answer in answers if answer.positives or card.protocol.unanswered == "miss"]
    for n in card.ns:
        recall = sum(answer.found(n) for answer in counted) / len(counted) if counted else 0.0
        if abs(recall - card.recall_at[n]) > 1e-9:
            raise InputError(
                f"the card in {folder} says R@{n} {100 * card.recall_at[n]:.1f}, and the answers beside it give "
                f"{100 * recall:.1f}: one of the two was changed. Evaluate again."
            )
    return answers


def _lines(path: Path) -> Iterator[Answer]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                answer = Answer.from_dict(json.loads(line))
                if answer.index != number:
                    raise InputError(
                        f"line {number + 1} of {path} is about query {answer.index + 1}: lines are missing or out of "
                        "order. Evaluate again."
                    )
                yield answer
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. Evaluate again.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} has a line that is no answer to a query ({error}). Evaluate again.") from error
