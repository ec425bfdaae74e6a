"""Tables of a report in the layout of the paper's tables, filled with the given evaluations: Markdown, CSV and LaTeX.

In each column the best recall is bold and the second best underlined, among evaluations of the same split only. Every
table of recalls names the grouping of each row.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.evaluation.cards import Card
from cricavpr.evaluation.report.evaluations import Evaluation, grouping_of
from cricavpr.methods.base import Method, network_of
from cricavpr.terminal import printable

MISSING = ""
OTHER_SPLIT = "†"
NOTE = (
    f"{OTHER_SPLIT} measured on a different list of photos or positives than most rows of the column, so not ranked "
    "against them."
)


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the printed text.
        rank: 1 for the best of its column, 2 for the second best, 0 for any other.
    """

    text: str
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """One table of a report, before it is written as Markdown, CSV or LaTeX.

    Attributes:
        key: file name of the table without suffix.
        title: title of the table.
        heads: for each column, two headings: the heading above its group of columns ("" without a group), and its own.
        rows: for each row, one cell per column.
        note: text below the table.
    """

    key: str
    title: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Layout:
    """Layout of a table of the paper.

    Attributes:
        key: file name of the table without suffix.
        title: title of the table.
        datasets: the datasets with columns, by the paper's names.
        ns: the values of N for recall@N, with one column each per dataset.
        shown_for: the report has this table if one of these datasets was evaluated. If empty, `datasets` is used.
    """

    key: str
    title: str
    datasets: tuple[str, ...]
    ns: tuple[int, ...] = (1, 5, 10)
    shown_for: tuple[str, ...] = ()


FULL = ("Pitts30k", "Tokyo24/7", "MSLS-val")
LAYOUTS = (
    Layout("table_2", "Table 2: benchmark datasets", (*FULL, "MSLS-challenge")),
    Layout("table_3", "Table 3: challenging datasets", ("Nordland", "AmsterTime", "SVOX-Night", "SVOX-Rain"), (1,)),
    Layout(
        "supplementary_table_2",
        "Supplementary Table 2: challenging datasets in full",
        ("Nordland", "AmsterTime", "SVOX-Night", "SVOX-Rain", "SVOX-Sun"),
    ),
    Layout(
        "supplementary_table_8",
        "Supplementary Table 8: trained on GSV-Cities",
        ("Pitts250k", "MSLS-val"),
        shown_for=("Pitts250k",),
    ),
    Layout(
        "supplementary_table_9",
        "Supplementary Table 9: trained on Pitts30k",
        ("Pitts30k", "Pitts250k"),
        shown_for=("Pitts250k",),
    ),
)
ABLATIONS = {
    "3": "Supplementary Table 3: layers of the cross-image encoder",
    "4": "Supplementary Table 4: places in a training batch",
    "6": "Supplementary Table 6: convolution-based adapters",
    "7": "Supplementary Table 7: GeM and pyramid, frozen and adapted",
}
BY_SIZE = ("supplementary_table_5", "Supplementary Table 5: photos in a group at inference")


def paper_name(dataset: str) -> str:
    """Return the name by which the paper calls a dataset, or the given name if the dataset is not in the paper.

    Example:
        >>> paper_name("pitts30k-test"), paper_name("my town")
        ('Pitts30k', 'my town')
    """

    def plain(name: str) -> str:
        return re.sub(r"[ _/]+", "-", name.lower()).replace("24-7", "247").replace("queries-", "")

    names = {plain(name): name for layout in LAYOUTS for name in layout.datasets}
    return names.get(re.sub("^(pitts30k|pitts250k)-test$", r"\1", plain(dataset)), dataset)


def tables(
    evaluations: Sequence[Evaluation], ablations: Sequence[Path], parameters: Sequence[Mapping[str, str]] = ()
) -> list[Table]:
    """Return all tables for which there are numbers: first a table of all evaluations, then the tables of the paper.

    Args:
        ablations: paths of the table.csv files that `cricavpr ablate` wrote.
        parameters: rows of Supplementary Table 1 (parameter counts), from `counted`.

    Raises:
        InputError: a file in `ablations` cannot be read or was not written by `cricavpr ablate`.
    """
    cards = [each.card for each in evaluations]
    made = [table for layout in LAYOUTS if (table := _from_layout(layout, cards))]
    if by_size := _by_size(cards):
        made.append(by_size)
    if parameters:
        made.append(_parameters(parameters))
    for path in ablations:
        made += _ablations(path)
    made.sort(key=lambda table: (table.key.startswith("supplementary"), table.key))
    return _with_own_keys([*([_every_run(cards)] if cards else []), *made])


def _with_own_keys(made: Sequence[Table]) -> list[Table]:
    """Give tables with the same key, such as those of two ablations, different keys. The key is the file name."""
    counts: Counter[str] = Counter()
    found = []
    for table in made:
        counts[table.key] += 1
        if (number := counts[table.key]) > 1:
            table = replace(table, key=f"{table.key}_{number}", title=f"{table.title} ({number})")
        found.append(table)
    return found


