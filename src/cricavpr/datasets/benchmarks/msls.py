"""Mapillary Street-Level Sequences: validation in its two versions, training cities, and the challenge.

Source: Warburg et al., "Mapillary Street-Level Sequences" (CVPR 2020). Two lists are called "MSLS-val". The official
one has 740 queries: subtask `all`, no panoramas, at least one database image within 25 m. The downloader of the
@UTM@ trees keeps every query that is no panorama, about 11,000, and the same weights score 3 to 5 points lower. Both
answer from the same 18,871 images. No version looks at the heading, whatever papers say of 40 degrees.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.benchmarks.listed import first_file, folder_of
from cricavpr.datasets.benchmarks.msls_tables import (
    POSED,
    RAW,
    SEQUENCES,
    SUBTASKS,
    Rows,
    Side,
    read_columns,
    read_side,
)
from cricavpr.datasets.object_arrays import read_index_lists, read_integers, read_names, rising
from cricavpr.datasets.utm_names import has_utm_names, read_utm_dataset
from cricavpr.errors import InputError
from cricavpr.geo import Positions, within_radius

TRAIN_CITIES = (
    *("trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto", "saopaulo", "moscow"),
    *("zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa", "phoenix", "goa", "amman", "nairobi"),
    "manila",
)
VAL_CITIES = ("cph", "sf")
TEST_CITIES = ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala")
TEST_COUNTS = {  # queries, database of the subtask `all`
    "miami": (79, 3761),
    "athens": (85, 3355),
    "buenosaires": (182, 3710),
    "stockholm": (379, 11965),
    "bengaluru": (325, 11731),
    "kampala": (85, 2043),
}
RADIUS_M = 25.0
RULE = "within 25 m"
NO_POSITIVES = "none: the answers are not here"

KEY_LIST = "key_mslsval.txt"  # of the list repository Lu-Feng/MSLS-val: the 740 keys, separated by spaces
_NPY_DATABASE, _NPY_QUERIES = "msls_val_dbImages.npy", "msls_val_qImages.npy"
_NPY_USED, _NPY_POSITIVES, _NPY_ALL_IN_ONE = "msls_val_qIdx.npy", "msls_val_pIdx.npy", "msls_val_gt_25m.npy"
_LIST_FOLDERS = ("", "msls_val/", "datasets/msls_val/")
_TREES = ("images/val", "val", "images/test", "test", ".")  # the downloader links its test to its val


# --- from the tables


def read_official_val(root: Path) -> EvalDataset:
    """The official validation set, cph before sf.

    Raises:
        InputError: a table is missing or damaged.
    """
    sides = [_city(root, f"train_val/{city}", subtask=True) for city in VAL_CITIES]
    return _answered(_pooled("msls-val", root, sides))


def read_all_val(root: Path) -> EvalDataset:
    """Every image of the validation cities that is no panorama, as the downloader keeps them.

    Raises:
        InputError: a table is missing or damaged.
    """
    return _pooled("msls-val-11k", root, [_city(root, f"train_val/{city}") for city in VAL_CITIES])


def read_train_city(root: Path, city: str) -> EvalDataset:
    """One training city, used to evaluate: all images that are no panoramas.

    Raises:
        InputError: a table is missing or damaged.
    """
    return _pooled(f"msls-train-{city}", root, [_city(root, f"train_val/{city}")])


def read_challenge(root: Path, cities: Sequence[str] = TEST_CITIES, name: str = "msls-challenge") -> EvalDataset:
    """Test cities in one database. With the released answers beside the images they are used, otherwise no query has
    positives and `evaluation.msls_challenge` writes the file to hand in.

    Answers are understood as `test/<city>/{query,database}/postprocessed.csv` with the columns of `train_val`. Other
    files beside the images are named in `rule`, so that they are not passed over in silence.

    Raises:
        InputError: a table is missing or damaged, or answers that only some of the cities or sides have.
    """
    places = [root / "test" / city / side / POSED for city in cities for side in ("query", "database")]
    there = [place for place in places if place.exists()]
    if there and len(there) < len(places):
        missing = next(place for place in places if place not in there)
        raise InputError(f"{there[0]} has positions and {missing} is missing. Give all of the answers or none.")
    sides = [_test_city(root, city, posed=bool(there)) for city in cities]
    dataset = _pooled(name, root, sides)
    if odd := not_understood(root, cities):
        rule = f"{dataset.rule}; not understood: {', '.join(odd[:3])}{' ...' if len(odd) > 3 else ''}"
        dataset = replace(dataset, rule=rule)
    return dataset


def not_understood(root: Path, cities: Sequence[str] = TEST_CITIES) -> tuple[str, ...]:
    """Files beside the images of test cities that this reader does not know, as paths below `root`."""
    known = {"images", "query", "database", RAW, POSED, SEQUENCES, SUBTASKS}
    folders = [folder for city in cities for folder in (f"test/{city}", f"test/{city}/query", f"test/{city}/database")]
    odd = [f"{folder}/{name}" for folder in folders for name in _listing(root / folder) if name not in known]
    odd += [f"test/{name}" for name in _listing(root / "test") if name not in TEST_CITIES]
    return tuple(sorted(odd))


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []


def _city(root: Path, city: str, *, subtask: bool = False) -> tuple[ImageSet, ImageSet]:
    """Database and queries of a city without panoramas and, if wanted, of the subtask `all` alone."""
    sides: tuple[Side, Side] = ("database", "query")
    database, queries = (read_side(root, city, side, posed=True, subtask=subtask) for side in sides)
    return _without_panoramas(database), _without_panoramas(queries)


def _without_panoramas(rows: Rows) -> ImageSet:
    return rows.images.take(rows.in_all & ~rows.panoramas)


def _test_city(root: Path, city: str, *, posed: bool) -> tuple[ImageSet, ImageSet]:
    """Database and queries of the subtask `all`. Panoramas stay: without the answers nobody knows which they are,
    and the images must not depend on whether the answers are there."""
    sides: tuple[Side, Side] = ("database", "query")
    database, queries = (read_side(root, f"test/{city}", side, posed=posed, subtask=True) for side in sides)
    return database.images.take(database.in_all), queries.images.take(queries.in_all)


def _pooled(name: str, root: Path, cities: Sequence[tuple[ImageSet, ImageSet]]) -> EvalDataset:
    """Cities in one database. Positives are looked for within each city: two of them may have equal eastings and
    northings, in another zone."""
    positives: list[NDArray[np.int64]] = []
    first = 0
    for database, queries in cities:
        found: Sequence[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(queries)
        if database.positions is not None and queries.positions is not None:
            found = _near(database.positions, queries.positions)
        positives += [indices + first for indices in found]
        first += len(database)
    rule = NO_POSITIVES if all(database.positions is None for database, _ in cities) else RULE
    database, queries = (_joined(root, [city[side] for city in cities]) for side in (0, 1))
    return EvalDataset(name, database, queries, tuple(positives), rule)


def _near(database: Positions, queries: Positions) -> list[NDArray[np.int64]]:
    if database.zones is None or queries.zones is None:  # released answers may tell the zone of one side alone
        return within_radius(Positions(database.metres), Positions(queries.metres), RADIUS_M)
    return within_radius(database, queries, RADIUS_M)


def _joined(root: Path, parts: Sequence[ImageSet]) -> ImageSet:
    """Several sets below one root; what only some of them know is left out."""
    positions = [part.positions for part in parts if part.positions is not None and part.positions.zones is not None]
    alone = parts[0].positions if len(parts) == 1 else None  # metres without a zone mean nothing beside other cities
    keys = [part.keys for part in parts if part.keys is not None]
    frames = [part.frames for part in parts if part.frames is not None]
    conditions = [part.conditions for part in parts if part.conditions is not None]
    return ImageSet(
        root,
        tuple(name for part in parts for name in part.names),
        Positions.concatenate(positions) if len(positions) == len(parts) else alone,
        tuple(key for part in keys for key in part) if len(keys) == len(parts) else None,
        np.concatenate(frames) if len(frames) == len(parts) else None,
        tuple(word for part in conditions for word in part) if len(conditions) == len(parts) else None,
    )


def _answered(dataset: EvalDataset) -> EvalDataset:
    """Only the queries that have positives."""
    rows = [row for row, found in enumerate(dataset.positives) if found.size]
    positives = tuple(dataset.positives[row] for row in rows)
    return replace(dataset, queries=dataset.queries.take(rows), positives=positives)


# --- from the lists of numpy


def read_lists(root: Path) -> EvalDataset:
    """The official validation set as lists, in either packaging.

    GSV-Cities' own has 747 query names, of which `msls_val_qIdx.npy` picks 740; row i of `msls_val_pIdx.npy` belongs
    to the i-th picked query, not to the i-th name. OpenVPRLab's has the 740 names and `msls_val_gt_25m.npy`.

    Raises:
        InputError: a list is missing or damaged, or the lists do not fit one another.
    """
    names, queries = read_names(_list(root, _NPY_DATABASE)), _listed_queries(root)
    truth = first_file(root, [folder + _NPY_ALL_IN_ONE for folder in _LIST_FOLDERS]) or _list(root, _NPY_POSITIVES)
    positives = rising(truth, read_index_lists(truth), len(names))
    if len(positives) != len(queries):
        raise InputError(f"{truth} has {len(positives):,} rows for {len(queries):,} queries. Fetch all lists again.")
    if not names:
        raise InputError(f"{_list(root, _NPY_DATABASE)} is empty. Fetch all lists again.")
    folder = folder_of(root, (".", "train_val", "msls_val"), names[0], _list(root, _NPY_DATABASE))
    return EvalDataset("msls-val", ImageSet(folder, names), ImageSet(folder, queries), positives, f"{RULE} (by list)")


def _listed_queries(root: Path) -> tuple[str, ...]:
    listed = _list(root, _NPY_QUERIES)
    names = read_names(listed)
    if first_file(root, [folder + _NPY_ALL_IN_ONE for folder in _LIST_FOLDERS]) is not None:
        return names  # the choice has been made
    used = _list(root, _NPY_USED)
    rows = read_integers(used)
    if rows.size and not (rows.min() >= 0 and rows.max() < len(names)):
        worst = int(rows.max() if rows.min() >= 0 else rows.min())
        raise InputError(f"{used} picks query {worst} of the {len(names):,} in {listed}. Fetch both again.")
    return tuple(names[row] for row in rows.tolist())


def _list(root: Path, name: str) -> Path:
    found = first_file(root, [folder + name for folder in _LIST_FOLDERS])
    if found is None:
        raise InputError(f"{root} has no {name}. Put all lists of one packaging there or into msls_val/.")
    return found


# --- from the tree of @ names


def read_all_utm(root: Path) -> EvalDataset:
    """The tree as it is: every query that is no panorama.

    Raises:
        InputError: as `read_utm_dataset`.
    """
    return replace(read_utm_dataset(_tree(root), RADIUS_M), name="msls-val-11k")


def read_official_utm(root: Path) -> EvalDataset:
    """The tree, with the official queries alone: those whose key is in a list that lies beside.

    Raises:
        InputError: as `read_utm_dataset`, no list, or a query of the list that the tree does not have.
    """
    whole = replace(read_utm_dataset(_tree(root), RADIUS_M), name="msls-val")
    listed, official = _official_keys(root)
    keys = whole.queries.keys or ()
    if missing := official - set(keys):
        raise InputError(
            f"{whole.queries.root} lacks {len(missing):,} of the {len(official):,} queries of {listed} "
            f"(first: {min(missing)}). Make the tree again from all images, or check the list."
        )
    rows = [row for row, key in enumerate(keys) if key in official]
    positives = tuple(whole.positives[row] for row in rows)
    return _answered(replace(whole, queries=whole.queries.take(rows), positives=positives))


def _official_keys(root: Path) -> tuple[Path, set[str]]:
    """Where they stand, and the keys: 740, or 747 with those that have no positives."""
    if _has_subtasks(root):
        return root / "train_val", {key for city in VAL_CITIES for key in _subtask_keys(root / "train_val" / city)}
    listed = first_file(root, [KEY_LIST])
    if listed is not None:
        return listed, set(listed.read_text("utf-8", "replace").split())
    names = _listed_queries(root)
    return _list(root, _NPY_QUERIES), {Path(name).stem for name in names}


def _subtask_keys(city: Path) -> list[str]:
    tables = [
        read_columns(city / "query" / SUBTASKS, ("key", "all")),
        read_columns(city / "query" / RAW, ("key", "pano")),
    ]
    panoramas = {key for key, flag in zip(tables[1]["key"], tables[1]["pano"], strict=True) if flag == "True"}
    chosen = zip(tables[0]["key"], tables[0]["all"], strict=True)
    return [key for key, flag in chosen if flag == "True" and key not in panoramas]


def _tree(root: Path) -> Path:
    found = _find_tree(root)
    if found is None:
        raise InputError(f"{root} holds no database/ and queries/ of @ names in val/ or images/val/.")
    return found


def _find_tree(root: Path) -> Path | None:
    for folder in _TREES:
        if (root / folder / "database").is_dir() and has_utm_names(root / folder / "database"):
            return root / folder
    return None


# --- the entry


def _has_photos(root: Path, cities: Sequence[str]) -> bool:
    """Whether one of the cities has photos and a table. The downloader moves the photos away and leaves the tables;
    a download for use with lists has photos alone."""
    queries = [root / city / "query" for city in cities]
    return any(_not_empty(query / "images") and any(query.glob("*.csv")) for query in queries)


def _not_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _has_lists(root: Path) -> bool:
    return first_file(root, [folder + _NPY_DATABASE for folder in _LIST_FOLDERS]) is not None


def _has_subtasks(root: Path) -> bool:
    return all((root / "train_val" / city / "query" / SUBTASKS).is_file() for city in VAL_CITIES)


def _has_tree(root: Path) -> bool:
    return _find_tree(root) is not None


def _has_tree_and_keys(root: Path) -> bool:
    lists = (KEY_LIST, *(folder + _NPY_QUERIES for folder in _LIST_FOLDERS))
    return _has_tree(root) and (_has_subtasks(root) or first_file(root, lists) is not None)


def _raw(cities: Sequence[str], read: Callable[[Path], EvalDataset], tables: Sequence[str]) -> Layout:
    needs = tuple(f"{cities[0]}/query/{name}" for name in ("images", *tables))
    return Layout("raw (csv)", partial(_has_photos, cities=cities), needs, read)


_VAL = [f"train_val/{city}" for city in VAL_CITIES]
_POSED_TABLES = (RAW, POSED, SEQUENCES)
_TREE_NEEDS = ("val/database", "val/queries")

_OFFICIAL = Split(
    name="msls-val",
    queries=740,
    database=18871,
    without_positives=0,
    rule=RULE,
    layouts=(
        _raw(_VAL, read_official_val, (*_POSED_TABLES, SUBTASKS)),
        Layout("lists (.npy)", _has_lists, (_NPY_DATABASE, _NPY_QUERIES, _NPY_USED, _NPY_POSITIVES), read_lists),
        Layout("@UTM@ tree and a list of keys", _has_tree_and_keys, (*_TREE_NEEDS, KEY_LIST), read_official_utm),
    ),
    notes=(
        "the official list; msls-val-11k is the other one of that name, 3 to 5 points harder",
        "scored over both cities together (498 queries in cph, 242 in sf); the mean of two recalls is another number",
        "the heading is not looked at; image sizes vary",
    ),
)
_WHOLE = Split(
    name="msls-val-11k",
    queries=None,
    database=18871,
    rule=RULE,
    layouts=(_raw(_VAL, read_all_val, _POSED_TABLES), Layout("@UTM@ tree", _has_tree, _TREE_NEEDS, read_all_utm)),
    notes=(
        "what VPR-datasets-downloader makes: every query that is no panorama, about 11,000; its test is a link to val",
        "queries without positives count as misses",
    ),
)


def _train_split(city: str) -> Split:
    read = partial(read_train_city, city=city)
    layouts = (_raw([f"train_val/{city}"], read, _POSED_TABLES),)
    note = "a training city used to evaluate: nothing that was trained on MSLS may be compared here"
    return Split(f"msls-train-{city}", None, None, RULE, layouts, notes=(note,))


def _challenge_split(name: str, cities: Sequence[str]) -> Split:
    read = partial(read_challenge, cities=cities, name=name)
    queries, database = (sum(TEST_COUNTS[city][side] for city in cities) for side in (0, 1))
    scope = "all test cities in one database" if len(cities) > 1 else "this city's database alone"
    notes = (
        f"{scope}; searching city by city and pooled are both accepted and give different numbers",
        "counts are of the subtask `all`, which alone is scored; papers print 27,092 / 38,770, all images",
        "the answers are on the data set's page since April 2026; read where they lie as postprocessed.csv",
    )
    layouts = (_raw([f"test/{city}" for city in cities], read, (SEQUENCES, SUBTASKS)),)
    rule = "25 m, where the answers are there"
    return Split(name, queries, database, rule, layouts, unanswered="skip", notes=notes)


BENCHMARK = Benchmark(
    key="msls",
    title="Mapillary Street-Level Sequences",
    source="https://www.mapillary.com/dataset/places (unzip msls_patch_v1.1.zip last, over the images)",
    registration="an account, and agreeing to the terms",
    licence="Mapillary's terms for the data set",
    splits=(
        _OFFICIAL,
        _WHOLE,
        _challenge_split("msls-challenge", TEST_CITIES),
        *(_challenge_split(f"msls-challenge-{city}", (city,)) for city in TEST_CITIES),
        *(_train_split(city) for city in TRAIN_CITIES),
    ),
)
