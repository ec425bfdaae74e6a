"""Read a table of photos with their positions and optionally their times, from CSV or GeoJSON.

CSV is read as spreadsheets (decimal commas, sep=;), QGIS, exiftool -csv, Pix4D, Metashape and `cricavpr index export`
write it. Several columns may hold photo names; the module `photos` later chooses the column that matches most photos.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cricavpr.datasets.coordinates import parse_degrees, parse_metres, parse_zone, rounding_m
from cricavpr.datasets.written_positions import SAME_M, Written, Zone, look_like_degrees
from cricavpr.errors import InputError
from cricavpr.files import UTF16_MARKS, decoded
from cricavpr.geo import Degrees, Metres, ground_distances_m
from cricavpr.times import EXAMPLE, read_time

BESIDE = ("positions.csv", "positions.geojson")  # tables that are read by default from a folder of photos

ROLES = {  # known column names, in lower case without blanks, punctuation and units; an earlier name is preferred
    "name": (
        *("name", "file", "filename", "filepath", "image", "imagename", "imagefile", "photo", "photoname", "path"),
        *("picture", "sourcefile", "label", "img"),
    ),
    "lat": ("lat", "latitude", "latdeg", "latitudedeg", "gpslatitude", "gpslat", "maplatitude", "ylatitude"),
    "lon": (
        *("lon", "lng", "long", "longitude", "londeg", "lngdeg", "longitudedeg", "gpslongitude", "gpslon", "gpslng"),
        *("gpslong", "maplongitude", "xlongitude"),
    ),
    "east": ("easting", "east", "eastingm", "utmeast", "utmeasting", "xeasting"),
    "north": ("northing", "north", "northingm", "utmnorth", "utmnorthing", "ynorthing"),
    "x": ("x", "xcoord", "coordx"),
    "y": ("y", "ycoord", "coordy"),
    "zone": ("zone", "utmzone", "zonenumber", "utmzonenumber"),
    "letter": ("zoneletter", "utmzoneletter", "utmletter", "band", "utmband", "hemisphere"),
    "lat reference": ("gpslatituderef", "latituderef", "latref"),
    "lon reference": ("gpslongituderef", "longituderef", "lonref"),
    "point x": ("geometryx",),  # the geometry of a GeoJSON feature
    "point y": ("geometryy",),
    "time": ("time",),  # the only name: a column called timestamp often holds numbers, not dates
}
_UNITS = re.compile(r"[(\[](?:°|deg|degrees|decimal degrees|dd|m|meters?|metres?|wgs ?84|utm)[)\]]")
_EXPECTED = "a column of file names, and columns lat, lon or easting, northing, zone"


@dataclass
class PhotoTable:
    """Rows of a table, not yet matched to photos.

    Attributes:
        file: name of the table, for messages.
        unit: word for a row in messages: "line" for CSV, "feature" for GeoJSON.
        numbers: number of each row's line or feature in the file, from 1.
        names: one list for each column that may hold photo names, with the text of that column in each row.
        written: the coordinates given in each row.
        times: the capture time of each row in UTC, None where unknown.
        wrong_times: maps the index of each row with an unreadable time to a message about it.
        timed: True if the table has a column of times.
    """

    file: str
    unit: str
    numbers: list[int]
    names: list[list[str]]
    written: Written
    times: list[datetime | None]
    wrong_times: dict[int, str]
    timed: bool

    def where(self, row: int) -> str:
        return f"{self.unit} {self.numbers[row]} of {self.file}"


def find_table(folder: Path, given: Path | None) -> PhotoTable | None:
    """Read the table `given`, or by default positions.csv or positions.geojson in `folder`; None if neither exists.

    Raises:
        InputError: no table is given and `folder` holds both default tables, or the table cannot be read.
    """
    if given is None:
        beside = [folder / name for name in BESIDE if (folder / name).is_file()]
        if len(beside) > 1:
            raise InputError(f"{folder} holds {' and '.join(BESIDE)}. Choose one with --positions, or remove one.")
        if not beside:
            return None
        given = beside[0]
    given = Path(given)
    try:
        raw = given.read_bytes() if given.is_file() else None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {given}: {error}. Give a table of positions that can be opened.") from error
    if raw is None or (b"\0" in raw[:1000] and raw[:2] not in UTF16_MARKS):
        what = "file" if raw is None else "text file"
        raise InputError(f"{given} is not a {what}. Give a table of positions with {_EXPECTED}, or GeoJSON.")
    if given.suffix.lower() in (".geojson", ".json"):
        return _read_geojson(given, decoded(raw))
    return _read_csv(given, decoded(raw))


def _read_csv(path: Path, text: str) -> PhotoTable:
    skipped, delimiter, comments = _find_header(text)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path} is not a table: {error}. Give {_EXPECTED}.") from error
    rows = [(number, cells) for number, cells in rows if number > skipped]
    (_, header), *rows = rows or [(0, [""])]
    if header[0].startswith("#"):  # Metashape writes totals below the table, in lines that begin with #
        rows = [(number, cells) for number, cells in rows if not cells[0].startswith("#")]
    epsg = (re.search(r"EPSG:+[0-9]{5}", line) for line in comments)  # such as: WGS 84 / UTM zone 33N (EPSG::32633)
    zone = next((zone for match in epsg if match and (zone := parse_zone(match[0]))), None)
    return _table(path, "line", header, rows, zone, decimal_comma=delimiter != ",")


def _find_header(text: str) -> tuple[int, str, list[str]]:
    """Find the header. Return the number of lines before it, the delimiter, and the comment lines before it."""
    comments: list[str] = []
    given = ""
    for number, line in enumerate(text.split("\n")[:50]):
        plain = line.strip()
        if found := re.fullmatch(r'"?sep=(.)"?', plain, re.IGNORECASE):  # for Excel
            given = found[1]
        elif plain:
            delimiter = given or max(",;\t|", key=line.count)
            words = {_word(cell) for cell in line.split(delimiter)}
            if not plain.startswith("#") or (len(words) > 2 and words & {*ROLES["name"]}):
                return number, delimiter, comments
            comments.append(plain)
    return 0, given or ",", comments


def _read_geojson(path: Path, text: str) -> PhotoTable:
    try:
        document = json.loads(text)
        features = list(document["features"] if document["type"] == "FeatureCollection" else [document])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not GeoJSON ({error}). Give a FeatureCollection of Points.") from error
    known = [{**_properties(feature), **_point(feature)} for feature in features]
    keys = list(dict.fromkeys(key for properties in known for key in properties))
    rows = [(number, [cells.get(key, "") for key in keys]) for number, cells in enumerate(known, start=1)]
    return _table(path, "feature", keys, rows, _zone_of_crs(path, document))


def _zone_of_crs(path: Path, document: Any) -> Zone | None:
    """Return the UTM zone that a GeoJSON document names in its field `crs`; None if its coordinates are in degrees.

    The GeoJSON standard has dropped this field, but programs still write it.
    """
    try:
        name = str(document["crs"]["properties"]["name"])
    except (KeyError, TypeError):
        return None
    zone = parse_zone(name)
    if zone is None and not re.search(r"(CRS84|:4326|:4258|:4979|WGS ?84)$", name, re.IGNORECASE):
        raise InputError(f"{path} is in the coordinate system {name}. Export it in WGS 84 (EPSG:4326).")
    return zone


def _properties(feature: Any) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in feature["properties"].items() if value is not None}
    except (KeyError, TypeError, AttributeError):
        return {}


def _point(feature: Any) -> dict[str, str]:
    """Return the coordinates of a GeoJSON Point; x is longitude or easting. Other geometries give an empty dict."""
    try:
        x, y = feature["geometry"]["coordinates"][:2]
        return {"geometry x": str(x), "geometry y": str(y)} if feature["geometry"]["type"] == "Point" else {}
    except (KeyError, TypeError, ValueError):
        return {}


# --- columns


def _word(header: str) -> str:
    """Return the name of a column in lower case, without blanks, punctuation and known units."""
    return re.sub(r"[\W_]+", "", _UNITS.sub("", header.strip().casefold()))


def _roles(path: Path, header: Sequence[str]) -> dict[str, list[int]]:
    """Find the columns of each role, such as "lat" or "time" (see `ROLES`). Return their numbers.

    Raises:
        InputError: required columns are missing, or two columns have the same name.
    """
    words = [_word(cell) for cell in header]
    found: dict[str, list[int]] = {}
    for role, known in ROLES.items():
        columns = [at for word in known for at, name in enumerate(words) if name == word]
        if role != "name" and len(columns) > 1 and words[columns[0]] == words[columns[1]]:
            raise InputError(f"{path} has two columns called {header[columns[0]].strip()!r}. Rename or remove one.")
        if columns:
            found[role] = columns
    pairs = [pair for pair in (("lat", "lon"), ("east", "north"), ("point x", "point y")) if found.keys() >= {*pair}]
    if pairs:
        found = {role: columns for role, columns in found.items() if role not in ("x", "y")}
    if "name" not in found or not (pairs or {"x", "y"} <= found.keys()):
        shown = ", ".join(header)[:100] or "nothing"
        raise InputError(f"{path} must have {_EXPECTED}, got {shown!r}. Write these column names in the first line.")
    return found


# --- rows

_UNKNOWN = (math.nan, math.nan)


@dataclass
class _Row:
    """One parsed row. `reason` says why its position cannot be used; it is "" if the position can be used."""

    degrees: tuple[float, float] = _UNKNOWN
    metres: tuple[float, float] = _UNKNOWN
    plane: tuple[float, float] = _UNKNOWN  # x and y, which may be longitude and latitude, or metres
    zone: Zone | None = None
    rounding_m: float = 0.0
    reason: str = ""


def _table(
    path: Path,
    unit: str,
    header: Sequence[str],
    rows: Sequence[tuple[int, list[str]]],
    zone: Zone | None,
    decimal_comma: bool = False,
) -> PhotoTable:
    """Parse the rows of a table. `zone` is the UTM zone of rows that do not give a zone."""
    roles = _roles(path, header)
    cells = [[*row, *[""] * (len(header) - len(row))] for _, row in rows]
    texts = [{role: row[columns[0]] for role, columns in roles.items()} for row in cells]
    read = [_read_row(text, zone, decimal_comma) for text in texts]
    degrees = np.array([row.degrees for row in read], np.float64).reshape(-1, 2)
    metres = np.array([row.metres for row in read], np.float64).reshape(-1, 2)
    plane = np.array([row.plane for row in read], np.float64).reshape(-1, 2)
    reasons = [row.reason for row in read]
    for at, row in enumerate(cells):
        reasons[at] = reasons[at] or _excess(row, len(header)) or _contradiction(row, roles, header)
    _place_plane(plane, degrees, metres, reasons)
    for at in np.flatnonzero(np.isnan(degrees).all(axis=1) & np.isnan(metres).all(axis=1)).tolist():
        reasons[at] = reasons[at] or "has no position"
    rounding_m = np.array([row.rounding_m for row in read])
    times = [read_time(text.get("time", "")) for text in texts]
    unread = (at for at, time in enumerate(times) if time is None and texts[at].get("time", "").strip())
    return PhotoTable(
        path.name,
        unit,
        [number for number, _ in rows],
        [[row[at].rstrip() for row in cells] for at in roles["name"]],
        Written(degrees, metres, [row.zone for row in read], rounding_m, reasons),
        times,
        {
            at: f"has the invalid time {texts[at]['time']!r}, which is ignored; write times like {EXAMPLE}"
            for at in unread
        },
        "time" in roles,
    )


def _read_row(cell: Mapping[str, str], zone: Zone | None, decimal_comma: bool) -> _Row:
    """Parse one row. `cell` maps each role, such as "lat" (see `ROLES`), to the text in the row."""

    def degrees(axis: str) -> float:
        return parse_degrees(cell.get(axis, ""), axis, cell.get(f"{axis} reference", ""))

    def metres(*roles: str) -> tuple[float, float]:
        east, north = (parse_metres(cell.get(role, ""), decimal_comma) for role in roles)
        return east, north

    row = _Row()
    try:
        row.degrees = degrees("lat"), degrees("lon")
        row.rounding_m = _rounding_m(cell.get("lat", ""), cell.get("lon", ""))
        row.metres, row.plane = metres("east", "north"), metres("x", "y")
        point = cell.get("point x", ""), cell.get("point y", "")
        if any(point) and zone:
            row.metres = metres("point x", "point y")
        elif any(point):
            _take_point(row, *point)
        if not math.isnan(row.metres[0]) or not math.isnan(row.plane[0]):
            row.zone = _zone(cell, zone, needed=math.isnan(row.degrees[0]))
    except ValueError as error:
        row.reason = str(error)
    return row


def _excess(row: Sequence[str], columns: int) -> str:
    """Return a reason to refuse a row with more cells than columns, as decimal commas without quotes make them."""
    count = max((at for at, cell in enumerate(row, 1) if cell.strip()), default=0)
    hint = "separate cells by semicolons if numbers have decimal commas"
    return f"has {count} cells for {columns} columns; {hint}" if count > columns else ""


def _contradiction(row: Sequence[str], roles: Mapping[str, list[int]], header: Sequence[str]) -> str:
    """Return a reason to refuse a row in which two columns for the same number differ, such as lat and latitude."""
    for role in ("lat", "lon", "east", "north"):
        first, *others = roles.get(role, [0])
        for other in others:
            said = [_number(row[at], role) for at in (first, other)]
            if abs(said[0] - said[1]) > (1e-4 if role in ("lat", "lon") else 1.0):  # about 10 m; 1 m
                a, b = (f"{header[at].strip()} {row[at].strip()}" for at in (first, other))
                return f"has {a}, but {b}; remove one of the columns"
    return ""


def _number(text: str, role: str) -> float:
    try:
        return parse_degrees(text, role) if role in ("lat", "lon") else parse_metres(text, True)
    except ValueError:
        return math.nan


def _rounding_m(*texts: str) -> float:
    return max((rounding_m(text) for text in texts if text.strip()), default=0.0)


def _zone(cell: Mapping[str, str], otherwise: Zone | None, needed: bool) -> Zone | None:
    text, letter = cell.get("zone", "").strip(), cell.get("letter", "").strip()[:1]
    if letter and (found := re.match("[0-9]+", text)):
        text = found[0] + letter
    zone = parse_zone(text) if text else otherwise
    if text and zone is None and needed:
        raise ValueError(f"has the zone {text!r}, which is not a UTM zone such as 33N")
    return zone


def _take_point(row: _Row, x: str, y: str) -> None:
    """Set the position of a row from the geometry of a GeoJSON feature.

    Raise if `row` already has a different latitude and longitude, from the properties of the feature.
    """
    point, said = (parse_degrees(y, "lat"), parse_degrees(x, "lon")), row.degrees
    if abs(said[0]) <= 90 and abs(point[0]) <= 90:
        apart_m = ground_distances_m(np.array([point]), np.array([said]))[0]
        if apart_m > SAME_M + 1.5 * max(row.rounding_m, _rounding_m(x, y)):
            ours, others = ("{:g}, {:g}".format(*pair) for pair in (point, said))
            raise ValueError(f"has latitude, longitude {ours} in its geometry, but {others} in its properties")
    row.degrees, row.rounding_m = point, _rounding_m(x, y)


def _place_plane(plane: Metres, degrees: Degrees, metres: Metres, reasons: list[str]) -> None:
    """Decide whether columns x and y hold longitude and latitude, or metres. If both are possible, refuse the rows."""
    known = ~np.isnan(plane).any(axis=1)
    if known.any() and look_like_degrees(plane[known]):
        degrees[known] = plane[known][:, ::-1]
    elif (np.abs(plane[known]) > 180).any():
        metres[known] = plane[known]
    else:
        for row in np.flatnonzero(known).tolist():
            says = f"has x {plane[row, 0]:g} and y {plane[row, 1]:g}, which may be degrees or metres"
            reasons[row] = f"{says}; call the columns lon and lat, or easting and northing"
