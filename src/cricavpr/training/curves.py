"""The curves of a run: loss, share of images that take part in the loss, learning rate, and recall, over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cricavpr.plotting import looks, new_figure, save_figure, style
from cricavpr.schema import parse_json

if TYPE_CHECKING:
    from cricavpr.plotting import Axes, Figure

WIDTH_IN, PANEL_IN = 8.0, 1.9  # width of the figure and height of a panel, in inches
POINTS = 400  # largest number of points of a line; with more steps, neighbouring steps are averaged
MARKED = 25  # largest number of points of a line that is drawn with markers
MOST = 9  # largest number of lines for which the legend of a panel has room

Line = Sequence[tuple[float, float]]  # points (step, value)
Rows = Sequence[dict[str, Any]]  # lines of log.jsonl
Panels = dict[str, dict[str, Line]]  # title of a panel: name of a line: the line


def draw_curves(log: Path, picture: Path) -> list[Path]:
    """Draw the curves of log.jsonl as SVG and PNG; return the written files. Before the first step none is written."""
    drawn = panels(read_log(log))
    return save_figure(curves(drawn), picture) if drawn else []


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the lines of log.jsonl as dictionaries. Leave out the last line if it is incomplete."""
    whole, _, _ = log.read_text(encoding="utf-8").rpartition("\n")
    return [parse_json(line, f"line {number} of {log}") for number, line in enumerate(whole.splitlines(), 1)]


def panels(rows: Rows) -> Panels:
    """Return the panels to draw; none before the first step. If there are many recalls, only R@1 is drawn."""
    steps = [row for row in rows if "loss" in row]
    if not steps:
        return {}
    measured = [row for row in rows if "measured" in row]
    names = sorted({name for row in measured for name in row["measured"]}, key=_recall_order)
    names = names if len(names) <= MOST else [name for name in names if name.startswith("R@1 ")]
    found: Panels = {
        "loss": {name: _column(steps, name) for name in ("loss", "distillation")},
        "share of images mined": {"mined": _column(steps, "mined")},
        "learning rate": {"rate": _column(steps, "rate")},
        "recall": {n: [(r["step"], r["measured"][n]) for r in measured if n in r["measured"]] for n in names},
    }
    shown = {title: {name: line for name, line in lines.items() if line} for title, lines in found.items()}
    return {title: lines for title, lines in shown.items() if lines}


def curves(drawn: Panels) -> Figure:
    """Return a figure with one panel above another. All panels share the horizontal axis, the steps."""
    figure, axes = new_figure(WIDTH_IN, PANEL_IN * len(drawn) + 0.3, rows=len(drawn))
    last = max(step for lines in drawn.values() for line in lines.values() for step, _ in line)
    with looks():
        for (title, lines), place in zip(drawn.items(), axes, strict=True):
            _draw(title, lines, place, last)
        axes[-1].set_xlabel("step")
    return figure


def _draw(title: str, lines: Mapping[str, Line], axes: Axes, last: float) -> None:
    for number, (name, line) in enumerate(lines.items()):
        look = style(number)._asdict() | ({} if len(line) <= MARKED else {"marker": ""})
        axes.plot([step for step, _ in line], [value for _, value in line], label=name, **look)
    axes.set_title(title)
    axes.set_xlim(0, max(last, 1) * 1.01)
    bottom, top = min(0.0, *axes.get_ylim()), max(axes.get_ylim())
    axes.set_ylim(bottom, top + 0.04 * (top - bottom))  # leave some space above the data
    if len(lines) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _recall_order(name: str) -> tuple[str, int]:
    at, _, grouping = name.partition(" ")
    return grouping, int(at.removeprefix("R@"))


def _column(rows: Rows, name: str) -> Line:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    size = -(-len(points) // POINTS)
    chunks = [points[start : start + size] for start in range(0, len(points), size)] if size else []
    return [(sum(x for x, _ in chunk) / len(chunk), sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]
