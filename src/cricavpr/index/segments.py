"""A segment: one file with the photos of one commit, written once and never changed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.geo import Metres
from cricavpr.index.array_file import ArrayFile, Column, write_arrays
from cricavpr.index.columns import FRAMES, ID_BYTES, ZONES, Bytes, Columns, Indices, Ragged
from cricavpr.index.manifest import FLOAT32, STORED, Piece
from cricavpr.index.storage import DamagedError, failed_read, read_whole
from cricavpr.mapped import give_back

KIND = "cricavpr.segment.2"
FENCE = 4096  # sorted ids between two fences: looking up one id reads 32 KiB, whatever the size

Stored = NDArray[np.float32] | NDArray[np.float16]

# The columns of N photos: type, and values in a row. Those of FREE have a length of their own.
COLUMNS = {
    "ids": ("|u1", ID_BYTES),
    "keys": ("<u8", 1),
    "key_rows": ("<i8", 1),
    "metres": ("<f8", 2),
    "zones": ("|i1", 1),
    "times": ("<i8", 1),
    "codes": ("<u4", 1),
    "name_ends": ("<i8", 1),
    "tag_ends": ("<i8", 1),
}
FREE = {"fences": "<u8", "names": "|u1", "tags": "|u1"}


def write_segment(
    folder: Path,
    made_by: MadeBy,
    columns: Columns,
    vectors: Iterable[NDArray[np.float32]],  # (n, D) each, together as many rows as `columns`
    dtype: str = FLOAT32,
) -> Piece:
    """Write a segment to a new file and sync it; return its entry for the manifest.

    Raises:
        OSError: it cannot be written. Nothing of it is left.
    """
    kind, name = STORED[dtype], f"segment-{secrets.token_hex(8)}.bin"
    about = {"kind": KIND, "made_by": made_by.fingerprint, "frame": columns.frame, "roots": columns.roots}
    rows = (block.astype(kind, copy=False).tobytes() for block in vectors)
    arrays = {"vectors": Column(kind, (len(columns), made_by.dim), rows)}
    arrays |= {name: Column.of(array) for name, array in _packed(columns).items()}
    length, checksum = write_arrays(folder / name, about, arrays)
    return Piece(name, length, checksum, len(columns))


def _packed(columns: Columns) -> dict[str, NDArray[Any]]:
    keys = sort_keys(columns.ids)
    order = np.argsort(keys, kind="stable")
    return {
        "ids": columns.ids,
        "keys": keys[order],
        "key_rows": order.astype(np.int64),
        "fences": keys[order][::FENCE],
        "metres": columns.metres.astype(np.float64, copy=False),
        "zones": columns.zones,
        "times": columns.times.astype(np.int64),
        "codes": columns.codes,
        "name_ends": columns.names.ends[1:],
        "names": columns.names.data,
        "tag_ends": columns.tags.ends[1:],
        "tags": columns.tags.data,
    }


def sort_keys(ids: Bytes) -> NDArray[np.uint64]:  # (N, 32) -> (N,)
    """Return the first eight bytes of each id as a number; ids are looked up by it."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


