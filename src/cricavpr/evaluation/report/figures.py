"""Figures that need answers and no pictures: recall by N, recall by distance, the map of hits and misses.

Every line has a dash and a marker of its own and every verdict a shape, so that black and white is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cricavpr.evaluation.answers import Answer
from cricavpr.evaluation.report.failures import right
from cricavpr.evaluation.report.runs import Run
from cricavpr.plotting import looks, new_figure, style

if TYPE_CHECKING:
    from cricavpr.plotting import Figure

MOST_N = 100
MARKS = (1, 2, 3, 5, 10, 20, 30, 50, 100)
METRES = np.arange(1, 101)


def recall_curves(runs: Sequence[Run]) -> Figure:
    """recall@N of runs on one split: N from 1 to 100, or the N of the card where it has no answers."""
    figure, (axes,) = new_figure(5.6, 3.8)
    most = max(1, min(MOST_N, *(run.card.counts.database for run in runs)))
    for number, run in enumerate(runs):
        ns = [n for n in run.card.ns if n <= most] if not run.answers else list(range(1, most + 1))
        values = [100 * run.card.recall_at[n] for n in ns] if not run.answers else [100 * recall(run, n) for n in ns]
        marked = [place for place, n in enumerate(ns) if n in MARKS]
        axes.plot(ns, values, label=run.label, markevery=marked, **style(number)._asdict())
    axes.set_xscale("log")
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100) if n <= most]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set(xlabel="N: database photos looked at", ylabel="recall@N in per cent", xlim=(0.95, most * 1.05))
    _finish(figure, runs)
    return figure


def recall(run: Run, n: int) -> float:
    """Fraction of the counted queries with a right photo among the first `n`."""
    counted = run.counted
    return sum(answer.found(n) for answer in counted) / len(counted) if counted else 0.0


def within(run: Run, metres: float) -> float:
    """Fraction of the counted queries whose first match stands at most so far away; unknown is not within."""
    off = [answer.matches[0].distance_m for answer in run.counted if answer.matches]
    return sum(m is not None and m <= metres for m in off) / len(run.counted) if run.counted else 0.0


def by_distance(runs: Sequence[Run]) -> Figure | None:
    """R@1 if right meant within 1, 2, ... 100 m; None where no distance is known."""
    known = [run for run in runs if any(a.matches and a.matches[0].distance_m is not None for a in run.answers)]
    if not known:
        return None
    figure, (axes,) = new_figure(5.6, 3.8)
    for number, run in enumerate(known):
        values = [100 * within(run, float(metres)) for metres in METRES]
        axes.plot(METRES, values, label=run.label, markevery=(number % 10, 12), **style(number)._asdict())
    radius_m = known[0].radius_m
    axes.axvline(radius_m, color="#555555", linewidth=0.9, linestyle=(0, (1, 2)))
    axes.annotate(f" {radius_m:g} m", (radius_m, 0.02), xycoords=("data", "axes fraction"), fontsize=8, color="#333333")
    axes.set(xlabel="right means within so many metres", ylabel="R@1 in per cent", xlim=(0, 101))
    _finish(figure, known)
    return figure


def hits_and_misses(run: Run) -> Figure | None:
    """Where queries were answered right and wrong; north is up. None without positions."""
    placed = [answer for answer in run.answers if answer.position is not None]
    if not placed:
        return None
    figure, (axes,) = new_figure(5.6, 5.2)
    with looks():
        for verdict, marker, colour, size in ((True, "o", "#0072b2", 14), (False, "x", "#d55e00", 34)):
            x, y = _spots([answer for answer in placed if right(answer) == verdict])
            label = f"{'right' if verdict else 'wrong'} ({len(x):,})"
            axes.scatter(x, y, label=label, marker=marker, c=colour, s=size, linewidths=1.6, zorder=3 - verdict)
        axes.set_aspect("equal", adjustable="datalim")
        axes.ticklabel_format(useOffset=False, style="plain")
        axes.tick_params(labelsize=7)
        axes.tick_params(axis="x", labelrotation=30)
        axes.set(xlabel="easting in m", ylabel="northing in m", title=run.label)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _spots(answers: Sequence[Answer]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:  # (2, n)
    return np.array([answer.position for answer in answers], np.float64).reshape(-1, 2).T


def _finish(figure: Figure, runs: Sequence[Run]) -> None:
    """Percent up to 100, and a legend below the axes, where it hides no line."""
    axes = figure.axes[0]
    low = min(float(np.min(np.asarray(line.get_ydata()))) for line in axes.lines[: len(runs)])
    axes.set_ylim(max(0.0, 5 * (low // 5) - 2), 101)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 100])
    with looks():
        figure.legend(
            loc="outside lower center", ncols=1 if len(runs) > 4 or max(len(r.label) for r in runs) > 28 else 2
        )
