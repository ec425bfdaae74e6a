"""AmsterTime and SPED: photos in pairs of one number, in two folders or as a tree of @ names.

AmsterTime: 1,231 archival photos of Amsterdam, each with one street view of the same spot today. Source: Yildiz et al.,
"AmsterTime" (ICPR 2022), doi 10.4121/19580806. The authors' own retrieval task leaves one out of the whole set; that is
another protocol than this one.

SPED as VPR-Bench tests it: 607 fixed cameras, each seen twice. Source: Zaffar et al., "VPR-Bench" (IJCV 2021).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from cricavpr.datasets.base import EvalDataset
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.benchmarks.numbered import has_tree, paired, read_numbered_folder, read_tree
from cricavpr.datasets.numpy_lists import read_numbered_lists
from cricavpr.errors import InputError

TREE_SPACING_M = 1000.0  # in the @UTM@ tree: one kilometre between made-up positions, so only partners are near
SPED_TRUTH = "ground_truth_new.npy"
_MADE_UP = "positions in the @UTM@ tree are made up (north = number x 1000 m), so no position is kept"


def read_folders(root: Path, name: str, folders: tuple[str, str], rule: str) -> EvalDataset:
    """Read two folders of photos by number; SPED's own list, if it is there, must say the same."""
    dataset = paired(name, read_numbered_folder(root / folders[0]), read_numbered_folder(root / folders[1]), 0, rule)
    if name == "sped" and (root / SPED_TRUTH).exists():
        _check_truth(root / SPED_TRUTH, len(dataset.queries))
    return dataset


def read_pair_tree(root: Path, name: str, rule: str) -> EvalDataset:
    """Read the @UTM@ tree, whose positions are made up."""
    return paired(name, *read_tree(root, TREE_SPACING_M), 0, rule)


def _check_truth(listed: Path, count: int) -> None:
    given = read_numbered_lists(listed)
    for query in range(count):
        if not np.array_equal(given.get(query, ()), [query]):
            says = given[query].tolist() if query in given else "nothing"
            raise InputError(
                f"{listed} gives query {query} the answers {says}, but in SPED photos of one number belong "
                "together. Fetch the list again, or remove it."
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
    tree = Layout("@UTM@ tree", has_tree, needs, partial(read_pair_tree, name=name, rule=rule))
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
        "the @UTM@ tree holds the database saved again as .jpg: other pixels than the raw .png",
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
