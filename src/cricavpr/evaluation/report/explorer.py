"""Items, map and pictures of an explorer of answers, for the report and the demo."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from cricavpr.evaluation.answers import Answer
from cricavpr.evaluation.report.failures import right
from cricavpr.evaluation.report.pictures import Pictures
from cricavpr.pages import Ground, Line, Marker, map_of, picture
from cricavpr.pages.explorer import Item, Match
from cricavpr.pages.maps import NOWHERE, Place


def item_of(answer: Answer, number: int, places: Mapping[str, int], shown: int) -> Item:
    """Return the item of an answer. Verdict, facts, groups and numbers are left for the page to fill in.

    Args:
        number: the marker of the query.
        places: markers of database photos by name.
        shown: how many matches are listed.
    """
    matches = [
        Match(
            picture=f"database/{match.name}",
            name=file_name(match.name),
            score=match.score,
            off_m=match.distance_m,
            right=match.right,
            note=position_text(match.latlon),
            marker=places.get(match.name),
        )
        for match in answer.matches[:shown]
    ]
    off_m = answer.matches[0].distance_m if answer.matches else None
    picture, name, note = f"queries/{answer.query}", file_name(answer.query), answer.condition or ""
    return Item(picture, name, note, right(answer), "", off_m, matches, marker=number)


def answers_map(
    answers: Sequence[Answer],
    database: Mapping[str, Place],
    *,
    degrees: bool,
    key: Mapping[str, str],
    lines: bool = False,
    ground: Sequence[Ground] = (),
) -> str:
    """Return a map of queries, then database photos, or nothing if no query has a position.

    Args:
        database: positions by name; in degrees or metres, as those of the queries.
        lines: draw a line from each query to its first match.
    """
    places = [(answer.latlon if degrees else answer.position) or NOWHERE for answer in answers]
    if all(place is NOWHERE for place in places):
        return ""
    looks = ["right" if right(answer) else "wrong" for answer in answers]
    named = zip(places, answers, looks, strict=True)
    markers = [Marker(place, file_name(answer.query), look) for place, answer, look in named]
    drawn = [
        Line((places[n], database[answer.matches[0].name]), look=looks[n], marker=n)
        for n, answer in enumerate(answers)
        if lines and answer.matches and answer.matches[0].name in database
    ]
    label = f"Map of {len(answers):,} queries, {looks.count('right'):,} of them located right"
    every = [*markers, *map(Marker, database.values())]
    return map_of(every, (), drawn, degrees=degrees, ground=ground, key=key, label=label)


def embedded(
    items: Iterable[Item],
    pictures: Pictures,
    fineness: Sequence[tuple[int, int]] = ((150, 60),),  # (longer side in pixels, JPEG quality), finest first
    most_bytes: float = math.inf,
) -> dict[str, str]:
    """Return addresses of the pictures that items show, each once, in the finest way that fits into `most_bytes`."""
    small = {}
    for item in items:
        truth = (item.truth[0],) if item.truth else ()
        for key in (item.picture, *(match.picture for match in item.matches), *truth):
            side, _, name = key.partition("/")
            read = pictures.query if side == "queries" else pictures.match
            if key not in small and (image := read(name)) is not None:
                shrunk = Image.fromarray(image)
                shrunk.thumbnail((fineness[0][0],) * 2, Image.Resampling.LANCZOS)
                small[key] = np.asarray(shrunk)
    made: dict[str, str] = {}
    for side_px, quality in fineness:
        made = {key: picture(image, side_px, quality) for key, image in small.items()}
        if sum(map(len, made.values())) <= most_bytes:
            break
    return made


def position_text(latlon: tuple[float, float] | None) -> str:
    """Return a position in degrees, or nothing if it is unknown."""
    return "" if latlon is None else f"{latlon[0]:.6f}, {latlon[1]:.6f}"


def file_name(name: str) -> str:
    """Return the last part of a path."""
    return name.rpartition("/")[2]
