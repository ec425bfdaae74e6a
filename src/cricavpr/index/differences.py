"""Compare two indexes photo by photo."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from cricavpr.index.columns import Indices
from cricavpr.index.filters import Mask
from cricavpr.index.snapshot import Snapshot
from cricavpr.schema import to_plain

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Difference:
    """The difference between two indexes. Photos are the same if their ids are.

    Attributes:
        made_by: one line for each difference in the provenance of the descriptors.
        only_first, only_second: names of photos that one index has.
        changed: names of photos that both have, with another name, position, time, tag or descriptor.
        same: how many photos are equal to the last bit that both indexes store.
    """

    made_by: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    changed: tuple[str, ...]
    same: int

    def __bool__(self) -> bool:
        return bool(self.made_by or self.only_first or self.only_second or self.changed)

    def __repr__(self) -> str:
        counts = len(self.only_first), len(self.only_second), len(self.changed)
        return "Difference({:,} only in the first, {:,} only in the second, {:,} changed, {:,} same)".format(
            *counts, self.same
        )

    def to_dict(self) -> dict[str, Any]:
        return {"different": bool(self), **to_plain(self)}


def difference(first: Snapshot, second: Snapshot) -> Difference:
    """Compare two indexes. Raises InputError if a file is damaged."""
    there = second.find(first.columns.ids)
    both = np.flatnonzero(there >= 0)
    changed = np.zeros(len(first), np.bool_)
    pairs = zip(both.tolist(), there[both].tolist(), strict=True)
    changed[both] = [not first.columns.same_row(row, second.columns, other) for row, other in pairs]
    changed[both] |= _other_vectors(first, second, both, there[both])
    return Difference(
        tuple(first.manifest.made_by.differences(second.manifest.made_by)),
        _names(first, np.flatnonzero(there < 0)),
        _names(second, np.flatnonzero(first.find(second.columns.ids) < 0)),
        _names(first, np.flatnonzero(changed)),
        int(len(both) - changed.sum()),
    )


def _other_vectors(first: Snapshot, second: Snapshot, here: Indices, there: Indices) -> Mask:  # (M,) twice -> (M,)
    """Return which descriptors differ in a bit that both indexes store."""
    if first.manifest.made_by.dim != second.manifest.made_by.dim:
        return np.ones(len(here), np.bool_)
    other = np.zeros(len(here), np.bool_)
    stored = min((np.dtype(side.manifest.dtype) for side in (first, second)), key=lambda kind: kind.itemsize)
    for start in range(0, len(here), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        sides = first.vectors[here[rows]].astype(stored), second.vectors[there[rows]].astype(stored)
        other[rows] = (sides[0] != sides[1]).any(axis=1)
    return other


def _names(snapshot: Snapshot, rows: Indices) -> tuple[str, ...]:
    return tuple(os.fsdecode(name) for name in snapshot.columns.raw_names[rows].all())