class Segment:
    """An open segment, and which of its rows are removed.

    A row is numbered as it lies in the file; a place is its number among the rows that are not removed.
    """

    def __init__(self, folder: Path, piece: Piece, made_by: MadeBy) -> None:
        """Open a segment. The footer is checked now, everything else when it is read.

        Raises:
            FileError: it is not the file that the manifest names, or unreadable.
        """
        self.piece, self.dim = piece, made_by.dim
        self.file = ArrayFile(folder / piece.file, piece.bytes, piece.checksum)
        try:
            self._read_about(made_by)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(self.file.path, f"does not describe a segment ({error})") from error
        self.removed = _read_removed(folder, piece)

    def _read_about(self, made_by: MadeBy) -> None:
        about, arrays = self.file.about, self.file.arrays
        for key, value in {"kind": KIND, "made_by": made_by.fingerprint}.items():
            if about[key] != value:
                raise ValueError(f"{key} is {about[key]}, expected {value}")
        self.frame, self.roots = str(about["frame"]), tuple(map(str, about["roots"]))
        if self.frame not in FRAMES:
            raise ValueError(f"positions in the frame {self.frame}")
        count = self.piece.count
        wanted = {name: (kind, (count, width)[: 1 + (width > 1)]) for name, (kind, width) in COLUMNS.items()}
        wanted |= {name: (kind, arrays[name].shape[:1]) for name, kind in FREE.items()}
        wanted["fences"] = (FREE["fences"], (-(-count // FENCE),))
        for name, (kind, shape) in wanted.items():
            if (arrays[name].type, arrays[name].shape) != (kind, shape):
                raise ValueError(f"{name} are {arrays[name].type} of shape {arrays[name].shape}")
        vectors = arrays["vectors"]
        if vectors.type not in STORED.values() or vectors.shape != (count, self.dim):
            raise ValueError(f"vectors are {vectors.type} of shape {vectors.shape}")

    @property
    def checksum(self) -> str:
        return self.piece.checksum

    @cached_property
    def live(self) -> Indices:
        """(n,) the rows that are not removed, rising."""
        rows = np.arange(self.piece.count)
        return rows if self.removed is None else np.delete(rows, self.removed)

    def rows_at(self, places: Indices) -> Indices:
        return places if self.removed is None else self.live[places]

    # --- vectors, by row: what search engines read, removed ones too

    @cached_property
    def mapped(self) -> Stored:  # (count, D)
        """The vectors as they lie in the file, not checked: read them by index."""
        return self.file.mapped("vectors")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.file.arrays["vectors"].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.file.arrays["vectors"].type)

    def __len__(self) -> int:
        return self.piece.count

    def __getitem__(self, rows: slice | Indices) -> Stored:
        """Return vectors of the file, checked; a slice is not copied."""
        if isinstance(rows, slice):
            first, end, _ = rows.indices(len(self))
            return self.file.stretch("vectors", first, max(first, end))
        return self.file.rows("vectors", rows)

    # --- photos, by place

    def vectors(self, first: int, end: int) -> NDArray[np.float32]:  # (end - first, D)
        """Return neighbouring vectors, checked; float32 is not copied unless one between them is removed."""
        return self._single(self[first:end]) if self.removed is None else self.vectors_of(np.arange(first, end))

    def vectors_of(self, places: Indices) -> NDArray[np.float32]:  # (M,) -> (M, D)
        """Return some vectors, checked."""
        return self._single(self[self.rows_at(places)])

    def _single(self, stored: Stored) -> NDArray[np.float32]:
        if stored.dtype == np.float32:
            return cast("NDArray[np.float32]", stored)
        single = stored.astype(np.float32)
        give_back(self.mapped)
        return single

    @cached_property
    def columns(self) -> Columns:
        """Everything but the vectors."""
        whole = Columns(
            self.file.stretch("ids"),
            self._ragged("name"),
            self._ragged("tag"),
            self.file.stretch("metres"),
            self.file.stretch("zones"),
            self.file.stretch("times").view("<M8[ms]"),
            self.file.stretch("codes"),
            self.roots,
            self.frame,
        )
        self._check_zones(whole.zones)
        if (whole.codes >= len(self.roots)).any():
            raise DamagedError(self.file.path, "has a photo without a folder")
        return whole if self.removed is None else whole.take(self.live)

    def _ragged(self, name: str) -> Ragged:
        ends, data = self.file.stretch(f"{name}_ends"), self.file.stretch(f"{name}s")
        whole = np.concatenate([[0], ends]).astype(np.int64)
        if (np.diff(whole) < 0).any() or whole[-1] != len(data):
            raise DamagedError(self.file.path, f"has {name}s of invalid lengths")
        return Ragged(whole, data)

    def ids_and_metres(self) -> tuple[Bytes, Metres]:  # (n, 32), (n, 2)
        """Return ids and positions, and read nothing else."""
        ids, metres = self.file.stretch("ids"), self.file.stretch("metres")
        return (ids, metres) if self.removed is None else (ids[self.live], metres[self.live])

    def positions_of(self, places: Indices) -> tuple[Metres, NDArray[np.int8]]:  # (M,) -> (M, 2), (M,)
        """Return metres and zone codes of some photos, without reading those of the others."""
        rows = self.rows_at(places)
        metres, zones = self.file.rows("metres", rows), self.file.rows("zones", rows)
        self._check_zones(zones)
        return metres, zones

    def _check_zones(self, zones: NDArray[np.int8]) -> None:
        if (np.abs(zones.astype(np.int64)) > ZONES).any():
            raise DamagedError(self.file.path, "has a photo in an invalid zone")

    def name_of(self, place: int) -> tuple[str, bytes]:
        """Return root and name of one photo, without reading those of the others."""
        row = int(self.rows_at(np.array([place]))[0])
        code, end = int(self._one("codes", row)), int(self._one("name_ends", row))
        start = int(self._one("name_ends", row - 1)) if row else 0
        if not 0 <= start <= end <= self.file.arrays["names"].shape[0] or code >= len(self.roots):
            raise DamagedError(self.file.path, "has a name outside of the file")
        return self.roots[code], self.file.stretch("names", start, end).tobytes()

    def _one(self, name: str, row: int) -> Any:
        return self.file.stretch(name, row, row + 1)[0]

    def find(self, ids: Bytes) -> Indices:  # (M, 32) -> (M,)
        """Return the place of each id, -1 if it is missing.

        Reads the fences, and of the sorted keys only the stretches between fences that it needs.
        """
        fences, keys = self.file.stretch("fences"), sort_keys(ids)
        low = np.maximum(np.searchsorted(fences, keys, "left") - 1, 0)
        high = np.maximum(np.searchsorted(fences, keys, "right"), 1)  # equal keys may cross a fence
        found = np.full(len(ids), -1, np.int64)
        wide = [np.arange(a, b) for a, b in zip(low, high, strict=True) if b - a > 2]
        for stretch in np.unique(np.concatenate([low, high - 1, *wide])).tolist():
            self._find_in(stretch, np.flatnonzero((low <= stretch) & (stretch < high)), keys, ids, found)
        return found

    def _find_in(self, stretch: int, asked: Indices, keys: NDArray[np.uint64], ids: Bytes, found: Indices) -> None:
        first, end = stretch * FENCE, min((stretch + 1) * FENCE, len(self))
        there = self.file.stretch("keys", first, end)
        left, right = np.searchsorted(there, keys[asked], "left"), np.searchsorted(there, keys[asked], "right")
        for number in np.flatnonzero(left < right).tolist():
            for at in range(int(left[number]), int(right[number])):
                row = int(self._one("key_rows", first + at))
                if self._is(row, ids[asked[number]]):
                    found[asked[number]] = row if self.removed is None else int(np.searchsorted(self.live, row))

    def _is(self, row: int, photo: Bytes) -> bool:
        """Return whether a row exists, is that photo, and is not removed."""
        if not 0 <= row < len(self) or row in self._gone:
            return False
        return bool((self._one("ids", row) == photo).all())

    @cached_property
    def _gone(self) -> frozenset[int]:
        return frozenset(() if self.removed is None else self.removed.tolist())


def _read_removed(folder: Path, piece: Piece) -> Indices | None:
    """Return the removed rows of a segment, checked; None if there are none."""
    if piece.removed is None:
        return None
    path = folder / piece.removed.file
    try:
        content = read_whole(path, piece.removed.bytes)
    except OSError as error:
        raise failed_read(path, error) from error
    if hashlib.sha256(content).hexdigest() != piece.removed.sha256:
        raise DamagedError(path, "does not match its checksum", 0)
    rows = np.frombuffer(content, "<i8").astype(np.int64)
    if (np.diff(rows) <= 0).any() or rows[0] < 0 or rows[-1] >= piece.count:
        raise DamagedError(path, "names rows that its segment does not have")
    return rows
