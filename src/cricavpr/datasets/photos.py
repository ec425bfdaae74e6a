"""Any folder of photos: what is in it, where each was taken, and what is wrong with the rest.

Positions come from a table where there is one (given, or lying in the folder as positions.csv or
positions.geojson), and then from it alone; otherwise from each photo's EXIF block.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.errors import ImageError, InputError
from cricavpr.geo import UTM_LATITUDES_DEG, Positions
from cricavpr.images import read_header

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif", ".avif")
BESIDE = ("positions.csv", "positions.geojson")  # tables that are read without being named

_THREADS = 8  # a header costs a fifth of a millisecond of Python; threads hide a slow disk
_BLOCK = 10_000  # photos handed to the threads at a time


def read_photos(
    folder: Path, positions_file: Path | None = None, *, need_positions: bool = False
) -> tuple[ImageSet, tuple[Problem, ...]]:
    """Read a folder and all below it, in natural order (img2 before img10).

    Only headers are read: damage further on shows when a photo is decoded. Hidden files and folders are
    skipped, each folder is visited once however many links lead to it, and nothing that is not a regular file
    is opened. The key of a photo is its folder's path below `folder`, "." for `folder` itself.

    Args:
        folder: where the photos lie.
        positions_file: CSV with columns name, lat, lon or name, easting, northing[, zone]; or GeoJSON.
        need_positions: leave out photos without a position, each with its Problem.

    Returns:
        The usable photos, and one Problem for each photo that is not; for a table of positions also one for
        each row that names no photo and each photo without a row, which stays usable unless positions are
        needed.

    Raises:
        InputError: no such folder, a table that cannot be read, or no usable photo at all.
    """
    folder = Path(folder)
    found = find_files(folder, SUFFIXES)
    table = _find_table(folder, positions_file)
    photos, problems = _read_headers(folder, found)
    located = _locate_by_exif(photos) if table is None else _locate_by_table(photos, table)
    problems += located.problems
    keep = np.ones(len(photos), bool)
    if need_positions:
        keep = located.known
        reported = {problem.name for problem in located.problems}
        problems += [
            Problem(photo.name, "position", "has no GPS position")
            for photo, is_known in zip(photos, keep, strict=True)
            if not is_known and photo.name not in reported
        ]
    if not keep.any():
        raise InputError(_nothing_usable(folder, photos, problems))
    names = tuple(photo.name for photo in photos)
    positions = located.positions() if located.known.any() else None
    images = ImageSet(folder, names, positions, tuple(_folder_of(name) for name in names))
    return images.take(keep), tuple(problems)


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort key under which img2 comes before img10, folder by folder."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in name.split("/")]
    return tuple(tuple(int(p) if i % 2 else p for i, p in enumerate(part)) for part in parts), name


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _nothing_usable(folder: Path, photos: Sequence[_Photo], problems: Sequence[Problem]) -> str:
    bad = Counter(problem.stage for problem in problems if problem.stage != "position")
    total = len(photos) + bad.total()
    if total == 0:
        return f"no photo in {folder}. Known are {', '.join(suffix[1:] for suffix in SUFFIXES)}, in any case."
    if bad.total() == 0:
        return (
            f"{total:,} of {total:,} photos in {folder} have no GPS position. "
            "Give --positions FILE.csv, or photos with GPS."
        )
    first = next(problem for problem in problems if problem.stage != "position")
    lost = "".join(f", {count:,} fail at stage {stage}" for stage, count in sorted(bad.items()))
    return (
        f"none of {total:,} photos in {folder} can be used: {len(photos):,} have no GPS position{lost} "
        f"(first: {first.name!r} {first.reason}). Give other photos, or --positions FILE.csv."
    )


# --- finding files


def find_files(folder: Path, suffixes: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Names below `folder` with one of `suffixes` in any case, in natural order, and what could not be
    entered.

    Raises:
        InputError: `folder` is not a folder.
    """
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError):  # a name that is too long, a parent that may not be entered
        is_folder = False
    if not is_folder:
        raise InputError(f"{folder} is not a folder. Give the folder that holds the photos.")
    names: list[str] = []
    problems: list[Problem] = []
    for name, entry in walk(folder, problems):
        if name.lower().endswith(tuple(suffixes)):
            if _is_folder(entry):
                problems.append(Problem(name, "find", "is a folder, not a file"))
            else:
                names.append(name)
    return sorted(names, key=natural_key), problems


