"""AmsterTime: 1,231 archival photos of Amsterdam, each with one street view of the same spot today.

Source: Yildiz et al., "AmsterTime" (ICPR 2022), doi 10.4121/19580806. `old/0123.jpg` asks, `new/0123.png` answers.
The authors' own retrieval task leaves one out of the whole set; that is another protocol than this one.
"""

from __future__ import annotations

from pathlib import Path

from cricavpr.datasets.base import EvalDataset
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.benchmarks.numbered import has_tree, paired, read_stems, read_tree

NAME = "amstertime"
RULE = "the partner of the same number"
TREE_SPACING_M = 1000.0  # in the @UTM@ tree: one kilometre between made-up positions, so only partners are near


def read_raw(root: Path) -> EvalDataset:
    """`new/` and `old/`, by number.

    Raises:
        InputError: a folder is missing, a photo is not called by a number, or has no partner.
    """
    return paired(NAME, read_stems(root / "new"), read_stems(root / "old"), 0, RULE)


def read_utm(root: Path) -> EvalDataset:
    """The @UTM@ tree, whose positions are made up.

    Raises:
        InputError: names of another tree, or a photo without partner.
    """
    return paired(NAME, *read_tree(root, TREE_SPACING_M), 0, RULE)


def _is_raw(root: Path) -> bool:
    return (root / "new").is_dir() or (root / "old").is_dir()


BENCHMARK = Benchmark(
    key=NAME,
    title="AmsterTime",
    source="https://doi.org/10.4121/19580806 (AmsterTime-v1.0.zip)",
    registration="none",
    licence="see the data set's page",
    splits=(
        Split(
            name=NAME,
            queries=1231,
            database=1231,
            without_positives=0,
            rule=RULE,
            layouts=(
                Layout("raw (new/, old/)", _is_raw, ("new/0000.png", "old/0000.jpg"), read_raw),
                Layout("@UTM@ tree", has_tree, ("images/test/database", "images/test/queries"), read_utm),
            ),
            notes=(
                "positions in the @UTM@ tree are made up (north = number x 1000 m), so no position is kept",
                "the @UTM@ tree holds the database saved again as .jpg: other pixels than the raw .png",
                "many queries are greyscale; they are read as RGB",
            ),
        ),
    ),
)
