"""Evaluations with their cards and answers, and tables of ablations, as they are found in folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.evaluation.answers import FILE as ANSWERS
from cricavpr.evaluation.answers import Answer, read_answers
from cricavpr.evaluation.cards import FILE as CARD
from cricavpr.evaluation.cards import Card
from cricavpr.terminal import printable

ABLATION = "table.csv"  # as `cricavpr ablate` writes it
USUAL_RADIUS_M = 25.0
_NOTE = re.compile(r"^(?:.*/)?@.*@([A-Za-z][A-Za-z_-]*)@\.[A-Za-z]+$")


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """One evaluation in a report.

    Attributes:
        label: a short name that no other evaluation of the same split has.
        answers: one for each query; empty if only the card was kept.
    """

    label: str
    card: Card
    answers: tuple[Answer, ...]

    def __repr__(self) -> str:
        return f"Evaluation({self.label!r} on {self.card.dataset}, {len(self.answers):,} answers)"

    @property
    def radius_m(self) -> float:
        """Distance within which a match is right; 25 m if the rule of the card names none."""
        found = re.search(r"within ([0-9.]+) m\b", self.card.rule)
        return float(found[1]) if found else USUAL_RADIUS_M

    @property
    def counted(self) -> tuple[Answer, ...]:
        """The answers over which recall is computed."""
        if self.card.protocol.unanswered == "skip":
            return tuple(answer for answer in self.answers if answer.positives)
        return self.answers


def find_evaluations(paths: Sequence[Path]) -> tuple[Evaluation, ...]:
    """Read the evaluations in folders, or in folders of such folders, in the order given.

    Raises:
        InputError: a folder without cards and tables, or a card or answers that cannot be read.
    """
    for path in paths:
        if not _below(path, CARD) and not _below(path, ABLATION):
            raise InputError(
                f"{path} holds no {CARD} and no {ABLATION}. Give folders that `cricavpr evaluate --out` or "
                "`cricavpr ablate` wrote."
            )
    folders = dict.fromkeys(card.parent for path in paths for card in _below(path, CARD))
    return _labelled([(folder, Card.read(folder)) for folder in folders])


def find_ablations(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the tables of ablations in folders, or in folders of such folders."""
    return tuple(dict.fromkeys(table for path in paths for table in _below(path, ABLATION)))


def _below(path: Path, name: str) -> list[Path]:
    if path.is_file():
        return [path] if path.name == name else []
    return [path / name] if (path / name).is_file() else sorted(path.glob(f"*/{name}"))


def _labelled(read: Sequence[tuple[Path, Card]]) -> tuple[Evaluation, ...]:
    """Read the answers, and give each evaluation a label that is unique among those of its split."""
    found = []
    for folder, card in read:
        beside = [other for _, other in read if other.split_hash == card.split_hash]
        answers = tuple(map(_with_note, read_answers(folder, card))) if (folder / ANSWERS).is_file() else ()
        found.append(Evaluation(_label(card, beside), card, answers))
    return tuple(found)


def _with_note(answer: Answer) -> Answer:
    """Take the condition from an @ name, such as @night@.jpg, if the dataset does not give one."""
    note = None if answer.condition else _NOTE.search(answer.query)
    return replace(answer, condition=note[1]) if note else answer


def _label(card: Card, beside: Iterable[Card]) -> str:
    """Return the method, the grouping, and what else is needed to make the label unique."""
    parts: dict[str, Callable[[Card], str]] = {
        "weights": lambda c: c.weights[:14],
        "dim": lambda c: f"{c.made_by.dim}-d",
        "reranked": lambda c: f"re-ranked {c.reranked}" if c.reranked else "",
        "size": lambda c: "x".join(map(str, c.made_by.image_size or ["native"])),
        "protocol": lambda c: str(c.protocol),
    }
    same = [other for other in beside if (other.method, grouping_of(other)) == (card.method, grouping_of(card))]
    differing = [part(card) for part in parts.values() if len({part(other) for other in same}) > 1]
    grouping = "" if grouping_of(card) == "none" else card.grouping
    return printable(", ".join(part for part in (card.method, grouping, *differing) if part))


def grouping_of(card: Card) -> str:
    """Return "none" for a method that does not correlate images."""
    return "none" if card.made_by.grouping == "none" else card.grouping


def splits(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Group evaluations by split, so that each group can be compared query by query; the most common split first."""
    counts = Counter(each.card.split_hash for each in evaluations)
    return [[each for each in evaluations if each.card.split_hash == split] for split, _ in counts.most_common()]