# --- from cards

_Column = tuple[str, int]  # dataset, N


def _from_layout(layout: Layout, cards: Sequence[Card]) -> Table | None:
    """Return the table with this layout, or None if none of the datasets in `shown_for` was evaluated."""
    here = [card for card in cards if paper_name(card.dataset) in layout.datasets]
    if not any(paper_name(card.dataset) in (layout.shown_for or layout.datasets) for card in here):
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


def _recalls(key: str, title: str, cards: Sequence[Card], columns: Sequence[_Column], second: str = "Dim") -> Table:
    """Return a table of recalls. `second` names its second column: "Dim" (dimension) or "Group" (group size)."""
    lines = _lines(cards, second)
    cells = [_column([of.get(name) for _, of in lines], n) for name, n in columns]
    heads = (("", "Method"), ("", second), ("", "Grouping"), *((name, f"R@{n}") for name, n in columns))
    names = _told_apart([line for line, _ in lines])
    rows = tuple(
        (Cell(name), Cell(line[1]), Cell(line[2]), *numbers)
        for name, (line, _), *numbers in zip(names, lines, *cells, strict=True)
    )
    marked = any(OTHER_SPLIT in cell.text for column in cells for cell in column)
    return Table(key, title, heads, rows, NOTE if marked else "")


def _lines(cards: Sequence[Card], second: str) -> list[tuple[tuple[str, ...], dict[str, Card]]]:
    """Return the rows of a table. Each row has its identifying values (see `_line`) and its cards by dataset.

    Cards that differ only in the dataset share a row.
    """
    lines: list[tuple[tuple[str, ...], dict[str, Card]]] = []
    for card in cards:
        line, name = _line(card, second), paper_name(card.dataset)
        free = next((of for other, of in lines if other == line and name not in of), None)
        if free is None:
            lines.append((line, {name: card}))
        else:
            free[name] = card
    return lines


def _line(card: Card, second: str) -> tuple[str, ...]:
    """Return the values that identify the row of a card.

    The first three values are printed columns. The others are printed only if rows would otherwise look the same.
    """
    random = f" ({card.weights})" if card.weights.startswith("random") else ""
    again = f", {card.reranked} re-ranked" if card.reranked else ""
    size = "x".join(map(str, card.made_by.image_size or ["native"]))
    number = str(card.made_by.dim if second == "Dim" else _group_size(card))
    told = card.weights[:12], size, str(card.protocol)
    return f"{card.method}{random}{again}", number, grouping_of(card), *told


