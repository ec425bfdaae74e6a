"""Segments: files that hold the photos of an index. A segment is written once and never changed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.geo import Metres
from cricavpr.index.array_file import ArrayFile, Column, write_arrays
from cricavpr.index.columns import FRAMES, ID_BYTES, ZONES, Bytes, Columns, Indices, Ragged
from cricavpr.index.manifest import FLOAT32, STORED, Piece
from cricavpr.index.storage import DamagedError, failed_read, read_whole

KIND = "cricavpr.segment.2"

Stored = NDArray[np.float32] | NDArray[np.float16]

# The arrays with one row for each photo: their type and the length of a row. The arrays in FREE may have any length.
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
FREE = {"names": "|u1", "tags": "|u1"}


def write_segment(
    folder: Path,
    made_by: MadeBy,
    columns: Columns,
    vectors: Iterable[NDArray[np.float32]],  # (n, D) each, together as many rows as `columns`
    dtype: str = FLOAT32,
) -> Piece:
    """Write a segment to a new file and sync it. Return the entry of the segment for the manifest.

    Raises:
        OSError: the file cannot be written. A partial file is removed.
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
        "metres": columns.metres.astype(np.float64, copy=False),
        "zones": columns.zones,
        "times": columns.times.astype(np.int64),
        "codes": columns.codes,
        "name_ends": columns.raw_names.ends[1:],
        "names": columns.raw_names.data,
        "tag_ends": columns.raw_tags.ends[1:],
        "tags": columns.raw_tags.data,
    }


