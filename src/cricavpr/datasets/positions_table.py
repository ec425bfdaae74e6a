"""Tables of positions, CSV or GeoJSON: rows that name a photo and say where it was taken, and may say when."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cricavpr.datasets.base import Problem
from cricavpr.errors import InputError
from cricavpr.geo import UTM_LATITUDES_DEG, Positions, distances_m
from cricavpr.times import EXAMPLE, read_time

BESIDE = ("positions.csv", "positions.geojson")  # tables that are read without being named

_NAME = ("name", "file", "filename", "file_name", "image", "photo", "path")
_LAT = ("lat", "latitude", "lat_deg")
_LON = ("lon", "lng", "long", "longitude", "lon_deg")
_EAST = ("easting", "east", "easting_m", "utm_east", "utm_easting")
_NORTH = ("northing", "north", "northing_m", "utm_north", "utm_northing")
_ZONE = ("zone", "utm_zone")
_TIME = "time"  # no other word: what is called a timestamp elsewhere is as often a number as a date
SAME_M = 0.1  # apart at most: degrees and metres that name one position
_EXPECTED = "columns name, lat, lon or name, easting, northing, zone"


@dataclass
class Row:
    line: int
    name: str
    values: tuple[float, float]
    zone: str | None
    time: datetime | None = None


@dataclass
class Table:
    file: str
    degrees: bool
    rows: list[Row]
    problems: list[Problem]  # rows that cannot be used, and times (stage "time") that cannot
    timed: bool = False  # it says when photos were taken
    unit: str = "line"  # how its rows are counted

    def where(self, number: int) -> str:
        return f"{self.unit} {number} of {self.file}"


def find_table(folder: Path, given: Path | None) -> Table | None:
    """Read the given table, or else the one beside the photos; None where there is neither.

    Raises:
        InputError: two tables beside the photos, or one that cannot be read.
    """
    if given is None:
        beside = [folder / name for name in BESIDE if (folder / name).is_file()]
        if len(beside) > 1:
            raise InputError(f"{folder} holds {' and '.join(BESIDE)}. Say which with --positions, or remove one.")
        if not beside:
            return None
        given = beside[0]
    given = Path(given)
    try:
        raw = given.read_bytes() if given.is_file() else None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {given}: {error}. Give a table of positions.") from error
    if raw is None:
        raise InputError(f"{given} is not a file. Give a table of positions with {_EXPECTED}, or GeoJSON.")
    if given.suffix.lower() in (".geojson", ".json"):
        return _read_geojson(given, raw)
    return _read_csv(given, raw)


def _text(raw: bytes) -> str:
    """Any byte comes through, so that file names which are not UTF-8 are still found."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")  # what spreadsheets call Unicode text
    return raw.decode("utf-8-sig", "surrogateescape")


def _read_csv(path: Path, raw: bytes) -> Table:
    text = _text(raw)
    header_line = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t|", key=header_line.count)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path} is not a table: {error}. Give {_EXPECTED}.") from error
    header = [cell.strip().casefold() for cell in rows[0][1]] if rows else []
    columns = _read_of(_columns(path, header), [cells for _, cells in rows[1:]])
    table = Table(path.name, "lat" in columns, [], [], "time" in columns)
    for line, cells in rows[1:]:
        cell = {key: _cell(cells, at) for key, at in columns.items()}
        numbers = [cell[axis] for axis in (("lat", "lon") if table.degrees else ("east", "north"))]
        if delimiter != ",":
            numbers = [number.replace(",", ".") for number in numbers]  # 55,7 as half of Europe writes it
        _add_row(table, line, cell["name"], numbers, cell.get("zone"), cell.get("time", ""))
    return table


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    groups = {"name": _NAME, "lat": _LAT, "lon": _LON, "east": _EAST, "north": _NORTH, "zone": _ZONE, "time": (_TIME,)}
    found = {}
    for key, known in groups.items():
        word = next((word for word in known if word in header), None)
        if word is not None:
            found[key] = header.index(word)
    if "name" not in found or not ({"lat", "lon"} <= found.keys() or {"east", "north"} <= found.keys()):
        shown = ", ".join(header)[:100] or "nothing"
        raise InputError(f"{path} begins with {shown!r}. Give {_EXPECTED} in the first line.")
    return found


def _read_of(columns: dict[str, int], rows: Sequence[Sequence[str]]) -> dict[str, int]:
    """The columns that count. Degrees, where a table has metres too, unless these are the same or stand alone.

    A table that `index export` wrote has both, and only its metres give back the very positions that were there.
    """
    if {"lat", "lon", "east", "north"} <= columns.keys() and _metres_will_do(columns, rows):
        zoned = any(_cell(cells, columns.get("zone")).strip() for cells in rows)
        left_out = {"lat", "lon"} if zoned else {"lat", "lon", "zone"}  # those of a local frame have none
    else:
        left_out = {"east", "north", "zone"} if {"lat", "lon"} <= columns.keys() else {"lat", "lon"}
    return {key: at for key, at in columns.items() if key not in left_out}


