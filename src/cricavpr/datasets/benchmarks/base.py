"""Types that describe a benchmark, its splits and their layouts on disk, and functions that several readers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.numpy_lists import read_index_lists, sorted_indices
from cricavpr.errors import InputError
from cricavpr.geo import Metres, Positions


@dataclass(frozen=True)
class Layout:
    """One arrangement of the files of a split on disk.

    Attributes:
        name: name of the layout, such as "raw (dbStruct .mat)", or "@UTM@ tree" if file names hold positions.
        there: function that returns whether a folder seems to have this layout. It only looks for a few file names.
        needs: paths relative to the root that must exist. `cricavpr datasets check` prints them.
        read: function that reads the split from the root. It raises InputError if something is missing or wrong.
        split_hash: `EvalDataset.split_hash` of the published files in this layout, or None if it is not recorded.
    """

    name: str
    there: Callable[[Path], bool]
    needs: tuple[str, ...]
    read: Callable[[Path], EvalDataset]
    split_hash: str | None = None


@dataclass(frozen=True)
class Split:
    """A set of queries with the database in which they are searched, and the rule by which results are scored.

    Attributes:
        name: unique name of the split, such as "pitts30k-test", "msls-val", "msls-val-11k", "nordland".
        queries, database: expected numbers of queries and database images, or None if no published number is known.
        rule: how positives are decided, such as "within 25 m".
        layouts: possible layouts of the split's files. The first that fits is read.
        without_positives: expected number of queries without positives, or None if unknown.
        paper_grouping: how CricaVPR's authors grouped the images: "in_order:16", or "in_order:8" for Pittsburgh.
        unanswered: what the published scoring does with a query without positives: "miss" counts it as a miss, "skip"
            leaves it out.
        per_panorama: number of database images that were cut out of each panorama. It is given if scoring may count at
            most one hit per panorama, and is None otherwise.
        notes: pitfalls, such as differences from other splits that are published under the same name.
    """

    name: str
    queries: int | None
    database: int | None
    rule: str
    layouts: tuple[Layout, ...]
    without_positives: int | None = None
    paper_grouping: str = "in_order:16"
    unanswered: Literal["miss", "skip"] = "miss"
    per_panorama: int | None = None
    notes: tuple[str, ...] = ()

    def layout_of(self, root: Path) -> Layout | None:
        """Return the first layout that fits the folder `root`; None if none fits."""
        return next((layout for layout in self.layouts if layout.there(root)), None)


@dataclass(frozen=True)
class Benchmark:
    """A dataset: one or several splits from one download.

    Attributes:
        key: short name, such as "pitts30k" or "tokyo247".
        source, registration, licence: where to get the data, whether one has to register for them, and their licence,
            as far as known.
    """

    key: str
    title: str
    source: str
    registration: str
    licence: str
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class Area:
    """A circle around a town that contains all photos of a benchmark. A photo outside has a wrong position."""

    town: str
    lat_deg: float
    lon_deg: float
    radius_m: float = 60_000.0

    @property
    def centre(self) -> Positions:
        """Return the centre of the circle as a UTM position."""
        return Positions.from_latlon([(self.lat_deg, self.lon_deg)])

    @property
    def zone(self) -> str:
        """Return the UTM zone of the centre, such as "17N"."""
        zones = self.centre.zones
        assert zones is not None
        return zones[0]

    def check(self, images: ImageSet) -> ImageSet:
        """Return the images unchanged. Raise InputError if an image lies outside the circle of this area.

        Positions without a UTM zone are taken to be in the zone of the centre of the circle.
        """
        if images.positions is None:
            return images
        zones = images.positions.zones
        if zones is not None and set(zones) != {self.zone}:
            at = next(row for row, zone in enumerate(zones) if zone != self.zone)
            raise InputError(
                f"{images.names[at]!r} in {images.root} is in UTM zone {zones[at] or 'unknown'}, but {self.town} is in "
                f"{self.zone}. Restore the original file names or positions from the download."
            )
        away_m = np.linalg.norm(images.positions.metres - self.centre.metres, axis=1)
        if not (away_m <= self.radius_m).all():  # NaN is refused too
            raise InputError(self._elsewhere(images, int(np.argmax(~(away_m <= self.radius_m)))))
        return images

    def _elsewhere(self, images: ImageSet, at: int) -> str:
        assert images.positions is not None
        east, north = images.positions.metres[at].tolist()
        swapped = float(np.linalg.norm(np.array([north, east]) - self.centre.metres[0])) <= self.radius_m
        why = "Easting and northing seem swapped" if swapped else "Restore the original positions from the download"
        return (
            f"{images.names[at]!r} in {images.root} lies at easting {east:.0f}, northing {north:.0f}, which is not "
            f"within {self.radius_m / 1000:.0f} km of {self.town}. {why}."
        )


# --- photos whose names are read from list files


def first_file(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of the paths `root / name` that is an existing file, or None if none exists."""
    return next((root / name for name in names if (root / name).is_file()), None)


def needed_file(root: Path, names: Sequence[str], what_now: str) -> Path:
    """Return the first of the paths `root / name` that is an existing file. Raise InputError if none exists.

    The error message ends with `what_now`, which tells the user what to do.
    """
    found = first_file(root, names)
    if found is None:
        raise InputError(f"{root} has no {names[0]}. {what_now}.")
    return found


def folder_of(root: Path, folders: Sequence[str], names: Sequence[str], listed_in: Path) -> Path:
    """Return the first of the folders that contains the photo `names[0]`. Raise InputError if none does.

    Args:
        root: the folder that `folders` are relative to.
        listed_in: the file from which `names` were read, for error messages.
    """
    if not names:
        raise InputError(f"{listed_in} lists no photo, expected at least one. Fetch the list again.")
    for folder in folders:
        if (root / folder / names[0]).is_file():
            return root / folder
    looked = ", ".join(str(root / folder) for folder in folders)
    raise InputError(
        f"{listed_in} lists {names[0]!r}, which is in none of {looked}. Unpack the photos into one of these folders."
    )


def with_listed_positives(name: str, database: ImageSet, queries: ImageSet, truth: Path, rule: str) -> EvalDataset:
    """Make a dataset with positives from the numpy file `truth`. It holds a list of database indices for each query."""
    positives = sorted_indices(truth, read_index_lists(truth), len(database))
    if len(positives) != len(queries):
        raise InputError(f"{truth} has {len(positives):,} rows, expected {len(queries):,} (queries). Fetch all lists.")
    return EvalDataset(name, database, queries, positives, rule)


def in_zone(metres: Metres, zone: str) -> Positions:  # metres: (N, 2)
    """Return positions from eastings and northings that all lie in one UTM zone."""
    return Positions(metres, (zone,) * len(metres))


def panoramas(names: Sequence[str], length: int | None = None) -> tuple[str, ...]:
    """Return the panorama id in each file name: the first `length` characters, or by default all before the first
    underscore."""
    files = (name.rpartition("/")[2] for name in names)
    return tuple(file.split("_", 1)[0] if length is None else file[:length] for file in files)
