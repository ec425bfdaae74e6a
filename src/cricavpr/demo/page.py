"""HTML page of the demo, in one file without links to the network: explorer, table and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset
from cricavpr.evaluation.answers import Answer
from cricavpr.evaluation.intervals import compare_paired
from cricavpr.evaluation.report.evaluations import Evaluation
from cricavpr.evaluation.report.figures import recall
from cricavpr.evaluation.report.page import answers_map, card_text, embedded, item_of, position_text, table_html
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.evaluation.report.tables import tables
from cricavpr.pages import Ground, charts, distance, facts, render, text
from cricavpr.pages.explorer import Item, Order, explorer
from cricavpr.town import CONDITIONS, Town
from cricavpr.town.plan import BACK, FRONT, SIDE

MARGIN_M = 24.0  # the map shows houses up to this far beyond the outermost streets
MOST_N = 20  # largest N of the recall@N curves
PICTURE_BYTES = 5_000_000  # maximum size of all pictures in the page together
FINENESS = ((128, 78), (112, 72), (112, 55), (96, 45), (80, 40), (64, 35))  # (longer side, JPEG quality), best first
FILTERS = {"show": "all", "taken": "at any time"}
ORDERS = (
    Order("name"),
    Order("error, largest first", "error", descending=True),
    Order("error, smallest first", "error"),
    Order("score, highest first", "score", descending=True),
)
KEY = {
    "right": "a query, located within {radius}",
    "wrong": "a query, located at a wrong place",
    "line:wrong": "from the true position of a query to its estimated position",
    "photo": "a database picture",
}
GROUPINGS = {
    "alone": "Every picture is described by itself, like a single photo that somebody wants to locate. The explorer "
    "shows these results",
    "in_order": "Each group has {size} pictures that follow one another along the streets. Their order tells the "
    "network which pictures belong together, which it could not know for a single photo",
    "shuffled": "Each group has {size} random pictures, so the order tells the network nothing",
}


@dataclass(frozen=True)
class Story:
    """Content of the page.

    Attributes:
        town: the drawn town.
        split: the dataset of its photos.
        answers: answers of the Locator to the queries, which the explorer shows.
        evaluations: rows of the table. In the first evaluation, every picture is described alone.
        facts: how the page was made, as texts by term, such as "method".
    """

    town: Town
    split: EvalDataset
    answers: tuple[Answer, ...]
    evaluations: tuple[Evaluation, ...]
    facts: Mapping[str, str]

    @property
    def radius_m(self) -> float:
        """Distance in metres within which an answer is correct."""
        return self.evaluations[0].radius_m


def render_page(story: Story) -> str:
    """Return the HTML of the page; equal stories give equal text."""
    located = sum(answer.right for answer in story.answers)
    headline = f"{located} of {len(story.answers)} photos were located within {story.radius_m:g} m"
    explorer_html, data = _explorer(story)
    return render(
        title=f"{headline}: a demo of cricavpr",
        kicker="cricavpr: photos in, latitude and longitude out",
        headline=headline,
        lede=_lede(story),
        body=f'<p class="caveat">{_caveat(story)}</p>{explorer_html}{_groups(story.evaluations)}{_charts(story)}',
        footer=f"<h2>How this page was made</h2>{facts(story.facts.items())}",
        scripts=("map.js", "explorer.js"),
        data=data,
    )


# --- words


def _lede(story: Story) -> str:
    card = story.evaluations[0].card
    low, high = card.intervals[1]
    median_m = float(np.median(_errors_m(story)))
    return (
        f"Each photo went through {text(card.method)} by itself, without its GPS, "
        "and was located where the database picture with the highest score was taken. "
        f"That is <strong>R@1 {_percent(card.recall_at[1])}</strong> (95 % confidence interval {100 * low:.0f} to "
        f"{100 * high:.0f}); half of the photos are located within <strong>{distance(median_m)}</strong>."
    )


def _caveat(story: Story) -> str:
    farthest_m = max(answer.nearest_m or 0.0 for answer in story.answers)
    return (
        f"The database has a picture within {distance(farthest_m)} of each query, so an answer is either nearly exact "
        "or wrong. Query and database picture differ in year, hour, weather, traffic and camera. "
        f"A program drew the town from the seed {story.town.seed:,}. Training uses only towns with seeds below 1,000, "
        "so these streets are new to the network. Results in a drawn town say little about real streets."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# --- the explorer


def _explorer(story: Story) -> tuple[str, dict[str, object]]:
    """Return the HTML of the explorer, and the data for its script."""
    answers, (database, queries) = story.answers, (story.split.database, story.split.queries)
    assert database.positions is not None
    places = {name: len(answers) + row for row, name in enumerate(database.names)}
    items = [_item(story, item_of(answer, n, places, len(answer.matches)), n) for n, answer in enumerate(answers)]
    positions = dict(zip(database.names, map(tuple, database.positions.metres.tolist()), strict=True))
    key = {look: meaning.format(radius=f"{story.radius_m:g} m") for look, meaning in KEY.items()}
    map_html = answers_map(answers, positions, degrees=False, key=key, lines=True, ground=ground_of(story.town))
    hardest, boldest = _extreme(answers, verdict=True), _extreme(answers, verdict=False)
    farthest = int(np.argmax(_errors_m(story)))
    presets = {"correct, lowest score": hardest, "wrong, highest score": boldest, "largest error": farthest}
    there = {label: number for label, number in presets.items() if number is not None}
    pictures = embedded(items, Pictures(database.root, queries.root), FINENESS, PICTURE_BYTES)
    first = hardest if hardest is not None else boldest or 0
    made, data = explorer(items, FILTERS, ORDERS, pictures, map_html=map_html, presets=there, first=first)
    return f"<section><h2>Every photo on the map</h2>{made}</section>", data


def _item(story: Story, item: Item, number: int) -> Item:
    answer, (database, queries) = story.answers[number], (story.split.database, story.split.queries)
    assert database.positions is not None and queries.positions is not None
    away = np.hypot(*(database.positions.metres - queries.positions.metres[number]).T)
    nearest = int(np.argmin(away))
    found = next((n for n, match in enumerate(answer.matches, 1) if match.index == nearest), None)
    rank = "not found" if found is None else "the same" if found == 1 else f"match {found}"
    first, off_m = answer.matches[0], _off_m(answer)
    return replace(
        item,
        verdict=f"located {distance(off_m)} from where it was taken" + ("" if first.right else ": the wrong place"),
        facts=[("taken at", position_text(answer.latlon)), ("located at", position_text(first.latlon))],
        groups={"show": ["right" if first.right else "wrong"], "taken": [item.note]},
        numbers={"error": off_m, "score": first.score},
        truth=(f"database/{database.names[nearest]}", f"true place: {rank}"),
    )


def ground_of(town: Town) -> list[Ground]:
    """Return the shapes of parks, streets and houses for the map, only for the part of the town with places."""
    corner = np.array((town.origin.easting_m, town.origin.northing_m))
    inner = slice(1, town.net.lines - 1)
    widths = [float(width) for side in town.net.widths_m for width in side[inner]]
    points = np.concatenate(town.streets)
    low, high = points.min(axis=0) - MARGIN_M, points.max(axis=0) + MARGIN_M
    walls = town.plan.walls
    standing = np.isin(walls.face, (FRONT, SIDE, BACK))  # four for each house; roofs and hedges are left out
    houses = walls.a_m[standing].reshape(-1, 4, 2)
    parks = town.plan.parks_m

    def near(areas: NDArray[np.float64]) -> NDArray[np.float64]:
        middles = areas.mean(axis=1)
        kept: NDArray[np.float64] = areas[((middles > low) & (middles < high)).all(axis=1)]
        return kept

    return [
        *(Ground(park + corner, "park") for park in near(parks)),
        *(Ground(street + corner, "street", width) for street, width in zip(town.streets, widths, strict=True)),
        *(Ground(house + corner, "house") for house in near(houses)),
    ]


# --- answers


def _off_m(answer: Answer) -> float:
    return answer.matches[0].distance_m or 0.0


def _errors_m(story: Story) -> list[float]:
    return [_off_m(answer) for answer in story.answers]


def _extreme(answers: Sequence[Answer], *, verdict: bool) -> int | None:
    """Return the index of the most surprising answer, or None if there is no such answer.

    Args:
        verdict: True for the correct answer with the lowest score, False for the wrong answer with the highest score.
    """
    chosen = [number for number, answer in enumerate(answers) if answer.right is verdict]
    pick = min if verdict else max
    return pick(chosen, key=lambda number: answers[number].matches[0].score, default=None)


# --- groups and charts


def _groups(evaluations: Sequence[Evaluation]) -> str:
    first, items = evaluations[0], []
    for each in evaluations:
        kind, _, size = each.card.grouping.partition(":")
        if kind in GROUPINGS and each.card.weights == first.card.weights:
            meaning = GROUPINGS[kind].format(size=size.partition(":")[0])
            change = "" if each is first else f" {_change(each, first)}"
            share = _percent(each.card.recall_at[1])
            items.append(
                f"<li><code>{text(each.card.grouping)}</code>: <strong>{share}</strong>. {meaning}.{change}</li>"
            )
    listed = f"<ul>{''.join(items)}</ul>" if len(items) > 1 else ""
    table = table_html(replace(tables(evaluations, ())[0], title=f"Recall in per cent; {card_text(first.card)}"))
    return (
        '<section><h2>Which pictures were described together</h2><div class="side-by-side"><div class="prose"><p>'
        "In CricaVPR, pictures that are described together influence each other's descriptors: they form a "
        "<strong>group</strong>. So a recall means little without the grouping, and the table has a column for it."
        f"</p>{listed}<p>In the table, random:0 is the same network without training, and pixels is a method that "
        f'compares pixels.</p></div><div class="card scroll">{table}</div></div></section>'
    )


def _change(evaluation: Evaluation, against: Evaluation) -> str:
    """Return a sentence that compares the recalls of two evaluations by a paired test over the queries."""
    paired = compare_paired(*([answer.right for answer in one.answers] for one in (evaluation, against)))
    chance = "this may be chance" if paired.p_value > 0.05 else "this is unlikely to be chance"
    won = f"{paired.only_first} {'query becomes' if paired.only_first == 1 else 'queries become'}"
    return (
        f"Compared with {text(against.card.grouping)}, {won} correct and {paired.only_second} wrong: {chance} "
        f"(p {'>' if paired.p_value > 0.05 else '≤'} 0.05)."
    )


def _charts(story: Story) -> str:
    bars = "".join(_condition_row(story.answers, condition) for condition in CONDITIONS)
    curves = [(each.label, [recall(each, n) for n in range(1, MOST_N + 1)]) for each in story.evaluations]
    return (
        '<section><h2>Results by condition, distance and N</h2><div class="charts">'
        '<figure class="card"><figcaption>R@1 by hour and weather of the query, each photo described alone</figcaption>'
        '<table class="bars"><thead class="hidden"><tr><th scope="col">condition</th>'
        f'<th scope="col" colspan="2">share of correct queries</th></tr></thead><tbody>{bars}</tbody></table></figure>'
        '<figure class="card"><figcaption>Share of queries located within a distance</figcaption>'
        f"{charts.error_curve(_errors_m(story), story.radius_m)}</figure>"
        '<figure class="card"><figcaption>recall@N of every row of the table</figcaption>'
        f"{charts.recall_curves(curves)}{charts.key([name for name, _ in curves])}</figure></div></section>"
    )


def _condition_row(answers: Sequence[Answer], condition: str) -> str:
    here = [answer.right for answer in answers if answer.condition == condition]
    if not here:
        return ""
    share = sum(here) / len(here)
    return (
        f'<tr><th scope="row">{text(condition)}</th><td>{charts.bar(share)}</td>'
        f"<td>{_percent(share)} ({sum(here)} of {len(here)})</td></tr>"
    )
