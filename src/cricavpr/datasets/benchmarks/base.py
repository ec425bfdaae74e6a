"""Benchmarks: named splits, each with its expected counts, its rule, its layouts, and where to get the files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cricavpr.datasets.base import EvalDataset


@dataclass(frozen=True)
class Layout:
    """One way in which a split lies on disk.

    Attributes:
        name: such as "raw (dbStruct .mat)" or "@UTM@ tree".
        there: whether a folder looks like it; fast, because it looks for a few names only.
        needs: paths below the root, for users; shown by `datasets check`.
        read: read the split; raises InputError naming what is missing or wrong.
        split_hash: `EvalDataset.split_hash` of the published files in this layout, or None if it is not recorded.
    """

    name: str
    there: Callable[[Path], bool]
    needs: tuple[str, ...]
    read: Callable[[Path], EvalDataset]
    split_hash: str | None = None


@dataclass(frozen=True)
class Split:
    """One list of queries against one database, scored by one rule.

    Attributes:
        name: unique among all splits, such as "pitts30k-test", "msls-val", "msls-val-11k", "nordland".
        queries, database: expected counts; None where no published count is known.
        rule: how positives are decided, in words.
        layouts: tried in this order.
        without_positives: expected number of queries that have none; None where unknown.
        paper_grouping: how the paper's authors grouped it: "in_order:16", or "in_order:8" for Pittsburgh.
        unanswered: what the benchmark's own scorers do with queries that have no positives: miss or skip.
        per_panorama: images per panorama for the rule "one hit per panorama", or None where it has no meaning.
        notes: what other lists of the same name differ in, and other traps, one line each.
    """

    name: str
    queries: int | None
    database: int | None
    rule: str
    layouts: tuple[Layout, ...]
    without_positives: int | None = None
    paper_grouping: str = "in_order:16"
    unanswered: Literal["miss", "skip"] = "miss"
    per_panorama: int | None = None
    notes: tuple[str, ...] = ()

    def layout_of(self, root: Path) -> Layout | None:
        """Return the first layout that a folder looks like."""
        return next((layout for layout in self.layouts if layout.there(root)), None)


@dataclass(frozen=True)
class Benchmark:
    """A dataset: one or several splits from one download.

    Attributes:
        key: such as "pitts30k" or "tokyo247".
        source: where to get it; registration: what that requires; licence: as far as it is known.
    """

    key: str
    title: str
    source: str
    registration: str
    licence: str
    splits: tuple[Split, ...]
