"""Manifests: one small JSON file for each version of an index, which lists the files of that version.

The newest version is the one whose manifest has the highest number in its file name. A manifest also holds this number
and a checksum, so that damaged and renamed manifests are detected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.index.checksummed_json import seal, unseal
from cricavpr.index.storage import PARTIAL, DamagedError, failed_read, read_whole
from cricavpr.schema import build, nearest, to_plain

FORMAT = "cricavpr.place_index.3"
STORED = {"float32": "<f4", "float16": "<f2"}  # how descriptors may be stored
FLOAT32 = "float32"
QUANTISER = "quantiser.bin"  # for compressed search: see docs/search.md
TUNED = "tuned.json"  # written by `cricavpr index tune`
CALIBRATION = "calibration.json"  # written by `cricavpr index calibrate`
WORK = ".describing"  # a folder for descriptors that are not in the index yet

_NAME = re.compile(r"version-([0-9]{12})\.json")
_SEGMENT = re.compile(r"segment-[0-9a-f]{16}\.bin")
_REMOVED = re.compile(r"removed-[0-9a-f]{16}\.bin")
_CODES = re.compile(r"codes-([0-9a-f]{16})-[0-9a-f]{8}\.bin")


@dataclass(frozen=True)
class Removed:
    """The manifest entry of a file that lists the removed rows of one segment.

    The file holds the row numbers as integers of 8 bytes, in ascending order.

    Attributes:
        file: name of the file.
        count: number of removed rows.
        sha256: SHA-256 of the file.
    """

    file: str
    count: int
    sha256: str

    def __post_init__(self) -> None:
        _check_name(self.file, _REMOVED)
        if self.count < 1:
            raise ValueError(f"the count of removed rows must be at least 1, got {self.count}")

    @property
    def bytes(self) -> int:
        return 8 * self.count


@dataclass(frozen=True)
class Piece:
    """The manifest entry of one segment file.

    Attributes:
        file: name of the file.
        bytes: size of the file in bytes.
        checksum: checksum of the footer of the file, which holds the checksums of the rest of the file.
        count: number of rows in the file, including removed rows.
        removed: the file that lists the removed rows, or None if no row is removed.
    """

    file: str
    bytes: int
    checksum: str
    count: int
    removed: Removed | None = None

    def __post_init__(self) -> None:
        _check_name(self.file, _SEGMENT)
        if self.bytes < 1 or self.live < 1:
            raise ValueError(f"a segment must not be empty, got {self.bytes} bytes and {self.live} photos")

    @property
    def live(self) -> int:
        """The number of rows that are not removed."""
        return self.count - (self.removed.count if self.removed else 0)


@dataclass(frozen=True)
class Manifest:
    """One version of an index.

    Attributes:
        version: number of the version.
        made_by: the method, weights and settings that made the descriptors.
        pieces: the entries of the segment files, in the order in which they were added.
        dtype: type of the stored descriptors: "float32" or "float16".
    """

    version: int
    made_by: MadeBy
    pieces: tuple[Piece, ...] = ()
    dtype: str = FLOAT32

    def __post_init__(self) -> None:
        if self.dtype not in STORED:
            raise ValueError(f"unknown dtype {self.dtype!r}")

    @property
    def name(self) -> str:
        return manifest_name(self.version)

    @property
    def count(self) -> int:
        return sum(piece.live for piece in self.pieces)

    def files(self) -> Iterator[str]:
        """Yield the names of all files of this version, including the manifest."""
        yield self.name
        for piece in self.pieces:
            yield piece.file
            if piece.removed is not None:
                yield piece.removed.file

    def has_codes(self, name: str) -> bool:
        """Return whether a file with this name belongs to the compressed search of this version."""
        codes = _CODES.fullmatch(name)
        if codes is None:
            return name in (QUANTISER, TUNED)
        return any(piece.checksum.startswith(codes[1]) for piece in self.pieces)

    def encode(self) -> bytes:
        return seal({"format": FORMAT, **to_plain(self)}).encode()

    @classmethod
    def decode(cls, path: Path, content: bytes) -> Self:
        """Decode the bytes that `encode` returned.

        Raises:
            DamagedError: the content is truncated or invalid, or its version number differs from the file name.
            InputError: the manifest has another format.
        """
        try:
            values = unseal(content)
        except ValueError as error:
            raise DamagedError(path, str(error)) from error
        found = values.pop("format", None)
        if found != FORMAT:
            raise InputError(
                f"{path} has the format {found}, expected {FORMAT}. The index was made by another release of "
                "cricavpr. Upgrade: pip install --upgrade cricavpr"
            )
        try:
            manifest = build(cls, values, "the manifest")
        except InputError as error:
            raise DamagedError(path, f"does not describe an index ({str(error).rstrip('.')})") from error
        if manifest.name != path.name:
            raise DamagedError(path, f"has the version number {manifest.version}, expected that of its file name")
        return manifest


def check_dtype(dtype: str) -> None:
    """Raise InputError unless descriptors can be stored as `dtype`."""
    if dtype not in STORED:
        raise InputError(f"unknown dtype {dtype!r}. {nearest(dtype, STORED)}")


def _check_name(name: str, pattern: re.Pattern[str]) -> None:
    """Raise ValueError unless a file name matches a pattern, so that a manifest cannot name files in other folders."""
    if not pattern.fullmatch(name):
        raise ValueError(f"invalid file name {name!r}")


def manifest_name(version: int) -> str:
    return f"version-{version:012d}.json"


def versions(folder: Path) -> list[int]:
    """Return the numbers of the index versions in a folder, sorted. Raises OSError if the folder cannot be read."""
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))  # noqa: PTH208
    return sorted(int(match[1]) for match in found if match)


def read_manifest(folder: Path, version: int) -> Manifest:
    """Return the manifest of one version.

    Raises:
        FileError: the manifest is damaged or unreadable.
        InputError: the manifest has another format.
    """
    path = folder / manifest_name(version)
    try:
        content = read_whole(path)
    except OSError as error:
        raise failed_read(path, error) from error
    return Manifest.decode(path, content)


def newest(folder: Path) -> int:
    """Return the number of the newest version in a folder. Raises InputError if the folder holds no index."""
    try:
        there = versions(folder)
    except (FileNotFoundError, NotADirectoryError):
        there = []
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}. Check its permissions.") from error
    if not there:
        raise InputError(f"{folder} is not a place index: it has no version-*.json. Build an index there first.")
    return there[-1]


def is_ours(name: str) -> bool:
    """Return whether a file with this name belongs to an index, either as a complete or as an unfinished file."""
    if name.startswith(".") and name.endswith(PARTIAL):
        name = name[1:].rsplit(".", 2)[0]
    ours = (_NAME, _SEGMENT, _REMOVED, _CODES)
    return name in (QUANTISER, TUNED) or any(pattern.fullmatch(name) for pattern in ours)
