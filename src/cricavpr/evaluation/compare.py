"""compare: cards side by side, with paired tests; what must not be compared is refused by name.

Two recalls say something about each other only if they were counted over the same queries and database, by the same
rule, with the same N, and if as many photos of each side could be used. What may differ, and is what one wants to
compare, is how the descriptors came about: method, weights, grouping, image size, PCA, precision, distance,
re-ranking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.evaluation.answers import Answer, read_answers_of
from cricavpr.evaluation.cards import FILE, Card
from cricavpr.evaluation.intervals import Paired, mcnemar
from cricavpr.evaluation.published import Published

MARK = "*"


@dataclass(frozen=True)
class Run:
    """An evaluation that was recorded: its card and the folder of its answers."""

    card: Card
    folder: Path


@dataclass(frozen=True)
class PairedRow:
    """The test of one run against the first, at one N."""

    run: int
    n: int
    paired: Paired


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """Cards by file, by folder, or all below a folder such as `evaluations`, each once.

    Raises:
        InputError: no card there, or one that cannot be read.
    """
    files = dict.fromkeys(file for path in paths for file in _cards(Path(path)))
    return [Run(Card.read(file), file.parent) for file in files]


def _cards(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / FILE).is_file():
        return [path / FILE]
    if found := sorted(path.glob(f"*/{FILE}")):
        return found
    raise InputError(f"there is no card in {path} or in a folder of it. Give what `cricavpr evaluate` wrote.")


def differences(first: Card, other: Card) -> list[str]:
    """What forbids to compare two cards, one line each; empty where they may be compared."""
    ours, theirs = _must_be_equal(first), _must_be_equal(other)
    return [f"{what}: {ours[what]} and {theirs[what]}" for what in ours if ours[what] != theirs[what]]


def _must_be_equal(card: Card) -> dict[str, str]:
    return {
        "split": f"{card.dataset} {card.split_hash[:12]}",
        "rule": card.rule,
        "queries without positives": {"miss": "counted as misses", "skip": "skipped"}[card.protocol.unanswered],
        "panorama rule": "one hit per panorama" if card.protocol.one_hit_per_panorama else "every image counts",
        "photos that could not be used": f"{card.counts.failed_database} of the database, "
        f"{card.counts.failed_queries} queries",
        "N": ", ".join(map(str, card.ns)),
    }


def require_comparable(runs: Sequence[Run]) -> None:
    """Refuse cards that say nothing about each other.

    Raises:
        InputError: naming the two cards and what differs.
    """
    for run in runs[1:]:
        if found := differences(runs[0].card, run.card):
            raise InputError(
                f"{runs[0].folder} and {run.folder} cannot be compared: {'; '.join(found)}. Evaluate both alike, or "
                "print them marked with --anyway."
            )


def paired_tests(runs: Sequence[Run]) -> list[PairedRow]:
    """Every run against the first, at every N, on the queries that both answered; those of unequal cards are left out.

    Raises:
        InputError: answers that are missing, or that do not belong together.
    """
    rows: list[PairedRow] = []
    comparable = [n for n, run in enumerate(runs) if n and not differences(runs[0].card, run.card)]
    if not comparable:
        return rows
    first = read_answers_of(runs[0].card, runs[0].folder)
    for number in comparable:
        answers = read_answers_of(runs[number].card, runs[number].folder)
        _require_same_queries(runs[0], first, runs[number], answers)
        for n in runs[0].card.ns:
            paired = mcnemar(_right(runs[0].card, first, n), _right(runs[number].card, answers, n))
            rows.append(PairedRow(number, n, paired))
    return rows


def _right(card: Card, answers: Sequence[Answer], n: int) -> NDArray[np.bool_]:  # (Q,)
    counted = (answer for answer in answers if answer.positives or card.protocol.unanswered == "miss")
    return np.array([answer.found(n) for answer in counted], bool)


def _require_same_queries(one: Run, first: Sequence[Answer], other: Run, second: Sequence[Answer]) -> None:
    if [answer.query for answer in first] != [answer.query for answer in second]:
        raise InputError(
            f"the answers in {one.folder} and {other.folder} are not to the same queries, though their cards are of "
            "one split. Evaluate again."
        )


# --- tables


def table(runs: Sequence[Run], published: Sequence[Published] = ()) -> str:
    """A Markdown table: one row per card with its intervals, then what others published for the same split."""
    rows = [_row(number, run, runs[0].card) for number, run in enumerate(runs, 1)]
    rows += [_published_row(entry) for entry in published]
    columns = _columns(rows, runs)
    return markdown([columns, *([row.get(column, "") for column in columns] for row in rows)])


def paired_table(runs: Sequence[Run], rows: Sequence[PairedRow]) -> str:
    """A Markdown table of the paired tests."""
    head = ["pair", "N", "right only there", "right only in 1", "difference", "p (McNemar, exact)"]
    lines = [head]
    for row in rows:
        gained, lost = row.paired.only_second, row.paired.only_first
        difference = 100 * (runs[row.run].card.recall_at[row.n] - runs[0].card.recall_at[row.n])
        lines.append(
            [f"{row.run + 1} against 1", str(row.n), str(gained), str(lost), f"{difference:+.1f}", p_value(row.paired)]
        )
    return markdown(lines)


def p_value(paired: Paired) -> str:
    """Three digits, and never a zero."""
    return f"{paired.p_value:.3f}" if paired.p_value >= 0.001 else f"{paired.p_value:.0e}"


def notes(runs: Sequence[Run], published: Sequence[Published] = ()) -> Iterator[str]:
    """What the marks mean."""
    for number, run in enumerate(runs[1:], 2):
        if found := differences(runs[0].card, run.card):
            yield f"{MARK} {number} and 1 are not comparable: {'; '.join(found)}."
    if published:
        yield "p: published by others, not measured here; ? marks what differs from card 1 or is not known."


def _row(number: int, run: Run, first: Card) -> dict[str, str]:
    card, mark = run.card, MARK if differences(first, run.card) else ""
    size = card.made_by["image_size"]
    recalls = {}
    for n in card.ns:
        low, high = card.intervals[n]
        recalls[f"R@{n}"] = f"{100 * card.recall_at[n]:.1f}{mark} [{100 * low:.1f}, {100 * high:.1f}]"
    return {
        "": str(number),
        "dataset": card.dataset,
        "method": card.method,
        "weights": card.weights[:12],
        "grouping": card.grouping,
        "dim": str(card.made_by["dim"]),
        "image size": "native" if size is None else f"{size[0]}x{size[1]}",
        "protocol": card.protocol.name,
        "PCA": card.protocol.pca or "none",
        "distance": card.protocol.distance,
        "precision": card.protocol.precision,
        "re-ranked": "no" if card.reranked is None else f"{card.reranked} ({card.reranking})",
        **recalls,
    }


def _published_row(entry: Published) -> dict[str, str]:
    return {
        "": "p",
        "dataset": entry.split,
        "method": f"{entry.method} ({entry.source})",
        "grouping": entry.grouping or "not known",
        "dim": entry.dim,
        "image size": entry.image_size,
        "protocol": entry.protocol or "not known",
        **{f"R@{n}": f"{recall}{'?' if entry.marks else ''}" for n, recall in entry.recalls.items()},
        "differs or is not known": ", ".join(entry.marks),
    }


def _columns(rows: Sequence[dict[str, str]], runs: Sequence[Run]) -> list[str]:
    """Names and recalls always; the rest where it differs between cards, or says something unusual."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    usual = {"protocol": "honest", "PCA": "none", "distance": "dot", "precision": "fp32", "re-ranked": "no"}
    own = rows[: len(runs)]
    quiet = {name for name, value in usual.items() if all(row[name] == value for row in own)}
    quiet |= {name for name in ("dataset", "weights") if len({row.get(name, "") for row in own}) == 1}
    recalls = sorted((name for name in names if name.startswith("R@")), key=lambda name: int(name[2:]))
    others = [name for name in names if name not in recalls and name not in quiet]
    tail = [name for name in others if name.startswith("differs")]
    return [*(name for name in others if name not in tail), *recalls, *tail]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table that also reads as plain text; the first line is its head."""
    widths = [max(3, *(len(line[place]) for line in lines)) for place in range(len(lines[0]))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([padded[0], "| " + " | ".join("-" * width for width in widths) + " |", *padded[1:]]) + "\n"
