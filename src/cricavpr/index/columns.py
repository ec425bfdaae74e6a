"""Everything that an index stores about photos except descriptors: columns of numbers and bytes. A photo is one row."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet, refuse_flaws
from cricavpr.errors import InputError
from cricavpr.files import sha256_of
from cricavpr.geo import Degrees, Metres, Positions
from cricavpr.progress import Report
from cricavpr.times import Times

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]

ID_BYTES = 32
FRAMES = NONE, LOCAL, UTM = "none", "local", "utm"  # coordinate frames; "none" means that no position is known
ZONES = 60  # number of UTM zones
PER_PHOTO = ("ids", "raw_names", "raw_tags", "metres", "zones", "times")  # columns with a value for each photo


# --- input


@dataclass(frozen=True, eq=False)
class Photos:
    """Photos to store in an index. Row i of each attribute belongs to photo i.

    Attributes:
        descriptors: the names of the N photos and their descriptors (N, D).
        root: the folder that the names are relative to.
        positions: the N positions of the photos, or None if no position is known.
        ids: N SHA-256 digests of the photos' bytes, as `photo_ids` returns them. If None, each id is a hash of the
            folder, name and descriptor of the photo.
        times: (N,) datetime64 in UTC, the time when each photo was taken; NaT if unknown.
        tags: N lists of tags, one list for each photo; a tag is a non-empty word.

    Example:
        >>> import numpy as np
        >>> from cricavpr.descriptors import DescriptorSet, MadeBy
        >>> made_by = MadeBy("drawn", "none", None, "none", "none", None, 2)
        >>> Photos(DescriptorSet(("a.jpg",), np.array([[1, 0]], np.float32), made_by), Path("photos"))
        Photos(1 of 2 values, root='photos')
    """

    descriptors: DescriptorSet
    root: Path
    positions: Positions | None = None
    ids: Sequence[bytes] | None = None
    times: Times | None = None
    tags: Sequence[Sequence[str]] | None = None

    def __len__(self) -> int:
        return len(self.descriptors)

    def __repr__(self) -> str:
        return f"Photos({len(self):,} of {self.descriptors.made_by.dim} values, root={str(self.root)!r})"

    def columns(self) -> Columns:
        """Check all attributes and return them, without the descriptors, in the form that an index stores.

        Raises:
            InputError: a descriptor, id, time or tag is invalid, or the attributes have different lengths.
        """
        refuse_flaws(self.descriptors)
        names, vectors, count = self.descriptors.names, self.descriptors.vectors, len(self)
        given = {"ids": self.ids, "positions": self.positions, "times": self.times, "rows of tags": self.tags}
        for what, values in given.items():
            if values is not None and len(values) != count:
                raise InputError(f"expected {count} {what}, one for each descriptor, got {len(values)}.")
        positions = self.positions if self.positions is not None else Positions(np.full((count, 2), np.nan))
        zones = np.fromiter(map(encode_zone, positions.zones or ("",) * count), np.int8, count)
        return Columns(
            pack_ids(stand_in_ids(names, self.root, vectors) if self.ids is None else self.ids),
            Ragged.of([os.fsencode(name) for name in names]),
            Ragged.of([b""] * count if self.tags is None else [_pack_tags(row) for row in self.tags]),
            positions.metres,
            zones,
            _pack_times(self.times, count),
            np.zeros(count, np.uint32),
            (_absolute(self.root),),
            frame_of(positions),
        )


def photo_ids(root: Path, names: Sequence[str], progress: Report | None = None) -> tuple[bytes, ...]:
    """Return the id of each photo: the SHA-256 of the bytes of its file.

    Args:
        root: the folder that the names are relative to.
        progress: called with (photos done, photos in all).

    Raises:
        InputError: a photo cannot be read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.jpg").write_bytes(b"a photo")
        >>> photo_ids(folder, ["a.jpg"])[0].hex()[:12]
        'd4e24d749a4f'
    """
    found = []
    for number, name in enumerate(names, 1):
        try:
            found.append(bytes.fromhex(sha256_of(Path(root) / name)))
        except OSError as error:
            raise InputError(
                f"cannot read {Path(root) / name}: {error.strerror or error}. Make the file readable, or leave the "
                "photo out."
            ) from error
        if progress is not None:
            progress(number, len(names))
    return tuple(found)


def stand_in_ids(names: Sequence[str], root: Path, vectors: NDArray[np.float32]) -> tuple[bytes, ...]:
    """Return ids for photos whose files are not available: hashes of root, name and descriptor."""
    folder = os.fsencode(_absolute(root))
    return tuple(
        hashlib.sha256(b"\0".join((b"no photo", folder, os.fsencode(name), vector.tobytes()))).digest()
        for name, vector in zip(names, vectors, strict=True)
    )


def _absolute(root: Path) -> str:
    return os.path.abspath(root)  # noqa: PTH100  # Path.resolve() would follow symbolic links, which may change later


# --- storage


@dataclass(frozen=True, eq=False)
class Ragged:
    """N byte strings stored one after another in one array: string i is `data[ends[i]:ends[i + 1]]`."""

    ends: Indices  # (N + 1,) non-decreasing, from 0
    data: Bytes

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Self:
        ends = np.zeros(len(strings) + 1, np.int64)
        np.cumsum([len(string) for string in strings], out=ends[1:])
        return cls(ends, np.frombuffer(b"".join(strings), np.uint8))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, rows: Any) -> Any:
        """Return one string as bytes if `rows` is an integer, otherwise a `Ragged` with the strings at these rows."""
        if np.ndim(rows) == 0:
            return self.data[int(self.ends[rows]) : int(self.ends[rows + 1])].tobytes()
        starts, lengths = self.ends[rows], np.diff(self.ends)[rows]
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(starts - ends[:-1], lengths) + np.arange(ends[-1])
        return type(self)(ends, self.data[places])

    def all(self) -> list[bytes]:
        """Return all strings as a list."""
        whole, ends = self.data.tobytes(), self.ends.tolist()
        return [whole[a:b] for a, b in itertools.pairwise(ends)]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        shifts = np.cumsum([0, *(part.ends[-1] for part in parts)])
        ends = [part.ends[1:] + shift for part, shift in zip(parts, shifts, strict=False)]
        empty: list[Bytes] = [np.empty(0, np.uint8)]
        return cls(np.concatenate([np.zeros(1, np.int64), *ends]), np.concatenate(empty + [p.data for p in parts]))


@dataclass(frozen=True, eq=False)
class Columns:
    """Everything that an index stores about N photos except their descriptors. The photo added first comes first.

    Attributes:
        ids: (N, 32) SHA-256 of each photo's bytes.
        raw_names: names of the photos as bytes of the file system.
        raw_tags: tags of each photo, sorted and joined by NUL bytes.
        metres: (N, 2) easting and northing in metres, NaN if unknown.
        zones: (N,) number of the UTM zone, negative in the southern hemisphere, 0 for a position without a zone.
        times: (N,) time of capture in UTC, NaT if unknown.
        codes: (N,) for each photo, the number of its root folder: the position in `roots`, counted from 0.
        roots: the folders that the names are relative to.
        frame: coordinate frame of the positions: "none", "local" or "utm".
    """

    ids: Bytes
    raw_names: Ragged
    raw_tags: Ragged
    metres: Metres
    zones: NDArray[np.int8]
    times: Times
    codes: NDArray[np.uint32]
    roots: tuple[str, ...]
    frame: str

    @classmethod
    def empty(cls) -> Columns:
        nothing, none = Ragged.of([]), np.empty(0, "datetime64[ms]")
        zones, codes = np.empty(0, np.int8), np.empty(0, np.uint32)
        ids = np.empty((0, ID_BYTES), np.uint8)
        return cls(ids, nothing, nothing, np.empty((0, 2)), zones, none, codes, (), NONE)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Indices) -> Self:
        """Return the columns of the photos at `rows`, with only the roots that these photos use."""
        codes = self.codes[rows]
        used = np.unique(codes)
        roots = tuple(self.roots[code] for code in used.tolist())
        taken = {name: getattr(self, name)[rows] for name in PER_PHOTO}
        return replace(self, **taken, codes=np.searchsorted(used, codes).astype(np.uint32), roots=roots)

    @classmethod
    def concatenate(cls, parts: Sequence[Columns]) -> Columns:
        """Join the photos of several columns in order. Raises InputError if their coordinate frames differ."""
        roots = tuple(dict.fromkeys(root for part in parts for root in part.roots))
        place = {root: code for code, root in enumerate(roots)}
        codes = [np.array([place[root] for root in part.roots], np.uint32)[part.codes] for part in parts]
        joined = {name: _joined([getattr(part, name) for part in parts]) for name in PER_PHOTO}
        return cls(**joined, codes=np.concatenate(codes), roots=roots, frame=one_frame([part.frame for part in parts]))

    @cached_property
    def positions(self) -> Positions:
        """The positions of the photos; a row of NaN is an unknown position."""
        return positions_in(self.frame, self.metres, self.zones)

    def on_earth(self) -> Positions:
        """Return the positions. Raises InputError if they are in a local frame, without latitude and longitude."""
        if self.frame == LOCAL:
            raise InputError(
                "the photos of this index have positions in metres without a UTM zone, so their latitude is not "
                "known. Leave out filters by place, or build the index from positions with UTM zones."
            )
        return self.positions

    @cached_property
    def latlon(self) -> Degrees:
        """(N, 2) latitude and longitude in degrees, NaN if unknown."""
        positions = self.on_earth()
        return np.full((len(self), 2), np.nan) if positions.zones is None else positions.latlon()

    @cached_property
    def tags(self) -> tuple[tuple[str, ...], ...]:
        """The tags of each photo, sorted."""
        return tuple(map(unpack_tags, self.raw_tags.all()))

    def name(self, row: int) -> str:
        """Return the name of a photo."""
        return os.fsdecode(self.raw_names[row])

    def photo(self, row: int) -> Path:
        """Return the path that the photo had when it was added."""
        return Path(self.roots[self.codes[row]]) / self.name(row)

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of the photos in these rows."""
        return self.positions.take(rows)

    def with_paths(self, paths: Sequence[tuple[str, bytes]]) -> Self:
        """Return the same photos with the roots and names in `paths`, which has a pair (root, name) for each photo."""
        roots = tuple(dict.fromkeys(root for root, _ in paths))
        codes = np.array([roots.index(root) for root, _ in paths], np.uint32)
        return replace(self, raw_names=Ragged.of([name for _, name in paths]), codes=codes, roots=roots)

    def same_row(self, row: int, other: Columns, there: int) -> bool:
        """Return whether photo `row` is equal to photo `there` of `other`. Descriptors are not compared."""
        return self._row(row) == other._row(there)

    def _row(self, row: int) -> tuple[Any, ...]:
        values = (getattr(self, name)[row] for name in PER_PHOTO)
        return self.roots[self.codes[row]], *(
            value if isinstance(value, bytes) else value.tobytes() for value in values
        )


