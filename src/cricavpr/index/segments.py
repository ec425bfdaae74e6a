"""A segment: one file with the photos of one commit, written once and never changed.

    header    64 bytes that say what this is
    sections  vectors, ids, names and so on, each from a multiple of 64 bytes; vectors from one of a block
    footer    length of the JSON (8 bytes), JSON (where each section lies), CRC-32 of every block before the footer

The manifest has the footer's SHA-256, the footer has the checksums of all the rest: a byte that changes is found
when the block it lies in is first read.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.geo import Metres
from cricavpr.index.checked import CheckedFile
from cricavpr.index.columns import FRAMES, ID_BYTES, ZONES, Bytes, Columns, Indices, Ragged
from cricavpr.index.damage import DamagedError
from cricavpr.index.durable import write_new
from cricavpr.index.manifest import STORED, Piece
from cricavpr.mapped import give_back

FORMAT = "cricavpr.segment.1"
HEADER = f"{FORMAT}\n".encode().ljust(64, b"\0")
ALIGNMENT = 64
BLOCK_BYTES = 1 << 13  # 4096 values of float16: reading a few rows checks little else
READABLE_BLOCKS = (BLOCK_BYTES, 1 << 16)  # the second of earlier segments
FENCE = 4096  # sorted ids between two fences: looking one up reads 32 KiB, whatever the size

Stored = NDArray[np.float32] | NDArray[np.float16]

# name: (type, values in a row); rows are photos, but for the sections of FREE, whose length is their own
COLUMNS: dict[str, tuple[str, int]] = {
    "ids": ("u1", ID_BYTES),
    "keys": ("<u8", 1),
    "key_rows": ("<i8", 1),
    "metres": ("<f8", 2),
    "zones": ("i1", 1),
    "times": ("<i8", 1),
    "codes": ("<u4", 1),
    "name_ends": ("<i8", 1),
    "tag_ends": ("<i8", 1),
}
FREE = {"fences": "<u8", "names": "u1", "tags": "u1"}


def write_segment(
    folder: Path,
    made_by: MadeBy,
    columns: Columns,
    vectors: Iterable[NDArray[np.float32]],  # (n, D) each, together as many rows as `columns`
    dtype: str = "float32",
) -> Piece:
    """Write a segment to a new file and sync it; what the manifest shall say of it. `dtype` is one of STORED.

    Raises:
        OSError: it cannot be written. Nothing of it is left.
    """
    name = f"segment-{secrets.token_hex(8)}.bin"
    writing = _Writing(made_by, columns, vectors, dtype)
    length = write_new(folder / name, writing.chunks())
    footer = writing.footer
    return Piece(name, length, len(footer), hashlib.sha256(footer).hexdigest(), len(columns))


class _Writing:
    """The bytes of a segment as they are written, and their checksums."""

    def __init__(self, made_by: MadeBy, columns: Columns, vectors: Iterable[NDArray[np.float32]], dtype: str) -> None:
        self.made_by, self.columns, self.vectors, self.dtype = made_by, columns, vectors, dtype
        self.at, self.open, self.footer = 0, b"", b""
        self.sums: list[int] = []
        self.sections: dict[str, tuple[int, int]] = {}

    def chunks(self) -> Iterator[bytes]:
        yield self._counted(HEADER)
        yield self._counted(b"\0" * (-self.at % BLOCK_BYTES))
        kind = STORED[self.dtype]
        yield from self._section("vectors", (v.astype(kind, copy=False).tobytes() for v in self.vectors))
        for name, content in _packed(self.columns).items():
            yield from self._section(name, [content])
        self._close()
        self.footer = self._footer()
        yield self.footer

    def _section(self, name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        start = self.at
        for chunk in chunks:
            yield self._counted(chunk)
        self.sections[name] = (start, self.at - start)
        yield self._counted(b"\0" * (-self.at % ALIGNMENT))

    def _counted(self, chunk: bytes) -> bytes:
        self.at += len(chunk)
        view = memoryview(self.open + chunk) if self.open else memoryview(chunk)
        whole = len(view) // BLOCK_BYTES * BLOCK_BYTES
        self.sums += [zlib.crc32(view[start : start + BLOCK_BYTES]) for start in range(0, whole, BLOCK_BYTES)]
        self.open = bytes(view[whole:])
        return chunk

    def _close(self) -> None:
        if self.open:
            self.sums.append(zlib.crc32(self.open))
            self.open = b""

    def _footer(self) -> bytes:
        values = {
            "format": FORMAT,
            "made_by": self.made_by.fingerprint,
            "count": len(self.columns),
            "frame": self.columns.frame,
            "roots": self.columns.roots,
            "dtype": self.dtype,
            "block_bytes": BLOCK_BYTES,
            "data_bytes": self.at,
            "sections": self.sections,
        }
        text = json.dumps(values, separators=(",", ":")).encode()
        return len(text).to_bytes(8, "little") + text + np.array(self.sums, "<u4").tobytes()


def _packed(columns: Columns) -> dict[str, bytes]:
    keys = sort_keys(columns.ids)
    order = np.argsort(keys, kind="stable")
    arrays: dict[str, NDArray[Any]] = {
        "ids": columns.ids,
        "keys": keys[order].astype("<u8"),
        "key_rows": order.astype("<i8"),
        "fences": keys[order][::FENCE].astype("<u8"),
        "metres": columns.metres.astype("<f8"),
        "zones": columns.zones,
        "times": columns.times.astype("<i8"),
        "codes": columns.codes.astype("<u4"),
        "name_ends": columns.names.ends[1:].astype("<i8"),
        "names": columns.names.data,
        "tag_ends": columns.tags.ends[1:].astype("<i8"),
        "tags": columns.tags.data,
    }
    return {name: array.tobytes() for name, array in arrays.items()}


def sort_keys(ids: Bytes) -> NDArray[np.uint64]:  # (N, 32) -> (N,)
    """The first eight bytes of each id as a number, by which ids are looked up."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


