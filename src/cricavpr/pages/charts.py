"""Small charts as inline SVG, drawn in the colours of the page: the style sheet decides, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 22, 12, 40  # room for the axes


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


SHARES = tuple((share, f"{100 * share:.0f} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0))


def _chart(
    label: str,
    body: str,
    ticks: Sequence[tuple[float, str]],
    axis: str,
    levels: Sequence[tuple[float, str]] = SHARES,  # height as a share of the chart, and what stands beside it
) -> str:
    grid = "".join(f'<path class="grid" d="M{LEFT} {_y(height):.1f}H{WIDTH - RIGHT}"/>' for height, _ in levels)
    side = "".join(
        f'<text class="tick end" x="{LEFT - 6}" y="{_y(height) + 4:.1f}">{escape(said)}</text>'
        for height, said in levels
    )
    foot = "".join(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}">{text}</text>' for x, text in ticks)
    middle = (LEFT + WIDTH - RIGHT) / 2
    title = f'<text class="axis" x="{middle:g}" y="{HEIGHT - 6}">{escape(axis)}</text>'
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{grid}{side}{foot}{title}{body}</svg>"
    )


def xy_chart(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    x_ticks: Sequence[tuple[float, str]],
    axis: str,
    label: str,
    dots: Sequence[tuple[float, float]] = (),
    level: float | None = None,
    unit: str = "",
    from_zero: bool = False,
    least: float = 0.0,
) -> str:
    """Lines and loose dots over any range; every line has its own dashes and every point its mark.

    Args:
        dots: drawn as circles, beside the lines.
        level: a dotted line across.
        unit: follows every number of the vertical axis.
        from_zero: let the vertical axis begin at 0.
        least: how much the vertical axis covers at least, downward from the highest value.
    """
    values = [y for _, points in series for _, y in points] + [y for _, y in dots] + ([] if level is None else [level])
    low, high = min([*values, 0.0] if from_zero else values), max(values)
    levels = round_levels(min(low, high - least), high)
    low, high = levels[0], levels[-1]
    left, right = x_ticks[0][0], x_ticks[-1][0]

    def at(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - left) / ((right - left) or 1.0)
        return LEFT + 14 + across * (WIDTH - LEFT - RIGHT - 14), _y((point[1] - low) / (high - low))

    parts = [] if level is None else [f'<path class="mark" d="M{LEFT} {at((left, level))[1]:.1f}H{WIDTH - RIGHT}"/>']
    for number, (_, points) in enumerate(series):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, points))
        parts.append(f'<polyline class="series s{number % 6}" points="{line}"/>')
    parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>' for x, y in map(at, dots)]
    ticks = [(at((x, low))[0], text) for x, text in x_ticks]
    return _chart(label, "".join(parts), ticks, axis, [((v - low) / (high - low), f"{v:g}{unit}") for v in levels])


def round_levels(low: float, high: float) -> list[float]:
    """About five round numbers from below `low` to above `high`."""
    span = (high - low) or max(abs(high), 1.0) * 0.02
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= span / 4 * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
