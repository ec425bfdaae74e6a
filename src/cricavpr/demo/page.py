"""One HTML page that holds everything: map, pictures, answers, table, charts. It asks the network for nothing.

Names of files are foreign text. In HTML they are escaped; in the data they are JSON in which no "<" occurs, so
none can end the script; and the script sets them as text alone. A content security policy with the hashes of
style and script says the same to the browser.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from cricavpr.demo.answers import (
    Answer,
    Photo,
    Row,
    Spot,
    boldest_wrong,
    by_condition,
    hardest_right,
    interval,
    may_be_chance,
    median_off_m,
    share_right,
    shown_first,
    won_and_lost,
)
from cricavpr.demo.map_svg import TownMap, distance, map_svg, metres_per_pixel
from cricavpr.pages import base_style, charts, content_hash, safe_json, text

_SLOT = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Story:
    """All that the page tells.

    Attributes:
        seed: of the town.
        radius_m: a match this near is right.
        conditions: every hour and weather, in the order to show them.
        rows: the table of results; the first is what the map shows.
        pictures: JPEG bytes by key.
        facts: how the page came about, term and text.
    """

    seed: int
    radius_m: float
    town: TownMap
    database: tuple[Photo, ...]
    answers: tuple[Answer, ...]
    conditions: tuple[str, ...]
    rows: tuple[Row, ...]
    pictures: Mapping[str, bytes]
    facts: tuple[tuple[str, str], ...]


def render_page(story: Story) -> str:
    """The page as text, the same for the same story."""
    unit = metres_per_pixel(story.town.frame()[2])
    style = base_style() + _asset("page.css").replace("--px: 2.4;", f"--px: {unit:.3f};")
    script = _asset("page.js")
    conditions = by_condition(story.answers, story.conditions)
    slots = {
        "style": style,
        "style_hash": content_hash(style),
        "script": script,
        "script_hash": content_hash(script),
        "title": f"{_headline(story)}: a demo of cricavpr",
        "headline": _headline(story),
        "lede": _lede(story),
        "caveat": _caveat(story),
        "map": map_svg(story.town, story.database, story.answers, shown_first(story.answers)),
        "radius": f"{story.radius_m:g} m",
        "list": "".join(map(_list_item, story.answers)),
        "count": f"{len(story.answers)}",
        "conditions": "".join(f"<option>{text(name)}</option>" for name in conditions),
        "presets": _presets(story.answers),
        "rule": "right answer with the lowest score"
        if any(a.right for a in story.answers)
        else "mistake with the highest score",
        "top": str(max(len(answer.matches) for answer in story.answers)),
        "groups": _groups(story.rows),
        "caption": _caption(story),
        "rows": "".join(map(_table_row, story.rows)),
        "bars": "".join(_condition_row(name, *counts) for name, counts in conditions.items()),
        "errors": charts.error_curve([answer.off_m for answer in story.answers], story.radius_m),
        "curves": charts.recall_curves([(row_name(row), list(row.result.recall_at.values())) for row in story.rows]),
        "curve_key": charts.key([row_name(row) for row in story.rows]),
        "facts": "".join(f"<dt>{text(term)}</dt><dd>{text(said)}</dd>" for term, said in story.facts),
        "data": safe_json(_data(story)),
    }
    # In one pass, so that nothing that was filled in is looked at again.
    return _SLOT.sub(lambda slot: slots[slot[1]], _asset("page.html"))


def row_name(row: Row) -> str:
    """A row of the table in one line."""
    return f"{row.result.method} ({row.weights}), {grouping_name(row)}"


def grouping_name(row: Row) -> str:
    return "sees no others" if row.result.made_by.grouping == "none" else row.result.grouping


def _asset(name: str) -> str:
    return resources.files("cricavpr.demo").joinpath(name).read_text(encoding="utf-8")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# --- words


def _headline(story: Story) -> str:
    right = sum(answer.right for answer in story.answers)
    return f"{right} of {len(story.answers)} photos were placed within {story.radius_m:g} m"


def _lede(story: Story) -> str:
    answers, first = story.answers, story.rows[0]
    low, high = interval(sum(answer.right for answer in answers), len(answers))
    return (
        f"Each photo went through {text(first.result.method)} ({text(first.weights)}) by itself, without its GPS, "
        "and was placed where the database picture most like it stands. "
        f"That is <strong>R@1 {_percent(share_right(answers))}</strong> "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f}); half of the photos are placed within "
        f"<strong>{distance(median_off_m(answers))}</strong>."
    )


def _caveat(story: Story) -> str:
    furthest_m = max(answer.nearest_m for answer in story.answers)
    return (
        f"The database has a picture within {distance(furthest_m)} of each query, so an answer is nearly exact or "
        "wrong; the two differ by years, hour, weather, traffic and camera. "
        f"The town is drawn by a program from the number {story.seed:,}; training draws only towns below 1,000, so "
        "these streets are new to the network. A drawn town is no promise for real streets."
    )


def _groups(rows: Sequence[Row]) -> str:
    said = (
        "<p>CricaVPR lets the pictures that are described together look at one another: they are a "
        "<strong>group</strong>. A descriptor then depends on its company, so a recall says little until one "
        "knows the grouping, and every table here has a column for it.</p>"
    )
    meanings = {
        "alone": "Every picture by itself, as it is for one photo from a stranger. Map and panel show this one",
        "in_order": "{size} pictures that follow one another along the streets share a group. Their order "
        "tells the network which pictures belong together; a lone photo does not have that",
        "shuffled": "The same, but the {size} are drawn at random: company without that hint",
    }
    items = []
    for row in rows:
        kind, *numbers = row.result.made_by.grouping.split(":")
        same = row.result.made_by.weights == rows[0].result.made_by.weights
        if kind in meanings and same:
            meaning = meanings[kind].format(size=numbers[0] if numbers else "")
            name = text(row.result.grouping)
            change = "" if row is rows[0] else f" {_change(row, rows[0])}"
            items.append(
                f"<li><code>{name}</code>: <strong>{_percent(row.recall(1))}</strong>. {meaning}.{change}</li>"
            )
    return said + (f"<ul>{''.join(items)}</ul>" if len(items) > 1 else "")


def _change(row: Row, against: Row) -> str:
    """What the company changed, query by query: two recalls alone do not say whether that is much."""
    won, lost = won_and_lost(row, against)
    chance = "that may be chance" if may_be_chance(won, lost) else "that is hardly chance"
    name = text(grouping_name(against))
    return f"Against {name}, {_queries(won)} won and {lost} lost: {chance}."


def _queries(count: int) -> str:
    return f"{count} {'query is' if count == 1 else 'queries are'}"


def _caption(story: Story) -> str:
    card = story.rows[0].result.card
    return text(
        f"Recall in per cent. {card.counts.queries:,} queries against {card.counts.database:,} database pictures; "
        f"right is {card.rule}. One query is {100 / card.counts.queries:.1f} points."
    )


# --- parts


def _presets(answers: Sequence[Answer]) -> str:
    targets = {
        "hardest right answer": hardest_right(answers),
        "boldest mistake": boldest_wrong(answers),
        "largest error": max(range(len(answers)), key=lambda row: answers[row].off_m),
    }
    buttons = [
        f'<button type="button" data-q="{number}">{name}</button>'
        for name, number in targets.items()
        if number is not None
    ]
    return "".join([*buttons, '<button type="button">any</button>'])


def _list_item(answer: Answer) -> str:
    kind = "right" if answer.right else "wrong"
    return (
        f'<li><button type="button" tabindex="-1"><span class="name">{text(_file(answer.photo.key))}</span>'
        f'<span class="when">{text(answer.condition)}</span>'
        f'<span class="off {kind}">{distance(answer.off_m)}</span></button></li>'
    )


def _table_row(row: Row) -> str:
    main = ' class="main"' if row.result.made_by.grouping == "alone" and row.weights != "untrained" else ""
    numbers = "".join(f'<td class="number">{100 * row.recall(n):.1f}</td>' for n in (1, 5, 10))
    return (
        f'<tr{main}><th scope="row">{text(row.result.method)}</th><td>{text(row.weights)}</td>'
        f'<td>{text(grouping_name(row))}</td>{numbers}<td class="wide">{charts.bar(row.recall(1))}</td></tr>'
    )


def _condition_row(name: str, right: int, count: int) -> str:
    share = right / count
    return (
        f'<tr><th scope="row">{text(name)}</th><td>{charts.bar(share)}</td>'
        f"<td>{_percent(share)} ({right} of {count})</td></tr>"
    )


def _file(key: str) -> str:
    return key.rpartition("/")[2]


# --- what the script needs


def _data(story: Story) -> dict[str, Any]:
    return {
        "shown": shown_first(story.answers),
        "queries": [
            {
                "key": answer.photo.key,
                "when": answer.condition,
                "at": _at(answer.photo.spot),
                "nearest": answer.nearest,
                "matches": [
                    {
                        "row": match.row,
                        "score": round(match.score, 4),
                        "off": round(match.off_m, 2),
                        "right": match.right,
                    }
                    for match in answer.matches
                ],
            }
            for answer in story.answers
        ],
        "database": [{"key": photo.key, "at": _at(photo.spot)} for photo in story.database],
        "pictures": {key: base64.b64encode(jpeg).decode() for key, jpeg in story.pictures.items()},
    }


def _at(spot: Spot) -> list[float]:
    return [round(spot.lat_deg, 7), round(spot.lon_deg, 7), round(spot.east_m, 2), round(spot.north_m, 2)]
