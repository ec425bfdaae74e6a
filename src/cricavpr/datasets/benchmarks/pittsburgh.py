"""Pitts30k and Pitts250k: street view of Pittsburgh, 24 cut-outs (12 yaws, 2 pitches) of each panorama.

Source: Torii et al., "Visual place recognition with repetitive structures" (CVPR 2013); the splits are those of
Arandjelović et al., "NetVLAD" (CVPR 2016).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.base import (
    Area,
    Benchmark,
    Layout,
    Split,
    first_file,
    folder_of,
    in_zone,
    panoramas,
    with_listed_positives,
)
from cricavpr.datasets.benchmarks.db_struct import read_db_struct
from cricavpr.datasets.benchmarks.utm_trees import WITHIN_25_M, bases, tree
from cricavpr.datasets.numpy_lists import read_names

AREA = Area("Pittsburgh", 40.44, -79.99)
DATABASE_FOLDERS = (".", "images", "Pittsburgh", "Pittsburgh/images")
QUERY_FOLDERS = ("queries_real", "queries", "Pittsburgh/queries_real", "Pittsburgh/queries")
_NPY_PARTS = ("dbImages", "qImages", "gt")
_NPY_FOLDERS = ("", "datasets/", "Pittsburgh/", "datasets/Pittsburgh/")


def read_mat(root: Path, stem: str) -> EvalDataset:
    """Read a split from its published list `<stem>.mat`, in the order of the list. The photos are in `root`."""
    struct = read_db_struct(_mat(root, stem))
    sides = ((struct.database, struct.database_m, DATABASE_FOLDERS), (struct.queries, struct.queries_m, QUERY_FOLDERS))
    database, queries = (
        AREA.check(
            ImageSet(folder_of(root, folders, names, struct.path), names, in_zone(metres, AREA.zone), panoramas(names))
        )
        for names, metres, folders in sides
    )
    return EvalDataset.within_radius(stem, database, queries, struct.radius_m)


def read_npy(root: Path, stem: str) -> EvalDataset:
    """Read a split from the lists `<stem>_{dbImages,qImages,gt}.npy` of GSV-Cities: image names and positives."""
    lists = [_npy(root, stem, part) for part in _NPY_PARTS]
    sides = []
    for listed in lists[:2]:
        names = read_names(listed)
        sides.append(ImageSet(folder_of(root, DATABASE_FOLDERS, names, listed), names, keys=panoramas(names)))
    return with_listed_positives(stem, sides[0], sides[1], lists[2], f"{WITHIN_25_M}, as listed")


def _mat(root: Path, stem: str) -> Path:
    return first_file(root, (f"datasets/{stem}.mat", f"{stem}.mat")) or root / f"datasets/{stem}.mat"


def _npy(root: Path, stem: str, part: str) -> Path:
    names = [f"{folder}{stem}_{part}.npy" for folder in _NPY_FOLDERS]
    return first_file(root, names) or root / names[0]


def _split(key: str, part: str, queries: int, database: int) -> Split:
    stem, photos = f"{key}_{part}", ("000", "queries_real/000")
    raw = Layout(
        "raw (dbStruct .mat)",
        lambda root: _mat(root, stem).is_file(),
        (f"datasets/{stem}.mat", *photos),
        partial(read_mat, stem=stem),
    )
    lists = Layout(
        "npy lists of gsv-cities",
        lambda root: all(_npy(root, stem, p).is_file() for p in _NPY_PARTS),
        (*(f"{stem}_{p}.npy" for p in _NPY_PARTS), *photos),
        partial(read_npy, stem=stem),
    )
    return Split(
        name=f"{key}-{part}",
        queries=queries,
        database=database,
        rule=WITHIN_25_M,
        layouts=(raw, tree(bases(key, part), area=AREA), lists),
        paper_grouping="in_order:8",
        notes=_NOTES + (_TRAINING if part == "train" else ()),
    )


_NOTES = (
    "headings are ignored: a photo that looks the other way can be a positive",
    "the .mat has the published order, but the @UTM@ tree is sorted by easting: in_order groups differ",
    "the 24 queries of one panorama follow one another, so an in_order group holds views of one place",
    "OpenIBL leaves out positives of the query's own panorama; here they count",
    "positions in the @UTM@ tree were converted to degrees and back, to 1 cm: pairs about 25 m apart may differ",
)
_TRAINING = (
    "training places need headings, which are unknown: it is not recorded which of the yaws 1 to 12 looks north",
)


def _benchmark(key: str, title: str, *splits: tuple[str, int, int]) -> Benchmark:
    return Benchmark(
        key,
        title,
        source="photos: data.ciirc.cvut.cz/public/projects/2015netVLAD/Pittsburgh250k/; lists: "
        "www.di.ens.fr/willow/research/netvlad/data/netvlad_v100_datasets.tar.gz",
        registration="photos by request to the authors (Torii, Relja)",
        licence="no public text is known; research use by agreement with the authors",
        splits=tuple(_split(key, *split) for split in splits),
    )


PITTS30K = _benchmark(
    "pitts30k", "Pittsburgh 30k", ("train", 7_416, 10_000), ("val", 7_608, 10_000), ("test", 6_816, 10_000)
)
PITTS250K = _benchmark(
    "pitts250k", "Pittsburgh 250k", ("train", 7_824, 91_464), ("val", 7_608, 78_648), ("test", 8_280, 83_952)
)