def _joined(parts: Sequence[Any]) -> Any:
    return Ragged.concatenate(parts) if isinstance(parts[0], Ragged) else np.concatenate(parts)


def positions_in(
    frame: str,
    metres: Metres,  # (N, 2)
    zones: NDArray[np.int8],  # (N,)
) -> Positions:
    """Convert the stored metres, zone numbers and frame of N photos to `Positions`."""
    names = np.array([decode_zone(code) for code in range(-ZONES, ZONES + 1)], object)
    return Positions(metres, tuple(names[zones.astype(np.int64) + ZONES].tolist()) if frame == UTM else None)


def frame_of(positions: Positions | None) -> str:
    if positions is None:
        return NONE
    return UTM if positions.zones is not None else LOCAL if positions.known.any() else NONE


def one_frame(frames: Sequence[str]) -> str:
    """Return the coordinate frame that fits all of `frames`. Raises InputError if some are UTM and others local."""
    known = {frame for frame in frames if frame != NONE}
    if len(known) > 1:
        raise InputError(
            "positions with UTM zones and positions in a local frame cannot be stored in one index. "
            "Give a UTM zone for all positions, or for none."
        )
    return known.pop() if known else NONE


def encode_zone(zone: str) -> int:
    return 0 if not zone else int(zone[:-1]) * (1 if zone[-1] == "N" else -1)


