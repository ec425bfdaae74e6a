"""Rows of pictures: a query and the first match of each method (Supplementary Figures 2 to 6).

Which queries are shown is decided by a rule and a seeded draw, never by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.evaluation.answers import Answer
from cricavpr.evaluation.report.failures import right
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.evaluation.report.runs import Run
from cricavpr.plotting import looks, new_figure

if TYPE_CHECKING:
    from cricavpr.plotting import Axes, Figure

RULES = {
    "ours_right": "the first result is right and all other methods are wrong",
    "all_wrong": "every result is wrong",
    "night": "the query was taken at night",
}
RIGHT, WRONG = "#117733", "#cc3311"


def candidates(runs: Sequence[Run], rule: str) -> list[int]:
    """Indices of the queries that a rule allows. `runs` are of one split; the first is ours."""
    hits = [[right(answer) for answer in run.answers] for run in runs]
    queries = range(len(hits[0]))
    if rule == "ours_right":
        others = [of for of, run in zip(hits, runs, strict=True) if run.card.method != runs[0].card.method]
        return [q for q in queries if others and hits[0][q] and not any(of[q] for of in others)]
    if rule == "all_wrong":
        return [q for q in queries if not any(of[q] for of in hits)]
    return [q for q in queries if (runs[0].answers[q].condition or "") == "night"]


def chosen(runs: Sequence[Run], rule: str, count: int, seed: int) -> list[int]:
    """The first `count` of a seeded draw among the candidates, in the order of the draw."""
    allowed = candidates(runs, rule)
    return [allowed[place] for place in draw(len(allowed), count, seed)]


def draw(of: int, count: int, seed: int) -> list[int]:
    """The first `count` numbers below `of` in a seeded order."""
    order: list[int] = np.random.default_rng(seed).permutation(of)[:count].tolist()
    return order


def rows(runs: Sequence[Run], queries: Sequence[int], pictures: Pictures) -> Figure:
    """One row for each query: the query, then the first match of each run."""
    columns = 1 + len(runs)
    figure, axes = new_figure(1.55 * columns + 0.2, 1.85 * len(queries) + 0.35, len(queries), columns)
    with looks():
        for row, query in enumerate(queries):
            of = axes[row * columns : (row + 1) * columns]
            answer = runs[0].answers[query]
            _picture(of[0], pictures.query(answer.query))
            of[0].set_xlabel(answer.condition or f"query {query + 1}", fontsize=8)
            for place, run in zip(of[1:], runs, strict=True):
                _match(place, run.answers[query], pictures)
        for place, title in zip(axes[:columns], ["query", *(_two_lines(run.label) for run in runs)], strict=True):
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
    axes.set_xlabel("" if first.distance_m is None else metres(first.distance_m), fontsize=8)


def _picture(axes: Axes, picture: NDArray[np.uint8] | None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    if picture is None:
        axes.text(0.5, 0.5, "no picture", transform=axes.transAxes, ha="center", va="center", fontsize=8)
        axes.set_aspect(1.0)
        return
    axes.imshow(picture, interpolation="lanczos")


def _two_lines(label: str) -> str:
    return label.replace(", ", "\n", 1)


def metres(distance_m: float) -> str:
    """4.2 m, 412 m, 1.31 km."""
    if distance_m < 9.95:
        return f"{distance_m:.1f} m"
    return f"{distance_m:.0f} m" if distance_m < 999.5 else f"{distance_m / 1000:.2f} km"
