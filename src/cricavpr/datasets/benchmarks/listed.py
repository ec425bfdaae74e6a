"""Find the files of a benchmark that are named by lists, in one of several folders below a root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.numpy_lists import read_index_lists, sorted_indices
from cricavpr.errors import InputError
from cricavpr.geo import Metres, Positions


def first_file(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of several paths below a root that is a file."""
    return next((root / name for name in names if (root / name).is_file()), None)


def needed_file(root: Path, names: Sequence[str], what_now: str) -> Path:
    """Return the first of several paths below a root that is a file."""
    found = first_file(root, names)
    if found is None:
        raise InputError(f"{root} has no {names[0]}. {what_now}.")
    return found


def folder_of(root: Path, folders: Sequence[str], names: Sequence[str], listed_in: Path) -> Path:
    """Return the first of several folders below a root that holds the first of the photos `names`."""
    if not names:
        raise InputError(f"{listed_in} lists no photo. Fetch the list again.")
    for folder in folders:
        if (root / folder / names[0]).is_file():
            return root / folder
    looked = ", ".join(str(root / folder) for folder in folders)
    raise InputError(
        f"{listed_in} lists {names[0]!r}, which is in none of {looked}. Unpack the photos there, or give their folder."
    )


def with_listed_positives(name: str, database: ImageSet, queries: ImageSet, truth: Path, rule: str) -> EvalDataset:
    """Make a dataset of two sides and a numpy file with the positives of each query."""
    positives = sorted_indices(truth, read_index_lists(truth), len(database))
    if len(positives) != len(queries):
        raise InputError(f"{truth} has {len(positives):,} rows for {len(queries):,} queries. Fetch all lists again.")
    return EvalDataset(name, database, queries, positives, rule)


def in_zone(metres: Metres, zone: str) -> Positions:  # metres: (N, 2)
    """Return positions that all lie in one UTM zone."""
    return Positions(metres, (zone,) * len(metres))


def panoramas(names: Sequence[str], length: int | None = None) -> tuple[str, ...]:
    """Return the panorama in each file name: its first `length` letters, or what stands before the first underscore."""
    files = (name.rpartition("/")[2] for name in names)
    return tuple(file.split("_", 1)[0] if length is None else file[:length] for file in files)
