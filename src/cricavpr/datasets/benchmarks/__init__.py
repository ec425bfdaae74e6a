"""All benchmarks by name, read from their published files.

Open a split with `open_split(name, root)`, whatever its layout; `cricavpr datasets list` shows them all. All readers
raise InputError, in one line, for files that are missing or damaged.
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
    """Return a split by its name.

    Raises:
        InputError: unknown split; the message suggests the nearest name.

    Example:
        >>> find_split("tokyo247")[1].queries
        315
    """
    if name not in SPLITS:
        raise InputError(f"unknown split {name!r}. {nearest(name, SPLITS)}")
    return SPLITS[name]


def find_splits(name: str) -> tuple[Benchmark, tuple[Split, ...]]:
    """Return one split by its name, or all splits of a benchmark by its key; the split if both share a name.

    Raises:
        InputError: unknown name; the message suggests the nearest one.
    """
    if name in SPLITS:
        benchmark, split = SPLITS[name]
        return benchmark, (split,)
    if name not in BENCHMARKS:
        raise InputError(f"unknown benchmark or split {name!r}. {nearest(name, {*BENCHMARKS, *SPLITS})}")
    return BENCHMARKS[name], BENCHMARKS[name].splits


def open_split(name: str, root: Path) -> EvalDataset:
    """Read a split from the folder that holds its benchmark, in the first layout that fits.

    Args:
        name: such as "pitts30k-test"; see `SPLITS`.
        root: the folder of the unpacked download, or of the tree of @ names.

    Raises:
        InputError: no such split, no layout that fits (with what was looked for, and where to get it), or files that
            are missing or damaged.
    """
    benchmark, split = find_split(name)
    root = Path(root)
    layout = split.layout_of(root)
    if layout is None:
        looked = "; or ".join(f"{layout.name}: {', '.join(layout.needs)}" for layout in split.layouts)
        what = "is not a folder" if not root.is_dir() else f"does not hold {split.name}"
        source = f"{benchmark.source} ({benchmark.registration})"
        raise InputError(f"{root} {what}. Looked for {looked}. Get it from {source}.")
    read = layout.read(root)
    return replace(read, name=split.name, unanswered=split.unanswered, paper_grouping=split.paper_grouping)
