"""One open version of an index, which does not change while writers make new versions.

All its files are mapped when it is opened. A mapping stays valid when the file is removed, so a writer may remove
files that are still in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cricavpr.errors import InputError
from cricavpr.files import give_back
from cricavpr.geo import Metres, Positions
from cricavpr.index.columns import Bytes, Columns, Indices, one_frame, positions_in
from cricavpr.index.manifest import Manifest, newest, read_manifest, versions
from cricavpr.index.segments import Segment
from cricavpr.index.vectors import Mask, Rows, Vectors
from cricavpr.schema import to_plain

ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One open version: its segments in the order of adding. Photos are numbered from the first segment to the last."""

    path: Path
    manifest: Manifest
    segments: tuple[Segment, ...] = field(repr=False)

    @classmethod
    def open(cls, path: Path, version: int | None = None, near: Snapshot | None = None) -> Self:
        """Open a version, by default the newest. Segments that `near` has open are shared with it.

        Raises:
            InputError: there is no index or no such version, the format is another one, or a file is damaged.
        """
        while True:
            number = newest(path) if version is None else _existing(path, version)
            try:
                return cls.of(path, read_manifest(path, number), near)
            except InputError:
                if version is not None or newest(path) == number:
                    raise  # otherwise a new version was written meanwhile: open that one

    @classmethod
    def of(cls, path: Path, manifest: Manifest, near: Snapshot | None = None) -> Self:
        """Open the files of a manifest. Segments that `near` has open are shared with it."""
        same = near is not None and near.path == path and near.manifest.made_by == manifest.made_by
        known = near.segments if near is not None and same else ()
        there = {segment.piece: segment for segment in known if segment.file.is_current()}
        opened = (there.get(piece) or Segment(path, piece, manifest.made_by) for piece in manifest.pieces)
        return cls(path, manifest, tuple(opened))

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def rows(self) -> Rows:
        """The vectors of all rows of the files, including removed ones, for search engines."""
        live = [np.isin(np.arange(len(one)), one.live, assume_unique=True) for one in self.segments]
        removed = any(one.removed is not None for one in self.segments)
        return Rows(self.segments, np.concatenate(live) if removed else None, self.manifest.made_by.dim)

    @cached_property
    def vectors(self) -> Vectors:
        """(N, D) the vectors of the photos."""
        return Vectors(self.rows)

    @cached_property
    def columns(self) -> Columns:
        """The columns of the photos: everything except the vectors."""
        return Columns.concatenate([Columns.empty(), *(segment.columns for segment in self.segments)])

    @property
    def frame(self) -> str:
        """The frame of the positions: none, local or utm."""
        return one_frame([segment.frame for segment in self.segments])

    @cached_property
    def numbers(self) -> Indices | None:  # (F,)
        """The number of the photo in each row of the files; None if no row is removed."""
        return None if self.rows.live is None else np.cumsum(self.rows.live) - 1

    def find(self, ids: Bytes) -> Indices:  # (M, 32) -> (M,)
        """Return the number of each photo, -1 if it is missing."""
        found = np.full(len(ids), -1, np.int64)
        for start, segment in zip(self.rows.starts.tolist(), self.segments, strict=False):
            rows = segment.find(ids)
            there = rows >= 0
            found[there] = start + rows[there] if self.numbers is None else self.numbers[start + rows[there]]
        return found

    def ids_and_metres(self) -> Iterator[tuple[Bytes, Metres]]:  # (n, 32), (n, 2)
        """Yield ids and positions of each segment; its memory is released afterwards."""
        for segment in self.segments:
            yield segment.ids_and_metres()
            give_back(segment.mapped)

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of some photos; nothing else is read."""
        metres, zones = np.empty((len(rows), 2)), np.empty(len(rows), np.int8)
        for number, own, here in self.rows.by_part(self.vectors.file_rows(rows)):
            metres[here], zones[here] = self.segments[number].positions_of(own)
        return positions_in(self.frame, metres, zones)

    def photo(self, row: int) -> tuple[Path, str]:
        """Return root and name of one photo; nothing else is read."""
        number, own, _ = next(self.rows.by_part(self.vectors.file_rows([row])))
        root, name = self.segments[number].name_of(int(own[0]))
        return Path(root), os.fsdecode(name)


def _existing(path: Path, version: int) -> int:
    """Return `version`. Raises InputError if there is no index, or no such version any more."""
    newest(path)
    there = versions(path)
    if version not in there:
        known = ", ".join(map(str, there))
        raise InputError(f"{path} has no version {version}, only {known}. Open one of these, or the newest.")
    return version


# --- comparing two


@dataclass(frozen=True)
class Difference:
    """The difference between two indexes. Photos with the same id are the same photo.

    Attributes:
        made_by: one line for each difference in the provenance of the descriptors.
        only_first, only_second: names of photos that only one index has.
        changed: names of photos that both have, with another name, position, time, tag or descriptor.
        same: number of photos that are equal in both; descriptors are compared in the less precise of their types.
    """

    made_by: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    changed: tuple[str, ...]
    same: int

    def __bool__(self) -> bool:
        return bool(self.made_by or self.only_first or self.only_second or self.changed)

    def __repr__(self) -> str:
        first, second, changed = map(len, (self.only_first, self.only_second, self.changed))
        only = f"{first:,} only in the first, {second:,} only in the second"
        return f"Difference({only}, {changed:,} changed, {self.same:,} same)"

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
    """Return which descriptors differ, compared in the less precise of their types."""
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
