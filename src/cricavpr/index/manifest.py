"""The manifest: one small file for each version of an index, which says what files that version is made of.

The newest version is the one with the highest number in its file name. A manifest carries its own checksum and
number, so one that is damaged or was copied over another is found; and flags, so that a later version of this
package can say that an older one must not read it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.index.damage import DamagedError
from cricavpr.index.durable import PARTIAL, read_whole
from cricavpr.index.sealed import sealed, unsealed
from cricavpr.schema import nearest

FAMILY = "cricavpr.place_index."
FORMAT = FAMILY + "2"
FLAGS = frozenset({"float16"})  # what a manifest may ask of its reader
STORED = {"float32": "<f4", "float16": "<f2"}  # how descriptors may lie in a segment
DTYPES = tuple(STORED)  # all but the first are flags
OLD_MANIFEST = "place_index.json"  # of format 1, which had one segment and no versions
UPGRADE_PACKAGE = "pip install --upgrade cricavpr"

_NAME = re.compile(r"version-([0-9]{12})\.json")
_DATA = re.compile(r"(segment|removed)-[0-9a-f]{16}\.bin")
_CODES = re.compile(r"codes-([0-9a-f]{16})-[0-9a-f]{8}\.bin")
QUANTISER = "quantiser.bin"  # what codes are made by, and what was measured of it: see docs/search.md
TUNED = "tuned.json"
LEARNT = (QUANTISER, TUNED)


@dataclass(frozen=True)
class Removed:
    """A file with the sorted numbers of the rows of one segment that are removed, as 8-byte integers."""

    file: str
    count: int
    sha256: str

    def __post_init__(self) -> None:
        _require(self.file, _DATA)
        if type(self.count) is not int or self.count < 1:
            raise ValueError(f"{self.count} rows removed")

    @property
    def bytes(self) -> int:
        return 8 * self.count


@dataclass(frozen=True)
class Piece:
    """A segment file: its length, and the length and checksum of its footer, which has the checksums of the rest."""

    file: str
    bytes: int
    footer_bytes: int
    footer_sha256: str
    count: int
    removed: Removed | None = None

    def __post_init__(self) -> None:
        _require(self.file, _DATA)
        numbers = (self.bytes, self.footer_bytes, self.count)
        if any(type(number) is not int or number < 1 for number in numbers) or self.footer_bytes > self.bytes:
            raise ValueError(f"a segment of {numbers}")

    @property
    def live(self) -> int:
        return self.count - (self.removed.count if self.removed else 0)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        removed = values["removed"]
        return cls(**{**values, "removed": None if removed is None else Removed(**removed)})

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "removed": None if self.removed is None else vars(self.removed)}


@dataclass(frozen=True)
class Manifest:
    """One version of an index: how its descriptors were made, its segments in the order of adding, how they store."""

    version: int
    made_by: MadeBy
    pieces: tuple[Piece, ...] = ()
    dtype: str = DTYPES[0]

    @property
    def name(self) -> str:
        return f"version-{self.version:012d}.json"

    @property
    def count(self) -> int:
        return sum(piece.live for piece in self.pieces)

    def files(self) -> Iterator[str]:
        """The names of all files that this version is made of, its own too."""
        yield self.name
        for piece in self.pieces:
            yield piece.file
            if piece.removed is not None:
                yield piece.removed.file

    def has_codes(self, name: str) -> bool:
        """Whether a file is what codes are made by, what was measured of it, or the codes of a segment."""
        codes = _CODES.fullmatch(name)
        if codes is None:
            return name in LEARNT
        return any(piece.footer_sha256.startswith(codes[1]) for piece in self.pieces)

    def encode(self) -> bytes:
        values: dict[str, Any] = {
            "format": FORMAT,
            "flags": [self.dtype] if self.dtype in FLAGS else [],
            "version": self.version,
            "made_by": self.made_by.to_dict(),
            "segments": [piece.to_dict() for piece in self.pieces],
        }
        return sealed(values).encode()

    @classmethod
    def decode(cls, path: Path, content: bytes) -> Self:
        """Read what `encode` gave.

        Raises:
            DamagedError: cut off, garbled, or of another version than its name says.
            InputError: of a format that only a later release reads.
        """
        values = _checked(path, content)
        try:
            made_by = MadeBy.from_dict(values["made_by"])
            pieces = tuple(map(Piece.from_dict, values["segments"]))
            stored = next((flag for flag in values["flags"] if flag in DTYPES), DTYPES[0])
            manifest = cls(values["version"], made_by, pieces, stored)
            if manifest.name != path.name:
                raise ValueError(f"it is that of version {manifest.version}")
            return manifest
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(path, f"does not describe an index ({error})") from error


def known_dtype(dtype: str) -> str:
    """The dtype, where descriptors can be stored so. Raises: InputError: another."""
    if dtype not in DTYPES:
        raise InputError(f"descriptors are not stored as {dtype!r}. {nearest(dtype, DTYPES)}")
    return dtype


def _require(name: object, pattern: re.Pattern[str]) -> None:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise ValueError(f"it names a foreign file, {name}")


def _checked(path: Path, content: bytes) -> dict[str, Any]:
    try:
        values = unsealed(content)
    except ValueError as error:
        raise DamagedError(path, str(error)) from error
    version, flags = values.get("format"), values.get("flags")
    unknown = sorted({str(flag) for flag in (flags if isinstance(flags, list) else [flags])} - FLAGS)
    if version != FORMAT or unknown:
        what = f"the flag {unknown[0]!r}" if unknown else f"the format {version}"
        raise InputError(f"{path} has {what}, which this release cannot read. Upgrade it: {UPGRADE_PACKAGE}")
    return values


def versions(folder: Path) -> list[int]:
    """The numbers of the versions that are there, rising; of an old format none.

    Raises:
        OSError: the folder cannot be read.
    """
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))  # noqa: PTH208
    return sorted(int(match[1]) for match in found if match)


def read_manifest(folder: Path, version: int) -> Manifest:
    """One version's manifest.

    Raises:
        DamagedError: it cannot be read, or is not as it was written.
        InputError: of a format that only a later release reads.
    """
    path = folder / f"version-{version:012d}.json"
    try:
        content = read_whole(path)
    except OSError as error:
        raise DamagedError(path, f"cannot be read ({error.strerror or error})") from error
    return Manifest.decode(path, content)


def newest(folder: Path) -> int:
    """The number of the newest version.

    Raises:
        InputError: no index, or one of an old format.
    """
    try:
        there = versions(folder)
        if not there and (folder / OLD_MANIFEST).exists():
            raise InputError(
                f"{folder} was written by an earlier release, as {FAMILY}1. Run: cricavpr index upgrade {folder}"
            )
    except (FileNotFoundError, NotADirectoryError):
        there = []
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}.") from error
    if not there:
        raise InputError(f"{folder} is no place index: it has no version-*.json. Build one there first.")
    return there[-1]


def is_ours(name: str) -> bool:
    """Whether a file name is one that only an index uses, whole or unfinished."""
    if name.startswith(".") and name.endswith(PARTIAL):
        name = name[1:].rsplit(".", 2)[0]
    old = re.fullmatch(r"(vectors|names|positions|zones)-[0-9a-f]{8}\.bin|place_index\.json", name)
    beside = name in LEARNT or _CODES.fullmatch(name)
    return bool(old or beside or _NAME.fullmatch(name) or _DATA.fullmatch(name))
