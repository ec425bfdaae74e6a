"""PlaceIndex: a folder with descriptors, positions and names of photos, ready to be searched.

Each change makes a new version. Files never change: a writer adds new ones, and a small manifest that names the files
of the version. A reader keeps the version that it opened, bit for bit, while writers make others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import InputError
from cricavpr.geo import Positions
from cricavpr.index import writing
from cricavpr.index.auditing import damages
from cricavpr.index.codes.coding import InMemory, open_compressed, prepare
from cricavpr.index.codes.tuning import SHORTLISTS, TARGET, Tuned, Tuning, tune
from cricavpr.index.columns import Columns, Indices, Photos, find_names, pack_ids, refuse_one_name
from cricavpr.index.differences import Difference, difference
from cricavpr.index.exporting import export
from cricavpr.index.filters import Filter, Mask, mask_of
from cricavpr.index.manifest import FLOAT32, FORMAT, check_dtype
from cricavpr.index.photo_index import Change, Found, html_table
from cricavpr.index.searching import RAM_BUDGET_MB, FolderSearcher, Searching
from cricavpr.index.snapshot import Snapshot
from cricavpr.index.storage import writer_of
from cricavpr.index.vectors import Vectors
from cricavpr.progress import Report


@dataclass(frozen=True, eq=False, repr=False)
class PlaceIndex:
    """One open version of an index in a folder. Verbs that change it return the version that they made.

    Example:
        >>> import tempfile
        >>> vectors = np.array([[1, 0], [0.6, 0.8]], np.float32)
        >>> made_by = MadeBy("drawn", "none", None, "none", "none", None, 2)
        >>> photos = Photos(DescriptorSet(("a.jpg", "b.jpg"), vectors, made_by), Path("photos"))
        >>> index = PlaceIndex.build(photos, Path(tempfile.mkdtemp()) / "index")
        >>> found = index.search(DescriptorSet(("query",), vectors[1:], made_by), 1)
        >>> index.name(found.indices[0, 0])
        'b.jpg'
        >>> change = index.remove(["a.jpg"])
        >>> change.removed, len(change.index)
        (1, 1)
    """

    snapshot: Snapshot
    _codes: InMemory | None = field(default=None)  # those of an earlier version

    # --- making one

    @classmethod
    def create(cls, path: Path, made_by: MadeBy, *, dtype: str = FLOAT32) -> Self:
        """Make an index without photos.

        Args:
            dtype: how descriptors are stored: float32, or float16 for half the disk space.

        Raises:
            InputError: something is there, unknown dtype, or the place cannot be written.
        """
        check_dtype(dtype)
        return cls(writing.create(Path(path), made_by, dtype))

    @classmethod
    def build(cls, photos: Photos, to: Path, *, dtype: str = FLOAT32, wait_s: float = 0.0) -> Self:
        """Make an index of these photos in the folder `to`. An index there is replaced when the new one is complete.

        Args:
            dtype: how descriptors are stored: float32, or float16 for half the disk space.
            wait_s: how long to wait for another writer, in seconds.

        Raises:
            InputError: no photos, invalid photos, unknown dtype, other files in the folder, another writer, or a
                place that cannot be written.
        """
        if not len(photos):
            raise InputError("there are no descriptors, so there is nothing to index. Describe at least one photo.")
        check_dtype(dtype)
        given = photos.descriptors
        return cls(writing.rebuild(Path(to), given.made_by, photos.columns(), given.vectors, wait_s, dtype))

    @classmethod
    def open(cls, path: Path, version: int | None = None) -> Self:
        """Open the newest version, or another that still exists.

        Only checksums are read now, one byte in two thousand; a block is checked when it is first read. `verify`
        checks all of them.

        Raises:
            InputError: no index, a version that no longer exists, another format, or a damaged file.
        """
        return cls(Snapshot.open(Path(path), version))

    def newest(self) -> Self:
        """Open the newest version; this one does not change. Raises as `open` does."""
        return self._followed_by(Snapshot.open(self.path, near=self.snapshot))

    def _followed_by(self, snapshot: Snapshot) -> Self:
        """Return a later version that shares the codes in memory."""
        return type(self)(snapshot, self._searching.codes)

    def _changed(self, change: Change[Snapshot], missing: tuple[str, ...] = ()) -> Change[Self]:
        return Change(**{**vars(change), "index": self._followed_by(change.index), "missing": missing})

    # --- what is in it

    def __len__(self) -> int:
        return len(self.snapshot)

    def __repr__(self) -> str:
        made_by = self.made_by
        what = f"version {self.version}, {len(self):,} photos, {made_by.method}, {made_by.dim} values"
        return f"PlaceIndex({str(self.path)!r}, {what})"

    def _repr_html_(self) -> str:
        return html_table(self.info())

    @property
    def path(self) -> Path:
        return self.snapshot.path

    @property
    def version(self) -> int:
        return self.snapshot.manifest.version

    @property
    def made_by(self) -> MadeBy:
        return self.snapshot.manifest.made_by

    @property
    def frame(self) -> str:
        """The frame of the positions: none, local or utm."""
        return self.snapshot.frame

    @property
    def vectors(self) -> Vectors:
        """(N, D) float32, indexed like an array; rows are read from disk, and checked, when they are indexed."""
        return self.snapshot.vectors

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(map(os.fsdecode, self.snapshot.columns.raw_names.all()))

    @property
    def root(self) -> Path:
        """The root of the first photo; later ones may have others."""
        return self.snapshot.photo(0)[0] if len(self) else Path()

    @property
    def facts(self) -> Columns:
        """Ids, positions, times and tags of all photos."""
        return self.snapshot.columns

    @property
    def positions(self) -> Positions:
        return self.facts.positions

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of some photos, without reading those of the others."""
        return self.snapshot.positions_of(rows)

    @cached_property
    def descriptors(self) -> DescriptorSet:
        """Names and vectors of all photos. Several segments are copied together, which may take much memory."""
        return DescriptorSet(self.names, self.vectors[:], self.made_by)

    def name(self, row: int) -> str:
        """Return the name of one photo, without reading those of the others."""
        return self.snapshot.photo(row)[1]

    def photo(self, row: int) -> Path:
        """Return the file of one photo, as it was when the photo was added."""
        root, name = self.snapshot.photo(row)
        return root / name

    def find(self, ids: Sequence[bytes]) -> Indices:  # (M,)
        """Return the row of each photo by the SHA-256 of its bytes, -1 if it is missing.

        Raises:
            InputError: an id that is not 32 bytes.
        """
        return self.snapshot.find(pack_ids(ids))

    def contains(self, ids: Sequence[bytes]) -> Mask:  # (M,)
        """Return which photos are in the index, by the SHA-256 of their bytes. Raises as `find` does."""
        return self.find(ids) >= 0

    def info(self) -> dict[str, Any]:
        """Return facts about the index as values of JSON."""
        manifest = self.snapshot.manifest
        return {
            "path": str(self.path),
            "format": FORMAT,
            "version": self.version,
            "photos": len(self),
            "with_position": int(self.positions.known.sum()),
            "with_time": int((~np.isnat(self.facts.times)).sum()),
            "root": str(self.root),
            "segments": len(manifest.pieces),
            "removed_not_compacted": sum(piece.count - piece.live for piece in manifest.pieces),
            "stored_as": manifest.dtype,
            "vectors_bytes": len(self) * self.made_by.dim * np.dtype(manifest.dtype).itemsize,
            **self._searching.described(),
            "made_by": self.made_by.to_dict(),
        }

    # --- searching it

    def search(
        self,
        queries: DescriptorSet,  # (Q, D)
        top: int = 5,
        *,
        engine: str = "auto",
        where: Filter | None = None,
        ram_budget_mb: float = RAM_BUDGET_MB,
    ) -> Found:  # (Q, min(top, photos that match))
        """Return the `top` best photos for each query, best first; of equal scores the one that was added first.

        The score of a query and a photo depends on these two alone, bit for bit.

        Args:
            engine: "exact" reads every descriptor; "compressed" reads those of a shortlist, and makes the codes for it
                if there are none; "auto" is exact unless the index is large and was tuned.
            where: which photos may be found.
            ram_budget_mb: memory that "auto" may use for codes.

        Raises:
            MadeByError: the queries have another provenance.
            InputError: `top` below 1, an invalid query, no photo that matches, or a damaged file.
            MissingExtraError: "compressed", if faiss is not installed.
        """
        return self.searcher(engine=engine, where=where, ram_budget_mb=ram_budget_mb).search(queries, top)

    def searcher(
        self, *, engine: str = "auto", where: Filter | None = None, ram_budget_mb: float = RAM_BUDGET_MB
    ) -> FolderSearcher:
        """Return a searcher, which searches many times with the same engine and filter.

        Raises:
            InputError: unknown engine, no photo that matches, or "compressed" where it is not possible.
            MissingExtraError: "compressed", if faiss is not installed.
        """
        allowed = None if where is None else mask_of(where, self.facts)
        return self._searching.searcher(engine, allowed, ram_budget_mb)

    @cached_property
    def _searching(self) -> Searching:
        return Searching(self.snapshot, self, self._codes)

    def prepare(self, *, learn: bool = False, progress: Report | None = None, wait_s: float = 0.0) -> str | None:
        """Make the codes of the newest version if there are none.

        Args:
            learn: make them again, learnt on the current photos.

        Returns:
            One line that says why codes were made, or None.

        Raises:
            InputError: too few photos, another writer, or a place that cannot be written.
            MissingExtraError: faiss is not installed.
        """
        return prepare(self.path, learn=learn, progress=progress, wait_s=wait_s)

    def tune(
        self,
        sample: int = 100,
        shortlists: Sequence[int] = SHORTLISTS,
        *,
        target: float = TARGET,
        progress: Report | None = None,
        wait_s: float = 0.0,
    ) -> Tuning:
        """Measure the recall of several shortlists against exact search on photos of the index, and keep the result.

        From then on "auto" uses the shortest shortlist that keeps `target` at 1 and at 10, until much of the index
        has changed. Exact search reads the whole index once. The codes must exist: see `prepare`.

        Raises:
            InputError: no codes, too few photos, nothing to measure, or a place that cannot be written.
            MissingExtraError: faiss is not installed.
        """
        engine = open_compressed(self.snapshot).engine
        tuning = tune(engine, sample, shortlists, target, report=progress)
        with writer_of(self.path, wait_s):
            segments = {piece.checksum: piece.live for piece in self.snapshot.manifest.pieces}
            Tuned(engine.quantiser.fingerprint, segments, tuning).write(self.path)
        return tuning

    def diff(self, other: PlaceIndex) -> Difference:
        """Compare with another index, photo by photo. Raises InputError if a file is damaged."""
        return difference(self.snapshot, other.snapshot)

    def export(self, path: Path) -> None:
        """Write one row for each photo as .csv, .geojson or .parquet (which has the descriptors too).

        Raises:
            InputError: unknown suffix, or a place that cannot be written.
            MissingExtraError: Parquet, if pyarrow is not installed.
        """
        export(self.snapshot, Path(path))

    # --- changing it

    def add(self, photos: Photos, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[Self]:
        """Add photos at the end, in order; those that are there already change nothing.

        When it returns the photos are on the disk.

        Args:
            wait_s: how long to wait for another writer, in seconds.
            progress: called with (photos done, photos in all).

        Raises:
            MadeByError: the photos have another provenance.
            InputError: invalid photos, positions of another frame, another writer, or a place that cannot be written.
        """
        given = photos.descriptors
        change = writing.add(self.snapshot, given.made_by, photos.columns(), given.vectors, wait_s)
        if progress is not None:
            progress(len(photos), len(photos))
        return self._changed(change)

    def update(self, photos: Photos, *, wait_s: float = 0.0) -> Change[Self]:
        """Add photos, each in place of the one with its file or its bytes, in one step.

        Photos that are equal to the last bit keep their row. Tags, times and positions that are not given stay, and so
        do root and name of a file that is in the index under another path. Photos in a folder that has moved are
        recognised by their bytes and names; see `Change.moved`.

        Raises:
            As `add`.
        """
        given = photos.descriptors
        keep = {"keep_tags": photos.tags is None, "keep_positions": photos.positions is None}
        change = writing.update(self.snapshot, given.made_by, photos.columns(), given.vectors, wait_s, **keep)
        return self._changed(change)

    def remove(self, names: Sequence[str] = (), *, ids: Sequence[bytes] = (), wait_s: float = 0.0) -> Change[Self]:
        """Remove the photos with these names, whatever their root, and those with these ids.

        A name may be in another Unicode normalisation. No search finds the photos from now on; `compact` then wipes
        them from the files. Repeating it changes nothing.

        Raises:
            InputError: one name in place of a list, an invalid id, another writer, or a place that cannot be written.
        """
        refuse_one_name(names)
        missing, packed = set[str](), pack_ids(ids)

        def choose(newest: Snapshot) -> Indices:
            rows = newest.find(packed)
            missing.update(one.hex() for one, row in zip(ids, rows.tolist(), strict=True) if row < 0)
            there = list(map(os.fsdecode, newest.columns.raw_names.all())) if names else []
            wanted, unknown = find_names(names, there)
            missing.update(unknown)
            by_name = [row for row, name in enumerate(there) if name in wanted]
            return np.concatenate([rows[rows >= 0], np.array(by_name, np.int64)])

        change = writing.remove(self.snapshot, choose, wait_s)
        return self._changed(change, tuple(sorted(missing)))

    def merge(self, other: PlaceIndex, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[Self]:
        """Add all photos of another index that are not here yet. Raises as `add` does."""
        there = other.snapshot
        change = writing.add(self.snapshot, other.made_by, there.columns, there.vectors, wait_s)
        if progress is not None:
            progress(len(other), len(other))
        return self._changed(change)

    def compact(self, progress: Report | None = None, *, wait_s: float = 0.0) -> Self:
        """Merge small segments, and wipe removed photos from all files. Photos keep their order.

        Raises:
            InputError: another writer, a full disk, or an old file that cannot be removed.
        """
        return self._followed_by(writing.compact(self.snapshot, progress, wait_s))

    def verify(self, progress: Report | None = None) -> None:
        """Read every byte of the newest version and compare it with the checksums.

        Raises:
            InputError: the first damaged file, with the place in it.
        """
        for damage in damages(self.path, progress):
            raise damage