def sort_keys(ids: Bytes) -> NDArray[np.uint64]:  # (N, 32) -> (N,)
    """Return the first eight bytes of each id as an integer, the key for binary search."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


class Segment:
    """An open segment. Row numbers count all rows of the file, including removed rows."""

    def __init__(self, folder: Path, piece: Piece, made_by: MadeBy) -> None:
        """Open a segment. The footer is checked now, and the data when they are read.

        Raises:
            FileError: the file is unreadable, damaged, or not the file that the manifest describes.
        """
        self.piece, self.dim = piece, made_by.dim
        self.file = ArrayFile(folder / piece.file, piece.bytes, piece.checksum)
        try:
            self._read_about(made_by)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(self.file.path, f"is not a valid segment ({error})") from error
        self.removed = _read_removed(folder, piece)

    def _read_about(self, made_by: MadeBy) -> None:
        about, arrays = self.file.about, self.file.arrays
        for key, value in {"kind": KIND, "made_by": made_by.fingerprint}.items():
            if about[key] != value:
                raise ValueError(f"its {key} is {about[key]}, expected {value}")
        self.frame, self.roots = str(about["frame"]), tuple(map(str, about["roots"]))
        if self.frame not in FRAMES:
            raise ValueError(f"unknown frame {self.frame!r}")
        count = self.piece.count
        wanted = {name: (kind, (count, width)[: 1 + (width > 1)]) for name, (kind, width) in COLUMNS.items()}
        wanted |= {name: (kind, arrays[name].shape[:1]) for name, kind in FREE.items()}
        for name, (kind, shape) in wanted.items():
            if (arrays[name].type, arrays[name].shape) != (kind, shape):
                raise ValueError(
                    f"{name} are {arrays[name].type} of shape {arrays[name].shape}, expected {kind} of shape {shape}"
                )
        vectors = arrays["vectors"]
        if vectors.type not in STORED.values() or vectors.shape != (count, self.dim):
            raise ValueError(f"vectors are {vectors.type} of shape {vectors.shape}, expected shape {(count, self.dim)}")

    @cached_property
    def live(self) -> Indices:
        """(n,) the rows that are not removed, sorted."""
        rows = np.arange(self.piece.count)
        return rows if self.removed is None else np.delete(rows, self.removed)

    @cached_property
    def mapped(self) -> Stored:  # (count, D)
        """The vectors without a check of their checksums. Index the segment itself to read checked vectors."""
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
        """Return the vectors in these rows after checking their checksums. A slice is not copied."""
        if isinstance(rows, slice):
            first, end, _ = rows.indices(len(self))
            return self.file.read("vectors", first, max(first, end))
        return self.file.read_rows("vectors", rows)

    @cached_property
    def columns(self) -> Columns:
        """The columns (names, positions and so on) of the rows that are not removed."""
        whole = Columns(
            self.file.read("ids"),
            self._ragged("name"),
            self._ragged("tag"),
            self.file.read("metres"),
            self.file.read("zones"),
            self.file.read("times").view("<M8[ms]"),
            self.file.read("codes"),
            self.roots,
            self.frame,
        )
        self._check_zones(whole.zones)
        if (whole.codes >= len(self.roots)).any():
            raise DamagedError(self.file.path, "has a photo with an invalid root folder number")
        return whole if self.removed is None else whole.take(self.live)

    def _ragged(self, name: str) -> Ragged:
        ends, data = self.file.read(f"{name}_ends"), self.file.read(f"{name}s")
        whole = np.concatenate([[0], ends]).astype(np.int64)
        if (np.diff(whole) < 0).any() or whole[-1] != len(data):
            raise DamagedError(self.file.path, f"has {name}s with invalid lengths")
        return Ragged(whole, data)

    def ids_and_metres(self) -> tuple[Bytes, Metres]:  # (n, 32), (n, 2)
        """Return the ids and positions of the rows that are not removed; nothing else is read."""
        ids, metres = self.file.read("ids"), self.file.read("metres")
        return (ids, metres) if self.removed is None else (ids[self.live], metres[self.live])

    def positions_of(self, rows: Indices) -> tuple[Metres, NDArray[np.int8]]:  # (M,) -> (M, 2), (M,)
        """Return the metres and the zone numbers of some rows; nothing else is read."""
        metres, zones = self.file.read_rows("metres", rows), self.file.read_rows("zones", rows)
        self._check_zones(zones)
        return metres, zones

    def _check_zones(self, zones: NDArray[np.int8]) -> None:
        if (np.abs(zones.astype(np.int64)) > ZONES).any():
            raise DamagedError(self.file.path, "has a photo with an invalid UTM zone number")

    def name_of(self, row: int) -> tuple[str, bytes]:
        """Return the root folder and the name of the photo in one row; nothing else is read."""
        code, end = int(self._one("codes", row)), int(self._one("name_ends", row))
        start = int(self._one("name_ends", row - 1)) if row else 0
        if not 0 <= start <= end <= self.file.arrays["names"].shape[0] or code >= len(self.roots):
            raise DamagedError(self.file.path, "has a photo with an invalid name or root folder number")
        return self.roots[code], self.file.read("names", start, end).tobytes()

    def _one(self, name: str, row: int) -> Any:
        return self.file.read(name, row, row + 1)[0]

    def find(self, ids: Bytes) -> Indices:  # (M, 32) -> (M,)
        """Return the row of the photo with each id, -1 if the photo is missing or removed."""
        there, keys = self.file.read("keys"), sort_keys(ids)
        left, right = np.searchsorted(there, keys, "left"), np.searchsorted(there, keys, "right")
        found = np.full(len(ids), -1, np.int64)
        gone = frozenset(() if self.removed is None else self.removed.tolist())
        for number in np.flatnonzero(left < right).tolist():
            for row in self.file.read("key_rows", int(left[number]), int(right[number])).tolist():
                if 0 <= row < len(self) and row not in gone and (self._one("ids", row) == ids[number]).all():
                    found[number] = row
        return found


def _read_removed(folder: Path, piece: Piece) -> Indices | None:
    """Read and check the list of removed rows of a segment; return None if no row is removed."""
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
        raise DamagedError(path, "lists rows that its segment does not have")
    return rows
