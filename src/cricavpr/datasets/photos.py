"""Read a folder of photos: the position and time of each photo, and why some photos cannot be used.

A table of positions is either given, or is positions.csv or positions.geojson in the folder. With a table, positions
come only from the table; without a table, they come from EXIF. Times come from the table if it has a column of times,
otherwise from EXIF.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.datasets.find_files import find_files
from cricavpr.datasets.photo_table import PhotoTable, find_table
from cricavpr.datasets.position_checks import copies_elsewhere, far_from_others
from cricavpr.datasets.row_matching import Matches, PhotoNames
from cricavpr.errors import ImageError, InputError
from cricavpr.geo import Degrees, Metres, Positions, ground_distances_m, off_the_map
from cricavpr.images import SUFFIXES, Header, read_header
from cricavpr.times import as_times

_THREADS = 8  # reading a header takes 0.3 ms of CPU; threads are for slow disks
_BLOCK = 10_000  # photos handed to the threads at a time
_NAMED = 10  # number of unused rows of a table that are reported one by one; the others are only counted
_SAME_PLACE_M = 1_000.0  # EXIF and table may differ by this much, since a phone's GPS is inexact


def read_photos(
    folder: Path,
    positions_file: Path | None = None,
    *,
    need_positions: bool = False,
    need_times: bool = False,
    with_positions: bool = True,
) -> tuple[ImageSet, tuple[Problem, ...]]:
    """Read the photos in a folder and its subfolders, in natural order (img2 before img10).

    Only the headers of photos are read, so damaged pixel data are found later, when a photo is decoded. Hidden files
    and folders are skipped. Each folder is visited once, however many links lead to it, and only regular files are
    opened. The key of a photo is the path of its folder relative to `folder`, or "." for `folder` itself.

    Args:
        folder: the folder of the photos.
        positions_file: a GeoJSON file, or a CSV file with a column of file names and columns lat, lon or easting,
            northing[, zone]. A column `time` in ISO 8601 is optional; a time without an offset is UTC. See
            docs/photos.md.
        need_positions: True to leave out photos without a position, and return a Problem for each of them.
        need_times: True to return a note for each photo whose time in the table cannot be read.
        with_positions: False to read no positions, not even from a table in the folder.

    Returns:
        The photos that can be used, and the problems. Each photo that was left out has a problem. Other problems are
        notes (`Problem.is_note`) on rows of the table, photos far from all others, and skipped files.

    Raises:
        InputError: the folder does not exist, the table cannot be read, or no photo can be used.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (64, 48)).save(folder / "a.jpg")
        >>> _ = (folder / "positions.csv").write_text("name,lat,lon\\na.jpg,55.7047,13.191\\n")
        >>> images, problems = read_photos(folder, need_positions=True)
        >>> images.names, images.positions, problems
        (('a.jpg',), Positions(1 of 1 known, UTM 33N), ())
    """
    folder = Path(folder)
    found = find_files(folder, SUFFIXES)
    table = find_table(folder, positions_file) if with_positions else None
    photos, problems = _read_headers(folder, *found)
    if table is not None:
        photos.take_table(table, need_times)
    elif with_positions:
        photos.take_exif(need_positions)
    if not need_positions:  # photos without a position are kept
        photos.problems = [replace(p, stage="note") if p.stage == "position" else p for p in photos.problems]
    images = photos.image_set()
    keep = np.ones(len(images), bool)
    if need_positions:
        keep = np.zeros(len(images), bool) if images.positions is None else images.positions.known
    problems += photos.problems
    if not keep.any():
        raise InputError(_nothing_usable(folder, len(images), problems, table))
    return images.take(keep), (*problems, *far_from_others(images))


def _nothing_usable(folder: Path, readable: int, problems: Sequence[Problem], table: PhotoTable | None) -> str:
    lost = [problem for problem in problems if not (problem.is_note or problem.stage == "position")]
    total = readable + len(lost)
    if total == 0:
        return f"no photo in {folder}. Supported suffixes: {', '.join(suffix[1:] for suffix in SUFFIXES)}."
    reasons = [f"{count:,} failed at stage {stage}" for stage, count in sorted(Counter(p.stage for p in lost).items())]
    if readable:
        what = "GPS position" if table is None else f"position in {table.file}"
        reasons.insert(0, f"{readable:,} without a {what}")
    told = [p for p in problems if p.stage == "row"] if table is not None and not lost else lost
    told = told or [p for p in problems if not p.is_note]
    first = f" (first: {told[0].name}: {told[0].reason})"
    what_now = "Give photos with GPS, or --positions FILE.csv" if table is None else "Correct the rows of the table"
    what_now = what_now if readable else "Give other photos"
    return f"none of {total:,} photos in {folder} can be used: {', '.join(reasons)}{first}. {what_now}."


# --- headers


def _read_headers(folder: Path, names: list[str], problems: list[Problem]) -> tuple[_Photos, list[Problem]]:
    def read(name: str) -> Header | Problem:
        try:
            return read_header(folder / name)
        except ImageError as error:
            return Problem(name, error.stage, str(error))

    headers: dict[str, Header] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(names), _BLOCK):
            block = names[start : start + _BLOCK]
            for name, result in zip(block, pool.map(read, block), strict=True):
                if isinstance(result, Problem):
                    problems.append(result)
                else:
                    headers[name] = result
    return _Photos(folder, headers), problems


# --- positions and times


class _Photos:
    """Photos with their times and positions. A position is in degrees, or in metres with or without a UTM zone."""

    def __init__(self, folder: Path, headers: dict[str, Header]) -> None:
        self.folder, self.names, self.headers = folder, tuple(headers), tuple(headers.values())
        self.degrees: Degrees = np.full((len(headers), 2), np.nan)
        self.metres: Metres = self.degrees.copy()
        self.zones = [""] * len(headers)
        self.taken: list[datetime | None] = [header.taken for header in self.headers]
        self.problems: list[Problem] = []

    def take_exif(self, needed: bool) -> None:
        """Read each photo's position from EXIF. If `needed`, report every photo that has none."""
        self.degrees, reasons = _exif_degrees(self.headers)
        for name, degrees, reason in zip(self.names, self.degrees, reasons, strict=True):
            if reason or (needed and np.isnan(degrees[0])):
                self.problems.append(Problem(name, "position", reason or "has no GPS position"))

    def take_table(self, table: PhotoTable, need_times: bool) -> None:
        """Set the position of each photo from the table, and also its time if the table has a column of times."""
        written, zones = table.written, table.written.resolve()
        matches = self._match(table)
        if table.timed:
            self.taken = [None] * len(self.names)
        for i, name in enumerate(self.names):
            row, reason = _row_of(i, table, matches)
            if reason:
                self.problems.append(Problem(name, "position", reason))
                continue
            self.degrees[i], self.metres[i], self.zones[i] = written.degrees[row], written.metres[row], zones[row]
            if table.timed:
                self.taken[i] = table.times[row]
            if need_times and row in table.wrong_times:
                self.problems.append(Problem(name, "time", f"{table.where(row)} {table.wrong_times[row]}"))
        for i, reason in copies_elsewhere(self.image_set()).items():
            self.degrees[i] = self.metres[i] = np.nan
            self.zones[i] = ""
            self.problems.append(Problem(self.names[i], "position", reason))
        self.problems += _notes(table, matches)
        self._compare_with_exif(table)

    def _match(self, table: PhotoTable) -> Matches:
        """Match rows of the table to photos, by the column of names that matches the most photos."""
        names = PhotoNames(self.names, self.folder)
        tried = [names.match(column) for column in table.names]
        return max(tried, key=lambda matches: len(matches.rows))  # ties go to the first column

    def _compare_with_exif(self, table: PhotoTable) -> None:
        """Add a note if the EXIF positions of photos are far from their positions in the table."""
        positions = self.positions()
        if positions is None or positions.zones is None:
            return
        apart_m = ground_distances_m(positions.latlon(), _exif_degrees(self.headers)[0])
        far = np.flatnonzero(apart_m > _SAME_PLACE_M)
        if len(far):
            says = f"{len(far):,} photos have an EXIF position more than 1 km away from that in the table"
            first = f"first: {self.names[far[0]]!r}, {apart_m[far[0]] / 1000:,.0f} km"
            self.problems.append(Problem(table.file, "note", f"{says} ({first}); the position in the table is used"))

    def positions(self) -> Positions | None:
        """Return the positions in UTM, or in a local frame if all are metres without a UTM zone.

        Return None if no position is known.
        """
        of_degrees, of_metres = ~np.isnan(self.degrees[:, 0]), ~np.isnan(self.metres[:, 0])
        if not (of_degrees | of_metres).any():
            return None
        if not of_degrees.any() and not any(self.zones):
            return Positions(self.metres)
        projected = Positions.from_latlon(self.degrees)
        metres = np.where(of_metres[:, None], self.metres, projected.metres)
        pairs = zip(of_metres.tolist(), self.zones, projected.zones or (), strict=True)
        return Positions(metres, tuple(written if use else zone for use, written, zone in pairs))

    def image_set(self) -> ImageSet:
        keys = tuple(name.rpartition("/")[0] or "." for name in self.names)
        times = as_times(self.taken) if any(self.taken) else None
        return ImageSet(self.folder, self.names, self.positions(), keys, times=times)


