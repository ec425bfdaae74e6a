"""The HTML page of a report, in one file without links to the network: tables, figures and wrong queries."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cricavpr.evaluation.answers import Answer
from cricavpr.evaluation.cards import Card
from cricavpr.evaluation.report.evaluations import KINDS, Evaluation, Failure, failures
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.evaluation.report.tables import WRITERS, Cell, Table, spans
from cricavpr.pages import Ground, Line, Marker, distance, facts, map_of, picture, render, text
from cricavpr.pages.explorer import Item, Match, Order, explorer
from cricavpr.pages.maps import NOWHERE, Place

MOST_PICTURED = 400  # maximum number of wrong queries of an evaluation that are shown with photos
ORDERS = (
    Order("order of the queries"),
    Order("distance, nearest first", "distance"),
    Order("distance, farthest first", "distance", descending=True),
    Order("score, highest first", "score", descending=True),
    Order("rank of the first correct photo", "rank"),
    Order("other wrong queries with the same first match", "shared", descending=True),
)
FILTERS = {"result": "", "kind": "any", "taken": "at any time"}


@dataclass(frozen=True)
class Drawing:
    """Title and caption of a figure.

    Attributes:
        name: file name of the figure without suffix.
        title: title above the figure.
        caption: text below the figure.
        broad: whether the figure is drawn across the whole width of the page.
    """

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
    """Return the HTML of the page; equal arguments give equal text.

    Args:
        figures: for each figure, its title and caption, and its files, which must include an SVG and a PNG.
        pictures: photos of the dataset; None makes a page without photos of the wrong queries.
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
    """Return one line about the dataset of a card, with the numbers of images and the rule for correct matches."""
    counts = card.counts
    return (
        f"{card.dataset}: {counts.queries:,} queries against {counts.database:,} database photos; a match is correct "
        f"{card.rule}; one query is {100 / max(1, counts.queries):.3g} percentage points."
    )


# --- tables and figures


def _tables(tables: Sequence[Table]) -> str:
    made = ""
    for table in tables:
        names = " ".join(f"{table.key}.{kind}" for kind in WRITERS)
        made += f'<div class="card scroll">{table_html(table)}<p class="files">tables/ {text(names)}</p></div>'
    return f'<section class="tables"><h2>Tables</h2>{made}</section>' if made else ""


def table_html(table: Table) -> str:
    """Return a table as HTML, with the best value of each column bold and the second best underlined."""
    over = "".join(
        f'<th scope="colgroup" colspan="{width}" class="over">{text(name)}</th>'
        if name
        else f'<td colspan="{width}"></td>'
        for name, width in spans(table)
    )
    heads = "".join(f'<th scope="col"{_side(name)}>{text(name)}</th>' for _, name in table.heads)
    over = f"<tr>{over}</tr>" if any(name for name, _ in table.heads) else ""
    rows = "".join(f"<tr>{''.join(map(_cell, row, [name for _, name in table.heads]))}</tr>" for row in table.rows)
    note = f'<p class="files">{text(table.note)}</p>' if table.note else ""
    return (
        f'<table class="results"><caption>{text(table.title)}</caption><thead>{over}<tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{note}"
    )


def _cell(cell: Cell, head: str) -> str:
    before, after = {1: ("<strong>", "</strong>"), 2: ("<u>", "</u>")}.get(cell.rank, ("", ""))
    return f"<td{_side(head)}>{before}{text(cell.text)}{after}</td>"


def _side(head: str) -> str:
    return "" if head in ("Method", "Grouping", "Version") else ' class="number"'


def _figures(figures: Sequence[tuple[Drawing, Sequence[Path]]]) -> str:
    made = "".join(_figure(drawing, files) for drawing, files in figures)
    return f'<section><h2>Figures</h2><div class="figures">{made}</div></section>' if made else ""


def _figure(drawing: Drawing, files: Sequence[Path]) -> str:
    """Return a figure as HTML with an embedded image.

    A `broad` figure shows photos and is embedded as PNG. Other figures are embedded as SVG, which is smaller for them.
    """
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
    """Return the HTML of the explorer of wrong queries, and the data for its script."""
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
    shown = embedded(pictured, pictures) if pictures else {}
    made, data = explorer(items, FILTERS, ORDERS, shown, map_html=map_html, noun="wrong queries")
    html = f"<section><h2>Why the wrong queries went wrong</h2>{facts(KINDS.items())}<br>{made}</section>"
    return html, data


