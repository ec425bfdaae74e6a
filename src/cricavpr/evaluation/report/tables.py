"""The paper's tables in the paper's layout, filled with what was run: Markdown, CSV and LaTeX.

Best bold, second underlined, among rows on the same list of photos only; the grouping is always a column.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.evaluation.cards import Card
from cricavpr.evaluation.report.runs import Run

MISSING = ""
OTHER_SPLIT = "†"
NOTE = f"{OTHER_SPLIT} on another list of photos or positives than most rows of its column: not ranked with them."


@dataclass(frozen=True)
class Cell:
    """A number as it is printed; rank 1 is the best of its column, 2 the second, 0 neither."""

    text: str
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """One table, whatever it is written as.

    Attributes:
        key: its file name.
        heads: (over several columns, of one column); the first is "" for columns that stand alone.
        rows: cells, one for each head.
        note: what has to be said below it.
    """

    key: str
    title: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Layout:
    """A table of the paper: its columns of datasets, and the N of recall@N."""

    key: str
    title: str
    datasets: tuple[str, ...]
    ns: tuple[int, ...] = (1, 5, 10)


FULL = ("Pitts30k", "Tokyo24/7", "MSLS-val")
LAYOUTS = (
    Layout("table_2", "Table 2: benchmark datasets", (*FULL, "MSLS-challenge")),
    Layout("table_3", "Table 3: challenging datasets", ("Nordland", "AmsterTime", "SVOX-Night", "SVOX-Rain"), (1,)),
    Layout(
        "supplementary_table_2",
        "Supplementary Table 2: challenging datasets in full",
        ("Nordland", "AmsterTime", "SVOX-Night", "SVOX-Rain", "SVOX-Sun"),
    ),
    Layout("supplementary_table_8", "Supplementary Table 8: trained on GSV-Cities", ("Pitts250k", "MSLS-val")),
    Layout("supplementary_table_9", "Supplementary Table 9: trained on Pitts30k", ("Pitts30k", "Pitts250k")),
)
TRAINED_ON = {"supplementary_table_8": ("Pitts250k",), "supplementary_table_9": ("Pitts250k",)}  # asked for by these
ABLATIONS = {
    "3": "Supplementary Table 3: layers of the cross-image encoder",
    "4": "Supplementary Table 4: places in a training batch",
    "6": "Supplementary Table 6: convolution-based adapters",
    "7": "Supplementary Table 7: GeM and pyramid, frozen and adapted",
}
BY_SIZE = ("supplementary_table_5", "Supplementary Table 5: photos in a group at inference")

_NAMES = {  # the paper's name: what a dataset or split may be called here
    "Pitts30k": r"pitts30k(-test)?",
    "Pitts250k": r"pitts250k(-test)?",
    "Tokyo24/7": r"tokyo247",
    "MSLS-val": r"msls-val",
    "MSLS-challenge": r"msls-challenge",
    "Nordland": r"nordland",
    "AmsterTime": r"amstertime",
    "SVOX-Night": r"svox-night",
    "SVOX-Rain": r"svox-rain",
    "SVOX-Sun": r"svox-sun",
}


def paper_name(dataset: str) -> str:
    """The paper's name for a dataset, or its own."""
    plain = re.sub(r"[ _/]+", "-", dataset.lower()).replace("24-7", "247").replace("queries-", "")
    return next((name for name, pattern in _NAMES.items() if re.fullmatch(pattern, plain)), dataset)


def tables(runs: Sequence[Run], ablations: Sequence[Path], parameters: Sequence[Mapping[str, str]] = ()) -> list[Table]:
    """All tables for which there is something to fill in, the paper's first.

    Args:
        parameters: rows of Supplementary Table 1, from the networks.

    Raises:
        InputError: a table of an ablation that is none.
    """
    cards = [run.card for run in runs]
    made = [table for layout in LAYOUTS if (table := _from_layout(layout, cards))]
    if by_size := _by_size(cards):
        made.append(by_size)
    if parameters:
        made.append(_parameters(parameters))
    for path in ablations:
        made += _ablations(path)
    made.sort(key=lambda table: (table.key.startswith("supplementary"), table.key))
    return [*([_every_run(cards)] if cards else []), *made]


# --- from cards

_Column = tuple[str, int]  # dataset, N


def _from_layout(layout: Layout, cards: Sequence[Card]) -> Table | None:
    """None where nothing was run on a dataset that makes the table."""
    here = [card for card in cards if paper_name(card.dataset) in layout.datasets]
    wanted = TRAINED_ON.get(layout.key, layout.datasets)
    if not any(paper_name(card.dataset) in wanted for card in here):
        return None
    return _recalls(layout.key, layout.title, here, [(name, n) for name in layout.datasets for n in layout.ns])


