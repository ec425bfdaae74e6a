"""Map as an HTML fragment with markers, circles and lines. It has no background map and works without a network.

The map is an SVG that is visible without a script. `map.js` adds zooming, names on hover, and photos on a click. The
script finds all maps of a page by their CSS class, so a page may have several maps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cricavpr.geo import EARTH_RADIUS_M, round_length_m
from cricavpr.pages.html import safe_json, text

USUAL_PX = 620  # assumed width of the map until the script has measured it
MARGIN = 0.05  # margin as a fraction of the longer side; a map with `ground` has no margin
LEAST_SIDE_M = 60.0
LARGE = 1_000  # if more markers than this have the same style, they are drawn smaller

Place = tuple[float, float]  # latitude, longitude in degrees; or easting, northing in metres
NOWHERE: Place = (math.nan, math.nan)

LOOKS = {  # shape of each kind of marker as a relative SVG path in pixels, in drawing order; colours are in map.css
    "photo": "h0",
    "right": "h0",
    "wrong": "m-4.6-4.6l9.2 9.2m0-9.2l-9.2 9.2",
    "match": "m-4.5-4.5h9v9h-9z",
    "query": "m0-6.5l5.5 6.5-5.5 6.5-5.5-6.5z",
    "answer": "m0-12l3 8.4 8.9.3-7.1 5.4 2.6 8.6-7.4-5-7.4 5 2.6-8.6-7.1-5.4 8.9-.3z",
    "thin": "m0-5.5l5.2 9.5h-10.4z",
}
GROUPS = 8  # the styles "group-0" to "group-7" are dots in eight colours, for markers that belong together
LOOKS |= {f"group-{number}": "h0" for number in range(GROUPS)}
TICK_PX = 11  # length of the stroke that shows the heading of a marker


@dataclass(frozen=True)
class Marker:
    """A point on a map.

    Attributes:
        at: (latitude, longitude) in degrees, or (easting, northing) in metres; a marker at NaN is not drawn.
        name: text shown on hover.
        look: marker style (shape and colour), a key of `LOOKS`.
        photo: address of a picture, such as a `data:` URI; shown small on hover and large on a click.
        heading_deg: compass direction of a stroke at the marker; NaN draws none.
    """

    at: Place
    name: str = ""
    look: str = "photo"
    photo: str = ""
    heading_deg: float = math.nan


@dataclass(frozen=True)
class Circle:
    """A circle on a map.

    Attributes:
        at: centre, as in `Marker`.
        radius_m: radius in metres.
        name: text shown on hover.
        look: style of the circle: "doubt", "hole" or "group-0" to "group-7".
    """

    at: Place
    radius_m: float
    name: str = ""
    look: str = "doubt"


@dataclass(frozen=True)
class Line:
    """A line on a map through two or more positions.

    Attributes:
        points: positions, as in `Marker`.
        name: text shown on hover.
        look: style of the line: "link", "right" or "wrong".
        marker: index of a marker; the line is hidden when a script hides this marker. None always shows the line.
    """

    points: Sequence[Place]
    name: str = ""
    look: str = "link"
    marker: int | None = None


@dataclass(frozen=True, eq=False)
class Ground:
    """A street, house or park, drawn below everything else on a map.

    Attributes:
        points: (n, 2) corners, as in `Marker`.
        look: style of the shape: "street" (a line), "house" or "park" (areas).
        width_m: width of a street in metres; 0 for an area.
    """

    points: ArrayLike  # (n, 2)
    look: str
    width_m: float = 0.0


def map_of(
    markers: Sequence[Marker] = (),
    circles: Sequence[Circle] = (),
    lines: Sequence[Line] = (),
    *,
    degrees: bool = False,
    ground: Sequence[Ground] = (),
    key: Mapping[str, str] | None = None,
    label: str = "Map",
) -> str:
    """Return a map as an HTML fragment, with north up and a scale bar.

    For a page, put the fragment into the `body` of `render`. For a notebook, pass it to `notebook`. A script
    controls the map through its HTML element: `element.cricavpr` has the methods; see map.js.

    Args:
        markers: points on the map; scripts identify a marker by its index in this sequence.
        degrees: whether positions are (latitude, longitude) in degrees instead of (easting, northing) in metres.
        ground: shapes below everything else.
        key: the legend. Keys are names of styles, values are their meanings. The names of line and circle styles need
            the prefix "line:" or "circle:".
        label: description for screen readers.

    Raises:
        ValueError: the `look` of a marker is not a key of `LOOKS`.

    Example:
        >>> html = map_of([Marker((48.20, 16.37), "vienna.jpg")], [Circle((48.20, 16.37), 25.0)], degrees=True)
        >>> html.count("cv-doubt"), "vienna.jpg" in html
        (1, True)
    """
    unknown = {marker.look for marker in markers} - set(LOOKS)
    if unknown:
        raise ValueError(f"unknown marker style (look) {min(unknown)!r}; known styles: {', '.join(LOOKS)}")
    singles = [[marker.at for marker in markers], [circle.at for circle in circles]]
    parts = [*singles, *(line.points for line in lines), *(shape.points for shape in ground)]
    arrays = [np.asarray(part, np.float64).reshape(-1, 2) for part in parts]
    ends = np.cumsum([len(array) for array in arrays])[:-1]
    plane = np.split(_plane(np.concatenate(arrays), degrees), ends)
    radii = np.array([circle.radius_m for circle in circles])
    box = _box(plane, radii, 0.0 if ground else MARGIN)
    unit = box[2] / USUAL_PX
    marks = list(_marks(markers, plane[0], unit))
    drawn = (
        f'<g class="cv-ground">{_ground(ground, plane[2 + len(lines) :])}</g>'
        + "".join(map(_circle, circles, plane[1]))
        + "".join(map(_line, lines, plane[2:]))
        + "".join(path for path, _ in marks)
        + f'<g class="cv-over"></g>{_furniture(box, unit)}'
    )
    view = " ".join(f"{value:.1f}" for value in box)
    # The second attribute keeps JupyterLab from taking keys as its own shortcuts.
    return (
        f'<div class="cv-map" data-unit="{unit:.6g}" data-lm-suppress-shortcuts="true"><div class="cv-frame">'
        f'<svg viewBox="{view}" tabindex="0" role="application" aria-label="{text(label)}. {KEYS}">{drawn}'
        f'</svg>{CONTROLS}</div>{_key(key or {})}<p class="cv-hint">{HINT}</p>'
        f'<script type="application/json">{safe_json([data for _, data in marks])}</script></div>'
    )


KEYS = "Arrow keys go from marker to marker, Enter opens a marker, plus and minus zoom, 0 shows everything."
HINT = "Drag to move; zoom with the buttons, a pinch, or Ctrl and the wheel."
CONTROLS = (
    '<div class="cv-zoom"><button type="button" aria-label="Zoom in">+</button>'
    '<button type="button" aria-label="Zoom out">−</button>'
    '<button type="button" aria-label="Show everything"><svg viewBox="0 0 16 16" aria-hidden="true">'
    '<path d="M2 6V2H6M10 2H14V6M14 10V14H10M6 14H2V10"/></svg></button></div>'
    '<div class="cv-tip" role="status" hidden=""></div>'
)


# --- from positions to coordinates of the drawing: metres from the middle, x to the east and y to the south


def _plane(positions: NDArray[np.float64], degrees: bool) -> NDArray[np.float64]:  # (N, 2) twice
    """Return positions as metres east and south of their middle. Degrees are projected around the middle."""
    known = ~np.isnan(positions).any(axis=1)
    if not known.any():
        return positions
    if degrees:
        lat, lon = np.deg2rad(positions).T
        turn = np.exp(1j * lon[known])  # circular mean, because longitudes 180 and -180 are equal
        lon = np.angle(np.exp(1j * (lon - np.angle(turn.mean()))))
        middle = (lat[known].min() + lat[known].max()) / 2
        positions = EARTH_RADIUS_M * np.stack([lon * math.cos(middle), lat], axis=1)
    low, high = positions[known].min(axis=0), positions[known].max(axis=0)
    plane: NDArray[np.float64] = (positions - (low + high) / 2) * (1, -1)
    return plane


def _box(
    plane: Sequence[NDArray[np.float64]], radii: NDArray[np.float64], margin: float
) -> tuple[float, float, float, float]:
    """Return left, top, width and height of the drawing in metres, including the margin."""
    reach = radii[:, None]
    points = np.concatenate([*plane, plane[1] - reach, plane[1] + reach])
    points = points[~np.isnan(points).any(axis=1)]
    low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(2), np.zeros(2))
    side = max(LEAST_SIDE_M, float((high - low).max()))
    half = np.maximum((high - low) / 2, side / 4) + margin * side
    (left, top), (width, height) = (low + high) / 2 - half, 2 * half
    return float(left), float(top), float(width), float(height)


# --- what is drawn


def _marks(markers: Sequence[Marker], plane: NDArray[np.float64], unit: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield SVG paths of markers, each with its data for the script.

    All markers of the same style share one path, and the strokes of their headings share another. Large maps stay fast
    if they have few elements.
    """
    rows_of: dict[str, list[int]] = {}
    for row in np.flatnonzero(~np.isnan(plane).any(axis=1)).tolist():
        rows_of.setdefault(markers[row].look, []).append(row)
    at = [f"M{x + 0.0:.1f} {y + 0.0:.1f}" for x, y in plane.tolist()]
    for look in filter(rows_of.get, LOOKS):
        rows = rows_of[look]
        stamp = re.sub(r"-?\d*\.?\d+", lambda number: f" {float(number[0]) * unit:.2f}", LOOKS[look])
        if headed := [row for row in rows if not math.isnan(markers[row].heading_deg)]:
            steps = "".join(at[row] + _tick(markers[row].heading_deg, unit) for row in headed)
            yield f'<path class="cv-mark cv-tick cv-{look}" d="{steps}"/>', {"numbers": headed}
        photos = {place: markers[row].photo for place, row in enumerate(rows) if markers[row].photo}
        data = {"numbers": rows, "names": [markers[row].name for row in rows], "photos": photos}
        many = " cv-many" if len(rows) > LARGE else ""
        yield f'<path class="cv-mark cv-{look}{many}" d="{"".join(at[row] + stamp for row in rows)}"/>', data


