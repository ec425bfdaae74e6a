"""The report as one HTML page: tables, figures and the failure explorer, without network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cricavpr.evaluation.report.failures import KINDS, Failure, failures
from cricavpr.evaluation.report.pictures import Pictures, thumbnail
from cricavpr.evaluation.report.runs import Run
from cricavpr.evaluation.report.tables import Cell, Table, spans
from cricavpr.pages import jpeg_address, render, text

MOST_PICTURED = 400  # wrong queries of a run that have pictures in the page
SORTS = {
    "order": "order of the queries",
    "near": "distance, nearest first",
    "far": "distance, farthest first",
    "score": "score, highest first",
    "rank": "rank of the first right photo",
    "shared": "other wrong queries there",
}


@dataclass(frozen=True)
class Drawn:
    """A figure that was written.

    Attributes:
        files: its paths, an SVG and a PNG among them.
        broad: takes the whole width of the page.
    """

    title: str
    caption: str
    files: tuple[Path, ...]
    broad: bool = False


def report_page(
    runs: Sequence[Run], tables: Sequence[Table], figures: Sequence[Drawn], pictures: Pictures | None
) -> str:
    """The page as text, the same for the same values."""
    explored = [run for run in runs if run.answers]
    found = [failures(run) for run in explored]
    parts = [_tables(tables), _figures(figures), _explorer(explored, found)]
    return render(
        title="A report by cricavpr",
        kicker="cricavpr report",
        headline=_headline(runs),
        lede=_lede(runs),
        body="".join(parts),
        style=_asset("page.css"),
        script=_asset("page.js") if explored else "",
        data=_data(explored, found, pictures) if explored else None,
    )


def _asset(name: str) -> str:
    return resources.files("cricavpr.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _headline(runs: Sequence[Run]) -> str:
    if not runs:
        return "Ablations"
    ours = runs[0]
    datasets = {run.card.dataset for run in runs}
    if len(datasets) > 1:
        return f"{len(runs)} results on {len(datasets)} datasets"
    n = ours.card.ns[0]
    return f"{ours.label}: R@{n} {100 * ours.card.recall_at[n]:.1f} on {ours.card.dataset}"


def _lede(runs: Sequence[Run]) -> str:
    if not runs:
        return "Tables of ablations, as they were written."
    said = []
    for dataset, card in {run.card.dataset: run.card for run in runs}.items():
        counts = card.counts
        said.append(
            f"{text(dataset)}: {counts.queries:,} queries against {counts.database:,} database photos, right is "
            f"{text(card.rule)}; one query is {100 / max(1, counts.queries):.3g} points."
        )
    return "<br>".join(said)


# --- tables


def _tables(tables: Sequence[Table]) -> str:
    if not tables:
        return ""
    made = "".join(f'<div class="card scroll report-table">{table_html(table)}</div>' for table in tables)
    return f"<section><h2>Tables</h2>{made}</section>"


def table_html(table: Table) -> str:
    """One table, best bold and second underlined."""
    over = spans(table)
    first = "".join(
        f'<th scope="colgroup" colspan="{width}" class="over">{text(name)}</th>'
        if name
        else f'<td colspan="{width}"></td>'
        for name, width in over
    )
    second = "".join(f'<th scope="col"{_side(name)}>{text(name)}</th>' for _, name in table.heads)
    heads = (f"<tr>{first}</tr>" if any(name for name, _ in over) else "") + f"<tr>{second}</tr>"
    rows = "".join(
        "<tr>" + "".join(_cell(cell, head[1]) for cell, head in zip(row, table.heads, strict=True)) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="files">{text(table.note)}</p>' if table.note else ""
    names = " ".join(f"{table.key}.{kind}" for kind in ("md", "csv", "tex"))
    return (
        f'<table class="results"><caption>{text(table.title)}</caption><thead>{heads}</thead>'
        f"<tbody>{rows}</tbody></table>"
        f'{note}<p class="files">tables/ {text(names)}</p>'
    )


def _cell(cell: Cell, head: str) -> str:
    tag = {1: "strong", 2: "u"}.get(cell.rank)
    inner = text(cell.text) if tag is None else f"<{tag}>{text(cell.text)}</{tag}>"
    return f"<td{_side(head)}>{inner}</td>"


def _side(head: str) -> str:
    return "" if head in ("Method", "Grouping", "Version") else ' class="number"'


# --- figures


def _figures(figures: Sequence[Drawn]) -> str:
    if not figures:
        return ""
    return f'<section><h2>Figures</h2><div class="figures">{"".join(map(_figure, figures))}</div></section>'


def _figure(drawn: Drawn) -> str:
    """Photos as PNG, lines as SVG: what is smaller and as good."""
    kind = "png" if drawn.broad else "svg"
    file = next(path for path in drawn.files if path.suffix == f".{kind}")
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    address = f"data:{mime};base64,{base64.b64encode(file.read_bytes()).decode()}"
    wide = " broad" if drawn.broad else ""
    names = ", ".join(path.name for path in drawn.files)
    return (
        f'<figure class="card paper{wide}"><figcaption>{text(drawn.title)}</figcaption>'
        f'<img src="{address}" alt="{text(drawn.caption)}">'
        f'<p class="files">{text(drawn.caption)} figures/ {text(names)}</p>'
        "</figure>"
    )


# --- failures


def _explorer(runs: Sequence[Run], found: Sequence[Sequence[Failure]]) -> str:
    if not runs:
        return ""
    names = [f"{run.label}, {run.card.dataset}: {len(of):,} wrong" for run, of in zip(runs, found, strict=True)]
    kinds = "".join(f"<dt>{text(kind)}</dt><dd>{text(said)}</dd>" for kind, said in KINDS.items())
    return (
        "<section><h2>Why the wrong ones went wrong</h2>"
        '<noscript><p class="card">The explorer needs JavaScript.</p></noscript>'
        f'<dl class="kinds">{kinds}</dl>'
        '<div class="controls">'
        f"<label>Result {_select('f-run', {str(n): name for n, name in enumerate(names)})}</label>"
        f"<label>kind {_select('f-kind', {'all': 'any', **{kind: kind for kind in KINDS}})}</label>"
        f"<label>taken {_select('f-condition', {'all': 'at any time'})}</label>"
        f"<label>sorted by {_select('f-sort', SORTS)}</label>"
        '<output id="f-count"></output></div><ol id="failures"></ol>'
        '<p class="more"><button type="button" id="f-more" hidden>Show more</button></p></section>'
    )


def _select(name: str, options: Mapping[str, str]) -> str:
    inner = "".join(f'<option value="{text(value)}">{text(said)}</option>' for value, said in options.items())
    return f'<select id="{name}">{inner}</select>'


def _data(runs: Sequence[Run], found: Sequence[Sequence[Failure]], pictures: Pictures | None) -> dict[str, Any]:
    embedded: dict[str, str] = {}
    listed = []
    for run, of in zip(runs, found, strict=True):
        listed.append({"failures": [_entry(run, failure) for failure in of]})
        for failure in of[:MOST_PICTURED] if pictures else ():
            _embed(embedded, run, failure, pictures)
    return {"runs": listed, "pictures": embedded}


def _entry(run: Run, failure: Failure) -> dict[str, Any]:
    matches = run.answers[failure.index].matches
    return {"index": failure.index, "match": matches[0].name if matches else "", **failure.to_dict()}


def _embed(embedded: dict[str, str], run: Run, failure: Failure, pictures: Pictures | None) -> None:
    """Each picture once, however many results show it."""
    assert pictures is not None
    matches = run.answers[failure.index].matches
    wanted = [(f"q:{failure.query}", pictures.query, failure.query)]
    wanted += [(f"d:{match.name}", pictures.match, match.name) for match in matches[:1]]
    for key, read, name in wanted:
        if key not in embedded and (picture := read(name)) is not None:
            embedded[key] = jpeg_address(thumbnail(picture))
