"""What is on disk: photo folders and benchmarks, read into `ImageSet` and `EvalDataset`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cricavpr.datasets.base import EvalDataset, ImageSet, Problem
from cricavpr.datasets.photos import read_photos
from cricavpr.datasets.positions_table import BESIDE
from cricavpr.datasets.utm_names import (
    dataset_name,
    find_sides,
    has_utm_names,
    read_utm_dataset,
    read_utm_folder,
)
from cricavpr.errors import InputError

__all__ = [
    "EvalDataset",
    "ImageSet",
    "Problem",
    "open_dataset",
    "open_photos",
    "read_photos",
    "read_utm_dataset",
]


def open_photos(
    folder: Path, positions_file: Path | None = None, *, need_positions: bool = False, need_times: bool = False
) -> tuple[ImageSet, tuple[Problem, ...]]:
    """Open one folder of photos, whether their positions are in their names, in EXIF or in a table.

    What an @UTM@ name may say of the time is not read.

    Raises:
        InputError: as `read_photos`, or names that start like @ names and are none.
    """
    if positions_file is None and has_utm_names(folder):
        return read_utm_folder(folder), ()
    return read_photos(folder, positions_file, need_positions=need_positions, need_times=need_times)


def open_dataset(
    path: Path,
    radius_m: float = 25.0,
    positions_file: Path | None = None,
    *,
    queries: str | None = None,
) -> tuple[EvalDataset, tuple[Problem, ...]]:
    """Open a folder for evaluation after a look at what it is.

    Either the tree of @ names shared by most benchmarks, or two folders `database` and `queries` of photos
    with positions from EXIF or a table; photos without one are left out and listed.

    Args:
        path: the dataset's folder.
        radius_m: how far a positive may be; the border counts.
        positions_file: table of positions for photos of both folders; see `read_photos`.
        queries: which of several folders `queries*`.

    Raises:
        InputError: neither of the two, or a side without any usable photo.
    """
    path = Path(path)
    database, query_folder = find_sides(path, queries)
    if has_utm_names(database):
        if positions_file is not None:
            raise InputError(f"the photos of {path} have their positions in their names. Leave --positions out.")
        return read_utm_dataset(path, radius_m, queries=queries), ()
    sides, problems = _read_sides(database, query_folder, positions_file)
    name = dataset_name(database, query_folder)
    return EvalDataset.within_radius(name, *sides, radius_m), problems


def _read_sides(
    database: Path, queries: Path, positions_file: Path | None
) -> tuple[tuple[ImageSet, ImageSet], tuple[Problem, ...]]:
    base = database.parent
    if positions_file is None and not any((base / name).is_file() for name in BESIDE):
        read = [read_photos(side, need_positions=True) for side in (database, queries)]
        problems = [
            replace(problem, name=f"{images.root.name}/{problem.name}") for images, found in read for problem in found
        ]
        return (read[0][0], read[1][0]), tuple(problems)
    # One table for both sides: read them together, so that a row for the one does not look lost in the other.
    both, found = read_photos(base, positions_file, need_positions=True)
    sides = _below(both, database), _below(both, queries)
    return sides, found


def _below(images: ImageSet, side: Path) -> ImageSet:
    prefix = f"{side.name}/"
    chosen = [i for i, name in enumerate(images.names) if name.startswith(prefix)]
    if not chosen:
        raise InputError(f"no photo in {side} has a position. Give a table with a row for each.")
    part = images.take(chosen)
    keys = None if part.keys is None else tuple(key.removeprefix(prefix) for key in part.keys)
    return replace(part, root=side, names=tuple(name.removeprefix(prefix) for name in part.names), keys=keys)
