"""The curves of a run as an SVG picture: loss, mined share and learning rate by step, and every recall measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from cricavpr.files import write_text

WIDTH, PANEL = 720, 170
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 24, 22  # room for axis, legend, title and steps
POINTS = 400  # a line of more steps is drawn as means of neighbours
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # told apart by colour-blind eyes
DASHES = ("", "6 3", "2 3", "8 3 2 3")  # and without colour

Line = Sequence[tuple[float, float]]  # (step, value)


class Panel(NamedTuple):
    title: str
    lines: dict[str, Line]


def draw_curves(log: Path, picture: Path) -> None:
    """Read log.jsonl and draw it; a last line that is half written is left out."""
    rows = []
    for text in log.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(text))
        except ValueError:
            continue
    write_text(picture, curves(rows))


def curves(rows: Sequence[dict[str, Any]]) -> str:
    """An SVG document."""
    steps = [row for row in rows if "loss" in row]
    measured = [row for row in rows if "measured" in row]
    names = sorted({name for row in measured for name in row["measured"]}, key=_recall_order)
    panels = [
        Panel("loss", {name: _column(steps, name) for name in ("loss", "distillation")}),
        Panel("share of images mined", {"mined": _column(steps, "mined")}),
        Panel("learning rate", {"rate": _column(steps, "rate")}),
        Panel("recall", {n: [(r["step"], r["measured"][n]) for r in measured if n in r["measured"]] for n in names}),
    ]
    last = max((row["step"] for row in rows), default=1)
    drawn = [panel for panel in panels if any(panel.lines.values())]
    body = "".join(_panel(panel, number * PANEL, last) for number, panel in enumerate(drawn))
    height = max(1, len(drawn)) * PANEL
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>{body}</svg>\n'
    )


def _recall_order(name: str) -> tuple[str, int]:
    at, _, grouping = name.partition(" ")
    return grouping, int(at.removeprefix("R@"))


def _column(rows: Sequence[dict[str, Any]], name: str) -> Line:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    size = -(-len(points) // POINTS)
    chunks = [points[start : start + size] for start in range(0, len(points), size)] if size else []
    return [(sum(x for x, _ in chunk) / len(chunk), sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _panel(panel: Panel, top: float, last: int) -> str:
    values = [y for line in panel.lines.values() for _, y in line]
    low, high = min(0.0, *values), max(*values, min(values) + 1e-12)
    inner_width, inner_height = WIDTH - LEFT - RIGHT, PANEL - TOP - BOTTOM

    def x(step: float) -> float:
        return LEFT + step / max(1, last) * inner_width

    def y(value: float) -> float:
        return top + TOP + (high - value) / (high - low) * inner_height

    parts = [f'<text x="{LEFT}" y="{top + 15}" font-weight="bold">{escape(panel.title)}</text>']
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        parts.append(
            f'<path d="M{LEFT} {y(value):.1f}H{LEFT + inner_width}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    parts.append(f'<text x="{LEFT + inner_width}" y="{top + PANEL - 6}" text-anchor="end">step {last:,}</text>')
    for number, (name, line) in enumerate((n, points) for n, points in panel.lines.items() if points):
        style = f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-dasharray="{DASHES[number % len(DASHES)]}"'
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in line)
        height = top + TOP + 8 + 14 * number
        legend = LEFT + inner_width + 8
        parts.append(
            f'<polyline points="{points}" fill="none" stroke-width="1.5" {style}/>'
            f'<path d="M{legend} {height}h18" stroke-width="2" {style}/>'
            f'<text x="{legend + 22}" y="{height + 4}">{escape(name)}</text>'
        )
    return "".join(parts)