def _told_apart(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the method of each row. Where rows would look the same, add the values that differ in brackets.

    Args:
        lines: values of each row, from `_line`.
    """
    names = []
    for line in lines:
        alike = [other for other in lines if other[:3] == line[:3]]
        differs = [value for place, value in enumerate(line[3:], 3) if len({other[place] for other in alike}) > 1]
        names.append(f"{line[0]} ({', '.join(differs)})" if differs else line[0])
    return names


def _column(cards: Sequence[Card | None], n: int) -> list[Cell]:
    """Return the cells of a column: recall@n in per cent, ranked among the cards of the column's most common split.

    Recalls are ranked as printed, so equal printed recalls share a rank. Cards of other splits get the mark †.
    """
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
    """Return the cells of a column with the best and the second best number ranked.

    Equal numbers share a rank. A column whose numbers are all equal has no ranks.
    """
    numbers = [text for text in texts if text and OTHER_SPLIT not in text]
    best = sorted({float(text) for text in numbers}, reverse=True)[:2] if len(numbers) > 1 else []
    rank_of = {value: rank for rank, value in enumerate(best, 1)} if len(best) > 1 else {}
    return [Cell(text, rank_of.get(float(text), 0) if text and OTHER_SPLIT not in text else 0) for text in texts]


def _by_size(cards: Sequence[Card]) -> Table | None:
    """Return Supplementary Table 5: the methods that were evaluated with several group sizes in file order."""
    sizes: dict[tuple[str, str], set[int]] = {}
    for card in cards:
        if size := _group_size(card):
            sizes.setdefault((card.method, card.weights), set()).add(size)
    used = [card for card in cards if _group_size(card) and len(sizes[card.method, card.weights]) > 1]
    if not used:
        return None
    order = list(sizes)
    used.sort(key=lambda card: (order.index((card.method, card.weights)), _group_size(card)))
    columns = [(name, n) for name in dict.fromkeys(paper_name(card.dataset) for card in used) for n in (1, 5, 10)]
    return _recalls(*BY_SIZE, used, columns, "Group")


def _group_size(card: Card) -> int:
    """Return the group size of a card: 1 for images alone, the size for groups in file order, 0 for other groupings."""
    kind, _, size = grouping_of(card).partition(":")
    return int(size or 1) if kind in ("alone", "in_order") else 0


# --- from networks and ablations


def counted(method: Method) -> dict[str, str]:
    """Count the parameters of a cricavpr method, and return its row of Supplementary Table 1, in millions.

    Raises:
        InputError: the method is not a cricavpr method.
    """
    from cricavpr.models.cricavpr import CricaVPR, parameter_counts

    network = network_of(method)
    if not isinstance(network, CricaVPR):
        raise InputError(
            f"--parameters needs a cricavpr method, because it counts the parameters of its parts, got {method.name}."
        )
    counts = parameter_counts(network)
    return {"method": method.name, **{part: f"{count / 1e6:.1f}" for part, count in counts.items()}}


def _parameters(rows: Sequence[Mapping[str, str]]) -> Table:
    """Return Supplementary Table 1. Unlike in the paper, the column Backbone does not include the adapters."""
    names = ("Method", "Total", "Backbone", "Adapter", "Others", "Tunable")
    return Table(
        "supplementary_table_1",
        "Supplementary Table 1: parameters (M)",
        tuple(("", name) for name in names),
        tuple(tuple(Cell(row[name.lower()]) for name in names) for row in rows),
    )


def _ablations(path: Path) -> list[Table]:
    """Return the tables in a table.csv of `cricavpr ablate`: one for each table of the paper with rows in this file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the table {path}: {error}. Run `cricavpr ablate` again.") from error
    if not rows or not {"recipe", "title"} <= set(rows[0]):
        raise InputError(
            f"{path} must be a table of `cricavpr ablate` with the columns recipe and title, but these columns or "
            "all rows are missing. Run `cricavpr ablate` again."
        )
    by_table: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        number = re.match(r"table(\d+)_", row["recipe"] or "")
        by_table.setdefault(number[1] if number else "", []).append(row)
    return [_ablation(number, of, path) for number, of in by_table.items()]


def _ablation(number: str, rows: Sequence[Mapping[str, str]], path: Path) -> Table:
    names = [name for name in rows[0] if re.fullmatch(r"R@\d+ \S+", name) and any(row[name] for row in rows)]
    try:
        cells = [_ranked([_percent(row[name]) if row[name] else MISSING for row in rows]) for name in names]
    except ValueError as error:
        raise InputError(f"invalid recall in {path}: {error}. Run `cricavpr ablate` again.") from error
    title = ABLATIONS.get(number, f"Ablation in {path.parent.name}")
    key = f"supplementary_table_{number}" if number in ABLATIONS else f"ablation_{path.parent.name}"
    heads = (("", "Version"), *((f"grouping {n.partition(' ')[2]}", n.partition(" ")[0]) for n in names))
    lines = zip([row["title"] or "" for row in rows], *cells, strict=True)
    return Table(key, title, heads, tuple((Cell(name), *numbers) for name, *numbers in lines))


def _percent(fraction: str) -> str:
    if not 0 <= float(fraction) <= 1:  # NaN too
        raise ValueError(f"expected a fraction from 0 to 1, got {fraction!r}")
    return f"{100 * float(fraction):.1f}"


# --- as text


def as_markdown(table: Table) -> str:
    """Return a Markdown table with its title."""
    marks: dict[int, Callable[[str], str]] = {1: lambda t: f"**{t}**", 2: lambda t: f"<u>{t}</u>"}
    head = [" ".join(part for part in head if part) for head in table.heads]
    align = ["---:" if _numeric(table, place) else "---" for place in range(len(head))]
    body = [[marks.get(cell.rank, str)(_plain(cell.text)) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(row) + " |" for row in (list(map(_plain, head)), align, *body)]
    return "\n".join([f"### {_plain(table.title)}", "", *lines, *(["", table.note] if table.note else []), ""])


def as_csv(table: Table) -> str:
    """Return a CSV table. Numbers are rounded as in the printed table; the best are not marked."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([printable(" ".join(part for part in head if part)) for head in table.heads])
    writer.writerows([[printable(cell.text) for cell in row] for row in table.rows])
    return out.getvalue()


def as_latex(table: Table) -> str:
    """Return a LaTeX tabular in the style of booktabs, with headings over groups of columns as in the paper."""
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
    top = [f"% {printable(table.title)}", f"\\begin{{tabular}}{{{columns}}}", "\\toprule", *two, head, "\\midrule"]
    note = [f"% {table.note}"] if table.note else []
    return "\n".join([*top, *body, "\\bottomrule", "\\end{tabular}", *note, ""])


def spans(table: Table) -> list[tuple[str, int]]:
    """Return the headings above groups of columns from left to right, each with the number of its columns."""
    return [(name, len(list(heads))) for name, heads in groupby(name for name, _ in table.heads)]


def _numeric(table: Table, place: int) -> bool:
    return all(re.fullmatch(r"[\d.,+]*†?", row[place].text) for row in table.rows)


def _plain(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    OTHER_SPLIT: r"$\dagger$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(text: str) -> str:
    """Escape text for LaTeX.

    Example:
        >>> latex("a_b & 5 %")
        'a\\\\_b \\\\& 5 \\\\%'
    """
    return "".join(_SPECIAL.get(character, character) for character in printable(text))


WRITERS: Mapping[str, Callable[[Table], str]] = {"md": as_markdown, "csv": as_csv, "tex": as_latex}