def _tick(heading_deg: float, unit: float) -> str:
    heading, length = math.radians(heading_deg), TICK_PX * unit
    return f"l{length * math.sin(heading):.2f} {-length * math.cos(heading):.2f}"


def _circle(circle: Circle, at: NDArray[np.float64]) -> str:
    if np.isnan(at).any():
        return ""
    x, y = at.tolist()
    return (
        f'<circle class="cv-circle cv-{text(circle.look)}" cx="{x:.1f}" cy="{y:.1f}" r="{circle.radius_m:.1f}">'
        f"{_title(circle.name)}</circle>"
    )


def _line(line: Line, points: NDArray[np.float64]) -> str:
    if np.isnan(points).any():
        return ""
    of = "" if line.marker is None else f' data-of="{line.marker}"'
    steps = "L".join(f"{x + 0.0:.1f} {y + 0.0:.1f}" for x, y in points.tolist())
    return f'<path class="cv-line cv-{text(line.look)}"{of} d="M{steps}">{_title(line.name)}</path>'


def _title(name: str) -> str:
    return f"<title>{text(name)}</title>" if name else ""


def _ground(ground: Sequence[Ground], points: Iterable[NDArray[np.float64]]) -> str:
    """Return SVG paths of the ground shapes: one path for all shapes of the same style and width.

    Coordinates are relative and rounded to metres, which keeps the paths short.
    """
    paths: dict[tuple[str, float], str] = {}
    for shape, outline in zip(ground, points, strict=True):
        corners = np.rint(outline).astype(int)
        steps = " ".join(f"{x} {y}" for x, y in np.diff(corners, axis=0).tolist())
        drawn = f"M{corners[0, 0]} {corners[0, 1]}l{steps}{'' if shape.width_m else 'z'}"
        paths[shape.look, shape.width_m] = paths.get((shape.look, shape.width_m), "") + drawn
    return "".join(
        f'<path class="cv-{text(look)}" stroke-width="{width:.1f}" d="{d}"/>' for (look, width), d in paths.items()
    )


