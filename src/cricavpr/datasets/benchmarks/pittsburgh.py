"""Pitts30k and Pitts250k: street view of Pittsburgh, 24 cut-outs (12 yaws, 2 pitches) of each panorama.

Source: Torii et al., "Visual place recognition with repetitive structures" (CVPR 2013); the splits are those of
Arandjelović et al., "NetVLAD" (CVPR 2016).
"""

from __future__ import annotations

from pathlib import Path

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.area import Area
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.benchmarks.db_struct import read_db_struct
from cricavpr.datasets.benchmarks.listed import first_file, folder_of, in_zone, panoramas
from cricavpr.datasets.benchmarks.utm_trees import WITHIN_25_M, bases, tree
from cricavpr.datasets.object_arrays import read_index_lists, read_names
from cricavpr.errors import InputError

AREA = Area("Pittsburgh", 40.44, -79.99)
DATABASE_FOLDERS = (".", "images", "Pittsburgh", "Pittsburgh/images")
QUERY_FOLDERS = ("queries_real", "queries", "Pittsburgh/queries_real", "Pittsburgh/queries")


def read_mat(root: Path, stem: str) -> EvalDataset:
    """The published list `<stem>.mat` in its own order, database images below `root`, queries in `queries_real`.

    Raises:
        InputError: the list is missing or damaged, its first photos are nowhere, or a position is not in Pittsburgh.
    """
    struct = read_db_struct(_mat(root, stem) or root / _mat_names(stem)[0])
    sides = (
        (struct.database, struct.database_m, DATABASE_FOLDERS),
        (struct.queries, struct.queries_m, QUERY_FOLDERS),
    )
    database, queries = (
        AREA.check(
            ImageSet(
                folder_of(root, folders, names[0], struct.path), names, in_zone(metres, AREA.zone), panoramas(names)
            )
        )
        for names, metres, folders in sides
    )
    return EvalDataset.within_radius(stem, database, queries, struct.radius_m)


def read_npy(root: Path, stem: str) -> EvalDataset:
    """The lists `<stem>_{dbImages,qImages,gt}.npy` of gsv-cities: names, and the positives of each query.

    Raises:
        InputError: a list is missing, damaged or of another length.
    """
    parts = {part: _npy(root, stem, part) for part in _NPY_PARTS}
    database, queries = (_named(root, parts[part]) for part in ("dbImages", "qImages"))
    positives = read_index_lists(parts["gt"])
    try:
        return EvalDataset(stem, database, queries, positives, f"{WITHIN_25_M}, as listed")
    except InputError as error:
        raise InputError(f"{parts['gt']} does not fit the lists of names: {error} Fetch the lists anew.") from None


def _named(root: Path, listed_in: Path) -> ImageSet:
    names = read_names(listed_in)
    if not names:
        raise InputError(f"{listed_in} lists no photo. Fetch the lists anew.")
    return ImageSet(folder_of(root, DATABASE_FOLDERS, names[0], listed_in), names, keys=panoramas(names))


_NPY_PARTS = ("dbImages", "qImages", "gt")


def _npy(root: Path, stem: str, part: str) -> Path:
    names = [f"{folder}{stem}_{part}.npy" for folder in ("", "datasets/", "Pittsburgh/", "datasets/Pittsburgh/")]
    return first_file(root, names) or root / names[0]


def _mat_names(stem: str) -> tuple[str, ...]:
    return f"datasets/{stem}.mat", f"{stem}.mat"


def _mat(root: Path, stem: str) -> Path | None:
    return first_file(root, _mat_names(stem))


def _layouts(key: str, part: str) -> tuple[Layout, ...]:
    stem = f"{key}_{part}"
    raw = Layout(
        "raw (dbStruct .mat)",
        lambda root: _mat(root, stem) is not None,
        (_mat_names(stem)[0], "000", "queries_real/000"),
        lambda root: read_mat(root, stem),
    )
    lists = Layout(
        "npy lists of gsv-cities",
        lambda root: all(_npy(root, stem, p).is_file() for p in _NPY_PARTS),
        (*(f"{stem}_{p}.npy" for p in _NPY_PARTS), "000", "queries_real/000"),
        lambda root: read_npy(root, stem),
    )
    return raw, tree(bases(key, part), area=AREA), lists


def _split(key: str, part: str, queries: int, database: int) -> Split:
    return Split(
        name=f"{key}-{part}",
        queries=queries,
        database=database,
        rule=WITHIN_25_M,
        layouts=_layouts(key, part),
        paper_grouping="in_order:8",
        notes=_NOTES + (_TRAINING if part == "train" else ()),
    )


_NOTES = (
    "no limit on the heading: a photo that looks the other way counts",
    "the .mat keeps the published order, the tree sorts by easting: groups in order differ between the two",
    "24 queries of one panorama follow one another, so a group in order holds views of one place",
    "OpenIBL leaves out positives of the query's own panorama; here they count",
    "the tree's positions went through degrees and were rounded to 1 cm: pairs at the border may differ",
)
_TRAINING = (
    "to train on it as places, the cut-outs' headings are missing: where north is among yaws 1 to 12 is not recorded",
)
_SOURCE = (
    "photos: data.ciirc.cvut.cz/public/projects/2015netVLAD/Pittsburgh250k/; lists: "
    "www.di.ens.fr/willow/research/netvlad/data/netvlad_v100_datasets.tar.gz"
)

PITTS30K = Benchmark(
    key="pitts30k",
    title="Pittsburgh 30k",
    source=_SOURCE,
    registration="photos by request to the authors (Torii, Relja)",
    licence="no public text is known; research use by agreement with the authors",
    splits=(
        _split("pitts30k", "train", 7_416, 10_000),
        _split("pitts30k", "val", 7_608, 10_000),
        _split("pitts30k", "test", 6_816, 10_000),
    ),
)
PITTS250K = Benchmark(
    key="pitts250k",
    title="Pittsburgh 250k",
    source=_SOURCE,
    registration=PITTS30K.registration,
    licence=PITTS30K.licence,
    splits=(
        _split("pitts250k", "train", 7_824, 91_464),
        _split("pitts250k", "val", 7_608, 78_648),
        _split("pitts250k", "test", 8_280, 83_952),
    ),
)
