"""Read AmsterTime, SPED and other benchmarks in which the numbers of photos, not distances, decide what is a positive.

In @UTM@ trees (file names @easting@northing@...) the numbers were converted to artificial positions on a line to the
north. This module converts them back to numbers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.find_files import find_files
from cricavpr.datasets.numpy_lists import read_numbered_lists
from cricavpr.datasets.utm_names import find_sides, has_utm_names, read_utm_folder
from cricavpr.errors import InputError

Numbers = NDArray[np.int64]  # (N,)

IMAGES = (".jpg", ".jpeg", ".png")
SHOWN_M = 0.1  # metres in @UTM@ file names have one decimal, truncated or rounded


def within_frames(database: Numbers, queries: Numbers, tolerance: int) -> tuple[Numbers, ...]:
    """Return for each query the sorted indices of the database images whose number differs by at most `tolerance`."""
    order = np.argsort(database, kind="stable")
    numbers = database[order]
    first = np.searchsorted(numbers, queries - tolerance, "left").tolist()
    last = np.searchsorted(numbers, queries + tolerance, "right").tolist()
    return tuple(np.sort(order[start:end]) for start, end in zip(first, last, strict=True))


def paired(name: str, database: ImageSet, queries: ImageSet, tolerance: int, rule: str) -> EvalDataset:
    """Make a dataset of numbered images. The numbers (`frames`) of query and positive differ by up to `tolerance`."""
    assert database.frames is not None and queries.frames is not None
    for side, images in (("database", database), ("queries", queries)):
        assert images.frames is not None
        values, times = np.unique(images.frames, return_counts=True)
        if (times > 1).any():
            number = int(values[np.argmax(times > 1)])
            raise InputError(
                f"the {side} of {name} in {images.root} has number {number} twice. Keep one photo of each number."
            )
    lonely = np.setxor1d(database.frames, queries.frames)
    if lonely.size:
        number = int(lonely[0])
        side = "queries" if number in database.frames else "database"
        raise InputError(
            f"database and queries of {name} do not match: {len(database):,} database images in {database.root}, "
            f"{len(queries):,} queries in {queries.root}, and number {number} is missing in the {side}. "
            "Number both by the same list: images with the same number must show the same place."
        )
    return EvalDataset(name, database, queries, within_frames(database.frames, queries.frames, tolerance), rule)


def has_tree(root: Path) -> bool:
    """Return whether a dataset is an @UTM@ tree: file names hold positions (@easting@northing@...)."""
    try:
        return has_utm_names(find_sides(root, "queries")[0])
    except InputError:
        return False


def read_tree(root: Path, spacing_m: float) -> tuple[ImageSet, ImageSet]:
    """Read database and queries of an @UTM@ tree (positions in file names), each sorted by the photos' numbers.

    The northing in the file name is the photo's number times `spacing_m`.
    """
    database, queries = find_sides(root, "queries")
    return _numbered(read_utm_folder(database), spacing_m), _numbered(read_utm_folder(queries), spacing_m)


def _numbered(images: ImageSet, spacing_m: float) -> ImageSet:
    assert images.positions is not None
    east, north = images.positions.metres.T
    numbers = np.rint(north / spacing_m)
    wrong = (east != 0) | (np.abs(north - numbers * spacing_m) >= SHOWN_M) | (numbers < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{images.names[row]!r} in {images.root} has easting {east[row]:g}, northing {north[row]:g}; expected 0 "
            f"and a multiple of {spacing_m:.4g} m. Make the @UTM@ tree again with VPR-datasets-downloader."
        )
    frames = numbers.astype(np.int64)
    for name, key, frame in zip(images.names, images.keys or images.names, frames.tolist(), strict=True):
        if key.isdecimal() and int(key) != frame:
            raise InputError(
                f"{name!r} in {images.root} has number {int(key)}, but the position of number {frame}. "
                "Make the @UTM@ tree again with VPR-datasets-downloader."
            )
    plain = replace(images, positions=None, keys=None, frames=frames)
    return plain.take(np.argsort(frames, kind="stable"))


def read_numbered_folder(folder: Path) -> ImageSet:
    """Read a folder of photos whose names are numbers, such as `0000.png`, sorted by number.

    The numbers become the `frames` of the images.
    """
    names = sorted(name for name in find_files(folder, IMAGES)[0] if "/" not in name)
    if not names:
        raise InputError(f"no photo in {folder}. Expected names such as 0000.jpg.")
    stems = [name.rpartition(".")[0] for name in names]
    if wrong := [name for name, stem in zip(names, stems, strict=True) if not (stem.isascii() and stem.isdigit())]:
        raise InputError(f"{folder / wrong[0]} has a name that is not a number. Expected names such as 0000.jpg.")
    frames = np.array([int(stem[-18:]) for stem in stems], np.int64)
    order = np.argsort(frames, kind="stable")
    return ImageSet(folder, tuple(names[row] for row in order.tolist()), frames=frames[order])


# --- AmsterTime and SPED: pairs of photos with the same number, in two folders or as an @UTM@ tree
#
# AmsterTime: archival photos of Amsterdam, each with one street view of the same place today. Source: Yildiz et al.,
# "AmsterTime" (ICPR 2022). The authors' own retrieval task (leave-one-out over all photos) is not read here.
# SPED as VPR-Bench tests it: 607 fixed cameras, each seen twice. Source: Zaffar et al., "VPR-Bench" (IJCV 2021).

TREE_SPACING_M = 1000.0  # between artificial positions of successive numbers in the @UTM@ tree
SPED_TRUTH = "ground_truth_new.npy"
_MADE_UP = "positions in the @UTM@ tree are artificial (northing = number x 1000 m) and are dropped after reading"


def read_folders(root: Path, name: str, folders: tuple[str, str], rule: str) -> EvalDataset:
    """Read two folders of numbered photos. Photos of the same number are positives.

    If the folder holds the ground truth of SPED, `ground_truth_new.npy`, raise unless it gives the same positives.
    """
    dataset = paired(name, read_numbered_folder(root / folders[0]), read_numbered_folder(root / folders[1]), 0, rule)
    if name == "sped" and (root / SPED_TRUTH).exists():
        _check_truth(root / SPED_TRUTH, len(dataset.queries))
    return dataset


def _check_truth(listed: Path, count: int) -> None:
    given = read_numbered_lists(listed)
    for query in range(count):
        if not np.array_equal(given.get(query, ()), [query]):
            says = given[query].tolist() if query in given else "nothing"
            raise InputError(
                f"{listed} gives query {query} the positives {says}, expected only the photo with the same "
                "number. Fetch the list again, or remove it."
            )


def _split(
    name: str, count: int, rule: str, folders: tuple[str, str], first: tuple[str, str], *notes: str
) -> tuple[Split]:
    database, queries = folders
    raw = Layout(
        f"raw ({database}/, {queries}/)",
        lambda root: (root / database).is_dir() or (root / queries).is_dir(),
        (f"{database}/{first[0]}", f"{queries}/{first[1]}"),
        partial(read_folders, name=name, folders=folders, rule=rule),
    )
    needs = ("images/test/database", "images/test/queries")
    tree = Layout("@UTM@ tree", has_tree, needs, lambda root: paired(name, *read_tree(root, TREE_SPACING_M), 0, rule))
    return (Split(name, count, count, rule, (raw, tree), without_positives=0, notes=(_MADE_UP, *notes)),)


AMSTERTIME = Benchmark(
    key="amstertime",
    title="AmsterTime",
    source="https://doi.org/10.4121/19580806 (AmsterTime-v1.0.zip)",
    registration="none",
    licence="see the data set's page",
    splits=_split(
        "amstertime",
        1231,
        "the partner of the same number",
        ("new", "old"),
        ("0000.png", "0000.jpg"),
        "the database photos of the @UTM@ tree were saved again as .jpg, so their pixels differ from the raw .png",
        "many queries are greyscale; they are read as RGB",
    ),
)
SPED = Benchmark(
    key="sped",
    title="SPED (test set of VPR-Bench)",
    source="SPEDTEST.zip of VPR-Bench, https://surfdrive.surf.nl/files/index.php/s/sbZRXzYe3l0v67W",
    registration="none",
    licence="unknown",
    splits=_split("sped", 607, "the photo of the same number", ("ref", "query"), ("0000000.jpg", "0000000.jpg")),
)