def decode_zone(code: int) -> str:
    return "" if not code else f"{abs(code)}{'N' if code > 0 else 'S'}"


# --- checks


def refuse_one_name(names: Sequence[str]) -> None:
    """Raise InputError if `names` is a single string."""
    if isinstance(names, str):
        raise InputError(f"names must be a list, got the single name {names!r}. Use [{names!r}].")


def find_names(names: Iterable[str], there: Iterable[str]) -> tuple[set[str], set[str]]:
    """Look up each of `names` in `there`. Return two sets: the names found, and the names not found.

    A name also matches a name in `there` that differs only in its Unicode normalisation, if there is exactly one.

    Returns:
        The names in `there` that match one of `names`, as they are written in `there`; and the `names` that match
        nothing.

    Example:
        >>> find_names(["Mu\u0308ller.jpg", "b.jpg"], ["M\xfcller.jpg"])
        ({'Müller.jpg'}, {'b.jpg'})
    """
    known, wanted = set(there), set(names)
    found, missing = known & wanted, wanted - known
    alike: dict[str, set[str]] = {}
    for name in known if missing else ():
        alike.setdefault(unicodedata.normalize("NFC", name), set()).add(name)
    for name in sorted(missing):
        if len(same := alike.get(unicodedata.normalize("NFC", name), set())) == 1:
            found |= same
            missing.remove(name)
    return found, missing