def _metres_will_do(columns: dict[str, int], rows: Sequence[Sequence[str]]) -> bool:
    """Whether degrees are blank in all rows, or metres say the same in all that have them."""
    if not any(_cell(cells, columns[axis]).strip() for cells in rows for axis in ("lat", "lon")):
        return any(_cell(cells, columns["east"]).strip() for cells in rows)
    try:
        sides = [
            [[float(_cell(cells, columns[axis]) or "nan") for axis in axes] for cells in rows]
            for axes in (("lat", "lon"), ("east", "north"))
        ]
        zones = tuple(_zone(_cell(cells, columns.get("zone"))) or "" for cells in rows)
        there, here = Positions.from_latlon(sides[0]), Positions(np.array(sides[1]), zones)
        apart = distances_m(there, here)
    except (ValueError, InputError):  # text, or what is on no map: named when the rows are read
        return False
    return bool(np.array_equal(there.known, here.known) and (apart[here.known] < SAME_M).all())


def _cell(cells: Sequence[str], at: int | None) -> str:
    return cells[at] if at is not None and at < len(cells) else ""


def _read_geojson(path: Path, raw: bytes) -> Table:
    try:
        document = json.loads(_text(raw))
        features = document["features"] if document["type"] == "FeatureCollection" else [document]
        features = list(features)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not GeoJSON ({error}). Give a FeatureCollection of Points.") from error
    properties = [_properties(feature) for feature in features]
    table = Table(path.name, True, [], [], any(_TIME in some for some in properties), unit="feature")
    for number, (feature, known) in enumerate(zip(features, properties, strict=True), start=1):
        name = next((str(known[key]) for key in _NAME if known.get(key)), "")
        _add_row(table, number, name, _feature_point(feature), None, str(known.get(_TIME) or ""))
    return table


def _properties(feature: Any) -> dict[str, Any]:
    try:
        return {str(key).casefold(): value for key, value in feature["properties"].items()}
    except (KeyError, TypeError, AttributeError):
        return {}


def _feature_point(feature: Any) -> list[str]:
    """Latitude and longitude as text, or nothing; GeoJSON puts longitude first."""
    try:
        geometry = feature["geometry"]
        if geometry["type"] != "Point":
            return []
        return [str(geometry["coordinates"][1]), str(geometry["coordinates"][0])]
    except (KeyError, TypeError, IndexError):
        return []


def _add_row(table: Table, line: int, name: str, numbers: Sequence[str], zone: str | None, time: str) -> None:
    """Keep a row, or say what is wrong with it; a time that is none does not cost the row."""

    def wrong(reason: str, stage: str = "position") -> None:
        table.problems.append(Problem(name or table.file, stage, f"{table.where(line)} {reason}"))

    if not name.strip():
        return wrong("names no photo")
    try:
        first, second = map(float, numbers)
    except ValueError:
        return wrong("has no two numbers" if any(numbers) else "has no position")
    if not (math.isfinite(first) and math.isfinite(second)):
        return wrong("has no two finite numbers")
    if table.degrees and (reason := off_the_map(first, second)):
        return wrong(f"is wrong: {reason}")
    hemisphere = None if zone is None else _zone(zone)
    if zone is not None and hemisphere is None:
        return wrong(f"has the zone {zone!r}, which is not a UTM zone such as 33N")
    taken = read_time(time)
    if taken is None and time.strip():
        wrong(f"has the time {time!r}, which is none such as {EXAMPLE}; the photo is used without it", "time")
    table.rows.append(Row(line, name, (first, second), hemisphere, taken))
    return None


def _zone(text: str) -> str | None:
    """`33N`, `33 n` and `33U` to 33N. N and S are hemispheres here; any other letter is a UTM band."""
    found = re.fullmatch(r"0?([1-9]|[1-5][0-9]|60)\s*([C-HJ-NP-X])", text.strip().upper())
    if found is None:
        return None
    number, letter = found.groups()
    return f"{number}{'S' if letter == 'S' or letter < 'N' else 'N'}"


def off_the_map(lat: float, lon: float) -> str | None:
    """Why a position cannot be used, or None."""
    low, high = UTM_LATITUDES_DEG
    if not (abs(lat) <= 90 and abs(lon) <= 180):
        return f"latitude {lat}, longitude {lon} is not a place on earth"
    if not (low <= lat <= high):
        return f"latitude {lat} is outside the UTM map, {low:.0f}..{high:.0f} degrees"
    return "position 0, 0 stands for an unknown one" if lat == 0 and lon == 0 else None
