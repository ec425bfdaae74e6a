"""Read tables that say where photos were taken, and perhaps when: CSV as many programs write it, or GeoJSON.

Tables of spreadsheets (decimal commas, sep=;), QGIS, exiftool -csv, Pix4D, Metashape and `cricavpr index export` are
understood as they are. Which column holds the names of the photos is decided later, by the photos that there are.
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
from cricavpr.geo import Degrees, Metres, ground_distances_m
from cricavpr.times import EXAMPLE, read_time

BESIDE = ("positions.csv", "positions.geojson")  # tables that are read without being named

ROLES = {  # of columns: their names in small letters, without blanks, signs and units; the first that is there counts
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
    "time": ("time",),  # no other word: what is called a timestamp elsewhere is as often a number as a date
}
_UNITS = re.compile(r"[(\[](?:°|deg|degrees|decimal degrees|dd|m|meters?|metres?|wgs ?84|utm)[)\]]")
_EXPECTED = "a column of file names, and lat, lon or easting, northing, zone"


@dataclass
class PhotoTable:
    """Rows of a table, before it is known which photos they are of.

    Attributes:
        file: name of the table, for messages.
        unit: what its rows are called: line or feature.
        numbers: the number of each row in the file.
        names: for each column that may hold the photos' names, its cells.
        written: the positions.
        times: UTC, None where unknown.
        wrong_times: reason by row, for times that cannot be read.
        timed: whether it says when photos were taken.
    """

    file: str
    unit: str
    numbers: list[int]
    names: dict[str, list[str]]
    written: Written
    times: list[datetime | None]
    wrong_times: dict[int, str]
    timed: bool

    def where(self, row: int) -> str:
        return f"{self.unit} {self.numbers[row]} of {self.file}"


def find_table(folder: Path, given: Path | None) -> PhotoTable | None:
    """Read the given table, or else the one beside the photos; None where there is neither.

    Raises:
        InputError: two tables beside the photos, or one that cannot be read.
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
        raise InputError(f"cannot read {given}: {error}. Give a table of positions.") from error
    if raw is None:
        raise InputError(f"{given} is not a file. Give a table of positions with {_EXPECTED}, or GeoJSON.")
    if given.suffix.lower() in (".geojson", ".json"):
        return _read_geojson(given, raw)
    return _read_csv(given, raw)


def _text(raw: bytes) -> str:
    """Decode UTF-8 or UTF-16; other bytes are kept, so that file names which are not UTF-8 are still found."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")  # what spreadsheets call Unicode text
    return raw.decode("utf-8-sig", "surrogateescape")


def _word(header: str) -> str:
    """A column's name in small letters, without blanks, signs and known units."""
    return re.sub(r"[\W_]+", "", _UNITS.sub("", header.strip().casefold()))


def _roles(path: Path, header: Sequence[str]) -> dict[str, list[int]]:
    """The columns of each role; of positions one, of names all.

    Raises:
        InputError: columns are missing, or a coordinate has two of the same name.
    """
    words = [_word(cell) for cell in header]
    found: dict[str, list[int]] = {}
    for role, known in ROLES.items():
        columns = [at for word in known for at, name in enumerate(words) if name == word]
        if role != "name" and len(columns) > 1 and words[columns[0]] == words[columns[1]]:
            raise InputError(f"{path} has two columns called {header[columns[0]].strip()!r}. Rename or remove one.")
        if columns:
            found[role] = columns if role == "name" else columns[:1]
    if {"lat", "lon"} <= found.keys() or {"east", "north"} <= found.keys():
        found.pop("x", None)
        found.pop("y", None)
    elif not {"x", "y"} <= found.keys():
        found.pop("name", None)
    if "name" not in found:
        shown = ", ".join(header)[:100] or "nothing"
        raise InputError(f"{path} must have {_EXPECTED}, got {shown!r}. Name the columns in the first line.")
    return found


# --- files


