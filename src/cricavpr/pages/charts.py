"""Small charts as inline SVG. Their colours come from the style sheet of the page, for light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cricavpr.pages.html import text

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 22, 12, 40  # margins for the labels of the axes


def bar(share: float) -> str:
    """Return a horizontal bar as SVG for a table cell, filled to the fraction `share`."""
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="rail" width="100" height="8"/><rect class="fill" width="{100 * share:.1f}" height="8"/></svg>'
    )


def error_curve(errors_m: Sequence[float], radius_m: float) -> str:
    """Return a chart (SVG) of the share of queries up to each error, with a mark at `radius_m`.

    The axis of the errors is logarithmic.
    """
    ordered = sorted(errors_m)
    powers = range(-1, math.ceil(math.log10(max(100.0, *ordered))) + 1)
    steps = [(float(powers[0]), 0.0)]
    for count, metres in enumerate(ordered, 1):
        x = math.log10(max(metres, 0.1))
        steps += [(x, steps[-1][1]), (x, 100 * count / len(ordered))]
    within = 100 * sum(metres <= radius_m for metres in ordered) / len(ordered)
    return xy_chart(
        [("", [*steps, (float(powers[-1]), 100.0)])],
        x_ticks=[(power, f"{10.0**power:,g}") for power in powers],
        axis="error in metres",
        label=f"Share of queries by error: {within:.1f} per cent within {radius_m:g} m.",
        mark=(math.log10(radius_m), f"{radius_m:g} m"),
        unit=" %",
        from_zero=True,
    )


def recall_curves(series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return a chart (SVG) of recall@N by N.

    Args:
        series: the lines of the chart. Each has a name, and its recalls for N = 1, 2 and so on, as fractions.
    """
    most = max(len(values) for _, values in series)
    said = "; ".join(f"{name}: {100 * values[0]:.1f} per cent at 1" for name, values in series)
    return xy_chart(
        [(name, [(n, 100 * value) for n, value in enumerate(values, 1)]) for name, values in series],
        x_ticks=[(n, str(n)) for n in sorted({1, most, *range(5, most, 5)})],
        axis="N: matches considered",
        label=f"recall@N. {said}.",
        unit=" %",
        from_zero=True,
    )


def key(names: Sequence[str]) -> str:
    """Return the HTML legend of a chart whose lines have these names."""
    items = "".join(
        f'<li><svg viewBox="0 0 30 8" aria-hidden="true"><path class="series s{number % 6}" d="M1 4H29"/></svg>'
        f"{text(name)}</li>"
        for number, name in enumerate(names)
    )
    return f'<ul class="key">{items}</ul>'


def xy_chart(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    x_ticks: Sequence[tuple[float, str]],
    axis: str,
    label: str,
    dots: Sequence[tuple[float, float]] = (),
    level: float | None = None,
    mark: tuple[float, str] | None = None,
    unit: str = "",
    from_zero: bool = False,
    least: float = 0.0,
) -> str:
    """Return a chart (SVG) of lines and dots. Each line has its own colour and dash pattern.

    Args:
        series: the lines of the chart. Each has a name, and its points (x, y).
        x_ticks: positions and labels of the ticks; the horizontal axis reaches from the first to the last.
        axis: title of the horizontal axis.
        label: description for screen readers.
        dots: points (x, y) to draw as circles.
        level: y of a dotted horizontal line; None draws no such line.
        mark: x and label of a dotted vertical line; None draws no such line.
        unit: text after each number of the vertical axis.
        from_zero: start the vertical axis at 0.
        least: minimum range of the vertical axis; a smaller range is extended downward.

    Example:
        >>> svg = xy_chart([("a", [(0, 1), (1, 2)])], x_ticks=[(0, "0"), (1, "1")], axis="x", label="y by x")
        >>> svg.count("<polyline")
        1
    """
    values = [y for _, points in series for _, y in points] + [y for _, y in dots] + ([] if level is None else [level])
    low, high = min([*values, 0.0] if from_zero else values), max(values)
    levels = round_levels(min(low, high - least), high)
    low, high = levels[0], levels[-1]
    first, last = x_ticks[0][0], x_ticks[-1][0]

    def across(x: float) -> float:
        return LEFT + 14 + (x - first) / ((last - first) or 1.0) * (WIDTH - LEFT - RIGHT - 14)

    def up(y: float) -> float:
        return TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<path class="grid" d="M{LEFT} {up(y):.1f}H{WIDTH - RIGHT}"/>' for y in levels]
    parts += [
        f'<text class="tick end" x="{LEFT - 6}" y="{up(y) + 4:.1f}">{text(f"{y:g}{unit}")}</text>' for y in levels
    ]
    foot = HEIGHT - BOTTOM + 17
    parts += [f'<text class="tick" x="{across(x):.1f}" y="{foot}">{text(said)}</text>' for x, said in x_ticks]
    parts.append(f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 6}">{text(axis)}</text>')
    if level is not None:
        parts.append(f'<path class="mark" d="M{LEFT} {up(level):.1f}H{WIDTH - RIGHT}"/>')
    if mark is not None:
        x, said = across(mark[0]), text(mark[1])
        parts.append(f'<path class="mark" d="M{x:.1f} {up(low):.1f}V{up(high):.1f}"/>')
        parts.append(f'<text class="note" x="{x + 5:.1f}" y="{up(low) - 8:.1f}">{said}</text>')
    for number, (_, points) in enumerate(series):
        line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="series s{number % 6}" points="{line}"/>')
    parts += [f'<circle class="dot" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.2"/>' for x, y in dots]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">'
        f"{''.join(parts)}</svg>"
    )


def round_levels(low: float, high: float) -> list[float]:
    """Return about five evenly spaced round numbers whose first is at most `low` and whose last is at least `high`.

    Example:
        >>> round_levels(92.0, 98.7)
        [92.0, 94.0, 96.0, 98.0, 100.0]
    """
    span = (high - low) or max(abs(high), 1.0) * 0.02
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= span / 4 * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
