"""Tokyo 24/7: 315 phone pictures by day, at sunset and at night, searched in a database of cut-outs of 6,332 panoramas.

Source: Torii et al., "24/7 place recognition by view synthesis" (CVPR 2015); the list is that of Arandjelović et al.,
"NetVLAD" (CVPR 2016).
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.base import Area, Benchmark, Layout, Split, first_file, folder_of, in_zone, panoramas
from cricavpr.datasets.benchmarks.db_struct import DbStruct, read_db_struct
from cricavpr.datasets.benchmarks.utm_trees import RECOMPRESSED, WITHIN_25_M, bases, tree
from cricavpr.errors import InputError
from cricavpr.geo import ground_distances_m

AREA = Area("Tokyo", 35.68, 139.76)
CONDITIONS = ("night", "day", "sunset")  # query n, numbered from 1, has the condition CONDITIONS[n % 3]
PER_PANORAMA = 12
PANORAMA_LETTERS = 22  # characters of a panorama id
APART_M = 1_000.0  # allowed distance between a query's positions in the list and in its csv file

MAT = ("datasets/tokyo247.mat", "tokyo247.mat")
DATABASE_FOLDERS = (".", "tokyo247", "images", "tokyo247/images")
QUERY_FOLDERS = ("247query_subset_v2", "247query_v3", "query", "queries", "tokyo247/247query_subset_v2", ".")


def read_mat(root: Path) -> EvalDataset:
    """Read the published list in its own order, and add the condition (day, sunset or night) of each query.

    In the list the names of database photos end in .jpg, but on disk in .png. Queries are in a separate folder,
    each with a csv file of its position. The positions in the list are used, and only compared with the csv files.
    """
    struct = read_db_struct(first_file(root, MAT) or root / MAT[0])
    queries = _queries(root, struct)
    dataset = EvalDataset.within_radius("tokyo247", _database(root, struct), queries, struct.radius_m)
    return replace(dataset, per_panorama=PER_PANORAMA)


def _database(root: Path, struct: DbStruct) -> ImageSet:
    listed = struct.database
    on_disk = tuple(str(Path(name).with_suffix(".png")) for name in listed)
    as_listed = _has_one(root, listed[0]) and not _has_one(root, on_disk[0])  # converted by a user
    names = listed if as_listed else on_disk
    folder = folder_of(root, DATABASE_FOLDERS, names, struct.path)
    keys = panoramas(names, PANORAMA_LETTERS)
    return AREA.check(ImageSet(folder, names, in_zone(struct.database_m, AREA.zone), keys))


def _has_one(root: Path, name: str) -> bool:
    return any((root / folder / name).is_file() for folder in DATABASE_FOLDERS)


def _queries(root: Path, struct: DbStruct) -> ImageSet:
    names = tuple(name.rpartition("/")[2] for name in struct.queries)  # some lists have a folder before each name
    folder = folder_of(root, QUERY_FOLDERS, names, struct.path)
    positions = in_zone(struct.queries_m, AREA.zone)
    queries = AREA.check(ImageSet(folder, names, positions, conditions=conditions(len(names))))
    for row in range(len(names)):
        _check_csv(queries, row, struct.path)
    return queries


def _check_csv(queries: ImageSet, row: int, listed_in: Path) -> None:
    """Raise if the position of a query in its csv file contradicts that in the list.

    The csv file holds file name, latitude and longitude.
    """
    path = queries.path(row).with_suffix(".csv")
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", newline="") as file:
            cells = next(csv.reader(file), [])
        lat, lon = (float(cell) for cell in cells[1:3])
    except (OSError, ValueError, csv.Error):
        raise InputError(f"{path} must begin with name, latitude, longitude. Fetch the queries again.") from None
    assert queries.positions is not None
    listed = queries.positions.take([row]).latlon()
    apart_m = ground_distances_m(np.array([(lat, lon)]), listed)[0] if abs(lat) <= 90 else np.inf
    if not apart_m <= APART_M:
        swapped = abs(lat - AREA.lon_deg) < 2 and abs(lon - AREA.lat_deg) < 2
        why = "Latitude and longitude seem swapped" if swapped else "Fetch the list and the queries again"
        there = f"{listed_in} has latitude {listed[0, 0]:.4f}, longitude {listed[0, 1]:.4f}"
        raise InputError(f"{path} says latitude {lat}, longitude {lon}, but {there}. {why}.")


def conditions(count: int) -> tuple[str, ...]:
    """Return the condition of each of the first `count` queries in the official order."""
    return tuple(CONDITIONS[number % 3] for number in range(1, count + 1))


def _with_conditions(dataset: EvalDataset) -> EvalDataset:
    """Add the condition of each query, which follows from its official number.

    In the file names of this tree the number stands in the place of the panorama id.
    """
    queries = dataset.queries
    numbers = [int(key) for key in queries.keys or () if key.isascii() and key.isdigit()]
    if len(queries) % 3 or len(set(numbers)) != len(queries):
        return replace(dataset, per_panorama=PER_PANORAMA)  # if a query is missing, the order is unknown
    official = dict(zip(sorted(numbers), conditions(len(queries)), strict=True))
    queries = replace(queries, conditions=tuple(official[number] for number in numbers), keys=None)
    return replace(dataset, queries=queries, per_panorama=PER_PANORAMA)


BENCHMARK = Benchmark(
    key="tokyo247",
    title="Tokyo 24/7",
    source="database: by request to the authors; queries: data.ciirc.cvut.cz/public/projects/2015netVLAD/Tokyo247/"
    "queries/247query_subset_v2.zip; list: www.di.ens.fr/willow/research/netvlad/data/netvlad_v100_datasets.tar.gz",
    registration="database by request to the authors (Torii)",
    licence="no public text is known; research use by agreement with the authors",
    splits=(
        Split(
            name="tokyo247",
            queries=315,
            database=75_984,
            rule=WITHIN_25_M,
            layouts=(
                Layout(
                    "raw (dbStruct .mat)",
                    lambda root: first_file(root, MAT) is not None,
                    (MAT[0], "tokyo247", "247query_subset_v2"),
                    read_mat,
                ),
                tree((*bases("tokyo247", "test"), "."), area=AREA, finish=_with_conditions),
            ),
            per_panorama=PER_PANORAMA,
            notes=(
                "database photos are named .jpg in the list, but are .png files",
                "6,332 panoramas x 12 cut-outs; NetVLAD, OpenIBL and Patch-NetVLAD count one hit per panorama, tables "
                "since CosPlace do not; counting one hit leaves R@1 unchanged and raises R@5 and beyond",
                "day, sunset and night follow from a query's number in the official order: 1, 2 and 0 modulo 3",
                "the @UTM@ tree is sorted by easting; its queries are resized to a shorter side of 480 pixels and take "
                "their positions from the csv files, not from the list",
                RECOMPRESSED,
                "the full set of 1,125 queries (version 3) is a different set",
                "queries differ in size: set one image size for all, or describe them one by one",
            ),
        ),
    ),
)
