"""What a benchmark is to us: named splits, each with its expected counts, its rule and where the files come from."""

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
        name: what to call it, such as "raw (dbStruct .mat)" or "@UTM@ tree".
        there: whether a folder looks like it. Cheap: it looks for a few names and never lists millions of files.
        needs: paths below the root, as a user would look for them; shown by `datasets check`.
        read: the split. Raises InputError naming what is missing or wrong.
        split_hash: `EvalDataset.split_hash` of the published files in this layout, or None where nobody recorded it.
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
        without_positives: expected number of queries that have none; None where unknown.
        rule: how positives are decided, in words.
        paper_grouping: how the paper's authors grouped it: "in_order:16", or "in_order:8" for Pittsburgh.
        unanswered: what the benchmark's own scorers do with queries that have no positives.
        per_panorama: images per panorama for the rule "one hit per panorama", or None where it has no meaning.
        layouts: tried in this order.
        notes: the traps, one line each: what other lists of the same name differ in.
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
        """The first layout that a folder looks like."""
        return next((layout for layout in self.layouts if layout.there(root)), None)


@dataclass(frozen=True)
class Benchmark:
    """A dataset as people know it: one or several splits from one download.

    Attributes:
        key: `pitts30k`, `tokyo247`, ... as in ARCHITECTURE.md.
        source: where it is to be had; registration: what one must do for it; licence: as far as it is known.
    """

    key: str
    title: str
    source: str
    registration: str
    licence: str
    splits: tuple[Split, ...]