def pack_ids(ids: Sequence[bytes]) -> Bytes:  # (N, 32)
    """Return ids as an array. Raises InputError if an id is not 32 bytes."""
    wrong = [number for number, one in enumerate(ids) if not isinstance(one, bytes) or len(one) != ID_BYTES]
    if wrong:
        raise InputError(
            f"id number {wrong[0]} (counted from 0) is not {ID_BYTES} bytes. Give the SHA-256 of the photo's bytes."
        )
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)


def first_of_each(ids: Bytes) -> Indices:  # (N, 32) -> (M,)
    """Return the row of the first occurrence of each distinct id, in ascending order."""
    whole = np.ascontiguousarray(ids).reshape(-1).view(f"V{ID_BYTES}")
    return np.sort(np.unique(whole, return_index=True)[1]).astype(np.int64)


def _pack_times(times: Times | None, count: int) -> Times:
    if times is None:
        return np.full(count, np.datetime64("NaT"), "datetime64[ms]")
    given = np.asarray(times)
    if given.dtype.kind != "M" or given.shape != (count,):
        raise InputError(f"times must be ({count},) datetime64 in UTC, got {given.dtype} of shape {given.shape}.")
    return given.astype("datetime64[ms]")


def _pack_tags(tags: Sequence[str]) -> bytes:
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag and "\0" not in tag for tag in tags):
        raise InputError(f"the tags of a photo must be a list of non-empty words, got {tags!r}.")
    return b"\0".join(os.fsencode(tag) for tag in sorted(set(tags)))


def unpack_tags(packed: bytes) -> tuple[str, ...]:
    return tuple(os.fsdecode(tag) for tag in packed.split(b"\0")) if packed else ()