def _item(evaluation: Evaluation, failure: Failure, item: Item) -> Item:
    return replace(
        item,
        verdict=", ".join(failure.kinds),
        facts=[
            ("query", f"{failure.index + 1:,}: {failure.query}"),
            ("first match", item.matches[0].name if item.matches else "none"),
            ("distance of the first match", "unknown" if failure.distance_m is None else distance(failure.distance_m)),
            ("score of the first match", "none" if failure.score is None else f"{failure.score:.4f}"),
            ("rank of the first correct photo", f"{failure.first_right_rank or 'none'}"),
            ("other wrong queries with the same first match", f"{failure.shared:,}"),
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


# --- also used by the demo


def item_of(answer: Answer, number: int, places: Mapping[str, int], shown: int) -> Item:
    """Return the entry of a query in an explorer. The caller must add verdict, facts, groups and numbers.

    Args:
        number: index of the query's marker on the map.
        places: index of the marker of each database photo on the map, by name.
        shown: number of matches to list.
    """
    matches = [
        Match(
            picture=f"database/{match.name}",
            name=file_name(match.name),
            score=match.score,
            off_m=match.distance_m,
            right=match.right,
            note=position_text(match.latlon),
            marker=places.get(match.name),
        )
        for match in answer.matches[:shown]
    ]
    off_m = answer.matches[0].distance_m if answer.matches else None
    key, name, note = f"queries/{answer.query}", file_name(answer.query), answer.condition or ""
    return Item(key, name, note, answer.right, "", off_m, matches, marker=number)


def answers_map(
    answers: Sequence[Answer],
    database: Mapping[str, Place],
    *,
    degrees: bool,
    key: Mapping[str, str],
    lines: bool = False,
    ground: Sequence[Ground] = (),
) -> str:
    """Return a map of queries and database photos, or "" if no query has a position.

    Args:
        database: positions of the database photos by name, in the same unit as those of the queries.
        degrees: whether positions are latitude and longitude in degrees; otherwise they are in metres.
        key: the legend. Keys are names of marker styles, values are their meanings.
        lines: draw a line from each query to its first match.
        ground: geographic areas to draw below the markers.
    """
    places = [(answer.latlon if degrees else answer.position) or NOWHERE for answer in answers]
    if all(place is NOWHERE for place in places):
        return ""
    looks = ["right" if answer.right else "wrong" for answer in answers]
    named = zip(places, answers, looks, strict=True)
    markers = [Marker(place, file_name(answer.query), look) for place, answer, look in named]
    drawn = [
        Line((places[n], database[answer.matches[0].name]), look=looks[n], marker=n)
        for n, answer in enumerate(answers)
        if lines and answer.matches and answer.matches[0].name in database
    ]
    label = f"Map of {len(answers):,} queries, {looks.count('right'):,} of them located correctly"
    every = [*markers, *map(Marker, database.values())]
    return map_of(every, (), drawn, degrees=degrees, ground=ground, key=key, label=label)


def embedded(
    items: Iterable[Item],
    pictures: Pictures,
    fineness: Sequence[tuple[int, int]] = ((150, 60),),  # (longer side in pixels, JPEG quality), best first
    most_bytes: float = math.inf,
) -> dict[str, str]:
    """Return the photos of the items as `data:` URIs by their keys.

    Args:
        fineness: pairs of longer side and JPEG quality to try, the best first.
        most_bytes: maximum size of all URIs together. The first entry of `fineness` that keeps it is used, or the last
            entry if none does.
    """
    small = {}
    for item in items:
        truth = (item.truth[0],) if item.truth else ()
        for key in (item.picture, *(match.picture for match in item.matches), *truth):
            side, _, name = key.partition("/")
            read = pictures.query if side == "queries" else pictures.match
            if key not in small and (image := read(name)) is not None:
                shrunk = Image.fromarray(image)
                shrunk.thumbnail((fineness[0][0],) * 2, Image.Resampling.LANCZOS)
                small[key] = np.asarray(shrunk)
    made: dict[str, str] = {}
    for side_px, quality in fineness:
        made = {key: picture(image, side_px, quality) for key, image in small.items()}
        if sum(map(len, made.values())) <= most_bytes:
            break
    return made


def position_text(latlon: tuple[float, float] | None) -> str:
    """Return latitude and longitude as text, or "" if they are unknown."""
    return "" if latlon is None else f"{latlon[0]:.6f}, {latlon[1]:.6f}"


def file_name(name: str) -> str:
    """Return the last part of a path."""
    return name.rpartition("/")[2]
