"""Trees of @ names, the form that most benchmarks are passed on in; and the two that we read in no other form.

Source: the layout that VPR-datasets-downloader writes: `<name>/images/<split>/{database,queries}/@...@.jpg`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks.area import Area
from cricavpr.datasets.benchmarks.base import Benchmark, Layout, Split
from cricavpr.datasets.utm_names import join_utm_sides, read_utm_folder

TREE = "@UTM@ tree"

WITHIN_25_M = "within 25 m"
RECOMPRESSED = "the tree's photos were saved again as JPEG, so recall may differ from that of the original files"


def bases(key: str, split: str) -> tuple[str, ...]:
    """Where a split's two folders may lie below the folder that a user gives."""
    return f"images/{split}", split, f"{key}/images/{split}", f"{key}/{split}"


def tree(
    below: Sequence[str],
    queries: str = "queries",
    *,
    database: str = "database",
    area: Area | None = None,
    finish: Callable[[EvalDataset], EvalDataset] = lambda dataset: dataset,
    name: str = TREE,
) -> Layout:
    """A database folder and a folder of queries beside it, scored within 25 m.

    Args:
        below: the folders that may hold the two, first come first served; the first is the one that is told.
        area: where all of it must lie.
        finish: the last touch on what was read.
    """

    def base(root: Path) -> Path | None:
        found = (root / folder for folder in below)
        return next((b for b in found if (b / database).is_dir() and (b / queries).is_dir()), None)

    def read(root: Path) -> EvalDataset:
        found = base(root) or root / below[0]
        return finish(join_utm_sides(name, side(found / database, area), side(found / queries, area)))

    needs = tuple(f"{below[0]}/{folder}" for folder in (database, queries))
    return Layout(name, lambda root: base(root) is not None, needs, read)


def side(folder: Path, area: Area | None) -> ImageSet:
    """One folder of @ names, all of them in the area."""
    images = read_utm_folder(folder)
    return images if area is None else area.check(images)


_RSYNC = "rsync://vandaldata.polito.it/sf_xl/VPR-datasets-downloader"

EYNSHAM = Benchmark(
    key="eynsham",
    title="Eynsham",
    source=f"{_RSYNC}/eynsham (ready-made tree); the original recordings: zenodo.org/records/1243106",
    registration="none is known to be needed",
    licence="not stated where we looked",
    splits=(
        Split(
            name="eynsham",
            queries=23_935,
            database=23_935,
            rule=WITHIN_25_M,
            layouts=(tree((*bases("eynsham", "test"), ".")),),
            notes=(
                "only the tree of @ names is read, not the original recording",
                "the database has 4,787 panoramas of 5 cameras each; the count of queries is not confirmed",
                "grey pictures, 512 x 384 pixels; " + RECOMPRESSED,
                "the downloader's own script was withdrawn in March 2026; the tree comes by rsync",
            ),
        ),
    ),
)
ST_LUCIA = Benchmark(
    key="st_lucia",
    title="St Lucia",
    source=f"{_RSYNC}/st_lucia (ready-made tree)",
    registration="none is known to be needed",
    licence="not stated where we looked",
    splits=(
        Split(
            name="st_lucia",
            queries=1_464,
            database=1_549,
            rule=WITHIN_25_M,
            layouts=(tree((*bases("st_lucia", "test"), ".")),),
            notes=(
                "only the tree of @ names is read, not the ten recordings",
                "database: the first of ten drives; queries: the last; one frame in 5 m; neither count is confirmed",
                "all good methods reach 99 to 100 here, so it tells them apart no more",
                "the downloader's own script was withdrawn in March 2026; the tree comes by rsync",
            ),
        ),
    ),
)
