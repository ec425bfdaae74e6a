"""Snapshots: open versions of an index, which do not change while writers make new versions.

All files of a version are memory-mapped when it is opened. A memory map stays valid when its file is removed, so a
writer may remove files that are still in use.
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
    """One open version of an index.

    Photos are numbered from 0 through all segments, in the order in which they were added.

    Attributes:
        path: the folder of the index.
        manifest: the manifest of the version.
        segments: the open segments, in the order in which they were added.
    """

    path: Path
    manifest: Manifest
    segments: tuple[Segment, ...] = field(repr=False)

    @classmethod
    def open(cls, path: Path, version: int | None = None, near: Snapshot | None = None) -> Self:
        """Open a version of an index, by default the newest.

        Args:
            near: another open version of the index. Its open segments are used again, which saves time.

        Raises:
            InputError: the folder holds no index or not this version, the index has another format, or a file is
                damaged.
        """
        while True:
            number = newest(path) if version is None else _existing(path, version)
            try:
                return cls.of(path, read_manifest(path, number), near)
            except InputError:
                if version is not None or newest(path) == number:
                    raise  # otherwise another process wrote a new version meanwhile: open the new version

    @classmethod
    def of(cls, path: Path, manifest: Manifest, near: Snapshot | None = None) -> Self:
        """Open the files that a manifest lists. The open segments of `near`, another open version, are used again."""
        same = near is not None and near.path == path and near.manifest.made_by == manifest.made_by
        known = near.segments if near is not None and same else ()
        there = {segment.piece: segment for segment in known if segment.file.is_current()}
        opened = (there.get(piece) or Segment(path, piece, manifest.made_by) for piece in manifest.pieces)
        return cls(path, manifest, tuple(opened))

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def rows(self) -> Rows:
        """The vectors of all rows of the files, including removed rows, for search engines."""
        live = [np.isin(np.arange(len(one)), one.live, assume_unique=True) for one in self.segments]
        removed = any(one.removed is not None for one in self.segments)
        return Rows(self.segments, np.concatenate(live) if removed else None, self.manifest.made_by.dim)

    @cached_property
    def vectors(self) -> Vectors:
        """The vectors (N, D) of the photos, without removed photos."""
        return Vectors(self.rows)

    @cached_property
    def columns(self) -> Columns:
        """Everything that the index stores about the photos except their descriptors, without removed photos."""
        return Columns.concatenate([Columns.empty(), *(segment.columns for segment in self.segments)])

    @property
    def frame(self) -> str:
        """The coordinate frame of the positions: "none", "local" or "utm"."""
        return one_frame([segment.frame for segment in self.segments])

    @cached_property
    def numbers(self) -> Indices | None:  # (F,)
        """The number of the photo in each of the F rows of the files; None if no row is removed.

        If no row is removed, the number of a photo is its row. The values at removed rows mean nothing.
        """
        return None if self.rows.live is None else np.cumsum(self.rows.live) - 1

    def find(self, ids: Bytes) -> Indices:  # (M, 32) -> (M,)
        """Return the number of the photo with each id, -1 if the index has no photo with this id."""
        found = np.full(len(ids), -1, np.int64)
        for start, segment in zip(self.rows.starts.tolist(), self.segments, strict=False):
            rows = segment.find(ids)
            there = rows >= 0
            found[there] = start + rows[there] if self.numbers is None else self.numbers[start + rows[there]]
        return found

    def ids_and_metres(self) -> Iterator[tuple[Bytes, Metres]]:  # (n, 32), (n, 2)
        """Yield the ids and positions of the photos of one segment after another.

        The memory of a segment is released before the next segment is read.
        """
        for segment in self.segments:
            yield segment.ids_and_metres()
            give_back(segment.mapped)

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of some photos, given by number; nothing else is read from the disk."""
        metres, zones = np.empty((len(rows), 2)), np.empty(len(rows), np.int8)
        for number, own, here in self.rows.by_part(self.vectors.file_rows(rows)):
            metres[here], zones[here] = self.segments[number].positions_of(own)
        return positions_in(self.frame, metres, zones)

    def photo(self, row: int) -> tuple[Path, str]:
        """Return the root folder and the name of one photo; nothing else is read from the disk."""
        number, own, _ = next(self.rows.by_part(self.vectors.file_rows([row])))
        root, name = self.segments[number].name_of(int(own[0]))
        return Path(root), os.fsdecode(name)


def _existing(path: Path, version: int) -> int:
    """Return `version` if it exists. Raises InputError if there is no index, or if the version was removed."""
    newest(path)
    there = versions(path)
    if version not in there:
        known = ", ".join(map(str, there))
        raise InputError(f"{path} has no version {version}, only {known}. Open one of these versions.")
    return version


# --- comparing two


@dataclass(frozen=True)
class Difference:
    """The difference between two indexes. Photos with the same id (SHA-256 of their bytes) are the same photo.

    Attributes:
        made_by: one line for each difference in the method, weights and settings that made the descriptors.
        only_first, only_second: names of the photos that only the first or only the second index has.
        changed: names of the photos that are in both indexes with a different name, root, position, time, tag or
            descriptor.
        same: number of photos that are equal in both indexes. If one index stores descriptors as float16, descriptors
            are compared as float16.
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
    """Return a mask of the photos whose descriptors differ.

    Args:
        here: numbers of M photos in the first index.
        there: numbers of the same photos in the second index.
    """
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
