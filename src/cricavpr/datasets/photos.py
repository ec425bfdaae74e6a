"""Any folder of photos: what is in it, where and when each was taken, and what is wrong with the rest.

Positions come from a table where there is one (given, or lying in the folder as positions.csv or
positions.geojson), and then from it alone; otherwise from each photo's EXIF block. So do times, where the table has
a column for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.datasets.find_files import find_files
from cricavpr.datasets.positions_table import Row, Table, find_table, off_the_map
from cricavpr.errors import ImageError, InputError
from cricavpr.geo import Positions
from cricavpr.images import read_header
from cricavpr.times import as_times

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif", ".avif")

_THREADS = 8  # a header costs a third of a millisecond of Python; threads hide a slow disk
_OF_TABLES = ("position", "time")  # stages that say nothing against the photo itself
_BLOCK = 10_000  # photos handed to the threads at a time


def read_photos(
    folder: Path, positions_file: Path | None = None, *, need_positions: bool = False, need_times: bool = False
) -> tuple[ImageSet, tuple[Problem, ...]]:
    """Read a folder and all below it, in natural order (img2 before img10).

    Only headers are read: damage further on shows when a photo is decoded. Hidden files and folders are
    skipped, each folder is visited once however many links lead to it, and nothing that is not a regular file
    is opened. The key of a photo is its folder's path below `folder`, "." for `folder` itself.

    Args:
        folder: where the photos lie.
        positions_file: CSV with columns name, lat, lon or name, easting, northing[, zone], both with [, time] in
            ISO 8601 (UTC unless it names an offset); or GeoJSON.
        need_positions: leave out photos without a position, each with its Problem.
        need_times: name each time of a table that is none, as a Problem of a photo that stays usable.

    Returns:
        The usable photos, and one Problem for each photo that is not; for a table of positions also one for
        each row that names no photo and each photo without a row, which stays usable unless positions are
        needed.

    Raises:
        InputError: no such folder, a table that cannot be read, or no usable photo at all.
    """
    folder = Path(folder)
    found = find_files(folder, SUFFIXES)
    table = find_table(folder, positions_file)
    photos, problems = _read_headers(folder, found)
    located = _locate_by_exif(photos) if table is None else _locate_by_table(photos, table)
    problems += [problem for problem in located.problems if need_times or problem.stage != "time"]
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
        raise InputError(_nothing_usable(folder, photos, problems, table))
    names = tuple(photo.name for photo in photos)
    positions = located.positions() if located.known.any() else None
    times = as_times(located.taken) if any(located.taken) else None
    images = ImageSet(folder, names, positions, tuple(_folder_of(name) for name in names), times=times)
    return images.take(keep), tuple(problems)


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _nothing_usable(folder: Path, photos: Sequence[_Photo], problems: Sequence[Problem], table: Table | None) -> str:
    bad = Counter(problem.stage for problem in problems if problem.stage not in _OF_TABLES)
    total = len(photos) + bad.total()
    if total == 0:
        return f"no photo in {folder}. Known are {', '.join(suffix[1:] for suffix in SUFFIXES)}, in any case."
    if bad.total() == 0 and table is not None:
        why = next(f"{problem.name!r} {problem.reason}" for problem in problems)
        return (
            f"none of the {total:,} photos in {folder} has a position in {table.file} (first: {why}). "
            "Name the photos by their paths below the folder."
        )
    if bad.total() == 0:
        return (
            f"{total:,} of {total:,} photos in {folder} have no GPS position. "
            "Give --positions FILE.csv, or photos with GPS."
        )
    first = next(problem for problem in problems if problem.stage not in _OF_TABLES)
    lost = "".join(f", {count:,} fail at stage {stage}" for stage, count in sorted(bad.items()))
    return (
        f"none of {total:,} photos in {folder} can be used: {len(photos):,} have no GPS position{lost} "
        f"(first: {first.name!r} {first.reason}). Give other photos, or --positions FILE.csv."
    )


# --- headers


@dataclass(frozen=True)
class _Photo:
    name: str
    lat_lon: tuple[float, float] | None
    taken: datetime | None


def _read_headers(folder: Path, found: tuple[list[str], list[Problem]]) -> tuple[list[_Photo], list[Problem]]:
    def read(name: str) -> _Photo | Problem:
        try:
            header = read_header(folder / name)
        except ImageError as error:
            return Problem(name, error.stage, str(error))
        gps = header.gps
        return _Photo(name, None if gps is None else (gps.lat_deg, gps.lon_deg), header.taken)

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


# --- positions and times


@dataclass
class _Located:
    """Coordinates of the photos: degrees, or metres with or without zones; and when they were taken."""

    rows: NDArray[np.float64]  # (N, 2) latitude, longitude or easting, northing; NaN unknown
    degrees: bool
    taken: list[datetime | None]  # UTC
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
    located = _Located(np.full((len(photos), 2), np.nan), degrees=True, taken=[photo.taken for photo in photos])
    for i, photo in enumerate(photos):
        if photo.lat_lon is None:
            continue
        if reason := off_the_map(*photo.lat_lon):
            located.problems.append(Problem(photo.name, "position", reason))
        else:
            located.rows[i] = photo.lat_lon
    return located


def _locate_by_table(photos: Sequence[_Photo], table: Table) -> _Located:
    row_of, problems = _match([photo.name for photo in photos], table)
    taken = [None if table.timed else photo.taken for photo in photos]
    located = _Located(np.full((len(photos), 2), np.nan), table.degrees, taken, problems=table.problems + problems)
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
        if table.timed:
            located.taken[i] = row.time
        if located.zones is not None:
            located.zones[i] = row.zone or ""
    return located


def _match(names: Sequence[str], table: Table) -> tuple[dict[int, Row], list[Problem]]:
    """Rows by photo: a row names it by its path below the folder, or by a file name that occurs once."""
    by_path = {name: i for i, name in enumerate(names)}
    by_file = _unique({name: name.rpartition("/")[2] for name in names}, by_path)
    row_of: dict[int, Row] = {}
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
