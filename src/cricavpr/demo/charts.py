"""Small charts as inline SVG, drawn in the colours of the page: the style sheet decides, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 22, 12, 40  # room for the axes


def bar(share: float) -> str:
    """A bar for a cell of a table; the number stands beside it."""
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="rail" width="100" height="8"/><rect class="fill" width="{100 * share:.1f}" height="8"/></svg>'
    )


def error_curve(errors_m: Sequence[float], radius_m: float) -> str:
    """Which share of the queries is placed within how many metres; metres on a logarithmic axis."""
    ordered = sorted(errors_m)
    first, last = -1, math.ceil(math.log10(max(100.0, *ordered)))
    ends = (10.0**first, 10.0**last)

    def x(metres: float) -> float:
        share = math.log(max(metres, ends[0]) / ends[0]) / math.log(ends[1] / ends[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    steps = [f"M{x(ends[0]):.1f} {_y(0):.1f}"]
    for count, metres in enumerate(ordered, 1):
        steps.append(f"H{x(metres):.1f}V{_y(count / len(ordered)):.1f}")
    within = sum(metres <= radius_m for metres in ordered) / len(ordered)
    ticks = [(x(10.0**power), f"{10.0**power:,g}") for power in range(first, last + 1)]
    body = (
        f'<path class="mark" d="M{x(radius_m):.1f} {_y(0):.1f}V{_y(1):.1f}"/>'
        f'<text class="note" x="{x(radius_m) + 5:.1f}" y="{_y(0) - 8:.1f}">{radius_m:g} m</text>'
        f'<path class="series s0" d="{"".join(steps)}H{x(ends[1]):.1f}"/>'
    )
    label = f"Share of queries by error: {100 * within:.1f} per cent within {radius_m:g} m."
    return _chart(label, body, ticks, "metres between truth and answer")


def recall_curves(series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """recall@N for N = 1, 2, ...; every line has its own dashes as well as its own colour."""
    most = max(len(values) for _, values in series)

    def x(n: int) -> float:
        return LEFT + (n - 1) / max(1, most - 1) * (WIDTH - LEFT - RIGHT)

    lines = []
    for number, (_, values) in enumerate(series):
        points = " ".join(f"{x(n):.1f},{_y(value):.1f}" for n, value in enumerate(values, 1))
        lines.append(f'<polyline class="series s{number % 6}" points="{points}"/>')
    ticks = [(x(n), str(n)) for n in sorted({1, *range(5, most + 1, 5)}) if n <= most]
    said = "; ".join(f"{name}: {100 * values[0]:.1f} per cent at 1" for name, values in series)
    return _chart(f"recall at N. {said}.", "".join(lines), ticks, "N: matches looked at")


def key(names: Sequence[str]) -> str:
    """What the lines of a chart mean."""
    items = "".join(
        f'<li><svg viewBox="0 0 30 8" aria-hidden="true"><path class="series s{number % 6}" d="M1 4H29"/></svg>'
        f"{escape(name)}</li>"
        for number, name in enumerate(names)
    )
    return f'<ul class="key">{items}</ul>'


def _y(share: float) -> float:
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


def _chart(label: str, body: str, ticks: Sequence[tuple[float, str]], axis: str) -> str:
    levels = [0.0, 0.25, 0.5, 0.75, 1.0]
    grid = "".join(f'<path class="grid" d="M{LEFT} {_y(level):.1f}H{WIDTH - RIGHT}"/>' for level in levels)
    side = "".join(
        f'<text class="tick end" x="{LEFT - 6}" y="{_y(level) + 4:.1f}">{100 * level:.0f} %</text>' for level in levels
    )
    foot = "".join(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}">{text}</text>' for x, text in ticks)
    middle = (LEFT + WIDTH - RIGHT) / 2
    title = f'<text class="axis" x="{middle:g}" y="{HEIGHT - 6}">{escape(axis)}</text>'
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{grid}{side}{foot}{title}{body}</svg>"
    )
