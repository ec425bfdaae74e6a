"""Read photos whose file names hold positions between @ signs (@UTM@ trees), as in most benchmarks.

`@0544388.51@4178501.37@10@S@037.75@-122.49@pano@...@.jpg`: after the first @ come easting, northing, zone number, zone
letter, latitude, longitude and panorama. Only easting and northing are needed.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cricavpr.datasets.base import EvalDataset, ImageSet, Problem
from cricavpr.datasets.coordinates import parse_zone
from cricavpr.datasets.find_files import find_files, walk
from cricavpr.datasets.written_positions import Written, Zone
from cricavpr.errors import InputError
from cricavpr.files import read_lines
from cricavpr.geo import UTM_LATITUDES_DEG, Positions
from cricavpr.images import SUFFIXES

PUBLISHED_SUFFIXES = (".jpg", ".jpeg", ".png")
DATABASES = ("database", "gallery")
SPLITS = ("images/test", "test", ".")  # subfolders of a dataset that may hold the database and the queries

_SAMPLE = 10_000  # names that are looked at to recognise such a folder; the largest benchmark has 2.8 million
_DEGREES_MAY_BE_OFF_M = 2500.0  # allowed distance, since some names have degrees with two decimals only
_EXPECTED = "@easting@northing@zone number@zone letter@...@.jpg"


def read_utm_folder(folder: Path) -> ImageSet:
    """Read a folder of photos whose names hold positions (@easting@northing@...).

    Photos are sorted by path, and so by easting, as in all published readers. If a file `<folder>_images_paths.txt`
    exists beside the folder, only the photos in this list are read, in its order. Each of its lines is a path relative
    to `folder`. UTM zones are used only if every name has a zone. The key of an image is its panorama id, or its name
    if it has no panorama id.

    Raises:
        InputError: the folder does not exist, has no image, or a file name has no possible position.
    """
    folder = Path(folder)
    names, _ = _find(folder, PUBLISHED_SUFFIXES)
    if not names:
        raise InputError(f"no image in {folder}. Expected names such as {_EXPECTED}.")
    images, reasons = _read(folder, names, strict=True)
    if reasons:
        row, reason = next(iter(reasons.items()))
        raise InputError(f"{folder / names[row]} {reason}. Expected {_EXPECTED}.")
    return images


def read_utm_photos(folder: Path, need_positions: bool) -> tuple[ImageSet, tuple[Problem, ...]]:
    """Read a folder of photos. Most, but not all, of their file names hold positions (@easting@northing@...).

    If `need_positions`, photos without a valid position are left out and returned as problems. Otherwise they are kept
    without a position.

    Raises:
        InputError: the folder does not exist, or positions are needed and no photo has a possible position.
    """
    names, problems = _find(folder, SUFFIXES)
    images, reasons = _read(folder, names, strict=False)
    if len(reasons) == len(names) and need_positions:
        first = f" (first: {names[0]!r} {reasons[0]})" if names else ""
        raise InputError(f"none of {len(names):,} photos in {folder} has a position{first}. Expected {_EXPECTED}.")
    if not need_positions:
        return images, tuple(problems)
    problems += [Problem(names[row], "position", reason) for row, reason in reasons.items()]
    assert images.positions is not None
    return images.take(images.positions.known), tuple(problems)


def read_utm_dataset(root: Path, radius_m: float = 25.0, *, queries: str | None = None) -> EvalDataset:
    """Read a dataset whose file names hold positions (@easting@northing@...).

    The folders `database` (or `gallery`) and `queries` may lie in `root/images/test`, in `root/test` or in `root`.

    Args:
        root: the folder of the dataset, or of one of its splits.
        radius_m: a database image at most this far from a query is a positive of the query.
        queries: name of the query folder. By default it is `queries`, or else the only folder whose name begins with
            "queries".

    Raises:
        InputError: a folder is missing, there are several query folders, or a file name has no possible position.
    """
    database, query_folder = find_sides(Path(root), queries)
    name = dataset_name(database, query_folder)
    return join_utm_sides(name, read_utm_folder(database), read_utm_folder(query_folder), radius_m)


def join_utm_sides(name: str, database: ImageSet, queries: ImageSet, radius_m: float = 25.0) -> EvalDataset:
    """Make a dataset whose positives are the database images at most `radius_m` from the query.

    If only the database or only the queries have UTM zones, zones are ignored, as in published readers.
    """
    positions = [side.positions for side in (database, queries) if side.positions is not None]
    if len({side.zones is None for side in positions}) == 2:
        database, queries = (
            replace(side, positions=Positions(held.metres))
            for side, held in zip((database, queries), positions, strict=True)
        )
    return EvalDataset.within_radius(name, database, queries, radius_m)


def find_sides(root: Path, queries: str | None = None, database: str | None = None) -> tuple[Path, Path]:
    """Find the folders of the database and of the queries.

    Args:
        root: the dataset's folder. The two folders may also lie in its `images/test/` or `test/`.
        queries: name of the query folder. By default it is `queries`, or else the only folder whose name begins with
            "queries".
        database: name of the database folder. By default it is `database` or `gallery`.

    Raises:
        InputError: a folder is missing, or there are several query folders to choose from.
    """
    for base in (root / split for split in SPLITS):
        there = next((base / name for name in ((database,) if database else DATABASES) if (base / name).is_dir()), None)
        if there is None:
            continue
        found = sorted(path.name for path in base.glob("queries*") if path.is_dir())
        if queries and (base / queries).is_dir():
            return there, base / queries
        if queries:
            raise InputError(
                f"{base} has no query folder {queries!r}. Its query folders: {', '.join(found) or 'none'}."
            )
        if "queries" in found or len(found) == 1:
            return there, base / ("queries" if "queries" in found else found[0])
        if not found:
            raise InputError(
                f"{base} holds the folder {there.name}, but no folder queries. Put the queries into such a folder, "
                "or name their folder with --queries."
            )
        raise InputError(f"{base} has the query folders {', '.join(found)}. Choose one: --queries {found[0]}.")
    wanted = database or "database"
    raise InputError(
        f"{root} is not a dataset. Give a folder that holds the folders {wanted} and queries, or images/test/ with "
        "them; name other folders with --database and --queries."
    )


def dataset_name(database: Path, queries: Path) -> str:
    """Return a dataset's name, such as pitts30k for pitts30k/images/test/database.

    A split other than "test" is added to the name, and so is a query folder other than `queries`, as in
    svox/queries_night.
    """
    above = database.absolute().parent
    split = "" if above.name in ("test", "images") else above.name
    while above.name in ("train", "val", "test", "images") and above.parent != above:
        above = above.parent
    split = "" if split == above.name else split
    query_set = "" if queries.name == "queries" else queries.name
    return "/".join(part for part in (above.name, split, query_set) if part)


def has_utm_names(folder: Path) -> bool:
    """Return whether most file names in a folder hold positions (@easting@northing@...).

    Only the first 10,000 photos are looked at. If a list of paths lies beside the folder, the answer is True.
    """
    if _list_beside(folder).is_file():
        return True
    photos = (entry.name for _, entry in walk(folder) if entry.name.lower().endswith(SUFFIXES))
    named = [_metres(_fields(name)) is not None for name in itertools.islice(photos, _SAMPLE)]
    return bool(named) and 2 * sum(named) >= len(named)


def _list_beside(folder: Path) -> Path:
    named = folder.resolve()  # the path "." has no name
    return named.with_name(f"{named.name}_images_paths.txt")


def _find(folder: Path, suffixes: Sequence[str]) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the photos in the list beside the folder, in its order. Without a list, return all photos, sorted."""
    path = _list_beside(folder)
    if not path.is_file():
        names, problems = find_files(folder, suffixes)
        return tuple(sorted(names)), problems
    names = read_lines(path)
    if not names or not (folder / names[0]).is_file():
        first = names[0] if names else "nothing"
        raise InputError(f"{path} lists {first!r}, which is not a file below {folder}. Correct or remove the list.")
    return tuple(names), []


