"""Reading of evaluations and ablation tables from folders, and rules for why a query may be wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from cricavpr.errors import InputError
from cricavpr.evaluation.answers import FILE as ANSWERS
from cricavpr.evaluation.answers import Answer, counted, read_answers
from cricavpr.evaluation.cards import FILE as CARD
from cricavpr.evaluation.cards import Card
from cricavpr.terminal import printable

ABLATION = "table.csv"  # name of the table that `cricavpr ablate` writes
USUAL_RADIUS_M = 25.0
NEAR = 2.0  # a wrong first match within this many radii is a near miss (50 m if the radius is 25 m)
FAR = 4.0  # beyond this many radii, a first match shows another place (100 m if the radius is 25 m)
SHARED = 2  # aliasing: at least this many other wrong queries have the same first match
UNLIKE = 20  # if the rank of the best positive is above this, all positives look unlike the query
KINDS = {
    "near miss": "The first match is outside the radius, but within twice the radius (50 m if the radius is 25 m).",
    "aliasing": "The first match shows another place that looks the same. It is more than 4 radii away (100 m if the "
    "radius is 25 m). Its score is at least the median score of correct first matches, or at least "
    f"{SHARED} other wrong queries have the same first match.",
    "doubtful truth": f"All positives look unlike the query: even the best has a rank above {UNLIKE}. But photos "
    "just outside the radius (within twice the radius) are among the matches. Positions or view directions may be "
    "wrong.",
    "nothing to find": "The query has no positive in the database.",
    "not described": "The query photo could not be described.",
    "other": "No other rule applies.",
}
_NOTE = re.compile(r"^(?:.*/)?@.*@([A-Za-z][A-Za-z_-]*)@\.[A-Za-z]+$")


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """One evaluation in a report.

    Attributes:
        label: short name in tables and figures. It names the settings that differ between evaluations of one split.
        card: the card of the evaluation.
        answers: one for each query; empty if the folder has only a card.
    """

    label: str
    card: Card
    answers: tuple[Answer, ...]

    def __repr__(self) -> str:
        return f"Evaluation({self.label!r} on {self.card.dataset}, {len(self.answers):,} answers)"

    @property
    def radius_m(self) -> float:
        """Distance in metres within which a match is correct; 25 if the rule of the card does not name a distance."""
        found = re.search(r"within ([0-9.]+) m\b", self.card.rule)
        return float(found[1]) if found else USUAL_RADIUS_M

    @property
    def counted(self) -> tuple[Answer, ...]:
        """The answers that count for recall; queries without positives are left out if the protocol skips them."""
        return counted(self.card, self.answers)


def find_evaluations(paths: Sequence[Path]) -> tuple[Evaluation, ...]:
    """Read the evaluations in the given folders or their subfolders, in the order given.

    Raises:
        InputError: a folder has neither cards nor ablation tables, or a card or answers cannot be read.
    """
    for path in paths:
        if not _below(path, CARD) and not _below(path, ABLATION):
            raise InputError(
                f"expected a {CARD} or {ABLATION} in {path} or its subfolders, found none. Give folders that `cricavpr "
                "evaluate --out` or `cricavpr ablate` wrote."
            )
    folders = dict.fromkeys(card.parent for path in paths for card in _below(path, CARD))
    cards = {folder: Card.read(folder) for folder in folders}
    found = []
    for folder, card in cards.items():
        beside = [other for other in cards.values() if other.split_hash == card.split_hash]
        answers = tuple(map(_with_note, read_answers(folder, card))) if (folder / ANSWERS).is_file() else ()
        found.append(Evaluation(_label(card, beside), card, answers))
    return tuple(found)


def find_ablations(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the paths of the ablation tables (table.csv) in the given folders or their subfolders."""
    return tuple(dict.fromkeys(table for path in paths for table in _below(path, ABLATION)))


def _below(path: Path, name: str) -> list[Path]:
    if path.is_file():
        return [path] if path.name == name else []
    return [path / name] if (path / name).is_file() else sorted(path.glob(f"*/{name}"))


