"""The map of the town as inline SVG: streets, houses, where each query was taken and where it was placed.

One unit is one metre; y points down in SVG, so north is minus y. Markers keep their size on the screen: they
are scaled by the style sheet's `--px`, the metres per pixel, which the script changes as one zooms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.demo.answers import Answer, Photo, Spot
from cricavpr.geo import round_length_m
from cricavpr.town import Town
from cricavpr.town.plan import BACK, FRONT, SIDE

MARGIN_M = 24.0
USUAL_PIXELS = 620  # how wide the map is on a usual screen, before the script has measured it

_Line = NDArray[np.floating[Any]]  # (n, 2) east, north in metres


@dataclass(frozen=True)
class TownMap:
    """What stands still: lines and outlines in metres from the town's own corner.

    Attributes:
        streets: each (n, 2), and its width from facade to facade.
        houses, parks: outlines, each (n, 2).
    """

    streets: tuple[tuple[_Line, float], ...]
    houses: tuple[_Line, ...] = ()
    parks: tuple[_Line, ...] = ()

    @classmethod
    def of(cls, town: Town) -> TownMap:
        """The walked part of a town; the ring of houses around it is for looking at only."""
        inner = slice(1, town.net.lines - 1)
        widths = [float(width) for side in town.net.widths_m for width in side[inner]]
        streets = tuple(zip(town.streets, widths, strict=True))
        low, high = _bounds(line for line, _ in streets)
        walls = town.plan.walls
        standing = np.isin(walls.face, (FRONT, SIDE, BACK))  # four to a house; roofs and hedges left out
        corners = walls.a_m[standing].reshape(-1, 4, 2)
        middles = corners.mean(axis=1)
        near = ((middles > low - MARGIN_M) & (middles < high + MARGIN_M)).all(axis=1)
        return cls(streets, tuple(corners[near]), tuple(town.plan.parks_m))

    def frame(self) -> tuple[float, float, float, float]:
        """The view box: left, top, width, height."""
        low, high = _bounds(line for line, _ in self.streets)
        left, bottom = (low - MARGIN_M).tolist()
        right, top = (high + MARGIN_M).tolist()
        return round(left), round(-top), round(right - left), round(top - bottom)


def map_svg(town: TownMap, database: Sequence[Photo], answers: Sequence[Answer], shown: int) -> str:
    """The whole map. `shown` is the query that the Tab key reaches first."""
    frame = town.frame()
    box = " ".join(f"{value:g}" for value in frame)
    queries = "".join(_query(number, answer, number == shown) for number, answer in enumerate(answers))
    lines = "".join(_line(number, answer, database) for number, answer in enumerate(answers))
    return (
        f'<svg id="map" viewBox="{box}" role="group" aria-label="{escape(_label(answers))}">'
        f'<g aria-hidden="true">{_ground(town, frame)}'
        f'<path class="base" d="{_dots(photo.spot for photo in database)}"/>'
        f'<g id="lines">{lines}</g></g>'
        f'<g id="queries">{queries}</g><g id="chosen" aria-hidden="true"></g>'
        f'<g aria-hidden="true">{_scale_bar(frame)}{_north(frame)}</g></svg>'
    )


def metres_per_pixel(width_m: float) -> float:
    """Before the script has measured the map."""
    return width_m / USUAL_PIXELS


def _label(answers: Sequence[Answer]) -> str:
    wrong = sum(not answer.right for answer in answers)
    return (
        f"Map of the town with {len(answers)} queries, {len(answers) - wrong} placed right and {wrong} wrong. "
        "Arrow keys go from query to query, Enter opens one, plus and minus zoom."
    )


def _bounds(lines: Iterable[_Line]) -> tuple[_Line, _Line]:
    points = np.concatenate(list(lines))
    return points.min(axis=0), points.max(axis=0)


# --- what stands still


def _ground(town: TownMap, frame: tuple[float, float, float, float]) -> str:
    left, top, width, height = frame
    streets = "".join(
        f'<path class="street" stroke-width="{width_m:.1f}" d="{_path(line)}"/>' for line, width_m in town.streets
    )
    return (
        f'<clipPath id="edge"><rect x="{left}" y="{top}" width="{width}" height="{height}"/></clipPath>'
        f'<g clip-path="url(#edge)"><rect class="ground" x="{left}" y="{top}" width="{width}" height="{height}"/>'
        f'<path class="park" d="{_outlines(town.parks)}"/>{streets}'
        f'<path class="house" d="{_outlines(town.houses)}"/></g>'
    )


def _outlines(shapes: Iterable[_Line]) -> str:
    return "".join(f"{_path(shape)}z" for shape in shapes)


def _path(line: _Line) -> str:
    """Whole metres, each step relative to the last: thousands of houses in little text."""
    points = np.rint(line * (1, -1)).astype(int)
    steps = np.diff(points, axis=0).tolist()
    start = points[0].tolist()
    return f"M{_pair(start)}" + ("l" + " ".join(map(_pair, steps)) if steps else "")


def _pair(point: Sequence[int]) -> str:
    x, y = point
    return f"{x}{y}" if y < 0 else f"{x} {y}"


def _dots(spots: Iterable[Spot]) -> str:
    """Lines of no length with round ends: hundreds of dots of a constant size in one element."""
    return "".join(f"M{_xy(spot)}h0" for spot in spots)


def _xy(spot: Spot) -> str:
    return f"{spot.east_m:.1f} {0.0 - spot.north_m:.1f}"


# --- what was found


def _query(number: int, answer: Answer, is_first: bool) -> str:
    kind = "right" if answer.right else "wrong"
    shape = '<circle r="4.6"/>' if answer.right else '<path d="M-4.6-4.6 4.6 4.6M4.6-4.6-4.6 4.6"/>'
    return (
        f'<g class="query {kind}" data-q="{number}" role="button" tabindex="{0 if is_first else -1}" '
        f'aria-label="{escape(spoken(answer))}" transform="translate({_xy(answer.photo.spot)})">'
        f'<g class="pin">{shape}</g></g>'
    )


def _line(number: int, answer: Answer, database: Sequence[Photo]) -> str:
    a, b = answer.photo.spot, database[answer.matches[0].row].spot
    kind = "right" if answer.right else "wrong"
    return f'<path class="{kind}" data-q="{number}" d="M{_xy(a)}L{_xy(b)}"/>'


def spoken(answer: Answer) -> str:
    """A query in words, for those who hear the page."""
    verdict = "right" if answer.right else "wrong"
    name = answer.photo.key.rpartition("/")[2].encode("utf-8", "replace").decode()
    return f"{name}, {answer.condition}, placed {distance(answer.off_m)} off, {verdict}"


def distance(metres: float) -> str:
    """4.2 m, 412 m, 1.31 km."""
    if metres < 9.95:
        return f"{metres:.1f} m"
    return f"{metres:.0f} m" if metres < 999.5 else f"{metres / 1000:.2f} km"


# --- how to read it


def _scale_bar(frame: tuple[float, float, float, float]) -> str:
    left, top, width, height = frame
    unit, metres = metres_per_pixel(width), round_length_m(width / 6)
    bar, x, y = metres / unit, left + 14 * unit, top + height - 16 * unit
    return (
        f'<g id="scale" transform="translate({x:.1f} {y:.1f})"><g class="pin">'
        f'<rect class="plate" x="-7" y="-19" width="{bar + 14:.1f}" height="27" rx="4"/>'
        f'<path d="M0-4V2H{bar:.1f}V-4"/><text x="{bar / 2:.1f}" y="-6">{distance(metres)}</text></g></g>'
    )


def _north(frame: tuple[float, float, float, float]) -> str:
    left, top, width, _ = frame
    unit = metres_per_pixel(width)
    return (
        f'<g id="north" transform="translate({left + width - 22 * unit:.1f} {top + 30 * unit:.1f})"><g class="pin">'
        '<circle class="plate" r="17"/><path d="M0-5 5 10 0 6-5 10z"/><text y="-7">N</text></g></g>'
    )