def _read_csv(path: Path, raw: bytes) -> PhotoTable:
    text = _text(raw)
    skipped, delimiter, comments = _find_header(text)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path} is not a table: {error}. Give {_EXPECTED}.") from error
    rows = [(number, cells) for number, cells in rows if number > skipped]
    header = rows[0][1] if rows else []
    roles = _roles(path, header)
    reader = _RowReader(delimiter != ",", _zone_of_comments(comments))
    read = []
    for number, cells in rows[1:]:
        if header[0].startswith("#") and cells[0].startswith("#"):
            continue  # sums below the table, as Metashape writes them
        cell = {role: _cell(cells, at[0]) for role, at in roles.items()}
        read.append(reader.read(number, [_cell(cells, at) for at in roles["name"]], cell))
    return _made(path, "line", [header[at] for at in roles["name"]], read, "time" in roles)


def _cell(cells: Sequence[str], at: int) -> str:
    return cells[at] if at < len(cells) else ""


def _find_header(text: str) -> tuple[int, str, list[str]]:
    """How many lines stand before the header, the delimiter, and the comments among these lines."""
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


def _zone_of_comments(comments: Sequence[str]) -> Zone | None:
    """The zone of a coordinate system that a comment names, such as # WGS 84 / UTM zone 33N (EPSG::32633)."""
    found = (re.search(r"EPSG:+[0-9]{5}", line) for line in comments)
    return next((zone for match in found if match and (zone := parse_zone(match[0]))), None)


def _read_geojson(path: Path, raw: bytes) -> PhotoTable:
    try:
        document = json.loads(_text(raw))
        features = list(document["features"] if document["type"] == "FeatureCollection" else [document])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not GeoJSON ({error}). Give a FeatureCollection of Points.") from error
    zone = _zone_of_crs(path, document)
    properties = [_properties(feature) for feature in features]
    keys = {key: _word(key) for known in properties for key in known}
    roles = {role: [key for word in known for key in keys if keys[key] == word] for role, known in ROLES.items()}
    columns = roles.pop("name")
    reader = _RowReader(False, zone)
    read = []
    for number, (feature, known) in enumerate(zip(features, properties, strict=True), start=1):
        cell = {role: next((known[key] for key in at if known.get(key)), "") for role, at in roles.items()}
        read.append(
            reader.read(number, [known.get(key, "") for key in columns], cell | {"x": "", "y": ""}, _point(feature))
        )
    return _made(path, "feature", columns, read, bool(roles["time"]))


def _zone_of_crs(path: Path, document: Any) -> Zone | None:
    """The UTM zone of a document that is not in degrees; programs still write the member that the standard removed."""
    try:
        name = str(document["crs"]["properties"]["name"])
    except (KeyError, TypeError):
        return None
    zone = parse_zone(name)
    if zone is None and not re.search(r"(CRS84|:4326|:4258|:4979|WGS ?84)$", name, re.IGNORECASE):
        raise InputError(f"{path} is in {name}. Export it in WGS 84 (EPSG:4326).")
    return zone


def _properties(feature: Any) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in feature["properties"].items() if value is not None}
    except (KeyError, TypeError, AttributeError):
        return {}


def _point(feature: Any) -> tuple[str, str] | None:
    """The coordinates of a Point as text, longitude or easting first, or None."""
    try:
        east, north = feature["geometry"]["coordinates"][:2]
        return (str(east), str(north)) if feature["geometry"]["type"] == "Point" else None
    except (KeyError, TypeError, ValueError):
        return None


# --- rows

_UNKNOWN = (math.nan, math.nan)


@dataclass
class _Row:
    """What a row says, and what is wrong with it."""

    number: int
    names: list[str]
    degrees: tuple[float, float] = _UNKNOWN
    metres: tuple[float, float] = _UNKNOWN
    plane: tuple[float, float] = _UNKNOWN  # x and y: longitude and latitude, or metres
    zone: Zone | None = None
    rounding_m: float = 0.0
    reason: str = ""
    time: datetime | None = None
    wrong_time: str = ""


