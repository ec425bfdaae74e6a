"""Benchmarks: named splits with their counts, rules and layouts; and the checks and lists that several share."""

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
        name: such as "raw (dbStruct .mat)" or "@UTM@ tree".
        there: return whether a folder has this layout, by a few names only.
        needs: paths below the root that the user must provide; shown by `datasets check`.
        read: read the split; raises InputError naming what is missing or wrong.
        split_hash: `EvalDataset.split_hash` of the published files in this layout, or None if it is not recorded.
    """

    name: str
    there: Callable[[Path], bool]
    needs: tuple[str, ...]
    read: Callable[[Path], EvalDataset]
    split_hash: str | None = None


@dataclass(frozen=True)
class Split:
    """One list of queries against one database, scored by one rule.

    Attributes:
        name: unique among all splits, such as "pitts30k-test", "msls-val", "msls-val-11k", "nordland".
        queries, database: expected counts; None where no published count is known.
        rule: how positives are decided, in words.
        layouts: tried in this order.
        without_positives: expected number of queries that have none; None where unknown.
        paper_grouping: how the paper's authors grouped it: "in_order:16", or "in_order:8" for Pittsburgh.
        unanswered: how the benchmark's own scorers count queries without positives: "miss" or "skip".
        per_panorama: images per panorama for the rule "one hit per panorama", or None where it has no meaning.
        notes: differences from other lists of the same name, and other traps, one line each.
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
        """Return the first layout that a folder looks like."""
        return next((layout for layout in self.layouts if layout.there(root)), None)


@dataclass(frozen=True)
class Benchmark:
    """A dataset: one or several splits from one download.

    Attributes:
        key: such as "pitts30k" or "tokyo247".
        source, registration, licence: where to get it, and on what terms, as far as they are known.
    """

    key: str
    title: str
    source: str
    registration: str
    licence: str
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class Area:
    """A circle around the centre of a town, with a radius well beyond its photos."""

    town: str
    lat_deg: float
    lon_deg: float
    radius_m: float = 60_000.0

    @property
    def centre(self) -> Positions:
        """Position of the centre, in the UTM zone of the benchmark."""
        return Positions.from_latlon([(self.lat_deg, self.lon_deg)])

    @property
    def zone(self) -> str:
        """The UTM zone, such as "17N"."""
        zones = self.centre.zones
        assert zones is not None
        return zones[0]

    def check(self, images: ImageSet) -> ImageSet:
        """Return the images, or raise if one is outside. Images without zones are taken to be in this zone."""
        if images.positions is None:
            return images
        zones = images.positions.zones
        if zones is not None and set(zones) != {self.zone}:
            at = next(row for row, zone in enumerate(zones) if zone != self.zone)
            raise InputError(
                f"{images.names[at]!r} in {images.root} is in UTM zone {zones[at] or 'unknown'}, but {self.town} is in "
                f"{self.zone}. Restore the file names or positions of the download."
            )
        away_m = np.linalg.norm(images.positions.metres - self.centre.metres, axis=1)
        if not (away_m <= self.radius_m).all():  # NaN is refused too
            raise InputError(self._elsewhere(images, int(np.argmax(~(away_m <= self.radius_m)))))
        return images

    def _elsewhere(self, images: ImageSet, at: int) -> str:
        assert images.positions is not None
        east, north = images.positions.metres[at].tolist()
        swapped = float(np.linalg.norm(np.array([north, east]) - self.centre.metres[0])) <= self.radius_m
        why = "Easting and northing seem swapped" if swapped else "Restore the positions of the download"
        return (
            f"{images.names[at]!r} in {images.root} lies at easting {east:.0f}, northing {north:.0f}, which is not "
            f"within {self.radius_m / 1000:.0f} km of {self.town}. {why}."
        )


# --- files that are named by lists


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
    """Return the panorama in each file name: its first `length` letters, or the part before the first underscore."""
    files = (name.rpartition("/")[2] for name in names)
    return tuple(file.split("_", 1)[0] if length is None else file[:length] for file in files)
