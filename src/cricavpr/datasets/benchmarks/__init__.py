"""Every benchmark by name, as its published files lie on disk.

A split is opened with `open_split(name, root)`, whatever its layout; `cricavpr datasets list` shows them all.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cricavpr.datasets.base import EvalDataset
from cricavpr.datasets.benchmarks.amstertime import BENCHMARK as AMSTERTIME
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.benchmarks.gsv_cities import BENCHMARK as GSV_CITIES
from cricavpr.datasets.benchmarks.msls import BENCHMARK as MSLS
from cricavpr.datasets.benchmarks.nordland import BENCHMARK as NORDLAND
from cricavpr.datasets.benchmarks.pittsburgh import PITTS30K, PITTS250K
from cricavpr.datasets.benchmarks.sf_xl import BENCHMARK as SF_XL
from cricavpr.datasets.benchmarks.sped import BENCHMARK as SPED
from cricavpr.datasets.benchmarks.svox import BENCHMARK as SVOX
from cricavpr.datasets.benchmarks.tokyo import BENCHMARK as TOKYO247
from cricavpr.datasets.benchmarks.utm_trees import EYNSHAM, ST_LUCIA
from cricavpr.errors import InputError
from cricavpr.schema import nearest

__all__ = ["BENCHMARKS", "SPLITS", "Benchmark", "Layout", "Split", "find_split", "find_splits", "open_split"]

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
    """A split by its name.

    Raises:
        InputError: no such split; the nearest name and all others.
    """
    if name not in SPLITS:
        raise InputError(f"no split of a benchmark is called {name!r}. {nearest(name, SPLITS)}")
    return SPLITS[name]


def find_splits(name: str) -> tuple[Benchmark, tuple[Split, ...]]:
    """One split by its name, or all splits of a benchmark by its key; a split comes first where both share a name.

    Raises:
        InputError: neither; the nearest name and all others.
    """
    if name in SPLITS:
        benchmark, split = SPLITS[name]
        return benchmark, (split,)
    if name not in BENCHMARKS:
        raise InputError(f"no benchmark or split is called {name!r}. {nearest(name, {*BENCHMARKS, *SPLITS})}")
    return BENCHMARKS[name], BENCHMARKS[name].splits


def open_split(name: str, root: Path) -> EvalDataset:
    """Read a split from the folder that holds its benchmark, in the first layout that fits.

    Args:
        name: such as "pitts30k-test"; see `SPLITS`.
        root: where the download was unpacked, or the tree of @ names was made.

    Raises:
        InputError: no such split, no layout that fits (what was looked for, and where it is to be had), or files
            that are missing or damaged.
    """
    benchmark, split = find_split(name)
    root = Path(root)
    layout = split.layout_of(root)
    if layout is None:
        raise InputError(nothing_fits(benchmark, split, root))
    read = layout.read(root)
    return replace(read, name=split.name, unanswered=split.unanswered, paper_grouping=split.paper_grouping)


def nothing_fits(benchmark: Benchmark, split: Split, root: Path) -> str:
    """What was looked for in vain, and where it is to be had, in one line."""
    looked = "; or ".join(f"{layout.name}: {', '.join(layout.needs)}" for layout in split.layouts)
    what = "is not a folder" if not root.is_dir() else f"does not hold {split.name}"
    return f"{root} {what}. Looked for {looked}. To be had: {benchmark.source} ({benchmark.registration})."
