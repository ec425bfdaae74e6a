"""Figures of a report: recall by N and by distance, a map of correct and wrong queries, and rows of photos.

Figures can also be read in black and white: each line has its own dash pattern and marker, and correct and wrong
queries have different markers.
Queries whose photos are shown are chosen by a rule and a random seed, not by hand (Supplementary Figures 2 to 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.evaluation.answers import Answer
from cricavpr.evaluation.report.evaluations import Evaluation
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.pages import distance
from cricavpr.plotting import Axes, Figure, looks, new_figure, style
from cricavpr.terminal import printable

MOST_N = 100
MARKS = (1, 2, 3, 5, 10, 20, 30, 50, 100)
METRES = np.arange(1, 101)
RULES = {
    "ours_right": "the first evaluation is correct and all other methods are wrong",
    "all_wrong": "every evaluation is wrong",
    "night": "the query was taken at night",
}
RIGHT, WRONG = "#117733", "#cc3311"


# --- recall


def recall_curves(evaluations: Sequence[Evaluation]) -> Figure:
    """Draw a line of recall@N for each evaluation of one split, for N from 1 to 100.

    An evaluation without answers has only the values of N that are in its card.
    """
    figure, (axes,) = new_figure(5.6, 3.8)
    most = max(1, min(MOST_N, *(each.card.counts.database for each in evaluations)))
    for number, each in enumerate(evaluations):
        ns = list(range(1, most + 1)) if each.answers else [n for n in each.card.ns if n <= most]
        values = [100 * (recall(each, n) if each.answers else each.card.recall_at[n]) for n in ns]
        marked = [place for place, n in enumerate(ns) if n in MARKS]
        axes.plot(ns, values, label=each.label, markevery=marked, **style(number)._asdict())
    axes.set_xscale("log")
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100) if n <= most]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set(xlabel="N: matches considered", ylabel="recall@N in %", xlim=(0.95, most * 1.05))
    _finish(figure, evaluations)
    return figure


def recall(evaluation: Evaluation, n: int) -> float:
    """Return recall@N for N = `n`: the fraction of queries with a correct photo among their first `n` matches."""
    counted = evaluation.counted
    return sum(answer.found(n) for answer in counted) / len(counted) if counted else 0.0


def within(evaluation: Evaluation, metres: float) -> float:
    """Return the fraction of queries whose first match is at most `metres` away. Unknown distances count as farther."""
    off = [answer.matches[0].distance_m for answer in evaluation.counted if answer.matches]
    return sum(m is not None and m <= metres for m in off) / len(evaluation.counted) if evaluation.counted else 0.0


def by_distance(evaluations: Sequence[Evaluation]) -> Figure | None:
    """Draw R@1 by the radius within which a match counts as correct, from 1 to 100 m.

    Return None if no distances are known.
    """
    known = [e for e in evaluations if any(a.matches and a.matches[0].distance_m is not None for a in e.answers)]
    if not known:
        return None
    figure, (axes,) = new_figure(5.6, 3.8)
    for number, each in enumerate(known):
        values = [100 * within(each, float(metres)) for metres in METRES]
        axes.plot(METRES, values, label=each.label, markevery=(number % 10, 12), **style(number)._asdict())
    radius_m = known[0].radius_m
    axes.axvline(radius_m, color="#555555", linewidth=0.9, linestyle=(0, (1, 2)))
    axes.annotate(f" {radius_m:g} m", (radius_m, 0.02), xycoords=("data", "axes fraction"), fontsize=8, color="#333333")
    axes.set(xlabel="radius in m within which a match is correct", ylabel="R@1 in %", xlim=(0, 101))
    _finish(figure, known)
    return figure


def hits_and_misses(evaluation: Evaluation) -> Figure | None:
    """Draw a map of the correct and the wrong queries, north up. Return None if no query has a position."""
    placed = [answer for answer in evaluation.answers if answer.position is not None]
    if not placed:
        return None
    figure, (axes,) = new_figure(5.6, 5.2)
    with looks():
        for verdict, marker, colour, size in ((True, "o", "#0072b2", 14), (False, "x", "#d55e00", 34)):
            x, y = np.reshape([a.position for a in placed if a.position and a.right == verdict], (-1, 2)).T
            label = f"{'right' if verdict else 'wrong'} ({len(x):,})"
            axes.scatter(x, y, label=label, marker=marker, c=colour, s=size, linewidths=1.6, zorder=3 - verdict)
        axes.set_aspect("equal", adjustable="datalim")
        axes.ticklabel_format(useOffset=False, style="plain")
        axes.tick_params(labelsize=7)
        axes.tick_params(axis="x", labelrotation=30)
        axes.set(xlabel="easting in m", ylabel="northing in m", title=evaluation.label)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _finish(figure: Figure, evaluations: Sequence[Evaluation]) -> None:
    """Set the vertical axis to per cent, and put the legend below the axes, where it covers no line."""
    axes = figure.axes[0]
    low = min(float(np.min(np.asarray(line.get_ydata()))) for line in axes.lines[: len(evaluations)])
    axes.set_ylim(max(0.0, 5 * (low // 5) - 2), 101)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 100])
    one_column = len(evaluations) > 4 or max(len(each.label) for each in evaluations) > 28
    with looks():
        figure.legend(loc="outside lower center", ncols=1 if one_column else 2)


# --- rows of pictures


def candidates(evaluations: Sequence[Evaluation], rule: str) -> list[int]:
    """Return the indices of the queries that fit a rule.

    Args:
        evaluations: evaluations of one split. The rule "ours_right" compares the first evaluation with the others.
        rule: a key of RULES.
    """
    hits = [[answer.right for answer in each.answers] for each in evaluations]
    queries = range(len(hits[0]))
    if rule == "ours_right":
        ours = evaluations[0].card.method
        others = [of for of, each in zip(hits, evaluations, strict=True) if each.card.method != ours]
        return [q for q in queries if others and hits[0][q] and not any(of[q] for of in others)]
    if rule == "all_wrong":
        return [q for q in queries if not any(of[q] for of in hits)]
    return [q for q in queries if evaluations[0].answers[q].condition == "night"]


def draw(of: int, count: int, seed: int) -> list[int]:
    """Return `count` different random integers from 0 to `of` - 1. Return all of them if there are fewer."""
    order: list[int] = np.random.default_rng(seed).permutation(of)[:count].tolist()
    return order


def rows(evaluations: Sequence[Evaluation], queries: Sequence[int], pictures: Pictures) -> Figure:
    """Draw one row of photos for each query: the query, then the first match of each evaluation."""
    columns = 1 + len(evaluations)
    figure, axes = new_figure(1.55 * columns + 0.2, 1.85 * len(queries) + 0.35, len(queries), columns)
    with looks():
        for row, query in enumerate(queries):
            first, *others = axes[row * columns : (row + 1) * columns]
            answer = evaluations[0].answers[query]
            _picture(first, pictures.query(answer.query))
            first.set_xlabel(printable(answer.condition or f"query {query + 1}"), fontsize=8)
            for place, each in zip(others, evaluations, strict=True):
                _match(place, each.answers[query], pictures)
        titles = ["query", *(each.label.replace(", ", "\n", 1) for each in evaluations)]
        for place, title in zip(axes[:columns], titles, strict=True):
            place.set_title(title, fontsize=8, loc="center", fontweight="bold")
    return figure


def _match(axes: Axes, answer: Answer, pictures: Pictures) -> None:
    if not answer.matches:
        _picture(axes, None)
        axes.set_xlabel("no answer", fontsize=8)
        return
    first = answer.matches[0]
    _picture(axes, pictures.match(first.name))
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=3.2, color=RIGHT if first.right else WRONG)
    box: dict[str, Any] = {"boxstyle": "square,pad=0.18", "facecolor": "white", "edgecolor": "black", "linewidth": 0.7}
    sign = "✓" if first.right else "✗"
    axes.text(0.05, 0.95, sign, transform=axes.transAxes, va="top", ha="left", fontsize=11, fontweight="bold", bbox=box)
    axes.set_xlabel("" if first.distance_m is None else distance(first.distance_m), fontsize=8)


def _picture(axes: Axes, picture: NDArray[np.uint8] | None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    if picture is None:
        axes.text(0.5, 0.5, "no picture", transform=axes.transAxes, ha="center", va="center", fontsize=8)
        axes.set_aspect(1.0)
        return
    axes.imshow(picture, interpolation="lanczos")
