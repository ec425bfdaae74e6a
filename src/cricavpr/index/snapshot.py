"""One open version of an index, which does not change while writers make new versions.

All its files are mapped when it is opened. A mapping stays valid when the file is removed, so writers need not know
about readers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from cricavpr.errors import InputError
from cricavpr.geo import Metres, Positions
from cricavpr.index.columns import Bytes, Columns, Indices, one_frame, positions_in
from cricavpr.index.manifest import Manifest, newest, read_manifest, versions
from cricavpr.index.segments import Segment
from cricavpr.index.vectors import Rows, Vectors
from cricavpr.mapped import give_back


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The segments of one version, in the order of adding. Photos are numbered from the first segment to the last."""

    path: Path
    manifest: Manifest
    segments: tuple[Segment, ...] = field(repr=False)

    @classmethod
    def open(cls, path: Path, version: int | None = None, near: Snapshot | None = None) -> Self:
        """Open a version, by default the newest; segments shared with `near` are not opened again.

        Raises:
            InputError: no index, a version that no longer exists, another format, or a damaged file.
        """
        while True:
            number = newest(path) if version is None else _existing(path, version)
            try:
                return cls.of(path, read_manifest(path, number), near)
            except InputError:
                if version is not None or newest(path) == number:
                    raise  # otherwise it was replaced while we read: read the new one

    @classmethod
    def of(cls, path: Path, manifest: Manifest, near: Snapshot | None = None) -> Self:
        """Open the files of a manifest; segments shared with `near` are not opened again."""
        same = near is not None and near.path == path and near.manifest.made_by == manifest.made_by
        known = near.segments if near is not None and same else ()
        there = {segment.piece: segment for segment in known if segment.file.is_current()}
        opened = (there.get(piece) or Segment(path, piece, manifest.made_by) for piece in manifest.pieces)
        return cls(path, manifest, tuple(opened))

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def rows(self) -> Rows:
        """The vectors by row of the files, with removed ones, as search engines read them."""
        live = [np.isin(np.arange(len(one)), one.live, assume_unique=True) for one in self.segments]
        removed = any(one.removed is not None for one in self.segments)
        return Rows(self.segments, np.concatenate(live) if removed else None, self.manifest.made_by.dim)

    @cached_property
    def vectors(self) -> Vectors:
        """(N, D) the vectors of the photos."""
        return Vectors(self.rows)

    @cached_property
    def columns(self) -> Columns:
        """Everything but the vectors."""
        return Columns.concatenate([Columns.empty(), *(segment.columns for segment in self.segments)])

    @property
    def frame(self) -> str:
        """The frame of the positions: none, local or utm."""
        return one_frame([segment.frame for segment in self.segments])

    @cached_property
    def numbers(self) -> Indices | None:  # (F,)
        """The number of the photo in each row of the files; None if photos and rows have the same numbers."""
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
        """Yield ids and positions, segment by segment; pages that were read are released."""
        for segment in self.segments:
            yield segment.ids_and_metres()
            give_back(segment.mapped)

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of some photos, without reading those of the others."""
        metres, zones = np.empty((len(rows), 2)), np.empty(len(rows), np.int8)
        for number, own, here in self.rows.by_part(self.vectors.file_rows(rows)):
            metres[here], zones[here] = self.segments[number].positions_of(own)
        return positions_in(self.frame, metres, zones)

    def photo(self, row: int) -> tuple[Path, str]:
        """Return root and name of one photo, without reading those of the others."""
        number, own, _ = next(self.rows.by_part(self.vectors.file_rows([row])))
        root, name = self.segments[number].name_of(int(own[0]))
        return Path(root), os.fsdecode(name)


def _existing(path: Path, version: int) -> int:
    """Return a version. Raises InputError if it does not exist any more, which is no damage."""
    newest(path)  # reports that there is no index
    there = versions(path)
    if version not in there:
        known = ", ".join(map(str, there))
        raise InputError(f"{path} has no version {version}, only {known}. Open one of these, or the newest.")
    return version
