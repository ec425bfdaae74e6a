"""Mapillary Street-Level Sequences (MSLS): two versions of the validation set, training cities, and the challenge.

Source: Warburg et al., "Mapillary Street-Level Sequences" (CVPR 2020). Two lists of queries are called "MSLS-val". The
official list has the 740 queries of the subtask `all` that are not panoramas and have a database image within 25 m.
VPR-datasets-downloader, which writes positions into file names (@UTM@ tree), keeps all queries except panoramas, about
11,000. With these queries the recall of the same weights is 3 to 5 points lower. Both lists search the same 18,871
database images. Neither uses headings for positives, although papers mention a limit of 40 degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.base import (
    Benchmark,
    Layout,
    Split,
    first_file,
    folder_of,
    needed_file,
    with_listed_positives,
)
from cricavpr.datasets.benchmarks.msls_tables import POSED, RAW, SEQUENCES, SUBTASKS, read_side
from cricavpr.datasets.numpy_lists import read_integers, read_names
from cricavpr.datasets.places import file_names
from cricavpr.datasets.utm_names import has_utm_names, join_utm_sides, read_utm_dataset
from cricavpr.errors import InputError
from cricavpr.files import read_columns, read_lines
from cricavpr.geo import Positions

TRAIN_CITIES = (
    *("trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto", "saopaulo", "moscow"),
    *("zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa", "phoenix", "goa", "amman", "nairobi"),
    "manila",
)
VAL_CITIES = ("cph", "sf")
TEST_COUNTS = {  # numbers of queries and of database images in the subtask `all`
    "miami": (79, 3761),
    "athens": (85, 3355),
    "buenosaires": (182, 3710),
    "stockholm": (379, 11965),
    "bengaluru": (325, 11731),
    "kampala": (85, 2043),
}
TEST_CITIES = tuple(TEST_COUNTS)
RADIUS_M = 25.0
RULE = "within 25 m"
NO_POSITIVES = "none: the ground truth is not in this folder"

KEY_LIST = "key_mslsval.txt"  # from Lu-Feng/MSLS-val on GitHub: the keys of the 740 queries
_NPY_DATABASE, _NPY_QUERIES = "msls_val_dbImages.npy", "msls_val_qImages.npy"
_NPY_USED, _NPY_POSITIVES, _NPY_ALL_IN_ONE = "msls_val_qIdx.npy", "msls_val_pIdx.npy", "msls_val_gt_25m.npy"
_LIST_FOLDERS = ("", "msls_val/", "datasets/msls_val/")
_TREES = ("images/val", "val", "images/test", "test", ".")  # in the downloader's tree, test is a link to val


# --- from the published csv tables


def read_train_val(root: Path, name: str, cities: Sequence[str]) -> EvalDataset:
    """Read all images of validation or training cities, without panoramas, as VPR-datasets-downloader does."""
    return _read_cities(name, root, [f"train_val/{city}" for city in cities])


def read_challenge(root: Path, name: str, cities: Sequence[str]) -> EvalDataset:
    """Read test cities as one database. Queries have positives only if the released ground truth is in the folder.

    The ground truth is `test/<city>/{query,database}/postprocessed.csv`, a table with the same columns as in
    `train_val`. If there are unknown files beside the images, `rule` lists their names. Panoramas are kept, because the
    dataset must have the same images with and without ground truth, and only the ground truth marks panoramas.
    """
    places = [root / "test" / city / side / POSED for city in cities for side in ("query", "database")]
    there = [place for place in places if place.exists()]
    if there and len(there) < len(places):
        missing = next(place for place in places if place not in there)
        raise InputError(f"{there[0]} exists, but {missing} is missing. Give these tables for all cities, or for none.")
    below = [f"test/{city}" for city in cities]
    dataset = _read_cities(name, root, below, posed=bool(there), subtask=True, with_panoramas=True)
    if odd := unknown_files(root, cities):
        rule = f"{dataset.rule}; unknown files: {', '.join(odd[:3])}{' ...' if len(odd) > 3 else ''}"
        dataset = replace(dataset, rule=rule)
    return dataset


def unknown_files(root: Path, cities: Sequence[str] = TEST_CITIES) -> tuple[str, ...]:
    """Return the paths, relative to `root`, of files in the folders of test cities that this reader does not know."""
    known = {"images", "query", "database", RAW, POSED, SEQUENCES, SUBTASKS}
    folders = [folder for city in cities for folder in (f"test/{city}", f"test/{city}/query", f"test/{city}/database")]
    odd = [f"{folder}/{name}" for folder in folders for name in _listing(root / folder) if name not in known]
    odd += [f"test/{name}" for name in _listing(root / "test") if name not in TEST_CITIES]
    return tuple(sorted(odd))


def _listing(folder: Path) -> list[str]:
    return sorted(name for name in file_names(folder) if not name.startswith("."))


def _read_cities(
    name: str,
    root: Path,
    cities: Sequence[str],
    *,
    posed: bool = True,
    subtask: bool = False,
    with_panoramas: bool = False,
) -> EvalDataset:
    """Read several cities as one database.

    Positives are searched only in the city of the query, because cities in different UTM zones may have equal eastings
    and northings.
    """
    read = partial(read_side, root, posed=posed, subtask=subtask, with_panoramas=with_panoramas)
    sides = [(read(city, "database"), read(city, "query")) for city in cities]
    positives: list[NDArray[np.int64]] = []
    first = 0
    for database, queries in sides:
        if database.positions is None or queries.positions is None:
            positives += [np.empty(0, np.int64)] * len(queries)
        else:
            # In the released ground truth only one side may have zones; join_utm_sides then ignores zones.
            found = join_utm_sides(name, database, queries, RADIUS_M).positives
            positives += [indices + first for indices in found]
        first += len(database)
    rule = RULE if posed else NO_POSITIVES
    databases, asked = zip(*sides, strict=True)
    return EvalDataset(name, _joined(root, databases), _joined(root, asked), tuple(positives), rule)


def _joined(root: Path, parts: Sequence[ImageSet]) -> ImageSet:
    """Join sets of images in the same root. A field that is None in one of the sets is None in the result."""
    positions = [part.positions for part in parts if part.positions is not None and part.positions.zones is not None]
    alone = parts[0].positions if len(parts) == 1 else None  # cannot be compared without zones
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
    """Keep only the queries that have positives."""
    return _only(dataset, [row for row, found in enumerate(dataset.positives) if found.size])


def _only(dataset: EvalDataset, rows: Sequence[int]) -> EvalDataset:
    positives = tuple(dataset.positives[row] for row in rows)
    return replace(dataset, queries=dataset.queries.take(rows), positives=positives)


# --- from numpy lists


def read_lists(root: Path) -> EvalDataset:
    """Read the official validation set from the .npy lists of GSV-Cities or of OpenVPRLab.

    GSV-Cities lists the names of 747 queries, and `msls_val_qIdx.npy` selects 740 of them. Row i of `msls_val_pIdx.npy`
    holds the positives of the i-th selected query. OpenVPRLab lists the names of the 740 queries only, and has their
    positives in `msls_val_gt_25m.npy`.
    """
    listed = _list(root, _NPY_DATABASE)
    names = read_names(listed)
    folder = folder_of(root, (".", "train_val", "msls_val"), names, listed)
    sides = ImageSet(folder, names), ImageSet(folder, _listed_queries(root))
    truth = _find_list(root, _NPY_ALL_IN_ONE) or _list(root, _NPY_POSITIVES)
    return with_listed_positives("msls-val", *sides, truth, f"{RULE} (by list)")


def _listed_queries(root: Path) -> tuple[str, ...]:
    listed = _list(root, _NPY_QUERIES)
    names = read_names(listed)
    if _find_list(root, _NPY_ALL_IN_ONE) is not None:
        return names
    used = _list(root, _NPY_USED)
    rows = read_integers(used)
    if rows.size and not (rows.min() >= 0 and rows.max() < len(names)):
        worst = int(rows.max() if rows.min() >= 0 else rows.min())
        raise InputError(
            f"{used} selects query {worst}, but {listed} has {len(names):,} queries, numbered from 0. Fetch both again."
        )
    return tuple(names[row] for row in rows.tolist())


def _find_list(root: Path, name: str) -> Path | None:
    return first_file(root, [folder + name for folder in _LIST_FOLDERS])


def _list(root: Path, name: str) -> Path:
    places = [folder + name for folder in _LIST_FOLDERS]
    return needed_file(
        root, places, "Put all lists of GSV-Cities, or all of OpenVPRLab, into this folder or its msls_val/"
    )


# --- from photos whose names hold positions (@UTM@ tree)


def read_all_utm(root: Path) -> EvalDataset:
    """Read the @UTM@ tree (positions in file names) of VPR-datasets-downloader: all queries except panoramas."""
    return replace(read_utm_dataset(_tree(root) or root, RADIUS_M), name="msls-val-11k")


def read_official_utm(root: Path) -> EvalDataset:
    """Read the @UTM@ tree (positions in file names), but keep only the queries in the official list of keys."""
    whole = replace(read_all_utm(root), name="msls-val")
    listed, official = _official_keys(root)
    keys = whole.queries.keys or ()
    if missing := official - set(keys):
        raise InputError(
            f"{whole.queries.root} does not contain {len(missing):,} of the {len(official):,} queries of {listed} "
            f"(first: {min(missing)}). Make the @UTM@ tree again from all images, or check the list."
        )
    return _answered(_only(whole, [row for row, key in enumerate(keys) if key in official]))


def _official_keys(root: Path) -> tuple[Path, set[str]]:
    """Return the path of the list of official queries, and their keys.

    The list has 740 keys, or 747 if it includes queries without positives.
    """
    if _has_subtasks(root):
        return root / "train_val", {key for city in VAL_CITIES for key in _subtask_keys(root / "train_val" / city)}
    listed = first_file(root, [KEY_LIST])
    if listed is not None:
        return listed, {key for line in read_lines(listed) for key in line.split()}
    return _list(root, _NPY_QUERIES), {Path(name).stem for name in _listed_queries(root)}


def _subtask_keys(city: Path) -> list[str]:
    chosen = read_columns(city / "query" / SUBTASKS, ("key", "all"))
    raw = read_columns(city / "query" / RAW, ("key", "pano"))
    panoramas = {key for key, flag in zip(raw["key"], raw["pano"], strict=True) if flag == "True"}
    pairs = zip(chosen["key"], chosen["all"], strict=True)
    return [key for key, flag in pairs if flag == "True" and key not in panoramas]


def _tree(root: Path) -> Path | None:
    trees = (root / folder for folder in _TREES)
    return next((t for t in trees if (t / "database").is_dir() and has_utm_names(t / "database")), None)


# --- splits


def _has_photos(root: Path, cities: Sequence[str]) -> bool:
    """Return whether one of the cities has both photos and a table.

    Both are needed: VPR-datasets-downloader moves the photos away and leaves the tables, and users of .npy lists may
    have only photos.
    """
    queries = [root / city / "query" for city in cities]
    return any(_listing(query / "images") and any(query.glob("*.csv")) for query in queries)


def _has_subtasks(root: Path) -> bool:
    return all((root / "train_val" / city / "query" / SUBTASKS).is_file() for city in VAL_CITIES)


def _has_tree_and_keys(root: Path) -> bool:
    listed = first_file(root, [KEY_LIST]) or _find_list(root, _NPY_QUERIES)
    return _tree(root) is not None and (_has_subtasks(root) or listed is not None)


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
        _raw(
            _VAL, lambda root: _answered(_read_cities("msls-val", root, _VAL, subtask=True)), (*_POSED_TABLES, SUBTASKS)
        ),
        Layout(
            "lists (.npy)",
            lambda root: _find_list(root, _NPY_DATABASE) is not None,
            (_NPY_DATABASE, _NPY_QUERIES, _NPY_USED, _NPY_POSITIVES),
            read_lists,
        ),
        Layout("@UTM@ tree and a list of keys", _has_tree_and_keys, (*_TREE_NEEDS, KEY_LIST), read_official_utm),
    ),
    notes=(
        "the official queries; msls-val-11k, also called MSLS-val, has other queries: recall is 3 to 5 points lower",
        "recall is over all queries of both cities (498 in cph, 242 in sf); the mean of two recalls is another number",
        "headings are not used; image sizes vary",
    ),
)
_WHOLE = Split(
    name="msls-val-11k",
    queries=None,
    database=18871,
    rule=RULE,
    layouts=(
        _raw(_VAL, partial(read_train_val, name="msls-val-11k", cities=VAL_CITIES), _POSED_TABLES),
        Layout("@UTM@ tree", lambda root: _tree(root) is not None, _TREE_NEEDS, read_all_utm),
    ),
    notes=(
        "made by VPR-datasets-downloader: every query except panoramas, about 11,000; its test folder is a link to val",
        "queries without positives count as misses",
    ),
)


def _train_split(city: str) -> Split:
    name = f"msls-train-{city}"
    layouts = (_raw([f"train_val/{city}"], partial(read_train_val, name=name, cities=(city,)), _POSED_TABLES),)
    note = "a training city: do not use it to evaluate methods that were trained on MSLS"
    return Split(name, None, None, RULE, layouts, notes=(note,))


def _challenge_split(name: str, cities: Sequence[str]) -> Split:
    read = partial(read_challenge, name=name, cities=cities)
    queries, database = (sum(TEST_COUNTS[city][side] for city in cities) for side in (0, 1))
    scope = "all test cities in one database" if len(cities) > 1 else "this city's database alone"
    notes = (
        f"{scope}; the challenge accepts a search per city or over all cities, which give different numbers",
        "counts are of the scored subtask `all`; papers print those of all images: 27,092 / 38,770",
        "the ground truth is on the data set's page (since April 2026); it is read from postprocessed.csv of each city",
    )
    layouts = (_raw([f"test/{city}" for city in cities], read, (SEQUENCES, SUBTASKS)),)
    rule = "within 25 m, if the ground truth is in the folder"
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
        *map(_train_split, TRAIN_CITIES),
    ),
)