def _with_note(answer: Answer) -> Answer:
    """Return the answer with a condition.

    If it has none, take the condition from the file name of the query, such as `night` in `@...@night@.jpg`.
    """
    note = None if answer.condition else _NOTE.search(answer.query)
    return replace(answer, condition=note[1]) if note else answer


def _label(card: Card, beside: Iterable[Card]) -> str:
    """Return the label of a card: method, grouping, and further settings if it shares these two with cards in `beside`.

    Only settings that differ among these cards are in the label.
    """
    parts: tuple[Callable[[Card], str], ...] = (
        lambda c: c.weights[:14],
        lambda c: f"{c.made_by.dim}-d",
        lambda c: f"re-ranked {c.reranked}" if c.reranked else "",
        lambda c: "x".join(map(str, c.made_by.image_size or ["native"])),
        lambda c: str(c.protocol),
    )
    same = [other for other in beside if (other.method, grouping_of(other)) == (card.method, grouping_of(card))]
    differing = [part(card) for part in parts if len({part(other) for other in same}) > 1]
    grouping = "" if grouping_of(card) == "none" else card.grouping
    return printable(", ".join(part for part in (card.method, grouping, *differing) if part))


def grouping_of(card: Card) -> str:
    """Return the grouping of a card as text; "none" for a method that describes each image by itself."""
    return "none" if card.made_by.grouping == "none" else card.grouping


def splits(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Divide evaluations into lists with the same split, the most common split first.

    Evaluations of the same split can be compared query by query.
    """
    counts = Counter(each.card.split_hash for each in evaluations)
    return [[each for each in evaluations if each.card.split_hash == split] for split, _ in counts.most_common()]


# --- wrong queries


@dataclass(frozen=True)
class Failure:
    """One wrong query and the reasons why it may be wrong.

    Attributes:
        index: row of the query among the answers.
        query: name of the query image.
        condition: condition of the photo, for example "night", or "".
        kinds: one or more keys of KINDS.
        shared: number of other wrong queries with the same first match.
        distance_m, score: distance to the first match in metres, and its score; None if unknown or without a match.
        first_right_rank: rank of the best positive, counted from 1; None if there is none.
    """

    index: int
    query: str
    condition: str
    kinds: tuple[str, ...]
    shared: int
    distance_m: float | None
    score: float | None
    first_right_rank: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of this query in failures.json."""
        return {key: value for key, value in asdict(self).items() if key != "index"}


def failures(evaluation: Evaluation) -> list[Failure]:
    """Return the wrong queries of an evaluation, in the order of the queries."""
    wrong = [answer for answer in evaluation.answers if not answer.right]
    landed = Counter(answer.matches[0].name for answer in wrong if answer.matches)
    scores = [answer.matches[0].score for answer in evaluation.answers if answer.right]
    usual, found = median(scores) if scores else None, []
    for answer in wrong:
        first = answer.matches[0] if answer.matches else None
        shared = landed[first.name] - 1 if first else 0
        kinds = _kinds(answer, evaluation.radius_m, usual, shared)
        off_m, score = (first.distance_m, first.score) if first else (None, None)
        rank, condition = answer.first_right_rank, answer.condition or ""
        found.append(Failure(answer.index, answer.query, condition, kinds, shared, off_m, score, rank))
    return found


def _kinds(answer: Answer, radius_m: float, usual_score: float | None, shared: int) -> tuple[str, ...]:
    if not answer.matches:
        return ("not described",)
    if not answer.positives:
        return ("nothing to find",)
    first = answer.matches[0]
    kinds = []
    if first.distance_m is not None and radius_m < first.distance_m <= NEAR * radius_m:
        kinds.append("near miss")
    far = first.distance_m is not None and first.distance_m > FAR * radius_m
    if far and (shared >= SHARED or (usual_score is not None and first.score >= usual_score)):
        kinds.append("aliasing")
    just_outside = any(m.distance_m is not None and radius_m < m.distance_m <= NEAR * radius_m for m in answer.matches)
    if just_outside and (answer.first_right_rank is None or answer.first_right_rank > UNLIKE):
        kinds.append("doubtful truth")
    return tuple(kinds) or ("other",)