def _every_run(cards: Sequence[Card]) -> Table:
    datasets = dict.fromkeys(paper_name(card.dataset) for card in cards)
    columns = [
        (name, n)
        for name in datasets
        for n in sorted({n for card in cards if paper_name(card.dataset) == name for n in card.ns})
    ]
    return _recalls("every_run", "Every run of this report", cards, columns)


def _recalls(key: str, title: str, cards: Sequence[Card], columns: Sequence[_Column]) -> Table:
    lines = _lines(cards)
    cells = [_column([of.get(name) for _, of in lines], n) for name, n in columns]
    heads = (("", "Method"), ("", "Dim"), ("", "Grouping"), *((name, f"R@{n}") for name, n in columns))
    names = _told_apart([line for line, _ in lines])
    rows = tuple(
        (Cell(name), Cell(line[1]), Cell(line[2]), *numbers)
        for name, (line, _), *numbers in zip(names, lines, *cells, strict=True)
    )
    return Table(
        key, title, heads, rows, NOTE if any(OTHER_SPLIT in c.text for column in cells for c in column) else ""
    )


def _lines(cards: Sequence[Card]) -> list[tuple[tuple[str, ...], dict[str, Card]]]:
    """Rows by dataset: cards made alike share one, and none takes the place of another on its dataset."""
    lines: list[tuple[tuple[str, ...], dict[str, Card]]] = []
    for card in cards:
        line, name = _line(card), paper_name(card.dataset)
        free = next((of for other, of in lines if other == line and name not in of), None)
        if free is None:
            lines.append((line, {name: card}))
        else:
            free[name] = card
    return lines


def _line(card: Card) -> tuple[str, ...]:
    """What makes a row: what is printed, and what tells two rows apart that print the same."""
    random = f" ({card.weights})" if card.weights.startswith("random") else ""
    again = f", {card.reranked} re-ranked" if card.reranked else ""
    grouping = "none" if card.made_by.grouping == "none" else card.grouping
    size = "x".join(map(str, card.made_by.image_size or ["native"]))
    return (
        f"{card.method}{random}{again}",
        str(card.made_by.dim),
        grouping,
        card.weights[:12],
        size,
        str(card.protocol),
    )


