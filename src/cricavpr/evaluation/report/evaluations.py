"""Read evaluations (cards and answers) and tables of ablations from folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.evaluation.answers import FILE as ANSWERS
from cricavpr.evaluation.answers import Answer, counted, read_answers
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
