"""PlaceIndex: a folder with the descriptors, positions and names of a database, ready to be searched.

It grows and shrinks by versions. Files are never changed: a writer makes new ones, and then one small manifest that
says which of them count. A reader keeps the version that it opened, bit for bit, whatever writers do meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from cricavpr.descriptors import DescriptorSet, MadeBy, refuse_flaws
from cricavpr.errors import InputError
from cricavpr.files import sha256_of
from cricavpr.geo import Positions
from cricavpr.index import writing
from cricavpr.index.auditing import damages
from cricavpr.index.coding import prepare
from cricavpr.index.columns import (
    Columns,
    Indices,
    make_columns,
    pack_ids,
    refuse_one_name,
    stand_in_ids,
)
from cricavpr.index.differences import Difference, difference
from cricavpr.index.engines import Facts, Filter, LaidOut, Tuning, mask_of
from cricavpr.index.engines.choosing import RAM_BUDGET_MB
from cricavpr.index.engines.tuning import SHORTLISTS, TARGET
from cricavpr.index.exporting import export
from cricavpr.index.known import Rows
from cricavpr.index.manifest import DTYPES, FORMAT, known_dtype
from cricavpr.index.search import Predictions
from cricavpr.index.searching import Searcher, Searching, tune
from cricavpr.index.snapshot import Snapshot
from cricavpr.index.vectors import Vectors
from cricavpr.index.writing import Report, refuse_foreign
from cricavpr.times import Times

__all__ = ["Change", "PlaceIndex", "Rows", "photo_ids", "refuse_foreign"]


@dataclass(frozen=True)
class Change:
    """What a verb has done.

    Attributes:
        index: the version that stands now.
        added, removed: photos that came and went; a photo that was replaced counts in both.
        already: photos that were given and are there as they are.
        missing: names that were to be removed and are not in the index.
    """

    index: PlaceIndex
    added: int = 0
    removed: int = 0
    already: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PlaceIndex:
    """One version of an index, open. The verbs that change it return the version that they made."""

    snapshot: Snapshot
    _laid_out: LaidOut | None = field(default=None, repr=False)  # of the version that this one came from

    # --- making one

    @classmethod
    def create(cls, path: Path, made_by: MadeBy, *, dtype: str = DTYPES[0]) -> Self:
        """An index without photos, for descriptors made in one way.

        Args:
            dtype: how descriptors are stored, as long as there is the index: float32, or float16 in half the room.

        Raises:
            InputError: something is there, another dtype, or the place cannot be written.
        """
        return cls(writing.create(Path(path), made_by, known_dtype(dtype)))

    @classmethod
    def build(
        cls,
        descriptors: DescriptorSet,
        positions: Positions | None,  # one row for each descriptor
        root: Path,
        to: Path,
        *,
        ids: Sequence[bytes] | None = None,
        times: Times | None = None,
        tags: Sequence[Sequence[str]] | None = None,
        wait_s: float = 0.0,
        dtype: str = DTYPES[0],
    ) -> Self:
        """Write an index to the folder `to`; an index that is there is replaced when the new one is complete.

        Args:
            descriptors, positions: of the photos.
            root: the folder that their names are relative to.
            to: the folder of the index.
            ids: SHA-256 of each photo's bytes, as `photo_ids` gives them; left out, the name and the descriptor
                stand in for them.
            times: (N,) datetime64, UTC, when each photo was taken.
            tags: words for each photo.
            wait_s: how long to wait for another writer.
            dtype: how descriptors are stored: float32, or float16 in half the room.

        Raises:
            InputError: nothing to index, another dtype, rows that do not fit, vectors that are no descriptors,
                another thing in the way, another writer, or a place that cannot be written.
        """
        if not len(descriptors):
            raise InputError("there are no descriptors, so there is nothing to index. Describe at least one photo.")
        columns = _columns(descriptors, positions, root, ids, times, tags)
        stored = known_dtype(dtype)
        return cls(writing.rebuild(Path(to), descriptors.made_by, columns, descriptors.vectors, wait_s, stored))

    @classmethod
    def open(cls, path: Path, version: int | None = None) -> Self:
        """Open the newest version, or another that is still there.

        Of its size only the checksums are read, one byte in two thousand: every block is checked when it is first
        needed, and `verify` reads them all.

        Raises:
            InputError: no index, a version that is not there any more, another format, or a damaged file, which is
                named.
        """
        return cls(Snapshot.open(Path(path), version))

    def newest(self) -> Self:
        """The newest version now; this one stays what it is.

        Raises:
            InputError: as for `open`.
        """
        return self._followed_by(Snapshot.open(self.path, near=self.snapshot))

    def _followed_by(self, snapshot: Snapshot) -> Self:
        """A later version: what is in memory for searching this one serves there too."""
        return type(self)(snapshot, self._searching.laid_out)

    def _changed(self, outcome: writing.Outcome) -> Change:
        index = self._followed_by(outcome.snapshot)
        return Change(index, outcome.added, outcome.removed, outcome.already)

    # --- what is in it

    def __len__(self) -> int:
        return len(self.snapshot)

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
    def vectors(self) -> Vectors:
        """(N, D) as an array that is never whole in memory; what is read of it was checked."""
        return self.snapshot.vectors

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(map(os.fsdecode, self.snapshot.columns.names.all()))

    @property
    def root(self) -> Path:
        """The folder that the first photo's name is relative to; later ones may have come from elsewhere."""
        return self.snapshot.photo(0)[0] if len(self) else Path()

    @property
    def positions(self) -> Positions:
        return self.rows.positions

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """The positions of some photos, without reading those of the others."""
        return self.snapshot.positions_of(rows)

    @cached_property
    def rows(self) -> Rows:
        """Ids, positions, times and tags of all photos."""
        return Rows.of(self.snapshot.columns)

    @cached_property
    def descriptors(self) -> DescriptorSet:
        """Names and vectors of all photos. Several segments are copied together, so this may take much memory."""
        return DescriptorSet(self.names, self.vectors[:], self.made_by)

    def name(self, row: int) -> str:
        """The name of one photo, without reading those of the others."""
        return self.snapshot.photo(row)[1]

    def photo(self, row: int) -> Path:
        """Where the photo of a row lay when it was added."""
        root, name = self.snapshot.photo(row)
        return root / name

    def find(self, ids: Sequence[bytes]) -> Indices:  # (M,)
        """The row of each photo by the SHA-256 of its bytes, -1 where it is not in the index.

        Raises:
            InputError: something that is no id.
        """
        return self.snapshot.find(pack_ids(ids))

    # --- searching it

    def search(
        self,
        queries: DescriptorSet,  # (Q, D)
        top: int = 5,
        *,
        engine: str = "auto",
        where: Filter | None = None,
        ram_budget_mb: float = RAM_BUDGET_MB,
    ) -> Predictions:  # (Q, min(top, photos that fit))
        """The `top` best photos of the database for each query, best first.

        Args:
            queries: descriptors that were made as those of the photos.
            top: how many to find for each.
            engine: "exact" reads everything; "compressed" reads what codes in memory bring to a shortlist, and makes
                them where there are none; "auto" is exact unless the index is large and was tuned.
            where: which photos may be found.
            ram_budget_mb: memory that "auto" may take for codes.

        Raises:
            MadeByError: the queries were described in another way.
            InputError: `top` below 1, a query that is no descriptor, no photo that fits, or a damaged file, which
                is named.
            MissingExtraError: "compressed" without the extra that brings it.
        """
        self.made_by.require_same(queries.made_by, f"the descriptors of {self.path} and of the queries")
        refuse_flaws(queries)
        return self.searcher(engine=engine, where=where, ram_budget_mb=ram_budget_mb).search(queries.vectors, top)

    def searcher(
        self, *, engine: str = "auto", where: Filter | None = None, ram_budget_mb: float = RAM_BUDGET_MB
    ) -> Searcher:
        """The engine that `search` takes, with the reason for printing and with what had to be made for it.

        Raises:
            InputError: an engine that there is not, no photo that fits, or "compressed" where it cannot be.
            MissingExtraError: "compressed" without the extra that brings it.
        """
        allowed = None if where is None else mask_of([where], self._facts)
        return self._searching.searcher(engine, allowed, ram_budget_mb)

    @cached_property
    def _searching(self) -> Searching:
        return Searching(self.snapshot, self._laid_out)

    @cached_property
    def _facts(self) -> Facts:
        """What filters ask."""
        return self.rows.facts()

    def prepare(self, *, learn: bool = False, progress: Report | None = None, wait_s: float = 0.0) -> str | None:
        """Make the codes of the newest version where there are none; `learn` learns anew what makes them.

        Returns:
            One line where codes were made, and why.

        Raises:
            InputError: too few photos, another writer, or a place that cannot be written.
            MissingExtraError: the extra that brings codes is not installed.
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
        """Measure what shortlists find of what exact search finds, on photos of the index, and keep the answer.

        From then on "auto" takes the shortest shortlist that keeps `target` at 1 and at 10, until much of the index
        is another. Exact search reads the whole index once. The codes must be there: see `prepare`.

        Raises:
            InputError: no codes, too few photos, nothing to measure, or a place that cannot be written.
            MissingExtraError: the extra that brings codes is not installed.
        """
        return tune(self.snapshot, sample, shortlists, target, progress, wait_s)

    def info(self) -> dict[str, Any]:
        """What the index holds, for people and for JSON."""
        pieces = self.snapshot.manifest.pieces
        return {
            "path": str(self.path),
            "format": FORMAT,
            "version": self.version,
            "photos": len(self),
            "with_position": int(self.positions.known.sum()),
            "with_time": self.rows.timed,
            "root": str(self.root),
            "segments": len(pieces),
            "removed_not_compacted": sum(piece.count - piece.live for piece in pieces),
            "stored_as": self.snapshot.manifest.dtype,
            "vectors_bytes": len(self) * self.made_by.dim * np.dtype(self.snapshot.manifest.dtype).itemsize,
            **self._searching.described(RAM_BUDGET_MB),
            "made_by": self.made_by.to_dict(),
        }

    def diff(self, other: PlaceIndex) -> Difference:
        """What this index has and another has not, photo by photo.

        Raises:
            InputError: a damaged file, which is named.
        """
        return difference(self.snapshot, other.snapshot)

    def export(self, path: Path) -> None:
        """Write a table of all photos as .csv, .geojson or .parquet (which has the descriptors too).

        Raises:
            InputError: another kind, or a place that cannot be written.
            MissingExtraError: Parquet, without the extra that brings it.
        """
        export(self.snapshot, Path(path))

    # --- changing it

    def add(
        self,
        descriptors: DescriptorSet,
        positions: Positions | None,  # one row for each descriptor
        root: Path,
        *,
        ids: Sequence[bytes] | None = None,
        times: Times | None = None,
        tags: Sequence[Sequence[str]] | None = None,
        wait_s: float = 0.0,
    ) -> Change:
        """Add photos at the end, in order; those that are there already change nothing. Arguments as for `build`.

        When it returns the photos are on the disk and stay there. What was added in any number of calls is
        searched bit for bit like what was built at once.

        Raises:
            MadeByError: the photos were described in another way.
            InputError: as for `build`.
        """
        columns = _columns(descriptors, positions, root, ids, times, tags)
        return self._changed(writing.add(self.snapshot, descriptors.made_by, columns, descriptors.vectors, wait_s))

    def update(
        self,
        descriptors: DescriptorSet,
        positions: Positions | None,  # one row for each descriptor
        root: Path,
        *,
        ids: Sequence[bytes] | None = None,
        times: Times | None = None,
        tags: Sequence[Sequence[str]] | None = None,
        wait_s: float = 0.0,
    ) -> Change:
        """Add photos, each in place of the one with its name below `root` or with its bytes, in one step.

        What is the same to the last bit stays where it is. Raises as `add` does.
        """
        columns = _columns(descriptors, positions, root, ids, times, tags)
        return self._changed(writing.update(self.snapshot, descriptors.made_by, columns, descriptors.vectors, wait_s))

    def remove(self, names: Sequence[str] = (), *, ids: Sequence[bytes] = (), wait_s: float = 0.0) -> Change:
        """Take out the photos with these names, whatever their root, and those with these ids.

        No search finds them from now on; `compact` then wipes them from the files. Doing it twice changes nothing.

        Raises:
            InputError: one name in place of a list, something that is no id, another writer, or a place that cannot be
                written.
        """
        refuse_one_name(names)
        wanted, missing, packed = {os.fsencode(name) for name in names}, set[str](), pack_ids(ids)

        def choose(newest: Snapshot) -> Indices:
            rows = newest.find(packed)
            missing.update(one.hex() for one, row in zip(ids, rows.tolist(), strict=True) if row < 0)
            there = newest.columns.names.all() if wanted else []
            missing.update(map(os.fsdecode, wanted.difference(there)))
            by_name = [row for row, name in enumerate(there) if name in wanted]
            return np.concatenate([rows[rows >= 0], np.array(by_name, np.int64)])

        outcome = writing.remove(self.snapshot, choose, wait_s)
        return replace(self._changed(outcome), missing=tuple(sorted(missing)))

    def merge(self, other: PlaceIndex, *, wait_s: float = 0.0) -> Change:
        """Add all photos of another index that are not here yet.

        Raises:
            MadeByError: they were described in another way.
            InputError: as for `add`.
        """
        there = other.snapshot
        return self._changed(writing.add(self.snapshot, other.made_by, there.columns, there.vectors, wait_s))

    def compact(self, progress: Report | None = None, *, wait_s: float = 0.0) -> PlaceIndex:
        """Write small segments together, and wipe what was removed from all files. Rows keep their order.

        Raises:
            InputError: another writer, no room for the new files, or an old file that cannot be removed.
        """
        return self._followed_by(writing.compact(self.snapshot, progress, wait_s))

    def verify(self, progress: Report | None = None) -> None:
        """Read every byte of the newest version and compare it with the checksums, and with what it must mean.

        Raises:
            InputError: the first damage: which file, and where in it.
        """
        for damage in damages(self.path, progress):
            raise damage


def photo_ids(root: Path, names: Sequence[str], progress: Report | None = None) -> tuple[bytes, ...]:
    """SHA-256 of each photo's bytes.

    Raises:
        InputError: a photo that cannot be read.
    """
    found = []
    for number, name in enumerate(names, 1):
        try:
            found.append(bytes.fromhex(sha256_of(Path(root) / name)))
        except OSError as error:
            raise InputError(f"cannot read {Path(root) / name}: {error.strerror or error}.") from error
        if progress is not None:
            progress(number, len(names))
    return tuple(found)


def _columns(
    descriptors: DescriptorSet,
    positions: Positions | None,
    root: Path,
    ids: Sequence[bytes] | None,
    times: Times | None,
    tags: Sequence[Sequence[str]] | None,
) -> Columns:
    """The rows to write, after everything about them was checked."""
    refuse_flaws(descriptors)
    if ids is None:
        ids = stand_in_ids(descriptors.names, root, descriptors.vectors)
    return make_columns(descriptors.names, root, ids, positions, times, tags)
