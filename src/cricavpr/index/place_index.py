"""PlaceIndex: a folder with descriptors, positions and names of photos that can be searched.

Each change makes a new version. Files never change: a writer adds new files, and a small manifest that lists the files
of the new version. A reader keeps the version that it opened, bit for bit, while writers make new versions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
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
from cricavpr.index.exporting import export
from cricavpr.index.filters import Filter, Mask, mask_of
from cricavpr.index.manifest import FLOAT32, FORMAT, check_dtype
from cricavpr.index.photo_index import Change, Found, html_table
from cricavpr.index.searching import RAM_BUDGET_MB, FolderSearcher, Searching
from cricavpr.index.snapshot import Difference, Snapshot, difference
from cricavpr.index.storage import writer_of
from cricavpr.index.vectors import Vectors
from cricavpr.progress import Report


@dataclass(frozen=True, eq=False, repr=False)
class PlaceIndex:
    """One open version of an index in a folder. Methods that change the index return the new version.

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
    _codes: InMemory | None = None  # codes that were loaded into memory for an earlier version

    # --- making an index

    @classmethod
    def create(cls, path: Path, made_by: MadeBy, *, dtype: str = FLOAT32) -> Self:
        """Make an index without photos.

        Args:
            dtype: how descriptors are stored: float32, or float16 for half the disk space.

        Raises:
            InputError: the folder holds an index or other files, the dtype is unknown, or the folder cannot be written.
        """
        check_dtype(dtype)
        return cls(writing.create(Path(path), made_by, dtype))

    @classmethod
    def build(cls, photos: Photos, to: Path, *, dtype: str = FLOAT32, wait_s: float = 0.0) -> Self:
        """Make an index of these photos in the folder `to`.

        If the folder holds an index already, it is replaced as soon as the new index is complete.

        Args:
            dtype: how descriptors are stored: float32, or float16 for half the disk space.
            wait_s: how long to wait for another process that writes to the index, in seconds.

        Raises:
            InputError: there are no photos, a photo has invalid data, the dtype is unknown, the folder holds other
                files or cannot be written, or another process writes to the index.
        """
        if not len(photos):
            raise InputError("an index needs at least one photo, got no photos. Describe at least one photo first.")
        check_dtype(dtype)
        given = photos.descriptors
        return cls(writing.rebuild(Path(to), given.made_by, photos.columns(), given.vectors, wait_s, dtype))

    @classmethod
    def open(cls, path: Path, version: int | None = None) -> Self:
        """Open the newest version of an index, or an older version that still exists.

        Opening does not read the data: each block of 8 KiB is compared with its checksum when it is first read.
        `verify` checks all blocks.

        Raises:
            InputError: the folder holds no index or not this version, the index has another format, or a file is
                damaged.
        """
        return cls(Snapshot.open(Path(path), version))

    def newest(self) -> Self:
        """Open the newest version and return it; this object itself is not changed. Raises the errors of `open`."""
        return self._followed_by(Snapshot.open(self.path, near=self.snapshot))

    def _followed_by(self, snapshot: Snapshot) -> Self:
        """Return an index for a later version, which shares the codes that are in memory."""
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
        """The coordinate frame of the positions: "none", "local" or "utm"."""
        return self.snapshot.frame

    @property
    def vectors(self) -> Vectors:
        """The descriptors (N, D) in float32. Indexing them like an array reads rows from the disk and checks them."""
        return self.snapshot.vectors

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all photos."""
        return tuple(map(os.fsdecode, self.snapshot.columns.raw_names.all()))

    @property
    def root(self) -> Path:
        """The folder that the name of the first photo is relative to; other photos may have other root folders."""
        return self.snapshot.photo(0)[0] if len(self) else Path()

    @property
    def facts(self) -> Columns:
        """Ids, positions, times and tags of all photos."""
        return self.snapshot.columns

    @property
    def positions(self) -> Positions:
        return self.facts.positions

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of the photos in these rows; nothing else is read from the disk."""
        return self.snapshot.positions_of(rows)

    @cached_property
    def descriptors(self) -> DescriptorSet:
        """The names and descriptors of all photos, loaded into memory."""
        return DescriptorSet(self.names, self.vectors[:], self.made_by)

    def name(self, row: int) -> str:
        """Return the name of one photo; nothing else is read from the disk."""
        return self.snapshot.photo(row)[1]

    def photo(self, row: int) -> Path:
        """Return the path that the file of the photo had when the photo was added."""
        root, name = self.snapshot.photo(row)
        return root / name

    def find(self, ids: Sequence[bytes]) -> Indices:  # (M,)
        """Return the row of the photo with each id, or -1 if the index has no photo with this id.

        Args:
            ids: the SHA-256 of the bytes of each photo.

        Raises:
            InputError: an id is not 32 bytes.
        """
        return self.snapshot.find(pack_ids(ids))

    def contains(self, ids: Sequence[bytes]) -> Mask:  # (M,)
        """Return, for each id, whether the index has this photo. The id of a photo is the SHA-256 of its bytes.

        Raises:
            InputError: an id is not 32 bytes.
        """
        return self.find(ids) >= 0

    def info(self) -> dict[str, Any]:
        """Return facts about the index, such as the number of photos, as values for JSON."""
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
        """Return the `top` photos with the highest scores for each query, best first.

        Photos with equal scores are returned in the order in which they were added. A score depends only on its query
        and its photo, bit for bit.

        Args:
            top: number of photos to return for each query.
            engine: "exact" compares the query with every descriptor. "compressed" compares short codes with the query
                and reads only the descriptors of a shortlist; missing codes are made. "auto" is "compressed" if the
                index is large and was tuned, otherwise "exact".
            where: a filter; only photos that match it are found.
            ram_budget_mb: memory that "auto" may use for codes, in MB.

        Raises:
            MadeByError: the queries were made with another method, weights or settings than the index.
            InputError: `top` is below 1, a query is invalid, no photo matches the filter, or a file is damaged.
            MissingExtraError: the engine is "compressed" and faiss is not installed.
        """
        return self.searcher(engine=engine, where=where, ram_budget_mb=ram_budget_mb).search(queries, top)

    def searcher(
        self, *, engine: str = "auto", where: Filter | None = None, ram_budget_mb: float = RAM_BUDGET_MB
    ) -> FolderSearcher:
        """Return a searcher for many searches with the same engine and filter. The arguments are those of `search`.

        Raises:
            InputError: the engine is unknown, no photo matches the filter, or codes for "compressed" cannot be made.
            MissingExtraError: the engine is "compressed" and faiss is not installed.
        """
        allowed = None if where is None else mask_of(where, self.facts)
        return self._searching.searcher(engine, allowed, ram_budget_mb)

    @cached_property
    def _searching(self) -> Searching:
        return Searching(self.snapshot, self, self._codes)

    def prepare(self, *, learn: bool = False, progress: Report | None = None, wait_s: float = 0.0) -> str | None:
        """Make the codes for compressed search of the newest version, unless they exist.

        Args:
            learn: make new codes even if codes exist. They are learnt on the current photos.
            progress: called with (photos done, photos in all).
            wait_s: how long to wait for another process that writes to the index, in seconds.

        Returns:
            The reason why codes were made, in one line; None if no codes were made.

        Raises:
            InputError: there are too few photos, another process writes to the index, or the folder cannot be written.
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
        """Measure the recall of compressed search for several lengths of the shortlist, and store the result.

        Photos of the index are the queries. Afterwards, the engine "auto" uses the shortest shortlist whose recall at 1
        and at 10 is at least `target`. The result is ignored once more than a fifth of the photos have changed. The
        codes must exist: see `prepare`. The whole index is read once.

        Args:
            sample: number of photos to use as queries.
            shortlists: the lengths to measure: the number of descriptors that are read for each query.
            target: the lowest acceptable recall, from 0 to 1, where 1 is the recall of exact search.
            progress: called with (photos done, photos in all).
            wait_s: how long to wait for another process that writes to the index, in seconds.

        Raises:
            InputError: there are no codes, too few photos, no queries or no shortlists, or the folder cannot be
                written.
            MissingExtraError: faiss is not installed.
        """
        engine = open_compressed(self.snapshot).engine
        tuning = tune(engine, sample, shortlists, target, report=progress)
        with writer_of(self.path, wait_s):
            segments = {piece.checksum: piece.live for piece in self.snapshot.manifest.pieces}
            Tuned(engine.quantiser.fingerprint, segments, tuning).write(self.path)
        return tuning

    def diff(self, other: PlaceIndex) -> Difference:
        """Compare this index with another index, photo by photo. Raises InputError if a file is damaged."""
        return difference(self.snapshot, other.snapshot)

    def export(self, path: Path) -> None:
        """Write a .csv, .geojson or .parquet file with one row for each photo. Only Parquet includes the descriptors.

        Raises:
            InputError: the suffix is unknown, or the file cannot be written.
            MissingExtraError: the suffix is .parquet and pyarrow is not installed.
        """
        export(self.snapshot, Path(path))

    # --- changing it

    def add(self, photos: Photos, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[Self]:
        """Add photos after the photos of the index, in order. Photos that are in the index already are ignored.

        When this method returns, the photos are safely on the disk.

        Args:
            wait_s: how long to wait for another process that writes to the index, in seconds.
            progress: called with (photos done, photos in all).

        Raises:
            MadeByError: the descriptors were made with another method, weights or settings than those of the index.
            InputError: a photo has invalid data, the positions have another coordinate frame than those of the index,
                another process writes to the index, or the folder cannot be written.
        """
        given = photos.descriptors
        change = writing.add(self.snapshot, given.made_by, photos.columns(), given.vectors, wait_s, progress)
        return self._changed(change)

    def update(self, photos: Photos, *, wait_s: float = 0.0) -> Change[Self]:
        """Add photos. Each replaces the photo of the index that has the same path or the same bytes.

        Photos that have not changed keep their row. Tags, times and positions that are not given are taken from the
        replaced photo. A copy of a photo of the index, or a symbolic link to it, gets the root and name of that photo.
        Photos in a folder that has moved are recognised by their bytes and names; see `Change.moved`. Raises the errors
        of `add`.
        """
        given = photos.descriptors
        keep = {"keep_tags": photos.tags is None, "keep_positions": photos.positions is None}
        change = writing.update(self.snapshot, given.made_by, photos.columns(), given.vectors, wait_s, **keep)
        return self._changed(change)

    def remove(self, names: Sequence[str] = (), *, ids: Sequence[bytes] = (), wait_s: float = 0.0) -> Change[Self]:
        """Remove the photos with these names or ids. Names and ids that the index does not have are ignored.

        A name matches the photos with this name in every root folder, also in another Unicode normalisation. Searches
        no longer find the removed photos, but their bytes stay in the files until `compact` wipes them.

        Args:
            ids: the SHA-256 of the bytes of each photo.
            wait_s: how long to wait for another process that writes to the index, in seconds.

        Raises:
            InputError: `names` is a single string, an id is invalid, another process writes to the index, or the folder
                cannot be written.
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
        """Add all photos of another index that this index does not have. Raises the errors of `add`."""
        return self._changed(writing.add(self.snapshot, other.made_by, other.facts, other.vectors, wait_s, progress))

    def compact(self, progress: Report | None = None, *, wait_s: float = 0.0) -> Self:
        """Merge small segment files into larger ones, and wipe removed photos from all files. Photos keep their order.

        Raises:
            InputError: another process writes to the index, the disk is full, or an old file cannot be removed.
        """
        return self._followed_by(writing.compact(self.snapshot, progress, wait_s))

    def verify(self, progress: Report | None = None) -> None:
        """Read every byte of the newest version and compare it with the checksums.

        Raises:
            InputError: a file is damaged. The message gives the first damaged file and the offset of the damage.
        """
        for damage in damages(self.path, progress):
            raise damage
