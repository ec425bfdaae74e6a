"""Nordland: one railway journey, filmed in four seasons. Frames with the same number show the same place.

Source: NRK, "Nordlandsbanen minutt for minutt"; lists of Patch-NetVLAD (Hausler et al., CVPR 2021), VPR-Bench
(Zaffar et al., IJCV 2021) and Olid et al. 2018. Four lists of frames are called Nordland. They differ in their
frames, in their tolerance and in the season of the database. Recall differs by up to ten points, so each list is a
separate split here. The split `nordland` uses a cleaned list: one frame per second of film, without tunnels and stops,
27,592 in all. The number of a frame is its position in this list, and both seasons must be numbered by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split, first_file, needed_file, with_listed_positives
from cricavpr.datasets.benchmarks.numbered import (
    IMAGES,
    has_tree,
    paired,
    read_numbered_folder,
    read_tree,
    within_frames,
)
from cricavpr.datasets.find_files import find_files
from cricavpr.datasets.numpy_lists import read_names, read_numbered_lists, read_plain_arrays, sorted_indices
from cricavpr.datasets.utm_names import find_sides, read_utm_folder
from cricavpr.errors import InputError
from cricavpr.files import read_lines
from cricavpr.geo import Positions, within_radius

TREE_SPACING_M = 25 / 10.5  # between frames of the @UTM@ tree: 10 frames (23.8 m) are within 25 m, 11 (26.2 m) are not
DATABASE, QUERIES = "summer", "winter"  # in VPR-Bench's list the seasons are swapped

CLEAN_LIST = "cleanImageNames.txt"
_LISTS = "nordland_imageNames_index.txt", "nordland_imageNames_query.txt"
_LIST_FOLDERS = ("", "dataset_imagenames/", "patchnetvlad/dataset_imagenames/")
_TRUTHS = ("nordland.npz", "dataset_gt_files/nordland.npz", "patchnetvlad/dataset_gt_files/nordland.npz")
_SEASON_FOLDERS = ("{}", "{}_images_original", "nordland/{}")
_VPR_BENCH = "ground_truth_new.npy"
_NPY = ("Nordland_dbImages.npy", "Nordland_qImages.npy", "Nordland_gt.npy")


# --- 27,592 pairs, positives within 10 frames


def read_frames(root: Path) -> EvalDataset:
    """Read the frames of two seasons. A frame's number is its position in the cleaned list for both seasons."""
    why = "Put this list of the 27,592 frames beside the seasons' folders: it numbers their frames"
    listed = needed_file(root, (CLEAN_LIST,), why)
    files = [line.rpartition("/")[2] for line in _lines(listed)]
    database, queries = (_listed_season(root, season, files, listed) for season in (DATABASE, QUERIES))
    return paired("nordland", database, queries, 10, "within 10 frames")


def read_utm(root: Path) -> EvalDataset:
    """Read the @UTM@ tree, whose file names hold artificial positions. The northing of frame i is i x 2.381 m."""
    return paired("nordland", *read_tree(root, TREE_SPACING_M), 10, "within 10 frames")


def _season_folder(root: Path, season: str) -> Path | None:
    folders = (root / pattern.format(season) for pattern in _SEASON_FOLDERS)
    return next((folder for folder in folders if folder.is_dir()), None)


def _listed_season(root: Path, season: str, files: Sequence[str], listed: Path) -> ImageSet:
    folder = _season_folder(root, season) or root / season
    there = set(find_files(folder, IMAGES)[0])
    if missing := [file for file in files if file not in there]:
        raise InputError(
            f"{folder} does not contain {len(missing):,} of the {len(files):,} frames of {listed} (first: "
            f"{missing[0]}). Unpack all frames under their original names; none may be missing."
        )
    return ImageSet(folder, tuple(files), frames=np.arange(len(files)))


def _lines(listed: Path) -> list[str]:
    lines = [line.strip() for line in read_lines(listed)]
    if not lines:
        raise InputError(f"{listed} is empty. Fetch the list again.")
    return lines


# --- Patch-NetVLAD's own list


