"""What a report is made from: evaluations with their cards, and tables of ablations, as they lie in folders."""

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

ABLATION = "table.csv"  # as `cricavpr ablate` writes it
USUAL_RADIUS_M = 25.0
_NOTE = re.compile(r"^(?:.*/)?@.*@([A-Za-z][A-Za-z_-]*)@\.[A-Za-z]+$")


@dataclass(frozen=True, eq=False)
class Run:
    """One evaluation.

    Attributes:
        label: tells it from the other runs of a report, in a few words.
        answers: one for each query; empty where only the card was kept.
    """

    label: str
    card: Card
    answers: tuple[Answer, ...]

    @property
    def radius_m(self) -> float:
        """How near is right; the usual 25 m where the rule names no length."""
        found = re.search(r"within ([0-9.]+) m\b", self.card.rule)
        return float(found[1]) if found else USUAL_RADIUS_M

    @property
    def counted(self) -> tuple[Answer, ...]:
        """The queries that recall is over."""
        return counted(self.card, self.answers)


@dataclass(frozen=True)
class Sources:
    """Evaluations in the order in which they were given, and tables of ablations."""

    runs: tuple[Run, ...]
    ablations: tuple[Path, ...]


def find_sources(paths: Sequence[Path]) -> Sources:
    """Read folders that hold a card or a table, and folders of such folders (one level down).

    Raises:
        InputError: nothing to report in one of them, or a card or answers that cannot be read.
    """
    cards: list[Path] = []
    tables: list[Path] = []
    for path in paths:
        found_cards, found_tables = _below(path, CARD), _below(path, ABLATION)
        if not found_cards and not found_tables:
            raise InputError(
                f"{path} holds no {CARD} and no {ABLATION}. Give folders that `cricavpr evaluate --out` or "
                "`cricavpr ablate` wrote."
            )
        cards += [card.parent for card in found_cards if card.parent not in cards]
        tables += [table for table in found_tables if table not in tables]
    return Sources(_labelled([(folder, Card.read(folder)) for folder in cards]), tuple(tables))


def _below(path: Path, name: str) -> list[Path]:
    if path.is_file():
        return [path] if path.name == name else []
    return [path / name] if (path / name).is_file() else sorted(path.glob(f"*/{name}"))


def _labelled(read: Sequence[tuple[Path, Card]]) -> tuple[Run, ...]:
    """Each with a label that only it has among the runs of its split."""
    runs = []
    cards = [card for _, card in read]
    for folder, card in read:
        beside = [other for other in cards if other.split_hash == card.split_hash]
        answers = tuple(map(_with_note, read_answers(folder, card))) if (folder / ANSWERS).is_file() else ()
        runs.append(Run(_label(card, beside), card, answers))
    return tuple(runs)


def _with_note(answer: Answer) -> Answer:
    """@ names end in a note, such as @night@.jpg: the condition where the dataset itself does not say."""
    note = None if answer.condition else _NOTE.search(answer.query)
    return replace(answer, condition=note[1]) if note else answer


def _label(card: Card, beside: Iterable[Card]) -> str:
    """The method, and as much of the rest as it takes."""
    parts: dict[str, Callable[[Card], str]] = {
        "grouping": lambda c: "" if c.made_by.grouping == "none" else c.grouping,
        "weights": lambda c: c.weights[:14],
        "dim": lambda c: f"{c.made_by.dim}-d",
        "reranked": lambda c: f"re-ranked {c.reranked}" if c.reranked else "",
        "size": lambda c: "x".join(map(str, c.made_by.image_size or ["native"])),
        "protocol": lambda c: str(c.protocol),
    }
    others = [other for other in beside if other is not card]
    said = [parts["grouping"](card)]
    same = [other for other in others if other.method == card.method and parts["grouping"](other) == said[0]]
    for name in ("weights", "dim", "reranked", "size", "protocol"):
        if len({parts[name](other) for other in (*same, card)}) > 1:
            said.append(parts[name](card))
    return ", ".join(part for part in (card.method, *said) if part)


def splits(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that may be compared query by query: by split hash, the most common first, each in the given order."""
    counts = Counter(run.card.split_hash for run in runs)
    return {hash_: [run for run in runs if run.card.split_hash == hash_] for hash_, _ in counts.most_common()}
