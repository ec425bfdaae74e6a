"""The audit as a table for the terminal and as files: one HTML page (verdict, plots, table, rules), and JSON."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from cricavpr.datasets.base import EvalDataset
from cricavpr.evaluation.audit.measure import Audit, Measured, run_audit
from cricavpr.evaluation.audit.verdict import RULES, Verdict, verdicts
from cricavpr.evaluation.markdown import markdown
from cricavpr.files import write_text
from cricavpr.methods.base import Method
from cricavpr.pages import charts, render, table, text

COLUMNS = ["arrangement", "R@1", "against alone", "won", "lost", "drift median", "p95", "max", "same place in group"]
HEADS = {
    "alone": "Every photo alone",
    "size": "Groups in file order",
    "shuffled": "Groups in shuffled order",
    "strangers": "Other neighbours: one photo from each part of the set",
    "one side": "Database and queries in different groups",
    "last group": "The short last group",
    "packing": "The same groups in other batches (won and lost against batches of 1)",
    "precision": "Precision",
    "device": "Device",
}
LEAST_POINTS = 5.0  # on the axis of recall, so that a difference of one query looks small
STYLE = """
.verdicts { list-style: none; padding: 0; margin: 0; display: grid; gap: 10px; max-width: 62em; }
.verdicts li { display: grid; grid-template-columns: 1.6em 1fr; gap: 0 8px; }
.verdicts li::before { font-weight: 700; text-align: center; }
.verdicts .good::before { content: "\\2713"; color: var(--right); }
.verdicts .note::before { content: "\\25B8"; color: var(--accent); }
.verdicts .bad::before { content: "\\2715"; color: var(--wrong); }
.facts { display: grid; grid-template-columns: auto 1fr; gap: 2px 18px; font-size: .9rem; margin: 0; }
.facts dt { color: var(--muted); } .facts dd { margin: 0; overflow-wrap: anywhere; }
main section + section { margin-top: 8px; }
.results td:first-child { white-space: normal; min-width: 9em; }
"""


def write_audit(
    method: Method, dataset: EvalDataset, out: Path, *, cache: Path | None = None, **settings: Any
) -> Audit:
    """Run an audit, and write audit.html and audit.json into the folder `out`.

    Args:
        cache: keeps the descriptors for later; without it they lie in `out` until the audit is done, so an interrupted
            one goes on where it stopped.
        settings: as for `run_audit`.

    Raises:
        InputError: as for `run_audit`, or a file that cannot be written.
    """
    folder = cache if cache is not None else out / ".descriptors"
    audit = run_audit(method, dataset, folder, **settings)
    said = [{"level": verdict.level, "says": verdict.says} for verdict in verdicts(audit)]
    write_text(out / "audit.json", json.dumps({**audit.to_dict(), "verdicts": said}, indent=1, allow_nan=False) + "\n")
    write_text(out / "audit.html", render_audit(audit))
    if cache is None:
        shutil.rmtree(folder, ignore_errors=True)
    return audit


def audit_table(audit: Audit) -> str:
    """Return a Markdown table that also reads as plain text; recall in per cent."""
    return markdown(COLUMNS, [_cells(row) for row in audit.rows])


def render_audit(audit: Audit) -> str:
    """Return the HTML page; equal audits give equal bytes."""
    found = verdicts(audit)
    return render(
        title=f"Audit of {audit.method} on {audit.dataset}",
        kicker="cricavpr audit: how much a descriptor depends on the images beside it",
        headline=_headline(audit, found[0]),
        lede=text(
            f"{audit.database:,} database photos and {audit.queries:,} queries of {audit.dataset}; "
            f"right is {audit.rule}; one query is {100 / max(1, audit.queries):.3g} points."
        ),
        body=_body(audit, found),
        style=STYLE,
    )


def _headline(audit: Audit, first: Verdict) -> str:
    if first.level == "bad":
        return f"{audit.method}: the batch changes results"
    if first.says.startswith("Nothing is known"):
        return f"{audit.method}: no photo shared a group"
    return f"{audit.method}: descriptors {'do not depend' if first.level == 'good' else 'depend'} on other images"


def _body(audit: Audit, found: tuple[Verdict, ...]) -> str:
    said = "".join(f'<li class="{verdict.level}"><span>{text(verdict.says)}</span></li>' for verdict in found)
    parts = [f'<section><h2>Verdict</h2><ul class="verdicts">{said}</ul></section>']
    if audit.part("size"):
        parts.append(f'<section><h2>By the size of the group</h2><div class="charts">{_plots(audit)}</div></section>')
    parts.append(f"<section><h2>All measurements</h2>{_tables(audit)}</section>")
    rules = "".join(f"<li>{text(rule)}</li>" for rule in RULES)
    parts.append(f'<section class="prose"><h2>The rules of the verdict</h2><ul>{rules}</ul></section>')
    facts = {
        "dataset": f"{audit.dataset}, split {audit.split_hash[:16]}",
        "weights": audit.weights[:16],
        "computed on": audit.device,
        "shuffles": str(audit.shuffles),
    }
    listed = "".join(f"<dt>{term}</dt><dd>{text(value)}</dd>" for term, value in facts.items())
    return "".join(parts) + f'<section><h2>Details</h2><dl class="facts">{listed}</dl></section>'


def _tables(audit: Audit) -> str:
    parts = [(head, [_cells(row) for row in audit.part(part)]) for part, head in HEADS.items()]
    return table(COLUMNS, [(head, rows) for head, rows in parts if rows])


def _cells(row: Measured) -> list[str]:
    recall = "" if row.recall_at_1 is None else f"{100 * row.recall_at_1:.1f}"
    compared = row.recall_at_1 is not None and row.part != "alone"
    drift = ["", "", ""] if row.drift is None else [_short(v) for v in (row.drift.median, row.drift.p95, row.drift.max)]
    return [
        row.name,
        recall,
        "" if not compared or row.part == "packing" else f"{_net(row):+d}",
        str(row.won) if compared else "",
        str(row.lost) if compared else "",
        *drift,
        ""
        if row.same_place is None or row.part in ("packing", "precision", "device")
        else f"{100 * row.same_place:.0f} %",
    ]


def _net(row: Measured) -> int:
    return row.won - row.lost


def _short(value: float) -> str:
    return "0" if value == 0 else f"{value:.4f}" if value >= 0.00095 else f"{value:.1e}"


# --- plots


def _plots(audit: Audit) -> str:
    alone = audit.part("alone")[0]
    sizes = [(1, alone), *((int(row.name.partition(":")[2]), row) for row in audit.part("size"))]
    shuffles = [(audit.group_size, row) for row in audit.part("shuffled")]
    return _recall_plot(sizes, shuffles) + _drift_plot(sizes, shuffles)


def _recall_plot(sizes: list[tuple[int, Measured]], shuffles: list[tuple[int, Measured]]) -> str:
    points = [(math.log2(size), 100 * (row.recall_at_1 or 0.0)) for size, row in sizes]
    dots = [(math.log2(size), 100 * (row.recall_at_1 or 0.0)) for size, row in shuffles]
    base = points[0][1]
    chart = charts.xy_chart(
        [("in file order", points)],
        dots=dots,
        level=base,
        least=LEAST_POINTS,
        x_ticks=[(math.log2(size), str(size)) for size, _ in sizes],
        unit=" %",
        axis="photos in a group",
        label=f"R@1 by group size in file order, alone {base:.1f} per cent",
    )
    key = charts.key(["R@1 in file order"])
    return (
        '<figure class="card"><figcaption>R@1 in file order (line), in shuffled order (circles, one for each shuffle) '
        f"and alone (dotted)</figcaption>{chart}{key}</figure>"
    )


def _drift_plot(sizes: list[tuple[int, Measured]], shuffles: list[tuple[int, Measured]]) -> str:
    def curve(which: str) -> list[tuple[float, float]]:
        return [(math.log2(size), getattr(row.drift, which)) for size, row in sizes if row.drift]

    dots = [(math.log2(size), row.drift.median) for size, row in shuffles if row.drift]
    names = ["median", "95 %", "most"]
    chart = charts.xy_chart(
        [(name, curve(which)) for name, which in zip(names, ("median", "p95", "max"), strict=True)],
        dots=dots,
        x_ticks=[(math.log2(size), str(size)) for size, _ in sizes],
        axis="photos in a group",
        label="drift from the same photo alone, by group size",
        from_zero=True,
    )
    return (
        '<figure class="card"><figcaption>Drift (1 - cosine to the same photo alone) in file order; circles: median in '
        f"shuffled order</figcaption>{chart}{charts.key(names)}</figure>"
    )
