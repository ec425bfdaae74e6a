"""Read evaluations (cards and answers) and tables of ablations from folders, and explain wrong queries by rules."""

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

ABLATION = "table.csv"  # as `cricavpr ablate` writes it
USUAL_RADIUS_M = 25.0
NEAR = 2.0  # radii: a first match up to this far away is a near miss (25 to 50 m)
FAR = 4.0  # radii: a first match beyond this is another place (100 m)
SHARED = 2  # at least so many other wrong queries have the same first match
UNLIKE = 20  # if the best positive has a higher rank, it looks unlike the query
KINDS = {
    "near miss": "The first match is outside the radius by no more than the radius itself (25 to 50 m).",
    "aliasing": "The first match is another place (beyond 100 m) that looks the same: its score is at least the median "
    f"score of right first matches, or {SHARED} or more other wrong queries have the same first match.",
    "doubtful truth": f"All positives look unlike the query (the best has a rank above {UNLIKE}), but photos just "
    "outside the radius are among the first matches. Positions or directions may be off.",
    "nothing to find": "No database photo is right.",
    "not described": "The query has no descriptor.",
    "other": "None of these.",
}
_NOTE = re.compile(r"^(?:.*/)?@.*@([A-Za-z][A-Za-z_-]*)@\.[A-Za-z]+$")


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """One evaluation in a report.

    Attributes:
        label: a short name, unique among the evaluations of the same split.
        answers: one for each query; empty if there is only a card.
    """

    label: str
    card: Card
    answers: tuple[Answer, ...]

    def __repr__(self) -> str:
        return f"Evaluation({self.label!r} on {self.card.dataset}, {len(self.answers):,} answers)"

    @property
    def radius_m(self) -> float:
        """Distance within which a match is right; 25 m if the rule of the card does not name one."""
        found = re.search(r"within ([0-9.]+) m\b", self.card.rule)
        return float(found[1]) if found else USUAL_RADIUS_M

    @property
    def counted(self) -> tuple[Answer, ...]:
        """The answers over which recall is computed."""
        return counted(self.card, self.answers)


def find_evaluations(paths: Sequence[Path]) -> tuple[Evaluation, ...]:
    """Read the evaluations in folders, or in their subfolders, in the order given.

    Raises:
        InputError: a folder without cards and tables, or a card or answers that cannot be read.
    """
    for path in paths:
        if not _below(path, CARD) and not _below(path, ABLATION):
            raise InputError(
                f"{path} holds neither {CARD} nor {ABLATION}. Give folders that `cricavpr evaluate --out` or "
                "`cricavpr ablate` wrote."
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
    """Return the tables of ablations in folders, or in their subfolders."""
    return tuple(dict.fromkeys(table for path in paths for table in _below(path, ABLATION)))


def _below(path: Path, name: str) -> list[Path]:
    if path.is_file():
        return [path] if path.name == name else []
    return [path / name] if (path / name).is_file() else sorted(path.glob(f"*/{name}"))


def _with_note(answer: Answer) -> Answer:
    """Read the condition from a name such as @night@.jpg, if the dataset does not give one."""
    note = None if answer.condition else _NOTE.search(answer.query)
    return replace(answer, condition=note[1]) if note else answer


def _label(card: Card, beside: Iterable[Card]) -> str:
    """Return the method, the grouping, and the settings that differ from those of equal labels."""
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
    """Return the grouping of a card; "none" for a method that does not correlate images."""
    return "none" if card.made_by.grouping == "none" else card.grouping


def splits(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Group evaluations by split, the most common split first. Those of one split can be compared query by query."""
    counts = Counter(each.card.split_hash for each in evaluations)
    return [[each for each in evaluations if each.card.split_hash == split] for split, _ in counts.most_common()]


# --- wrong queries


@dataclass(frozen=True)
class Failure:
    """One wrong query.

    Attributes:
        index: its row among the answers.
        kinds: one or more keys of KINDS.
        shared: number of other wrong queries with the same first match.
        distance_m, score: of the first match; None if there is no match or its distance is unknown.
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
        """Return the entry of failures.json."""
        return {key: value for key, value in asdict(self).items() if key != "index"}


def failures(evaluation: Evaluation) -> list[Failure]:
    """Return the wrong queries of an evaluation, in order."""
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
