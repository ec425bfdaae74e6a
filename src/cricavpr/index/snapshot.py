"""One open version of an index: it stays what it is, whatever writers do afterwards.

All its files are mapped when it is opened, and a map outlives the name of its file, so writers need not know who
reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.geo import Metres, Positions
from cricavpr.index.columns import Bytes, Columns, Indices, one_frame, positions_in
from cricavpr.index.manifest import Manifest, newest, read_manifest, versions
from cricavpr.index.segments import Segment
from cricavpr.index.vectors import Rows, Vectors
from cricavpr.mapped import give_back


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The segments of one version, in the order of adding; photos are numbered through all of them."""

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
        """Open the files of a manifest. Files and memory are limited, so open segments are shared."""
        same = near is not None and near.path == path and near.manifest.made_by == manifest.made_by
        known = near.segments if near is not None and same else ()
        there = {segment.piece: segment for segment in known if segment.file.stands()}
        opened = (there.get(piece) or Segment(path, piece, manifest.made_by) for piece in manifest.pieces)
        return cls(path, manifest, tuple(opened))

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def vectors(self) -> Vectors:
        """(N, D) the vectors of the photos."""
        return Vectors(self.segments, self.manifest.made_by.dim)

    @cached_property
    def rows(self) -> Rows:
        """The vectors as search engines read them: file by file, removed ones too."""
        return Rows(self.segments, self.live, self.manifest.made_by.dim)

    @cached_property
    def columns(self) -> Columns:
        """Everything but the vectors."""
        return Columns.concatenate([Columns.empty(), *(segment.columns for segment in self.segments)])

    @property
    def frame(self) -> str:
        """The frame of the positions: none, local or utm."""
        return one_frame([segment.frame for segment in self.segments])

    @cached_property
    def live(self) -> NDArray[np.bool_] | None:  # (F,)
        """Which rows of the files, one after the other, are not removed; None for all."""
        if all(segment.removed is None for segment in self.segments):
            return None
        live = np.zeros(sum(map(len, self.segments)), np.bool_)
        starts = np.cumsum([0, *map(len, self.segments)])
        for start, segment in zip(starts.tolist(), self.segments, strict=False):
            live[start + segment.live] = True
        return live

    @cached_property
    def numbers(self) -> Indices | None:  # (F,)
        """The number of the photo in each live row of the files; None if they are equal."""
        return None if self.live is None else np.cumsum(self.live) - 1

    def find(self, ids: Bytes) -> Indices:  # (M, 32) -> (M,)
        """Return the number of each photo, -1 if it is missing."""
        found = np.full(len(ids), -1, np.int64)
        for start, segment in zip(self.vectors.starts.tolist(), self.segments, strict=False):
            places = segment.find(ids)
            found[places >= 0] = start + places[places >= 0]
        return found

    def ids_and_metres(self) -> Iterator[tuple[Bytes, Metres]]:  # (n, 32), (n, 2)
        """Yield ids and positions, segment by segment; pages that were read are released."""
        for segment in self.segments:
            yield segment.ids_and_metres()
            give_back(segment.mapped)

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of some photos, without reading those of the others."""
        rows = self.vectors.numbered(rows)
        metres, zones = np.empty((len(rows), 2)), np.empty(len(rows), np.int8)
        for number, here in self.vectors.by_segment(rows):
            places = rows[here] - self.vectors.starts[number]
            metres[here], zones[here] = self.segments[number].positions_of(places)
        return positions_in(self.frame, metres, zones)

    def photo(self, row: int) -> tuple[Path, str]:
        """Return root and name of one photo, without reading those of the others."""
        row = range(len(self))[row]
        number = int(np.searchsorted(self.vectors.starts, row, "right")) - 1
        root, name = self.segments[number].name_of(row - int(self.vectors.starts[number]))
        return Path(root), os.fsdecode(name)


def _existing(path: Path, version: int) -> int:
    """Raise InputError if a version was replaced or compacted away, which is no damage."""
    newest(path)  # reports that there is no index
    there = versions(path)
    if version not in there:
        known = ", ".join(map(str, there))
        raise InputError(f"{path} has no version {version}, only {known}. Open one of these, or the newest.")
    return version