# --- names


def _read(folder: Path, names: Sequence[str], strict: bool) -> tuple[ImageSet, dict[int, str]]:
    """Return the images, and a dict that maps each index without a position to the reason."""
    count = len(names)
    metres, degrees = np.full((count, 2), np.nan), np.full((count, 2), np.nan)
    zones: list[Zone | None] = [None] * count
    reasons, keys = [""] * count, [""] * count
    for row, name in enumerate(names):  # one name at a time saves memory: the largest benchmark has 2.8 million
        parts = _fields(name)
        keys[row] = parts[7] if len(parts) > 8 and parts[7] != "None" else ""
        found = _metres(parts)
        if found is None:
            what = "position" if len(parts) < 4 or parts[0] else "easting, northing"
            reasons[row] = f"has no {what} in its name"
            continue
        metres[row] = found
        number, letter = (parts[3], parts[4]) if len(parts) > 5 else ("", "")
        if number and letter:
            zones[row] = parse_zone(number + letter)
            if zones[row] is None:
                reasons[row] = f"has zone {number}{letter} in its name, which is not a UTM zone"
            degrees[row] = _numbers(parts, 5)
    low, high = UTM_LATITUDES_DEG
    lat, lon = degrees.T
    degrees[~((low <= lat) & (lat <= high) & (np.abs(lon) <= 180)) | ((lat == 0) & (lon == 0))] = np.nan  # unused
    located = [row for row in range(count) if not reasons[row]]
    if strict and any(zones[row] is None for row in located):  # published readers ignore zones
        zones, degrees = [None] * count, np.full_like(degrees, np.nan)
    written = Written(degrees, metres, zones, np.zeros(count), reasons)
    resolved = written.resolve(_DEGREES_MAY_BE_OFF_M)
    bad = np.fromiter(map(bool, reasons), bool, count)
    metres[bad] = np.nan
    positions = Positions(metres, tuple(map(sys.intern, resolved)) if any(resolved) else None)
    panoramas = tuple(key or name for key, name in zip(keys, names, strict=True)) if any(keys) else None
    images = ImageSet(folder, tuple(names), positions, panoramas)
    return images, {row: reasons[row] for row in np.flatnonzero(bad).tolist()}


def _fields(name: str) -> Sequence[str]:
    """Split the file name at its @ signs. Folders in the path are ignored."""
    return name.rpartition("/")[2].split("@")


def _metres(parts: Sequence[str]) -> tuple[float, float] | None:
    if len(parts) < 4 or parts[0]:
        return None
    east, north = _numbers(parts, 1)
    return (east, north) if math.isfinite(east) and math.isfinite(north) else None


def _numbers(parts: Sequence[str], at: int) -> tuple[float, float]:
    """Return parts `at` and `at + 1` of a name as numbers. If either is not a number, both are NaN."""
    try:
        return float(parts[at]), float(parts[at + 1])
    except (ValueError, IndexError):
        return math.nan, math.nan
