"""The report as one HTML page that needs no network: tables, figures and the failure explorer."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cricavpr.evaluation.cards import Card
from cricavpr.evaluation.report.evaluations import Evaluation
from cricavpr.evaluation.report.explorer import answers_map, embedded, item_of
from cricavpr.evaluation.report.failures import KINDS, Failure, failures
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.evaluation.report.tables import WRITERS, Cell, Table, spans
from cricavpr.pages import distance, facts, render, text
from cricavpr.pages.explorer import Item, Order, explorer, explorer_data

MOST_PICTURED = 400  # wrong queries of an evaluation that have pictures in the page
ORDERS = (
    Order("order of the queries"),
    Order("distance, nearest first", "distance"),
    Order("distance, farthest first", "distance", descending=True),
    Order("score, highest first", "score", descending=True),
    Order("rank of the first right photo", "rank"),
    Order("other wrong queries there", "shared", descending=True),
)
FILTERS = {"result": "", "kind": "any", "taken": "at any time"}


@dataclass(frozen=True)
class Drawing:
    """Title and caption of a figure; `name` is its file name without suffix, `broad` makes it as wide as the page."""

    name: str
    title: str
    caption: str
    broad: bool = False


def report_page(
    evaluations: Sequence[Evaluation],
    tables: Sequence[Table],
    figures: Sequence[tuple[Drawing, Sequence[Path]]],
    pictures: Pictures | None,
) -> str:
    """Return the page as text, the same for the same values.

    Args:
        figures: with the files of each, an SVG and a PNG among them.
    """
    answered = [each for each in evaluations if each.answers]
    body, data = _tables(tables) + _figures(figures), None
    if answered:
        html, data = _failures(answered, pictures)
        body += html
    return render(
        title="A report by cricavpr",
        kicker="cricavpr report",
        headline=_headline(evaluations),
        lede=_lede(evaluations),
        body=body,
        scripts=("map.js", "explorer.js") if answered else (),
        data=data,
    )


def _headline(evaluations: Sequence[Evaluation]) -> str:
    if not evaluations:
        return "Ablations"
    ours, datasets = evaluations[0], {each.card.dataset for each in evaluations}
    if len(datasets) > 1:
        return f"{len(evaluations)} results on {len(datasets)} datasets"
    n = ours.card.ns[0]
    return f"{ours.label}: R@{n} {100 * ours.card.recall_at[n]:.1f} on {ours.card.dataset}"


def _lede(evaluations: Sequence[Evaluation]) -> str:
    cards = {each.card.dataset: each.card for each in evaluations}
    return "<br>".join(text(card_text(card)) for card in cards.values()) or "Tables of ablations, as they were written."


def card_text(card: Card) -> str:
    """Return the dataset of a card and its rule in one line."""
    counts = card.counts
    return (
        f"{card.dataset}: {counts.queries:,} queries against {counts.database:,} database photos; a match is right "
        f"{card.rule}; one query is {100 / max(1, counts.queries):.3g} points."
    )


# --- tables and figures


def _tables(tables: Sequence[Table]) -> str:
    made = ""
    for table in tables:
        names = " ".join(f"{table.key}.{kind}" for kind in WRITERS)
        made += f'<div class="card scroll">{table_html(table)}<p class="files">tables/ {text(names)}</p></div>'
    return f'<section class="tables"><h2>Tables</h2>{made}</section>' if made else ""


def table_html(table: Table) -> str:
    """Return one table, the best bold and the second underlined."""
    over = "".join(
        f'<th scope="colgroup" colspan="{width}" class="over">{text(name)}</th>'
        if name
        else f'<td colspan="{width}"></td>'
        for name, width in spans(table)
    )
    heads = "".join(f'<th scope="col"{_side(name)}>{text(name)}</th>' for _, name in table.heads)
    over = f"<tr>{over}</tr>" if any(name for name, _ in table.heads) else ""
    rows = "".join(
        "<tr>" + "".join(_cell(cell, head[1]) for cell, head in zip(row, table.heads, strict=True)) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="files">{text(table.note)}</p>' if table.note else ""
    return (
        f'<table class="results"><caption>{text(table.title)}</caption><thead>{over}<tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{note}"
    )


def _cell(cell: Cell, head: str) -> str:
    tag = {1: "strong", 2: "u"}.get(cell.rank)
    inner = text(cell.text) if tag is None else f"<{tag}>{text(cell.text)}</{tag}>"
    return f"<td{_side(head)}>{inner}</td>"


def _side(head: str) -> str:
    return "" if head in ("Method", "Grouping", "Version") else ' class="number"'


def _figures(figures: Sequence[tuple[Drawing, Sequence[Path]]]) -> str:
    made = "".join(_figure(drawing, files) for drawing, files in figures)
    return f'<section><h2>Figures</h2><div class="figures">{made}</div></section>' if made else ""


def _figure(drawing: Drawing, files: Sequence[Path]) -> str:
    """Embed photos as PNG and lines as SVG: whichever is smaller and as good."""
    suffix, mime = (".png", "image/png") if drawing.broad else (".svg", "image/svg+xml")
    file = next(path for path in files if path.suffix == suffix)
    address = f"data:{mime};base64,{base64.b64encode(file.read_bytes()).decode()}"
    names = ", ".join(path.name for path in files)
    return (
        f'<figure class="card{" broad" if drawing.broad else ""}"><figcaption>{text(drawing.title)}</figcaption>'
        f'<img src="{address}" alt="{text(drawing.caption)}">'
        f'<p class="files">{text(drawing.caption)} figures/ {text(names)}</p></figure>'
    )


# --- failures


def _failures(evaluations: Sequence[Evaluation], pictures: Pictures | None) -> tuple[str, dict[str, object]]:
    """Return the explorer of wrong queries, and its data."""
    found = [(each, failures(each)) for each in evaluations]
    answers = [each.answers[failure.index] for each, wrong in found for failure in wrong]
    database = {match.name: match.latlon for answer in answers for match in answer.matches[:1] if match.latlon}
    places = {name: len(answers) + row for row, name in enumerate(database)}
    items: list[Item] = []
    pictured: list[Item] = []
    for each, wrong in found:
        for number, failure in enumerate(wrong):
            items.append(_item(each, failure, item_of(each.answers[failure.index], len(items), places, shown=1)))
            pictured += items[-1:] if number < MOST_PICTURED else []
    key = {"wrong": "a wrong query", **({"photo": "a first match"} if database else {})}
    map_html = answers_map(answers, database, degrees=any(answer.latlon for answer in answers), key=key)
    made = explorer(items, FILTERS, ORDERS, map_html=map_html, noun="wrong queries")
    html = f"<section><h2>Why the wrong queries went wrong</h2>{facts(KINDS.items())}<br>{made}</section>"
    return html, explorer_data(items, ORDERS, embedded(pictured, pictures) if pictures else {})


def _item(evaluation: Evaluation, failure: Failure, item: Item) -> Item:
    return replace(
        item,
        verdict=", ".join(failure.kinds),
        facts=[
            ("query", f"{failure.index + 1:,}: {failure.query}"),
            ("first match", item.matches[0].name if item.matches else "none"),
            ("its distance", "unknown" if failure.distance_m is None else distance(failure.distance_m)),
            ("its score", "none" if failure.score is None else f"{failure.score:.4f}"),
            ("rank of the first right photo", f"{failure.first_right_rank or 'none'}"),
            ("other wrong queries there", f"{failure.shared:,}"),
        ],
        groups={
            "result": [f"{evaluation.label}, {evaluation.card.dataset}"],
            "kind": failure.kinds,
            "taken": [failure.condition] if failure.condition else [],
        },
        numbers={
            "distance": failure.distance_m,
            "score": failure.score,
            "rank": failure.first_right_rank,
            "shared": failure.shared,
        },
    )
