"""Comparison of evaluations: a table of their cards, paired tests, and published recalls.

Two recalls can be compared only if queries, database, rule for positives and N are the same. The numbers of database
and query photos that could not be described must be the same, too. Method, weights, grouping, image size, PCA,
precision, distance and re-ranking may differ.

Published recalls are in published.csv, one row for each method, split and source. A cell is empty if its value is not
known; no value is a guess.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.evaluation.answers import Answer, counted, read_answers
from cricavpr.evaluation.cards import FILE, Card, dependence
from cricavpr.evaluation.intervals import Interval, Paired, compare_paired
from cricavpr.evaluation.markdown import markdown, table_of

MARK = "*"
USUAL = {"protocol": "honest", "PCA": "none", "distance": "dot", "precision": "fp32", "re-ranked": "no"}
TABLE = Path(__file__).with_name("published.csv")
NS = (1, 5, 10)
COLUMNS = ("method", "split", "protocol", "grouping", "dim", "image_size", *(f"R@{n}" for n in NS), "source")
SAME_IMAGES = {
    "pitts30k-test": ("pitts30k",),
    "pitts250k-test": ("pitts250k",),
}  # split: other names for the same images


@dataclass(frozen=True)
class Recorded:
    """An evaluation that was read from disk: its card, and the folder with its card and answers."""

    card: Card
    folder: Path


@dataclass(frozen=True)
class PairedRow:
    """Paired test of one evaluation against the first one, for one N of recall@N.

    Attributes:
        run: index of the tested evaluation in `Comparison.runs`; at least 1.
        n: the N of recall@N.
        paired: result of the test.
    """

    run: int
    n: int
    paired: Paired


@dataclass(frozen=True)
class Published:
    """Recalls that others published: one row of published.csv.

    Attributes:
        method, split: names in this package; the names in the source if this package does not have them.
        protocol: the protocol in the words of the source, or "" if unknown.
        grouping: a `Grouping` as text; "none" for a method that describes each image by itself; "" if unknown.
        dim: number of dimensions of a descriptor as in the source, or "" if unknown.
        image_size: size of the images as in the source, or "" if unknown.
        source: where the recalls were published.
        recalls: recall@N in per cent as printed in the source; the keys are the values of N that the source has.
        marks: names of the settings that differ from those of the compared card, or are not known.
    """

    method: str
    split: str
    protocol: str
    grouping: str
    dim: str
    image_size: str
    source: str
    recalls: dict[int, str]
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Comparison:
    """Comparison of evaluations. Its text (`str`, `print`) has the tables and notes.

    Attributes:
        runs: the evaluations, in the order given.
        tests: paired tests of every comparable evaluation against the first one, for each N of recall@N.
        published: published recalls for the split of the first evaluation.
    """

    runs: tuple[Recorded, ...]
    tests: tuple[PairedRow, ...]
    published: tuple[Published, ...] = ()

    def __repr__(self) -> str:
        methods = ", ".join(run.card.method for run in self.runs)
        return f"<Comparison of {len(self.runs)} evaluations on {self.runs[0].card.dataset}: {methods}>"

    def __str__(self) -> str:
        parts = [self.table(), self.paired_table() if self.tests else "", *self.notes()]
        return "\n".join(part for part in parts if part)

    def table(self) -> str:
        """Return a Markdown table with a row for each card, then a row for each published evaluation."""
        rows = [_row(number, run.card, self.runs[0].card) for number, run in enumerate(self.runs, 1)]
        usual = {**USUAL, **{name: rows[0][name] for name in ("dataset", "weights")}}
        return table_of([*rows, *map(_published_row, self.published)], usual, rows)

    def paired_table(self) -> str:
        """Return a Markdown table with a row for each paired test."""
        head = ["pair", "N", "wrong only in 1", "correct only in 1", "difference", "p (McNemar, exact)"]
        rows = []
        for test in self.tests:
            paired = test.paired
            difference = f"{100 * paired.difference:+.1f} {_interval(paired.interval)}"
            p = f"{paired.p_value:.3f}" if paired.p_value >= 0.001 else f"{paired.p_value:.0e}"  # never "0.000"
            counts = map(str, (test.n, paired.only_second, paired.only_first))
            rows.append([f"{test.run + 1} against 1", *counts, difference, p])
        return markdown(head, rows)

    def notes(self) -> Iterator[str]:
        """Yield lines that explain the marks and intervals in the tables."""
        first = self.runs[0].card
        for number, run in enumerate(self.runs[1:], 2):
            if found := differences(first, run.card):
                yield f"{MARK} Rows {number} and 1 are not comparable: {'; '.join(found)}."
        yield "[ ]: 95 % confidence intervals, of a recall by Wilson's method, of a difference by Newcombe's for pairs."
        if old := [str(n) for n, run in enumerate(self.runs, 1) if run.card.interval_kind == "bootstrap"]:
            yield (
                f"The recall intervals in row {', '.join(old)} are from the percentile bootstrap, which is too narrow "
                "near 0 and 100 %."
            )
        if first.query_sequences is not None:
            yield dependence(first) + "."
        if self.published:
            yield (
                "Rows named p were published by others, not measured here. ? marks recalls whose settings differ from "
                "those of row 1 or are not known."
            )


def compare(
    paths: Iterable[Path | str] | Path | str,
    *,
    anyway: bool = False,
    with_published: bool = False,
    published: Path | str = TABLE,
) -> Comparison:
    """Compare evaluations that `EvalResult.save` wrote, query by query.

    Args:
        paths: card files, folders with a card, or folders whose subfolders have cards.
        anyway: accept cards that cannot be compared with the first. They are marked in the table, and no significance
            test is made for them.
        with_published: add published recalls for the split of the first card.
        published: the CSV file of published recalls.

    Raises:
        InputError: there are fewer than two cards (unless `with_published`), a file cannot be read, or cards cannot be
            compared.
    """
    runs = read_recorded([Path(paths)] if isinstance(paths, str | Path) else map(Path, paths))
    if len(runs) < 2 and not with_published:
        raise InputError(
            f"a comparison needs at least two cards, got {len(runs)}. Give another folder, or use --with-published to "
            "compare one card with published recalls."
        )
    for run in () if anyway else runs[1:]:
        if found := differences(runs[0].card, run.card):
            raise InputError(
                f"{runs[0].folder} and {run.folder} cannot be compared, because they differ in: {'; '.join(found)}. "
                "Evaluate both on the same data with the same rules, or use --anyway to print both without a test."
            )
    figures = beside(runs[0].card, read_published(Path(published))) if with_published else ()
    return Comparison(tuple(runs), tuple(_paired_tests(runs)), tuple(figures))


def read_recorded(paths: Iterable[Path]) -> list[Recorded]:
    """Read the cards at the given paths, each card once.

    Args:
        paths: card files, folders with a card, or folders whose subfolders have cards.

    Raises:
        InputError: a folder has no card, or a card cannot be read.
    """
    files = dict.fromkeys(file for path in paths for file in _cards(path))
    return [Recorded(Card.read(file), file.parent) for file in files]


def _cards(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / FILE).is_file():
        return [path / FILE]
    if found := sorted(path.glob(f"*/{FILE}")):
        return found
    raise InputError(f"found no {FILE} in {path} or its subfolders. Give a folder that `cricavpr evaluate` wrote.")


def differences(first: Card, other: Card) -> list[str]:
    """Return the reasons why two cards cannot be compared; an empty list if they can."""
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


def _paired_tests(runs: Sequence[Recorded]) -> Iterator[PairedRow]:
    """Test every comparable evaluation against the first, for every N, over the queries that count for recall."""
    comparable = [number for number, run in enumerate(runs) if number and not differences(runs[0].card, run.card)]
    first = _answers(runs[0]) if comparable else ()
    for number in comparable:
        answers = _answers(runs[number])
        if [answer.query for answer in first] != [answer.query for answer in answers]:
            raise InputError(
                f"the answers in {runs[0].folder} and {runs[number].folder} are for different queries, although their "
                "cards name the same split. Evaluate both again."
            )
        for n in runs[0].card.ns:
            yield PairedRow(number, n, compare_paired(*([one.found(n) for one in of] for of in (first, answers))))


def _answers(run: Recorded) -> tuple[Answer, ...]:
    return counted(run.card, read_answers(run.folder, run.card))


# --- published figures


def read_published(path: Path = TABLE) -> list[Published]:
    """Read all rows of a CSV file of published recalls.

    Raises:
        InputError: the file cannot be read, does not have the columns COLUMNS, or has an invalid percentage.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, restval="")
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(
                    f"{path} must have the columns {', '.join(COLUMNS)}, got {', '.join(reader.fieldnames or ())}."
                )
            return [_entry(row, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}. Give a CSV file of published recalls.") from error


def _entry(row: dict[str, str], where: str) -> Published:
    recalls = {n: row[f"R@{n}"] for n in NS if row[f"R@{n}"]}
    for text in recalls.values():
        if not text.replace(".", "", 1).isdecimal() or not 0 <= float(text) <= 100:
            raise InputError(f"{where}: expected a percentage from 0 to 100, got {text!r}.")
    plain = {name: row[name] for name in COLUMNS if not name.startswith("R@")}
    return Published(**plain, recalls=recalls)  # type: ignore[arg-type]  # all of these are text


def beside(card: Card, entries: Iterable[Published]) -> list[Published]:
    """Return the published rows for the split of a card.

    The `marks` of each row name the settings that differ from the card or are not known.
    """
    names = {card.dataset, *(split for split, others in SAME_IMAGES.items() if card.dataset in others)}
    return [replace(entry, marks=tuple(_marks(card, entry))) for entry in entries if entry.split in names]


def image_size(card: Card) -> str:
    """Return the size of the network's input as "height x width", or "native" if photos keep their size."""
    size = card.made_by.image_size
    return "native" if size is None else f"{size[0]}x{size[1]}"


def _marks(card: Card, entry: Published) -> list[str]:
    marks = []
    if entry.grouping != card.grouping:
        marks.append("grouping" if entry.grouping else "grouping not known")
    if entry.image_size != image_size(card):
        marks.append("image size" if entry.image_size else "image size not known")
    marks.append("protocol" if entry.protocol else "protocol not known")  # free text cannot be compared with a card
    marks.append("list of images not known")  # no publication gives a hash of its split
    return marks


# --- cells


def _interval(ends: Interval) -> str:
    return f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _row(number: int, card: Card, first: Card) -> dict[str, str]:
    mark = MARK if differences(first, card) else ""
    return {
        "": str(number),
        "dataset": card.dataset,
        "method": card.method,
        "weights": card.weights[:12],
        "grouping": card.grouping,
        "dim": str(card.made_by.dim),
        "image size": image_size(card),
        "protocol": card.protocol.name,
        "PCA": card.protocol.pca or "none",
        "distance": card.protocol.distance,
        "precision": card.protocol.precision,
        "re-ranked": "no" if card.reranked is None else f"{card.reranked} ({card.reranking})",
        **{f"R@{n}": f"{100 * card.recall_at[n]:.1f}{mark} {_interval(card.intervals[n])}" for n in card.ns},
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