def read_patchnetvlad(root: Path) -> EvalDataset:
    """Read Patch-NetVLAD's `nordland.npz` and its two lists of names.

    The npz file gives frame i the position (i, i) and sets a radius of 10. Neighbouring frames are 1.41 apart, so the
    positives of a query are within 7 frames.
    """
    why = "Copy it from Patch-NetVLAD's code and put it beside the frames"
    truth = needed_file(root, _TRUTHS, why)
    asked_m, base_m, radius = read_plain_arrays(truth, ("utmQ", "utmDb", "posDistThr"))
    sides = []
    for name, rows in zip(_LISTS, (base_m, asked_m), strict=True):
        listed = needed_file(root, [folder + name for folder in _LIST_FOLDERS], why)
        names = _below(root, _lines(listed), listed)
        if rows.shape != (len(names), 2):
            raise InputError(
                f"{listed} has {len(names):,} names, but the positions in {truth} have shape {rows.shape}. Fetch both."
            )
        sides.append(ImageSet(root, names, frames=np.arange(len(names))))
    if radius.size != 1:
        raise InputError(f"{truth} must have one posDistThr, got {radius.size}. Fetch it again from Patch-NetVLAD.")
    metres = float(radius.reshape(-1)[0])
    base, asked = (Positions(rows.astype(np.float64)) for rows in (base_m, asked_m))
    positives = tuple(within_radius(base, asked, metres))
    reach = max((int(np.abs(found - query).max()) for query, found in enumerate(positives) if found.size), default=0)
    rule = f"within {reach} frames (radius {metres:g} of Patch-NetVLAD's list)"
    return EvalDataset("nordland-patchnetvlad", sides[0], sides[1], positives, rule)


def _below(root: Path, lines: Sequence[str], listed: Path) -> tuple[str, ...]:
    """Return the listed paths relative to `root`. In the list they may be relative to the parent folder of `root`."""
    names = tuple(line.removeprefix("./") for line in lines)
    if not (root / names[0]).is_file():
        names = tuple(name.partition("/")[2] or name for name in names)
    if not (root / names[0]).is_file():
        raise InputError(f"{listed} lists {lines[0]!r}, which is not a file below {root}. Unpack the frames there.")
    return names


# --- VPR-Bench's 2,760 queries


def read_vpr_bench(root: Path) -> EvalDataset:
    """Read VPR-Bench's folders `ref/` (winter, the database) and `query/` (summer).

    The positives are read from `ground_truth_new.npy`. Without this file, the positives of query i are the frames 10i-1
    to 10i+1.
    """
    database, queries = read_numbered_folder(root / "ref"), read_numbered_folder(root / "query")
    for images in (database, queries):
        if not np.array_equal(images.frames if images.frames is not None else (), np.arange(len(images))):
            raise InputError(f"the photos in {images.root} must be numbered from 0 without a gap. Unpack them again.")
    truth = root / _VPR_BENCH
    if not truth.exists():
        if not (len(queries) - 1) * 10 < len(database) <= len(queries) * 10 + 9:
            raise InputError(
                f"{root} has {len(database):,} photos in ref/ for {len(queries):,} queries; expected ten per query."
            )
        positives = within_frames(np.arange(len(database)), 10 * np.arange(len(queries)), 1)
        return EvalDataset("nordland-2760", database, queries, positives, "frames 10i-1 to 10i+1 for query i")
    lists = read_numbered_lists(truth)
    if sorted(lists) != list(range(len(queries))):
        raise InputError(
            f"{truth} has {len(lists):,} rows; expected one for each of {len(queries):,} queries. Fetch it again."
        )
    positives = sorted_indices(truth, (lists[query] for query in range(len(queries))), len(database))
    return EvalDataset("nordland-2760", database, queries, positives, f"the list of {_VPR_BENCH}")


def read_npy(root: Path) -> EvalDataset:
    """Read the split of VPR-Bench from three lists: `Nordland_dbImages.npy`, `Nordland_qImages.npy`, `Nordland_gt.npy`.

    The lists are published with the code of GSV-Cities.
    """
    sides = [ImageSet(root, _below(root, read_names(root / name), root / name)) for name in _NPY[:2]]
    return with_listed_positives("nordland-2760", sides[0], sides[1], root / _NPY[2], f"the list of {_NPY[2]}")


# --- the partition with 3,450 test frames