def _exif_degrees(headers: Sequence[Header]) -> tuple[Degrees, list[str]]:
    """Return N positions in degrees from EXIF, and for each photo why its position cannot be used, or "" if it can."""
    degrees = np.full((len(headers), 2), np.nan)
    reasons = []
    for row, header in enumerate(headers):
        reason = header.no_gps
        if header.gps is not None:
            reason = off_the_map(header.gps.lat_deg, header.gps.lon_deg)
            degrees[row] = (np.nan, np.nan) if reason else (header.gps.lat_deg, header.gps.lon_deg)
        reasons.append(reason)
    return degrees, reasons


def _row_of(photo: int, table: PhotoTable, matches: Matches) -> tuple[int, str]:
    """Return the row of the table with the photo's position, and "". If there is none, return 0 and the reason."""
    rows = matches.rows.get(photo, [])
    sound = [row for row in rows if not table.written.reasons[row]]
    if not rows:
        doubt = matches.doubtful.get(photo)
        why = "" if doubt is None else f" ({table.where(doubt)} {matches.reasons[doubt]})"
        return 0, f"has no position in {table.file}{why}"
    if not sound:
        return 0, f"{table.where(rows[0])} {table.written.reasons[rows[0]]}"
    places = np.concatenate([table.written.degrees[sound], table.written.metres[sound]], axis=1)
    same = np.isclose(places, places[0], rtol=0, atol=1e-9, equal_nan=True).all(axis=1)
    if not same.all():
        other = table.numbers[sound[int(np.argmin(same))]]
        return 0, f"{table.where(sound[0])} and {table.unit} {other} give it different positions"
    return sound[0], ""


def _notes(table: PhotoTable, matches: Matches) -> list[Problem]:
    """Return notes on rows that were not used, and on how the whole table was understood."""
    unused = dict(matches.reasons)
    for rows in matches.rows.values():  # a photo may have wrong rows beside a usable row
        wrong = {row: reason for row in rows if (reason := table.written.reasons[row])}
        unused |= wrong if len(wrong) < len(rows) else {}
    said = [f"{table.unit} {table.numbers[row]} {unused[row]}" for row in sorted(unused)]
    if len(said) > _NAMED:
        said[_NAMED:] = [f"{len(said) - _NAMED:,} more rows were not used"]
    notes = [Problem(table.file, "row", reason) for reason in said]
    return notes + [Problem(table.file, "note", note) for note in table.written.notes]
