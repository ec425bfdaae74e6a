"""What an index knows of each photo besides its vector: columns of plain numbers and bytes, one row a photo."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.geo import Metres, Positions
from cricavpr.times import Times

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]

ID_BYTES = 32
FRAMES = NONE, LOCAL, UTM = "none", "local", "utm"  # of positions; "none" where nothing is known of any
ZONES = 60  # of UTM


@dataclass(frozen=True, eq=False)
class Ragged:
    """N strings of bytes end to end: string i is `data[ends[i]:ends[i + 1]]`."""

    ends: Indices  # (N + 1,) from 0, never falling
    data: Bytes

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Self:
        ends = np.zeros(len(strings) + 1, np.int64)
        np.cumsum([len(string) for string in strings], out=ends[1:])
        return cls(ends, np.frombuffer(b"".join(strings), np.uint8))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.data[int(self.ends[row]) : int(self.ends[row + 1])].tobytes()

    def all(self) -> list[bytes]:
        whole, ends = self.data.tobytes(), self.ends.tolist()
        return [whole[a:b] for a, b in itertools.pairwise(ends)]

    def take(self, rows: Indices) -> Self:
        starts, lengths = self.ends[rows], np.diff(self.ends)[rows]
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(starts - ends[:-1], lengths) + np.arange(ends[-1])
        return type(self)(ends, self.data[places])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        shifts = np.cumsum([0, *(part.ends[-1] for part in parts)])
        ends = [part.ends[1:] + shift for part, shift in zip(parts, shifts, strict=False)]
        empty: list[Bytes] = [np.empty(0, np.uint8)]
        return cls(np.concatenate([np.zeros(1, np.int64), *ends]), np.concatenate(empty + [p.data for p in parts]))


@dataclass(frozen=True, eq=False)
class Columns:
    """All but the vectors of N photos, in the order of adding.

    Attributes:
        ids: (N, 32) SHA-256 of each photo's bytes.
        names: as the file system gives them.
        tags: each photo's tags, joined by NUL.
        metres: (N, 2), NaN where unknown.
        zones: (N,) UTM zone number, negative in the southern hemisphere, 0 where there is none.
        times: (N,) when each photo was taken, NaT where unknown.
        codes: (N,) which of `roots` a name is relative to.
        roots: folders.
        frame: of the positions: none, local or utm.
    """

    ids: Bytes
    names: Ragged
    tags: Ragged
    metres: Metres
    zones: NDArray[np.int8]
    times: Times
    codes: NDArray[np.uint32]
    roots: tuple[str, ...]
    frame: str

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Indices) -> Self:
        """The photos at `rows`, and only the roots that they need."""
        codes = self.codes[rows]
        used = np.unique(codes)
        return type(self)(
            self.ids[rows],
            self.names.take(rows),
            self.tags.take(rows),
            self.metres[rows],
            self.zones[rows],
            self.times[rows],
            np.searchsorted(used, codes).astype(np.uint32),
            tuple(self.roots[code] for code in used.tolist()),
            self.frame,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Columns]) -> Columns:
        """Several, in order.

        Raises:
            InputError: positions of UTM zones beside those of a local frame.
        """
        roots = tuple(dict.fromkeys(root for part in parts for root in part.roots))
        place = {root: code for code, root in enumerate(roots)}
        tables = [np.array([place[root] for root in part.roots], np.uint32) for part in parts]
        return cls(
            np.concatenate([part.ids for part in parts]),
            Ragged.concatenate([part.names for part in parts]),
            Ragged.concatenate([part.tags for part in parts]),
            np.concatenate([part.metres for part in parts]),
            np.concatenate([part.zones for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate([table[part.codes] for table, part in zip(tables, parts, strict=True)]),
            roots,
            one_frame([part.frame for part in parts]),
        )

    def positions(self) -> Positions:
        return positions_in(self.frame, self.metres, self.zones)

    def same_row(self, row: int, other: Columns, there: int) -> bool:
        """Whether everything that is known of two photos is the same."""
        if self.names[row] != other.names[there] or self.tags[row] != other.tags[there]:
            return False
        if self.roots[self.codes[row]] != other.roots[other.codes[there]]:
            return False
        plain = ("ids", "metres", "zones", "times")
        return all(getattr(self, f)[row].tobytes() == getattr(other, f)[there].tobytes() for f in plain)


def positions_in(
    frame: str,
    metres: Metres,  # (N, 2)
    zones: NDArray[np.int8],  # (N,)
) -> Positions:
    """Positions out of how they are stored."""
    names = np.array([decode_zone(code) for code in range(-ZONES, ZONES + 1)], object)
    return Positions(metres, tuple(names[zones.astype(np.int64) + ZONES].tolist()) if frame == UTM else None)


def empty_columns() -> Columns:
    nothing = Ragged.of([])
    none = np.empty(0, "datetime64[ms]")
    zones, codes = np.empty(0, np.int8), np.empty(0, np.uint32)
    return Columns(np.empty((0, ID_BYTES), np.uint8), nothing, nothing, np.empty((0, 2)), zones, none, codes, (), NONE)


def one_frame(frames: Sequence[str]) -> str:
    """The frame that all share.

    Raises:
        InputError: some have UTM zones and others a local frame.
    """
    known = {frame for frame in frames if frame != NONE}
    if len(known) > 1:
        raise InputError(
            "positions with UTM zones cannot be joined with positions of a local frame in one index. "
            "Give zones for all or for none."
        )
    return known.pop() if known else NONE


def make_columns(
    names: Sequence[str],
    root: Path,
    ids: Sequence[bytes],
    positions: Positions | None,
    times: Times | None,
    tags: Sequence[Sequence[str]] | None,
) -> Columns:
    """Columns out of what a caller has.

    Raises:
        InputError: columns of different lengths, something that is no id, no time or no tag.
    """
    count = len(names)
    for what, given in (("ids", ids), ("positions", positions), ("times", times), ("rows of tags", tags)):
        if given is not None and len(given) != count:
            raise InputError(f"{len(given)} {what} do not fit {count} descriptors. Give one for each.")
    where = Positions(np.full((count, 2), np.nan)) if positions is None else positions
    frame = UTM if where.zones is not None else LOCAL if where.known.any() else NONE
    zones = np.fromiter(map(encode_zone, where.zones or ("",) * count), np.int8, count)
    folder = os.path.abspath(root)  # noqa: PTH100  # resolve() would follow links that may move
    return Columns(
        pack_ids(ids),
        Ragged.of([os.fsencode(name) for name in names]),
        Ragged.of([_pack_tags(row) for row in tags] if tags is not None else [b""] * count),
        where.metres,
        zones,
        _pack_times(times, count),
        np.zeros(count, np.uint32),
        (folder,),
        frame,
    )


def refuse_one_name(names: Sequence[str]) -> None:
    """Raises: InputError: one name in place of a list, whose letters nobody means."""
    if isinstance(names, str):
        raise InputError(f"{names!r} is one name, and its letters are none. Give a list of names.")


def pack_ids(ids: Sequence[bytes]) -> Bytes:  # (N, 32)
    """Raises: InputError: naming the first that is no id."""
    wrong = [number for number, one in enumerate(ids) if not isinstance(one, bytes) or len(one) != ID_BYTES]
    if wrong:
        raise InputError(f"the id of row {wrong[0]} is not {ID_BYTES} bytes. Give the SHA-256 of the photo's bytes.")
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)


def _pack_times(times: Times | None, count: int) -> Times:
    if times is None:
        return np.full(count, np.datetime64("NaT"), "datetime64[ms]")
    given = np.asarray(times)
    if given.dtype.kind != "M" or given.shape != (count,):
        raise InputError(f"times are {given.dtype} of shape {given.shape}. Give one numpy datetime64 (UTC) a photo.")
    return given.astype("datetime64[ms]")


def _pack_tags(tags: Sequence[str]) -> bytes:
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag and "\0" not in tag for tag in tags):
        raise InputError(f"{tags!r} are no tags. Give for each photo a list of words that are not empty.")
    return b"\0".join(os.fsencode(tag) for tag in sorted(set(tags)))


def unpack_tags(packed: bytes) -> tuple[str, ...]:
    return tuple(os.fsdecode(tag) for tag in packed.split(b"\0")) if packed else ()


def encode_zone(zone: str) -> int:
    return 0 if not zone else int(zone[:-1]) * (1 if zone[-1] == "N" else -1)


def decode_zone(code: int) -> str:
    return "" if not code else f"{abs(code)}{'N' if code > 0 else 'S'}"


def stand_in_ids(names: Sequence[str], root: Path, vectors: NDArray[np.float32]) -> tuple[bytes, ...]:
    """Ids where the photos are not at hand: of the name and the descriptor, so that the same row is known again."""
    folder = os.fsencode(os.path.abspath(root))  # noqa: PTH100
    return tuple(
        hashlib.sha256(b"\0".join((b"no photo", folder, os.fsencode(name), vector.tobytes()))).digest()
        for name, vector in zip(names, vectors, strict=True)
    )