@dataclass(frozen=True)
class _RowReader:
    """Parses cells.

    Attributes:
        zone: that all rows have, unless they name one.
    """

    decimal_comma: bool
    zone: Zone | None

    def read(
        self, number: int, names: list[str], cell: Mapping[str, str], point: tuple[str, str] | None = None
    ) -> _Row:
        """Parse a row; what is wrong with it is its reason, and a wrong time does not cost the row.

        Args:
            cell: text by role.
            point: coordinates of a GeoJSON point.
        """
        row = _Row(number, names)
        try:
            row.degrees, row.rounding_m = _degrees(cell), _rounding_m(cell.get("lat", ""), cell.get("lon", ""))
            if point and self.zone:
                cell = {**cell, "east": point[0], "north": point[1]}
            elif point:
                _take_point(row, point)
            row.metres, row.plane = self._metres(cell, "east", "north"), self._metres(cell, "x", "y")
            if not math.isnan(row.metres[0]) or not math.isnan(row.plane[0]):
                row.zone = self._zone(cell, needed=math.isnan(row.degrees[0]))
        except ValueError as error:
            row.reason = str(error)
        text = cell.get("time", "")
        row.time = read_time(text)
        if row.time is None and text.strip():
            row.wrong_time = f"has the time {text!r}, which is not one such as {EXAMPLE}; the photo is used without it"
        return row

    def _metres(self, cell: Mapping[str, str], east: str, north: str) -> tuple[float, float]:
        first, second = (parse_metres(cell.get(role, ""), self.decimal_comma) for role in (east, north))
        return first, second

    def _zone(self, cell: Mapping[str, str], needed: bool) -> Zone | None:
        text, letter = cell.get("zone", "").strip(), cell.get("letter", "").strip()[:1]
        if letter and (found := re.match("[0-9]+", text)):
            text = found[0] + letter
        zone = parse_zone(text) if text else self.zone
        if text and zone is None and needed:
            raise ValueError(f"has the zone {text!r}, which is not a UTM zone such as 33N")
        return zone


def _degrees(cell: Mapping[str, str]) -> tuple[float, float]:
    lat, lon = (parse_degrees(cell.get(axis, ""), axis, cell.get(f"{axis} reference", "")) for axis in ("lat", "lon"))
    return lat, lon


def _rounding_m(*texts: str) -> float:
    return max((rounding_m(text) for text in texts if text.strip()), default=0.0)


def _take_point(row: _Row, point: tuple[str, str]) -> None:
    """The geometry of a feature counts; degrees among its properties must agree."""
    there = parse_degrees(point[1], "lat"), parse_degrees(point[0], "lon")
    if abs(row.degrees[0]) <= 90 and abs(there[0]) <= 90:
        apart_m = ground_distances_m(np.array([there]), np.array([row.degrees]))[0]
        if apart_m > SAME_M + 1.5 * max(row.rounding_m, _rounding_m(*point)):
            ours, others = ("{:g}, {:g}".format(*pair) for pair in (there, row.degrees))
            raise ValueError(f"has its geometry at latitude, longitude {ours}, but its properties say {others}")
    row.degrees, row.rounding_m = there, _rounding_m(*point)


def _made(path: Path, unit: str, columns: list[str], rows: Sequence[_Row], timed: bool) -> PhotoTable:
    degrees, metres, plane = (
        np.array([getattr(row, key) for row in rows], np.float64).reshape(-1, 2)
        for key in ("degrees", "metres", "plane")
    )
    reasons = [row.reason for row in rows]
    _place_plane(plane, degrees, metres, reasons)
    for at in np.flatnonzero(np.isnan(degrees).all(axis=1) & np.isnan(metres).all(axis=1)).tolist():
        reasons[at] = reasons[at] or "has no position"
    rounding = np.array([row.rounding_m for row in rows])
    return PhotoTable(
        path.name,
        unit,
        [row.number for row in rows],
        {column: [row.names[at] for row in rows] for at, column in enumerate(columns)},
        Written(degrees, metres, [row.zone for row in rows], rounding, reasons),
        [row.time for row in rows],
        {at: row.wrong_time for at, row in enumerate(rows) if row.wrong_time},
        timed,
    )


def _place_plane(plane: Metres, degrees: Degrees, metres: Metres, reasons: list[str]) -> None:
    """Take x and y for longitude and latitude, or for metres, where the numbers leave no doubt."""
    known = ~np.isnan(plane).any(axis=1)
    if known.any() and look_like_degrees(plane[known]):
        degrees[known] = plane[known][:, ::-1]
    elif (np.abs(plane[known]) > 180).any():
        metres[known] = plane[known]
    else:
        for row in np.flatnonzero(known).tolist():
            says = f"has x {plane[row, 0]:g} and y {plane[row, 1]:g}, which can be degrees or metres"
            reasons[row] = f"{says}; call the columns lon and lat, or easting and northing"
