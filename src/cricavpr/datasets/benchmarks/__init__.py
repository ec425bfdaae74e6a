"""List all benchmarks by name, and read them from their published files.

`open_split(name, root)` opens a split, such as "pitts30k-test". `cricavpr datasets list` prints all splits. If files
are missing or damaged, all readers raise InputError with a message of one line.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cricavpr.datasets.base import EvalDataset
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.benchmarks.msls import BENCHMARK as MSLS
from cricavpr.datasets.benchmarks.nordland import BENCHMARK as NORDLAND
from cricavpr.datasets.benchmarks.numbered import AMSTERTIME, SPED
from cricavpr.datasets.benchmarks.pittsburgh import PITTS30K, PITTS250K
from cricavpr.datasets.benchmarks.tokyo import BENCHMARK as TOKYO247
from cricavpr.datasets.benchmarks.utm_trees import EYNSHAM, SF_XL, ST_LUCIA, SVOX
from cricavpr.errors import InputError
from cricavpr.schema import nearest

__all__ = ["BENCHMARKS", "SPLITS", "Benchmark", "Layout", "Split", "find_split", "find_splits", "open_split"]

GSV_CITIES = Benchmark(  # for training: see `cricavpr.datasets.gsv_cities` and `cricavpr places check`
    key="gsv_cities",
    title="GSV-Cities",
    source="https://www.kaggle.com/datasets/amaralibey/gsv-cities (23 GB)",
    registration="a Kaggle account",
    licence="none stated in the authors' repository",
    splits=(),
)
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.key: benchmark
    for benchmark in (
        *(PITTS30K, PITTS250K, TOKYO247, MSLS, NORDLAND, AMSTERTIME),
        *(SVOX, SF_XL, EYNSHAM, ST_LUCIA, SPED, GSV_CITIES),
    )
}
SPLITS: dict[str, tuple[Benchmark, Split]] = {
    split.name: (benchmark, split) for benchmark in BENCHMARKS.values() for split in benchmark.splits
}


def find_split(name: str) -> tuple[Benchmark, Split]:
    """Return the split called `name`, and the benchmark that it belongs to.

    Raises:
        InputError: the split is unknown; the message suggests the nearest name.

    Example:
        >>> find_split("tokyo247")[1].queries
        315
    """
    if name not in SPLITS:
        raise InputError(f"unknown split {name!r}. {nearest(name, SPLITS)}")
    return SPLITS[name]


def find_splits(name: str) -> tuple[Benchmark, tuple[Split, ...]]:
    """Return the benchmark called `name` and all its splits, or the split called `name` and its benchmark.

    If a benchmark and a split have the same name, only this split is returned.

    Raises:
        InputError: the name is unknown; the message suggests the nearest name.
    """
    if name in SPLITS:
        benchmark, split = SPLITS[name]
        return benchmark, (split,)
    if name not in BENCHMARKS:
        raise InputError(f"unknown benchmark or split {name!r}. {nearest(name, {*BENCHMARKS, *SPLITS})}")
    return BENCHMARKS[name], BENCHMARKS[name].splits


def open_split(name: str, root: Path) -> EvalDataset:
    """Read a split from the folder of its benchmark. The first file layout that fits the folder is used.

    Args:
        name: name of the split, such as "pitts30k-test"; see `SPLITS`.
        root: the folder of the unpacked download, or of photos whose file names hold positions (@easting@northing@...).

    Raises:
        InputError: the split is unknown, no layout fits (the message says which files were expected and where to get
            them), or files are missing or damaged.
    """
    benchmark, split = find_split(name)
    root = Path(root)
    layout = split.layout_of(root)
    if layout is None:
        looked = "; or ".join(f"{layout.name}: {', '.join(layout.needs)}" for layout in split.layouts)
        what = "is not a folder" if not root.is_dir() else f"does not hold {split.name}"
        source = f"{benchmark.source} (registration: {benchmark.registration})"
        raise InputError(f"{root} {what}. Expected one of these layouts: {looked}. Get the files from {source}.")
    read = layout.read(root)
    return replace(read, name=split.name, unanswered=split.unanswered, paper_grouping=split.paper_grouping)
