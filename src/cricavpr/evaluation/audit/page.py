"""Output of an audit: a table for the terminal, an HTML page (verdict, plots, table, rules) and JSON."""

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
from cricavpr.pages import charts, facts, render, table, text

COLUMNS = ["arrangement", "R@1", "against alone", "won", "lost", "drift median", "p95", "max", "same place in group"]
HEADS = {
    "alone": "Every photo alone",
    "size": "Groups in file order",
    "shuffled": "Groups in shuffled order",
    "strangers": "Groups of unrelated photos (strangers)",
    "one side": "Database and queries in different groups",
    "last group": "The short last group",
    "packing": "The same groups in batches of other sizes (won and lost compared with batches of 1)",
    "precision": "Precision",
    "device": "Device",
}
LEAST_POINTS = 5.0  # minimum range of the recall axis in percentage points, so that one query makes a small difference
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
        cache: folder that keeps the descriptors for later audits. Without it, they are kept in `out` until the audit is
            done, so that an interrupted audit can continue.
        settings: further keyword arguments of `run_audit`.

    Raises:
        InputError: as for `run_audit`, or a file cannot be written.
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
    """Return the rows of an audit as a Markdown table, with recall in per cent. It is also readable as plain text."""
    return markdown(COLUMNS, [_cells(row) for row in audit.rows])


def render_audit(audit: Audit) -> str:
    """Return the HTML page of an audit; equal audits give equal text."""
    found = verdicts(audit)
    return render(
        title=f"Audit of {audit.method} on {audit.dataset}",
        kicker="cricavpr audit: how much a descriptor depends on the images beside it",
        headline=_headline(audit, found[0]),
        lede=text(
            f"{audit.database:,} database photos and {audit.queries:,} queries of {audit.dataset}; "
            f"a match is correct {audit.rule}; one query is {100 / max(1, audit.queries):.3g} percentage points."
        ),
        body=_body(audit, found),
        style=STYLE,
    )


def _headline(audit: Audit, first: Verdict) -> str:
    if first.level == "bad":
        return f"{audit.method}: the batch size changes results"
    if first.says.startswith("Nothing is known"):
        return f"{audit.method}: no two photos shared a group"
    return f"{audit.method}: descriptors {'do not depend' if first.level == 'good' else 'depend'} on other images"


def _body(audit: Audit, found: tuple[Verdict, ...]) -> str:
    said = "".join(f'<li class="{verdict.level}"><span>{text(verdict.says)}</span></li>' for verdict in found)
    parts = [f'<section><h2>Verdict</h2><ul class="verdicts">{said}</ul></section>']
    if audit.part("size"):
        parts.append(f'<section><h2>By the size of the group</h2><div class="charts">{_plots(audit)}</div></section>')
    measured = [(head, [_cells(row) for row in audit.part(part)]) for part, head in HEADS.items()]
    whole = table(COLUMNS, [(head, rows) for head, rows in measured if rows])
    parts.append(f"<section><h2>All measurements</h2>{whole}</section>")
    rules = "".join(f"<li>{text(rule)}</li>" for rule in RULES)
    parts.append(f'<section class="prose"><h2>The rules of the verdict</h2><ul>{rules}</ul></section>')
    details = {
        "dataset": f"{audit.dataset}, split {audit.split_hash[:16]}",
        "weights": audit.weights[:16],
        "computed on": audit.device,
        "shuffles": str(audit.shuffles),
    }
    return "".join(parts) + f"<section><h2>Details</h2>{facts(details.items())}</section>"


def _cells(row: Measured) -> list[str]:
    recall = "" if row.recall_at_1 is None else f"{100 * row.recall_at_1:.1f}"
    won_lost = ["", "", ""]
    if row.recall_at_1 is not None and row.part != "alone":
        won_lost = ["" if row.part == "packing" else f"{row.won - row.lost:+d}", str(row.won), str(row.lost)]
    drift = ["", "", ""] if row.drift is None else [_short(v) for v in (row.drift.median, row.drift.p95, row.drift.max)]
    shown = row.same_place is not None and row.part not in ("packing", "precision", "device")
    return [row.name, recall, *won_lost, *drift, f"{100 * (row.same_place or 0.0):.0f} %" if shown else ""]


def _short(value: float) -> str:
    return "0" if value == 0 else f"{value:.4f}" if value >= 0.00095 else f"{value:.1e}"


# --- plots


def _plots(audit: Audit) -> str:
    ordered = {1: audit.part("alone")[0], **{int(row.name.partition(":")[2]): row for row in audit.part("size")}}
    sizes = [(math.log2(size), row) for size, row in ordered.items()]
    shuffles = [(math.log2(audit.group_size), row) for row in audit.part("shuffled")]
    ticks = [(math.log2(size), str(size)) for size in ordered]
    points = [(x, 100 * (row.recall_at_1 or 0.0)) for x, row in sizes]
    recall = charts.xy_chart(
        [("in file order", points)],
        dots=[(x, 100 * (row.recall_at_1 or 0.0)) for x, row in shuffles],
        level=points[0][1],
        least=LEAST_POINTS,
        x_ticks=ticks,
        unit=" %",
        axis="photos in a group",
        label=f"R@1 by group size in file order, alone {points[0][1]:.1f} per cent",
    )
    curves = {"median": "median", "95 %": "p95", "most": "max"}
    drift = charts.xy_chart(
        [(name, [(x, getattr(row.drift, of)) for x, row in sizes if row.drift]) for name, of in curves.items()],
        dots=[(x, row.drift.median) for x, row in shuffles if row.drift],
        x_ticks=ticks,
        axis="photos in a group",
        label="drift from the same photo alone, by group size",
        from_zero=True,
    )
    return (
        '<figure class="card"><figcaption>R@1 in file order (line), in shuffled order (circles, one for each shuffle) '
        f"and alone (dotted)</figcaption>{recall}{charts.key(['R@1 in file order'])}</figure>"
        '<figure class="card"><figcaption>Drift (1 - cosine to the same photo alone) in file order; circles: median in '
        f"shuffled order</figcaption>{drift}{charts.key(list(curves))}</figure>"
    )
