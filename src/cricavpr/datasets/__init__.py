"""Read photos on disk: a folder of photos as an `ImageSet`, or a dataset for evaluation as an `EvalDataset`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from cricavpr.datasets.base import EvalDataset, ImageSet, Problem
from cricavpr.datasets.photo_table import BESIDE
from cricavpr.datasets.photos import read_photos
from cricavpr.datasets.position_checks import copies_elsewhere, far_from_others
from cricavpr.datasets.utm_names import (
    dataset_name,
    find_sides,
    has_utm_names,
    join_utm_sides,
    read_utm_dataset,
    read_utm_photos,
)
from cricavpr.errors import InputError

__all__ = ["EvalDataset", "ImageSet", "Problem", "open_dataset", "open_photos", "read_photos", "read_utm_dataset"]

Problems = tuple[Problem, ...]


def open_photos(
    folder: Path,
    positions_file: Path | None = None,
    *,
    need_positions: bool = False,
    need_times: bool = False,
    with_positions: bool = True,
) -> tuple[ImageSet, Problems]:
    """Open one folder of photos. Positions come from a table, from file names (@easting@northing@...) or from EXIF.

    The arguments are those of `read_photos`. Capture times in file names are not read.

    Raises:
        InputError: as for `read_photos`.
    """
    if positions_file is not None or not has_utm_names(folder):
        return read_photos(
            folder, positions_file, need_positions=need_positions, need_times=need_times, with_positions=with_positions
        )
    images, problems = read_utm_photos(Path(folder), need_positions)
    if not need_positions:
        return images, problems
    copies = copies_elsewhere(images)
    problems += tuple(Problem(images.names[row], "position", reason) for row, reason in copies.items())
    images = images.take([row for row in range(len(images)) if row not in copies])
    return images, (*problems, *far_from_others(images))


def open_dataset(
    path: Path,
    radius_m: float = 25.0,
    positions_file: Path | None = None,
    *,
    queries: str | None = None,
    database: str | None = None,
) -> tuple[EvalDataset, Problems]:
    """Open a folder as a dataset for evaluation.

    The folder holds two folders of photos, `database` and `queries`, directly or in `images/test/` or `test/`.
    Positions come from file names (@easting@northing@...), as in most benchmarks, or from EXIF or a table. Photos
    without a position are left out and returned as problems.

    Args:
        path: the dataset's folder.
        radius_m: a database image at most this far from a query is a positive of the query.
        positions_file: table with the positions of the photos in both folders; see `read_photos`.
        queries: name of the folder of queries, if there are several.
        database: name of the folder of the database, if it is not `database` or `gallery`.

    Raises:
        InputError: a folder is missing, or has no usable photo.
    """
    path = Path(path)
    base, asked = find_sides(path, queries, database)
    name = dataset_name(base, asked)
    if has_utm_names(base):
        if positions_file is not None:
            raise InputError(f"the file names of the photos in {path} already hold positions. Leave --positions out.")
        read = [read_utm_photos(side, need_positions=True) for side in (base, asked)]
        return join_utm_sides(name, read[0][0], read[1][0], radius_m), _both(read)
    sides, problems = _read_sides(base, asked, positions_file)
    return EvalDataset.within_radius(name, *sides, radius_m), problems


def _both(read: list[tuple[ImageSet, Problems]]) -> Problems:
    """Return the problems of several folders. The folder is put in front of each photo's name."""
    return tuple(
        replace(problem, name=str(PurePosixPath(images.root.name) / problem.name))
        for images, found in read
        for problem in found
    )


def _read_sides(
    database: Path, queries: Path, positions_file: Path | None
) -> tuple[tuple[ImageSet, ImageSet], Problems]:
    base = database.parent
    if positions_file is None and not any((base / name).is_file() for name in BESIDE):
        read = [read_photos(side, need_positions=True) for side in (database, queries)]
        return (read[0][0], read[1][0]), _both(read)
    # One table covers both folders. They are read together, or else rows of the other folder would match no photo.
    both, found = read_photos(base, positions_file, need_positions=True)
    used = tuple(p for p in found if p.is_note or p.name.startswith((f"{database.name}/", f"{queries.name}/")))
    return (_below(both, database), _below(both, queries)), used


def _below(images: ImageSet, side: Path) -> ImageSet:
    prefix = f"{side.name}/"
    chosen = [i for i, name in enumerate(images.names) if name.startswith(prefix)]
    if not chosen:
        raise InputError(f"no photo in {side} has a position. Give --positions FILE.csv with a row for each photo.")
    part = images.take(chosen)
    keys = None if part.keys is None else tuple(key.removeprefix(prefix) for key in part.keys)
    return replace(part, root=side, names=tuple(name.removeprefix(prefix) for name in part.names), keys=keys)