def read_partition(root: Path) -> EvalDataset:
    """Read the frames `test/<season>_images_test/section*/<number>.png`, in the order of their sections and numbers."""
    database, queries = (_sections(root / f"test/{season}_images_test") for season in (DATABASE, QUERIES))
    stems = [[name.rpartition(".")[0] for name in side.names] for side in (database, queries)]
    if stems[0] != stems[1]:
        odd = sorted(set(stems[0]) ^ set(stems[1]))[0]
        raise InputError(
            f"the seasons below {root / 'test'} do not match: {len(stems[0]):,} frames in {DATABASE}, "
            f"{len(stems[1]):,} in {QUERIES}; {odd!r} is in only one season. Unpack both again."
        )
    return paired("nordland-3450", database, queries, 2, "within 2 frames")


def _sections(folder: Path) -> ImageSet:
    names = find_files(folder, IMAGES)[0]  # natural order: section1 before section2, 9.png before 10.png
    if not names:
        raise InputError(f"no frame in {folder}. Expected section1/1.png and so on.")
    return ImageSet(folder, tuple(names), frames=np.arange(len(names)))


def read_partition_utm(root: Path) -> EvalDataset:
    """Read an @UTM@ tree, whose file names hold artificial positions on a line. Frames are numbered along this line."""
    sides = [read_utm_folder(folder) for folder in find_sides(root, "queries")]
    north = [side.positions.metres[:, 1] for side in sides if side.positions is not None]
    steps = np.unique(np.concatenate(north))
    numbered = [
        replace(side, positions=None, keys=None, frames=np.searchsorted(steps, metres)).take(np.argsort(metres))
        for side, metres in zip(sides, north, strict=True)
    ]
    return paired("nordland-3450", numbered[0], numbered[1], 2, "within 2 frames")


# --- splits

_TREE = ("images/test/database", "images/test/queries")

BENCHMARK = Benchmark(
    key="nordland",
    title="Nordland",
    source="frames: the links in VPR-datasets-downloader and VPR-Bench; lists: QVPR/Patch-NetVLAD",
    registration="none",
    licence="CC BY 3.0 (according to VPR-Bench)",
    splits=(
        Split(
            name="nordland",
            queries=27592,
            database=27592,
            without_positives=0,
            rule="within 10 frames",
            layouts=(
                Layout(
                    "raw (frames of two seasons)",
                    lambda root: all(_season_folder(root, season) for season in (DATABASE, QUERIES)),
                    (CLEAN_LIST, DATABASE, QUERIES),
                    read_frames,
                ),
                Layout("@UTM@ tree", has_tree, _TREE, read_utm),
            ),
            notes=(
                "queries are winter, the database is summer; recall of BoQ-DINOv2: 90.6 here, 81.3 on nordland-2760",
                "positions in the @UTM@ tree are artificial (2.381 m per frame) and are dropped after reading",
                "both seasons must be numbered by cleanImageNames.txt; otherwise equal numbers show different places",
            ),
        ),
        Split(
            name="nordland-patchnetvlad",
            queries=27592,
            database=27592,
            without_positives=0,
            rule="within 7 frames",
            layouts=(
                Layout(
                    "Patch-NetVLAD's lists",
                    lambda root: first_file(root, _TRUTHS) is not None,
                    (_TRUTHS[0], *_LISTS),
                    read_patchnetvlad,
                ),
            ),
            notes=(
                "its radius is 10, and frame i is at (i, i): frames are 1.41 apart, so positives are within 7 frames",
            ),
        ),
        Split(
            name="nordland-2760",
            queries=2760,
            database=27592,
            without_positives=0,
            rule="frames 10i-1 to 10i+1 for query i",
            layouts=(
                Layout(
                    "raw (ref/, query/)",
                    lambda root: (root / "ref").is_dir() and (root / "query").is_dir(),
                    ("ref/0000000.jpg", "query/0000000.jpg"),
                    read_vpr_bench,
                ),
                Layout("lists (.npy)", lambda root: first_file(root, _NPY) is not None, _NPY, read_npy),
            ),
            notes=("queries are summer and the database is winter, the reverse of the split nordland",),
        ),
        Split(
            name="nordland-3450",
            queries=3450,
            database=3450,
            without_positives=0,
            rule="within 2 frames",
            layouts=(
                Layout(
                    "raw (sections)",
                    lambda root: (root / f"test/{QUERIES}_images_test").is_dir(),
                    (f"test/{DATABASE}_images_test", f"test/{QUERIES}_images_test"),
                    read_partition,
                ),
                Layout("@UTM@ tree", has_tree, _TREE, read_partition_utm),
            ),
            notes=(
                "queries are winter, the database is summer; papers on this partition use several pairs of seasons",
            ),
        ),
    ),
)