# --- scale, north arrow and legend


def _furniture(box: tuple[float, float, float, float], unit: float) -> str:
    """Return the scale bar and the north arrow as SVG. When the map is moved, map.js keeps them in their corners."""
    left, top, width, height = box
    length = round_length_m(width / 6)
    bar, said = length / unit, f"{length:g} m" if length < 1000 else f"{length / 1000:g} km"
    return (
        f'<g class="cv-scale" transform="translate({left + 14 * unit:.6g} {top + height - 16 * unit:.6g}) '
        f'scale({unit:.6g})"><rect x="-7" y="-19" width="{bar + 14:.1f}" height="27" rx="4"/>'
        f'<path d="M0-4V2H{bar:.1f}V-4"/><text x="{bar / 2:.1f}" y="-6">{said}</text></g>'
        f'<g class="cv-north" transform="translate({left + width - 26 * unit:.6g} {top + 28 * unit:.6g}) '
        f'scale({unit:.6g})"><circle r="17"/><path d="M0-5 5 10 0 6-5 10z"/><text y="-7">N</text></g>'
    )


def _key(key: Mapping[str, str]) -> str:
    """Return the legend as HTML: a sample of each style, and its meaning."""
    items = "".join(
        f'<li><svg viewBox="-13 -13 26 26" aria-hidden="true">{_sample(look)}</svg>{text(meaning)}</li>'
        for look, meaning in key.items()
    )
    return f'<ul class="cv-key">{items}</ul>' if items else ""


def _sample(look: str) -> str:
    kind, _, name = look.rpartition(":")
    if kind == "circle":
        return f'<circle class="cv-circle cv-{text(name)}" r="6.5"/>'
    steps = "M-12 0H12" if kind == "line" else f"M0 0{LOOKS[name]}"
    return f'<path class="cv-{kind or "mark"} cv-{text(name)}" d="{steps}"/>'
