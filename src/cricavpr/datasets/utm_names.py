"""The tree shared by most benchmarks: a photo's position stands in its name, between @ signs.

`@0544388.51@4178501.37@10@S@037.75@-122.49@pano@...@.jpg`: after the first @ come easting, northing, zone
number, zone letter, latitude, longitude and panorama. Only easting and northing are needed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.find_files import find_files, walk
from cricavpr.errors import InputError
from cricavpr.geo import Positions

SUFFIXES = (".jpg", ".jpeg", ".png")
DATABASES = ("database", "gallery")
SPLITS = ("images/test", "test", ".")  # where the database may lie below a dataset's folder

_BANDS = "CDEFGHJKLMNPQRSTUVWX"  # UTM latitude bands; N and later lie north of the equator
_EXPECTED = "@easting@northing@zone number@zone letter@...@.jpg"


def read_utm_folder(folder: Path) -> ImageSet:
    """Read one folder of @ names, sorted by path as all published readers do, which is by easting.

    A file `<folder>_images_paths.txt` beside it, one path below `folder` per line, is believed instead of
    looking, and gives the order. Zones are known only if every name has one; keys are the panoramas, and an
    image without one is its own key.

    Raises:
        InputError: no such folder, no image, or a name without a position.
    """
    folder = Path(folder)
    names = _names(folder)
    metres = np.empty((len(names), 2))
    zones: list[str] = []
    keys: list[str] = []
    for row, name in enumerate(names):  # one name at a time: the largest benchmark has 2.8 million
        parts = _fields(folder, name)
        metres[row] = _metres(folder, name, parts)
        if zone := _zone(folder, name, parts):
            zones.append(sys.intern(zone))
        keys.append(_panorama(parts))
    positions = Positions(metres, tuple(zones) if len(zones) == len(names) else None)
    return ImageSet(folder, names, positions, _keys(names, keys))


def read_utm_dataset(root: Path, radius_m: float = 25.0, *, queries: str | None = None) -> EvalDataset:
    """Read `images/test/`, `test/` or `root` itself, with `database` (or `gallery`) and `queries` below.

    Args:
        root: the dataset's folder, or that of one split.
        radius_m: how far a positive may be; the border counts.
        queries: which of several folders `queries*`; `queries` where it exists, else the only one.

    Raises:
        InputError: a folder is missing, several query folders to choose from, or a wrong name.
    """
    database, query_folder = find_sides(Path(root), queries)
    name = dataset_name(database, query_folder)
    return join_utm_sides(name, read_utm_folder(database), read_utm_folder(query_folder), radius_m)


def join_utm_sides(name: str, database: ImageSet, queries: ImageSet, radius_m: float = 25.0) -> EvalDataset:
    """Two folders of @ names as one dataset; where only one of them has zones, none are used."""
    sides = database, queries
    if len({side.positions is not None and side.positions.zones is None for side in sides}) == 2:
        sides = _without_zones(sides[0]), _without_zones(sides[1])
    return EvalDataset.within_radius(name, *sides, radius_m)


def find_sides(root: Path, queries: str | None = None) -> tuple[Path, Path]:
    """The folders of the database and of the queries.

    Raises:
        InputError: there are none, or several query folders and no word which.
    """
    for base in (root / split for split in SPLITS):
        database = next((base / name for name in DATABASES if (base / name).is_dir()), None)
        if database is None:
            continue
        found = sorted(path.name for path in base.glob("queries*") if path.is_dir())
        wanted = queries or ("queries" if "queries" in found else found[0] if len(found) == 1 else None)
        if wanted in found and wanted is not None:
            return database, base / wanted
        if not found:
            raise InputError(f"{base} holds {database.name} and no folder queries beside it. Put the queries there.")
        there = ", ".join(found)
        raise InputError(f"{base} has the query folders {there}. Say which of them to use, one at a time.")
    raise InputError(
        f"{root} is not a dataset. Give a folder that holds the folders database and queries, or holds "
        "images/test/ with them."
    )


def dataset_name(database: Path, queries: Path) -> str:
    """`pitts30k` for pitts30k/images/test/database; a split or query set other than the usual is added."""
    above = database.absolute().parent
    split = "" if above.name in ("test", "images") else above.name
    while above.name in ("train", "val", "test", "images") and above.parent != above:
        above = above.parent
    split = "" if split == above.name else split
    query_set = "" if queries.name == "queries" else queries.name
    return "/".join(part for part in (above.name, split, query_set) if part)


def has_utm_names(folder: Path) -> bool:
    """Whether the photos of a folder carry @ names; decided by its list or by the first photo."""
    if _list_beside(folder).is_file():
        return True
    photos = (name for name, _ in walk(folder, []) if name.lower().endswith(SUFFIXES))
    return next(photos, "").rpartition("/")[2].startswith("@")


def _without_zones(images: ImageSet) -> ImageSet:
    """The published readers never look at zones."""
    assert images.positions is not None
    return replace(images, positions=Positions(images.positions.metres))


def _list_beside(folder: Path) -> Path:
    named = folder.resolve()  # "." has no name of its own
    return named.with_name(f"{named.name}_images_paths.txt")


def _names(folder: Path) -> tuple[str, ...]:
    listed = _list_beside(folder)
    if not listed.is_file():
        found, _ = find_files(folder, SUFFIXES)
        if not found:
            raise InputError(f"no image in {folder}. Expected names such as {_EXPECTED}.")
        return tuple(sorted(found))
    try:
        lines = listed.read_text("utf-8", "surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"cannot read {listed}: {error.strerror}. Correct or remove the list.") from error
    names = tuple(line.rstrip("\r") for line in lines if line.strip())
    if not names or not (folder / names[0]).is_file():
        first = names[0] if names else "nothing"
        raise InputError(f"{listed} lists {first!r}, which is not below {folder}. Remove or correct it.")
    return names


def _panorama(parts: Sequence[str]) -> str:
    return parts[7] if len(parts) > 8 and parts[7] != "None" else ""


def _keys(names: Sequence[str], panoramas: Sequence[str]) -> tuple[str, ...] | None:
    if not any(panoramas):
        return None
    return tuple(panorama or name for panorama, name in zip(panoramas, names, strict=True))


def _fields(folder: Path, name: str) -> Sequence[str]:
    """The parts of the file name alone, so that an @ in a folder's name does no harm."""
    parts = name.rpartition("/")[2].split("@")
    if len(parts) < 4 or parts[0]:
        raise InputError(f"{folder / name} has no position in its name. Expected {_EXPECTED}.")
    return parts


def _metres(folder: Path, name: str, parts: Sequence[str]) -> tuple[float, float]:
    try:
        east, north = float(parts[1]), float(parts[2])
    except ValueError:
        east = north = math.nan
    if not (math.isfinite(east) and math.isfinite(north)):
        raise InputError(f"{folder / name}: {parts[1]!r}, {parts[2]!r} is not easting, northing. Expected {_EXPECTED}.")
    return east, north


def _zone(folder: Path, name: str, parts: Sequence[str]) -> str | None:
    """`10`, `S` to 10N: the letter of a name is a latitude band, and band S lies in the north."""
    number, letter = (parts[3], parts[4].upper()) if len(parts) > 5 else ("", "")
    if not number or not letter:
        return None
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 60 and letter in _BANDS):
        raise InputError(f"{folder / name}: {number}{letter} is not a UTM zone. Expected {_EXPECTED}.")
    return f"{int(number)}{'N' if letter >= 'N' else 'S'}"
