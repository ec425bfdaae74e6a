"""SPED as VPR-Bench tests it: 607 fixed cameras, each seen twice, under the same number.

Source: Zaffar et al., "VPR-Bench" (IJCV 2021), its folder SPEDTEST: `query/0000000.jpg` and `ref/0000000.jpg`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cricavpr.datasets.base import EvalDataset
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.benchmarks.numbered import has_tree, paired, read_stems, read_tree
from cricavpr.datasets.object_arrays import read_numbered_lists
from cricavpr.errors import InputError

NAME = "sped"
RULE = "the photo of the same number"
GROUND_TRUTH = "ground_truth_new.npy"
TREE_SPACING_M = 1000.0  # made-up positions in the @UTM@ tree, see AmsterTime


def read_raw(root: Path) -> EvalDataset:
    """`ref/` and `query/`, by number; the list of the download, where it is there, must say the same.

    Raises:
        InputError: a folder is missing, a photo has no partner, or the list says otherwise.
    """
    dataset = paired(NAME, read_stems(root / "ref"), read_stems(root / "query"), 0, RULE)
    listed = root / GROUND_TRUTH
    if listed.exists():
        _check(listed, len(dataset.queries))
    return dataset


def read_utm(root: Path) -> EvalDataset:
    """The @UTM@ tree, whose positions are made up.

    Raises:
        InputError: names of another tree, or a photo without partner.
    """
    return paired(NAME, *read_tree(root, TREE_SPACING_M), 0, RULE)


def _check(listed: Path, count: int) -> None:
    given = read_numbered_lists(listed)
    for query in range(count):
        if not np.array_equal(given.get(query, ()), [query]):
            says = given[query].tolist() if query in given else "nothing"
            raise InputError(
                f"{listed} gives query {query} the answers {says}, but in SPED photos of one number belong "
                "together. Fetch the list again, or remove it."
            )


def _is_raw(root: Path) -> bool:
    return (root / "ref").is_dir() or (root / "query").is_dir()


BENCHMARK = Benchmark(
    key=NAME,
    title="SPED (test set of VPR-Bench)",
    source="SPEDTEST.zip of VPR-Bench, https://surfdrive.surf.nl/files/index.php/s/sbZRXzYe3l0v67W",
    registration="none",
    licence="unknown",
    splits=(
        Split(
            name=NAME,
            queries=607,
            database=607,
            without_positives=0,
            rule=RULE,
            layouts=(
                Layout("raw (ref/, query/)", _is_raw, ("ref/0000000.jpg", "query/0000000.jpg"), read_raw),
                Layout("@UTM@ tree", has_tree, ("images/test/database", "images/test/queries"), read_utm),
            ),
            notes=("positions in the @UTM@ tree are made up (north = number x 1000 m), so no position is kept",),
        ),
    ),
)