def _told_apart(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """The method of each row, with what differs in brackets where two rows would print the same."""
    names = []
    for line in lines:
        alike = [other for other in lines if other[:3] == line[:3]]
        differs = [value for place, value in enumerate(line[3:], 3) if len({other[place] for other in alike}) > 1]
        names.append(f"{line[0]} ({', '.join(differs)})" if differs else line[0])
    return names


def _column(cards: Sequence[Card | None], n: int) -> list[Cell]:
    """Recalls in per cent, ranked as they are printed among the cards of the most common split."""
    here = [card for card in cards if card is not None and n in card.recall_at]
    usual = Counter(card.split_hash for card in here).most_common(1)
    texts = [
        MISSING
        if card is None or n not in card.recall_at
        else f"{100 * card.recall_at[n]:.1f}{'' if card.split_hash == usual[0][0] else OTHER_SPLIT}"
        for card in cards
    ]
    return _ranked(texts)


def _ranked(texts: Sequence[str]) -> list[Cell]:
    """The best and the second of a column; equal numbers share a rank. One number alone is no comparison."""
    numbers = [text for text in texts if text and OTHER_SPLIT not in text]
    best = sorted({float(text) for text in numbers}, reverse=True)[:2] if len(numbers) > 1 else []
    rank_of = {value: rank for rank, value in enumerate(best, 1)} if len(best) > 1 else {}
    return [Cell(text, rank_of.get(float(text), 0) if text and OTHER_SPLIT not in text else 0) for text in texts]


def _by_size(cards: Sequence[Card]) -> Table | None:
    """Supplementary Table 5: one method in groups of several sizes, in file order."""
    sizes: dict[tuple[str, str], dict[int, list[Card]]] = {}
    for card in cards:
        kind, _, size = card.grouping.partition(":")
        if card.made_by.grouping != "none" and kind in ("alone", "in_order"):
            sizes.setdefault((card.method, card.weights), {}).setdefault(int(size or 1), []).append(card)
    several = {who: of for who, of in sizes.items() if len(of) > 1}
    if not several:
        return None
    used = [card for of in several.values() for group in of.values() for card in group]
    columns = [(name, n) for name in dict.fromkeys(paper_name(card.dataset) for card in used) for n in (1, 5, 10)]
    lines = [(who, size, of[size]) for who, of in several.items() for size in sorted(of)]
    found = [{paper_name(card.dataset): card for card in group} for _, _, group in lines]
    cells = [_column([of.get(name) for of in found], n) for name, n in columns]
    heads = (("", "Method"), ("", "Group"), ("", "Grouping"), *((name, f"R@{n}") for name, n in columns))
    rows = tuple(
        (Cell(who[0]), Cell(str(size)), Cell(group[0].grouping), *numbers)
        for (who, size, group), *numbers in zip(lines, *cells, strict=True)
    )
    return Table(*BY_SIZE, heads, rows)


# --- from networks and ablations


def _parameters(rows: Sequence[Mapping[str, str]]) -> Table:
    """Supplementary Table 1: millions of parameters. The paper counts an adapter in the backbone too; we do not."""
    names = ("Method", "Total", "Backbone", "Adapter", "Others", "Tunable")
    return Table(
        "supplementary_table_1",
        "Supplementary Table 1: parameters (M)",
        tuple(("", name) for name in names),
        tuple(tuple(Cell(row[name.lower()]) for name in names) for row in rows),
    )


def _ablations(path: Path) -> list[Table]:
    """One table for each of the paper's that has rows in a table.csv of `cricavpr ablate`; numbers as they stand."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the table {path}: {error}. Run `cricavpr ablate` again.") from error
    if not rows or not {"recipe", "title"} <= set(rows[0]):
        raise InputError(f"{path} has no columns recipe and title, so it is no table of `cricavpr ablate`.")
    by_table: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        number = re.match(r"table(\d+)_", row["recipe"])
        by_table.setdefault(number[1] if number else "", []).append(row)
    return [_ablation(number, of, path) for number, of in by_table.items()]


def _ablation(number: str, rows: Sequence[Mapping[str, str]], path: Path) -> Table:
    names = [name for name in rows[0] if re.fullmatch(r"R@\d+ \S+", name) and any(row[name] for row in rows)]
    try:
        cells = [_ranked([f"{100 * float(row[name]):.1f}" if row[name] else MISSING for row in rows]) for name in names]
    except ValueError as error:
        raise InputError(f"{path} has a recall that is no number: {error}.") from error
    title = ABLATIONS.get(number, f"Ablation in {path.parent.name}")
    key = f"supplementary_table_{number}" if number in ABLATIONS else f"ablation_{path.parent.name}"
    heads = (("", "Version"), *((f"grouping {n.partition(' ')[2]}", n.partition(" ")[0]) for n in names))
    return Table(
        key, title, heads, tuple((Cell(row["title"]), *numbers) for row, *numbers in zip(rows, *cells, strict=True))
    )


# --- as text


def as_markdown(table: Table) -> str:
    marks: dict[int, Callable[[str], str]] = {1: lambda t: f"**{t}**", 2: lambda t: f"<u>{t}</u>"}
    head = [" ".join(part for part in head if part) for head in table.heads]
    align = ["---:" if _numeric(table, place) else "---" for place in range(len(head))]
    body = [[marks.get(cell.rank, str)(_plain(cell.text)) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(row) + " |" for row in (list(map(_plain, head)), align, *body)]
    return "\n".join([f"### {table.title}", "", *lines, *(["", table.note] if table.note else []), ""])


def as_csv(table: Table) -> str:
    """Numbers as printed, without marks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([" ".join(part for part in head if part) for head in table.heads])
    writer.writerows([[cell.text for cell in row] for row in table.rows])
    return out.getvalue()


def as_latex(table: Table) -> str:
    """A tabular in the style of booktabs, heads over several columns as in the paper."""
    marks: dict[int, Callable[[str], str]] = {1: lambda t: f"\\textbf{{{t}}}", 2: lambda t: f"\\underline{{{t}}}"}
    columns = "".join("r" if _numeric(table, place) else "l" for place in range(len(table.heads)))
    over, rules, place = [], [], 1
    for name, width in spans(table):
        over.append(f"\\multicolumn{{{width}}}{{c}}{{{latex(name)}}}" if name else "&" * (width - 1))
        rules += [f"\\cmidrule(lr){{{place}-{place + width - 1}}}"] if name else []
        place += width
    two = [" & ".join(over) + " \\\\", " ".join(rules)] if rules else []
    head = " & ".join(latex(name) for _, name in table.heads) + " \\\\"
    body = [" & ".join(marks.get(cell.rank, str)(latex(cell.text)) for cell in row) + " \\\\" for row in table.rows]
    top = [f"% {table.title}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule", *two, head, "\\midrule"]
    note = [f"% {table.note}"] if table.note else []
    return "\n".join([*top, *body, "\\bottomrule", "\\end{tabular}", *note, ""])


def spans(table: Table) -> list[tuple[str, int]]:
    """Heads over several columns, with their widths, from left to right."""
    found: list[tuple[str, int]] = []
    for name, _ in table.heads:
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + 1)
        else:
            found.append((name, 1))
    return found


def _numeric(table: Table, place: int) -> bool:
    return all(re.fullmatch(r"[\d.,+]*†?", row[place].text) for row in table.rows)


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    OTHER_SPLIT: r"$\dagger$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(text: str) -> str:
    """Foreign text for LaTeX."""
    return "".join(_SPECIAL.get(character, character) for character in text)