class Segment:
    """An open segment and which of its rows are removed. Rows are numbered as they lie in the file."""

    def __init__(self, folder: Path, piece: Piece, made_by: MadeBy) -> None:
        """Open it; the footer is checked, everything else when it is read.

        Raises:
            DamagedError: it is not the file that the manifest speaks of.
        """
        self.piece, self.dim = piece, made_by.dim
        self.file = CheckedFile(folder / piece.file, piece.bytes)
        footer = self.file.bytes[piece.bytes - piece.footer_bytes :].tobytes()
        if hashlib.sha256(footer).hexdigest() != piece.footer_sha256:
            raise DamagedError(self.file.path, "has another footer than it was written with", piece.bytes - len(footer))
        try:
            self._read_footer(footer, made_by)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise DamagedError(self.file.path, f"does not describe a segment ({error})") from error
        self.removed = _read_removed(folder, piece)

    def _read_footer(self, footer: bytes, made_by: MadeBy) -> None:
        length = int.from_bytes(footer[:8], "little")
        values = json.loads(footer[8 : 8 + length])
        for key, value in {"format": FORMAT, "made_by": made_by.fingerprint, "count": self.piece.count}.items():
            if values[key] != value:
                raise ValueError(f"{key} is {values[key]} and not {value}")
        data_bytes, block_bytes = self.piece.bytes - self.piece.footer_bytes, values["block_bytes"]
        sums = np.frombuffer(footer[8 + length :], "<u4")
        if block_bytes not in READABLE_BLOCKS or values["data_bytes"] != data_bytes:
            raise ValueError("lengths that do not fit")
        if len(sums) != -(-data_bytes // block_bytes):
            raise ValueError(f"{len(sums)} checksums")
        self.file.trust(data_bytes, sums, block_bytes)
        self.kind = np.dtype(STORED[values.get("dtype", "float32")])
        self.frame, self.roots = str(values["frame"]), tuple(map(str, values["roots"]))
        if self.frame not in FRAMES:
            raise ValueError(f"positions in the frame {self.frame}")
        self.sections = {name: self._place(values["sections"], name) for name in ("vectors", *COLUMNS, *FREE)}

    def _place(self, sections: dict[str, Any], name: str) -> tuple[int, int]:
        start, length = map(int, sections[name])
        width = self.row_bytes if name == "vectors" else 0
        if name in COLUMNS:
            kind, values = COLUMNS[name]
            width = np.dtype(kind).itemsize * values
        if not 0 <= start <= start + length <= self.file.data_bytes or start % ALIGNMENT:
            raise ValueError(f"{name} lie outside of the file")
        if name == "fences" and length != 8 * -(-self.piece.count // FENCE):
            raise ValueError(f"fences have {length} bytes")
        if width and length != width * self.piece.count:
            raise ValueError(f"{name} have {length} bytes")
        return start, length

    @property
    def count(self) -> int:
        return self.piece.count

    @property
    def row_bytes(self) -> int:
        return self.kind.itemsize * self.dim

    @cached_property
    def live(self) -> Indices:
        """(n,) the rows that are not removed, rising."""
        rows = np.arange(self.count)
        return rows if self.removed is None else np.delete(rows, self.removed)

    def _section(self, name: str) -> NDArray[Any]:
        """A whole section, checked."""
        start, length = self.sections[name]
        self.file.require(start, start + length)
        kind, values = COLUMNS[name] if name in COLUMNS else (FREE[name], 1)
        array = self.file.view(start, kind, (length // np.dtype(kind).itemsize,))
        return array.reshape(-1, values) if values > 1 else array

    @cached_property
    def mapped(self) -> Stored:  # (count, D)
        """The vectors as they lie in the file, not checked: read them through `vectors`."""
        return self.file.view(self.sections["vectors"][0], self.kind, (self.count, self.dim))

    def vectors(self, first: int, end: int) -> NDArray[np.float32]:  # (end - first, D)
        """The vectors of some live rows in order, checked; no copy of float32 where none between them is removed.

        Raises:
            DamagedError: where they are not as they were written.
        """
        if self.removed is None:
            return self._single(self.stretch(first, end))
        return self.vectors_of(np.arange(first, end))

    def stretch(self, first: int, end: int) -> Stored:  # (end - first, D)
        """The vectors of neighbouring rows of the file, removed ones too, checked; no copy."""
        start, width = self.sections["vectors"][0], self.row_bytes
        self.file.require(start + first * width, start + end * width)
        return self.mapped[first:end]

    def vectors_of(self, places: Indices) -> NDArray[np.float32]:  # (M,) -> (M, D)
        """The vectors at some places among the live rows, checked."""
        return self._single(self.rows_of(places if self.removed is None else self.live[places]))

    def rows_of(self, rows: Indices) -> Stored:  # (M,) -> (M, D)
        """The vectors of some rows of the file, removed ones too, checked."""
        return self.file.rows(self.sections["vectors"][0] + rows * self.row_bytes, self.row_bytes).view(self.kind)

    def _single(self, stored: Stored) -> NDArray[np.float32]:
        if stored.dtype == np.float32:
            return cast("NDArray[np.float32]", stored)
        single = stored.astype(np.float32)
        give_back(self.mapped)
        return single

    @cached_property
    def columns(self) -> Columns:
        """Everything but the vectors, of the live rows."""
        whole = Columns(
            self._section("ids"),
            self._ragged("name"),
            self._ragged("tag"),
            self._section("metres").astype(np.float64, copy=False),
            self._section("zones"),
            self._section("times").view("<M8[ms]"),
            self._section("codes"),
            self.roots,
            self.frame,
        )
        self._refuse_zones(whole.zones)
        if (whole.codes >= len(self.roots)).any():
            raise DamagedError(self.file.path, "has a photo below no folder")
        return whole if self.removed is None else whole.take(self.live)

    def ids_and_metres(self) -> tuple[Bytes, Metres]:  # (n, 32), (n, 2)
        """Of the live rows, and nothing else is read."""
        ids, metres = self._section("ids"), self._section("metres")
        return (ids, metres) if self.removed is None else (ids[self.live], metres[self.live])

    def positions_of(self, places: Indices) -> tuple[Metres, NDArray[np.int8]]:  # (M,) -> (M, 2), (M,)
        """Metres and zone codes of some live rows, without reading those of the others."""
        rows = places if self.removed is None else self.live[places]
        metres, zones = (self._some(name, rows) for name in ("metres", "zones"))
        self._refuse_zones(zones)
        return metres, zones[:, 0]

    def _refuse_zones(self, zones: NDArray[np.int8]) -> None:
        if (np.abs(zones.astype(np.int64)) > ZONES).any():
            raise DamagedError(self.file.path, "has a photo in no zone")

    def _some(self, name: str, rows: Indices) -> NDArray[Any]:  # (M,) -> (M, values in a row)
        kind, values = COLUMNS[name]
        width = values * np.dtype(kind).itemsize
        return self.file.rows(self.sections[name][0] + rows * width, width).view(kind)

    def name_of(self, place: int) -> tuple[str, bytes]:
        """Root and name of one live row, without reading those of the others."""
        row = place if self.removed is None else int(self.live[place])
        code = int(self._one("codes", row))
        start = int(self._one("name_ends", row - 1)) if row else 0
        end = int(self._one("name_ends", row))
        first, length = self.sections["names"]
        if not 0 <= start <= end <= length or code >= len(self.roots):
            raise DamagedError(self.file.path, "has a name that lies outside of the file")
        self.file.require(first + start, first + end)
        return self.roots[code], self.file.bytes[first + start : first + end].tobytes()

    def _one(self, name: str, row: int) -> Any:
        kind = COLUMNS[name][0]
        start, size = self.sections[name][0], np.dtype(kind).itemsize
        self.file.require(start + row * size, start + (row + 1) * size)
        return self.file.view(start + row * size, kind, (1,))[0]

    def _ragged(self, name: str) -> Ragged:
        ends, data = self._section(f"{name}_ends"), self._section(f"{name}s")
        whole = np.concatenate([[0], ends]).astype(np.int64)
        if (np.diff(whole) < 0).any() or whole[-1] != len(data):
            raise DamagedError(self.file.path, f"has {name}s of lengths that do not fit")
        return Ragged(whole, data)

    def find(self, ids: Bytes) -> Indices:  # (M, 32) -> (M,)
        """The place of each id among the live rows, -1 where it is not.

        Reads the fences, and of the sorted ids only the stretches between the fences that it needs.
        """
        fences, keys = self._section("fences"), sort_keys(ids)
        low = np.maximum(np.searchsorted(fences, keys, "left") - 1, 0)
        high = np.maximum(np.searchsorted(fences, keys, "right"), 1)  # equal keys may cross a fence
        found = np.full(len(ids), -1, np.int64)
        wide = [np.arange(a, b) for a, b in zip(low, high, strict=True) if b - a > 2]
        for stretch in np.unique(np.concatenate([low, high - 1, *wide])).tolist():
            self._find_in(stretch, np.flatnonzero((low <= stretch) & (stretch < high)), keys, ids, found)
        return found

    def _find_in(self, stretch: int, asked: Indices, keys: NDArray[np.uint64], ids: Bytes, found: Indices) -> None:
        first, end = stretch * FENCE, min((stretch + 1) * FENCE, self.count)
        start = self.sections["keys"][0]
        self.file.require(start + 8 * first, start + 8 * end)
        there = self.file.view(start + 8 * first, "<u8", (end - first,))
        left, right = np.searchsorted(there, keys[asked], "left"), np.searchsorted(there, keys[asked], "right")
        for place in np.flatnonzero(left < right).tolist():
            for at in range(int(left[place]), int(right[place])):
                row = int(self._one("key_rows", first + at))
                if self._is(row, ids[asked[place]]):
                    found[asked[place]] = row if self.removed is None else int(np.searchsorted(self.live, row))

    def _is(self, row: int, photo: Bytes) -> bool:
        """Whether a row is there, is that photo, and is not removed."""
        if not 0 <= row < self.count or (self.removed is not None and row in self._gone):
            return False
        start = self.sections["ids"][0] + row * ID_BYTES
        self.file.require(start, start + ID_BYTES)
        return self.file.bytes[start : start + ID_BYTES].tobytes() == photo.tobytes()

    @cached_property
    def _gone(self) -> frozenset[int]:
        return frozenset(() if self.removed is None else self.removed.tolist())


def _read_removed(folder: Path, piece: Piece) -> Indices | None:
    """Which rows of a segment are removed, checked; None for none.

    Raises:
        DamagedError: the file is not as it was written.
    """
    if piece.removed is None:
        return None
    file = CheckedFile(folder / piece.removed.file, piece.removed.bytes)
    content = file.bytes.tobytes()
    if hashlib.sha256(content).hexdigest() != piece.removed.sha256:
        raise DamagedError(file.path, "does not have the checksum it was written with", 0)
    rows = np.frombuffer(content, "<i8").astype(np.int64)
    if (np.diff(rows) <= 0).any() or rows[0] < 0 or rows[-1] >= piece.count:
        raise DamagedError(file.path, "names rows that are not in its segment")
    return rows