def walk(folder: Path, problems: list[Problem]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below, every real folder once; links to folders come last, so that a real name wins."""
    seen: set[tuple[int, int]] = set()
    folders = [(folder, "")]
    links: list[tuple[Path, str]] = []
    while folders or links:
        path, prefix = folders.pop() if folders else links.pop()
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            problems.append(Problem(prefix.rstrip("/") or ".", "find", error.strerror or "cannot be read"))
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            name = prefix + entry.name
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append((Path(entry.path), name + "/"))
            yield name, entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError:  # a dangling or circular link: not a folder, and reported when it is read
        return False


# --- headers


@dataclass(frozen=True)
class _Photo:
    name: str
    lat_lon: tuple[float, float] | None


def _read_headers(folder: Path, found: tuple[list[str], list[Problem]]) -> tuple[list[_Photo], list[Problem]]:
    def read(name: str) -> _Photo | Problem:
        try:
            gps = read_header(folder / name).gps
        except ImageError as error:
            return Problem(name, error.stage, str(error))
        return _Photo(name, None if gps is None else (gps.lat_deg, gps.lon_deg))

    names, problems = found
    photos = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(names), _BLOCK):
            for result in pool.map(read, names[start : start + _BLOCK]):
                if isinstance(result, Problem):
                    problems.append(result)
                else:
                    photos.append(result)
    return photos, problems


# --- positions


@dataclass
class _Located:
    """Coordinates of the photos: degrees, or metres with or without zones."""

    rows: NDArray[np.float64]  # (N, 2) latitude, longitude or easting, northing; NaN unknown
    degrees: bool
    zones: list[str] | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self.rows[:, 0]))

    def positions(self) -> Positions:
        if self.degrees:
            return Positions.from_latlon(self.rows)
        return Positions(self.rows, None if self.zones is None else tuple(self.zones))


def _locate_by_exif(photos: Sequence[_Photo]) -> _Located:
    located = _Located(np.full((len(photos), 2), np.nan), degrees=True)
    for i, photo in enumerate(photos):
        if photo.lat_lon is None:
            continue
        if reason := _off_the_map(*photo.lat_lon):
            located.problems.append(Problem(photo.name, "position", reason))
        else:
            located.rows[i] = photo.lat_lon
    return located


def _off_the_map(lat: float, lon: float) -> str | None:
    low, high = UTM_LATITUDES_DEG
    if not (abs(lat) <= 90 and abs(lon) <= 180):
        return f"latitude {lat}, longitude {lon} is not a place on earth"
    if not (low <= lat <= high):
        return f"latitude {lat} is outside the UTM map, {low:.0f}..{high:.0f} degrees"
    return "position 0, 0 stands for an unknown one" if lat == 0 and lon == 0 else None


@dataclass
class _Row:
    line: int
    name: str
    values: tuple[float, float]
    zone: str | None


@dataclass
class _Table:
    file: str
    degrees: bool
    rows: list[_Row]
    problems: list[Problem]
    unit: str = "line"  # how its rows are counted

    def where(self, number: int) -> str:
        return f"{self.unit} {number} of {self.file}"


def _locate_by_table(photos: Sequence[_Photo], table: _Table) -> _Located:
    row_of, problems = _match([photo.name for photo in photos], table)
    located = _Located(np.full((len(photos), 2), np.nan), table.degrees, problems=table.problems + problems)
    reported = {problem.name for problem in located.problems}
    if any(row.zone for row in table.rows):
        located.zones = [""] * len(photos)
    for i, photo in enumerate(photos):
        row = row_of.get(i)
        if row is None:
            if photo.name not in reported:
                reason = f"has no position in {table.file}"
                located.problems.append(Problem(photo.name, "position", reason))
            continue
        located.rows[i] = row.values
        if located.zones is not None:
            located.zones[i] = row.zone or ""
    return located


def _match(names: Sequence[str], table: _Table) -> tuple[dict[int, _Row], list[Problem]]:
    """Rows by photo: a row names it by its path below the folder, or by a file name that occurs once."""
    by_path = {name: i for i, name in enumerate(names)}
    by_file = _unique({name: name.rpartition("/")[2] for name in names}, by_path)
    row_of: dict[int, _Row] = {}
    problems = []
    for row in table.rows:
        path = row.name.replace("\\", "/").removeprefix("./")
        index = by_path.get(row.name, by_path.get(path, by_file.get(path.rpartition("/")[2])))
        where = table.where(row.line)
        if index is None:
            problems.append(Problem(row.name, "position", f"{where} names no usable photo"))
        elif index in row_of:
            reason = f"{where} names this photo again; the first counts"
            problems.append(Problem(row.name, "position", reason))
        else:
            row_of[index] = row
    return row_of, problems


def _unique(file_of: Mapping[str, str], index_of: Mapping[str, int]) -> dict[str, int]:
    times = Counter(file_of.values())
    return {file: index_of[name] for name, file in file_of.items() if times[file] == 1}


# --- tables of positions

_NAME = ("name", "file", "filename", "file_name", "image", "photo", "path")
_LAT = ("lat", "latitude", "lat_deg")
_LON = ("lon", "lng", "long", "longitude", "lon_deg")
_EAST = ("easting", "east", "easting_m", "utm_east", "utm_easting")
_NORTH = ("northing", "north", "northing_m", "utm_north", "utm_northing")
_ZONE = ("zone", "utm_zone")
_EXPECTED = "columns name, lat, lon or name, easting, northing, zone"


def _find_table(folder: Path, given: Path | None) -> _Table | None:
    if given is None:
        beside = [folder / name for name in BESIDE if (folder / name).is_file()]
        if len(beside) > 1:
            raise InputError(
                f"{folder} holds {' and '.join(BESIDE)}. Say which with --positions, or remove one."
            )
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


def _read_csv(path: Path, raw: bytes) -> _Table:
    text = _text(raw)
    header_line = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t|", key=header_line.count)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path} is not a table: {error}. Give {_EXPECTED}.") from error
    header = [cell.strip().casefold() for cell in rows[0][1]] if rows else []
    columns = _columns(path, header)
    table = _Table(path.name, "lat" in columns, [], [])
    for line, cells in rows[1:]:
        cell = {key: cells[at] if at < len(cells) else "" for key, at in columns.items()}
        numbers = [cell[axis] for axis in (("lat", "lon") if table.degrees else ("east", "north"))]
        if delimiter != ",":
            numbers = [number.replace(",", ".") for number in numbers]  # 55,7 as half of Europe writes it
        _add_row(table, line, cell["name"], numbers, cell.get("zone"))
    return table


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    groups = {"name": _NAME, "lat": _LAT, "lon": _LON, "east": _EAST, "north": _NORTH, "zone": _ZONE}
    found = {}
    for key, known in groups.items():
        word = next((word for word in known if word in header), None)
        if word is not None:
            found[key] = header.index(word)
    if "name" not in found or not ({"lat", "lon"} <= found.keys() or {"east", "north"} <= found.keys()):
        shown = ", ".join(header)[:100] or "nothing"
        raise InputError(f"{path} begins with {shown!r}. Give {_EXPECTED} in the first line.")
    if {"lat", "lon"} <= found.keys():
        return {key: found[key] for key in ("name", "lat", "lon")}
    return {key: found[key] for key in ("name", "east", "north", "zone") if key in found}


def _read_geojson(path: Path, raw: bytes) -> _Table:
    try:
        document = json.loads(_text(raw))
        features = document["features"] if document["type"] == "FeatureCollection" else [document]
        features = list(features)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not GeoJSON ({error}). Give a FeatureCollection of Points.") from error
    table = _Table(path.name, True, [], [], unit="feature")
    for number, feature in enumerate(features, start=1):
        _add_row(table, number, _feature_name(feature), _feature_point(feature), None)
    return table


def _feature_name(feature: Any) -> str:
    try:
        properties = {str(key).casefold(): value for key, value in feature["properties"].items()}
    except (KeyError, TypeError, AttributeError):
        return ""
    return next((str(properties[key]) for key in _NAME if properties.get(key)), "")


def _feature_point(feature: Any) -> list[str]:
    """Latitude and longitude as text, or nothing; GeoJSON puts longitude first."""
    try:
        geometry = feature["geometry"]
        if geometry["type"] != "Point":
            return []
        return [str(geometry["coordinates"][1]), str(geometry["coordinates"][0])]
    except (KeyError, TypeError, IndexError):
        return []


def _add_row(table: _Table, line: int, name: str, numbers: Sequence[str], zone: str | None) -> None:
    """Keep a row, or say what is wrong with it."""

    def wrong(reason: str) -> None:
        table.problems.append(Problem(name or table.file, "position", f"{table.where(line)} {reason}"))

    if not name.strip():
        return wrong("names no photo")
    try:
        first, second = map(float, numbers)
    except ValueError:
        return wrong("has no two numbers" if any(numbers) else "has no position")
    if not (math.isfinite(first) and math.isfinite(second)):
        return wrong("has no two finite numbers")
    if table.degrees and (reason := _off_the_map(first, second)):
        return wrong(f"is wrong: {reason}")
    hemisphere = None if zone is None else _zone(zone)
    if zone is not None and hemisphere is None:
        return wrong(f"has the zone {zone!r}, which is not a UTM zone such as 33N")
    table.rows.append(_Row(line, name, (first, second), hemisphere))
    return None


def _zone(text: str) -> str | None:
    """`33N`, `33 n` and `33U` to 33N. N and S are hemispheres here; any other letter is a UTM band."""
    found = re.fullmatch(r"0?([1-9]|[1-5][0-9]|60)\s*([C-HJ-NP-X])", text.strip().upper())
    if found is None:
        return None
    number, letter = found.groups()
    return f"{number}{'S' if letter == 'S' or letter < 'N' else 'N'}"
