"""PlaceIndex: a folder with the descriptors, positions and names of a database, ready to be searched.

The data files have names of their own for every build and are never changed; the small `place_index.json`
says which of them count, with their lengths and checksums. Replacing that one file is what replaces an index:
a reader sees the old index or the new one, and a build that fails or is killed leaves the old one as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet, MadeBy, flaws, pack_names, unpack_names
from cricavpr.errors import InputError
from cricavpr.files import held_alone, sha256_of, sync, write_text
from cricavpr.geo import Positions
from cricavpr.index.search import Predictions, search

FORMAT = "cricavpr.place_index.1"
MANIFEST = "place_index.json"
LOCK = ".place_index.lock"
ROWS_AT_ONCE = 4096

_PARTS = ("vectors", "names", "positions", "zones")
_OURS = re.compile(r"(vectors|names|positions|zones)-[0-9a-f]{8}\.bin|\.place_index\.json\.[0-9a-f]{8}\.partial")


@dataclass(frozen=True, eq=False)
class PlaceIndex:
    """An open index. It reads and never writes; make one with `build` or `open`.

    Attributes:
        path: the folder.
        root: where the photos lay when it was built; names are relative to it.
        descriptors: names, memory-mapped vectors (N, D) and how they were made.
        positions: of the photos; rows of NaN are unknown.
    """

    path: Path
    root: Path
    descriptors: DescriptorSet = field(repr=False)
    positions: Positions = field(repr=False)

    @classmethod
    def build(
        cls,
        descriptors: DescriptorSet,
        positions: Positions | None,  # one row for each descriptor
        root: Path,
        to: Path,
    ) -> Self:
        """Write an index to the folder `to`; an index that is there is replaced when the new one is complete.

        Raises:
            InputError: nothing to index, rows that do not fit, vectors that are no descriptors, another thing
                in the way, or a place that cannot be written.
        """
        to = Path(to)
        positions = Positions(np.full((len(descriptors), 2), np.nan)) if positions is None else positions
        _check_content(descriptors, positions)
        created = _prepare(to)
        try:
            with held_alone(to / LOCK, str(to)):
                _write(descriptors, positions, Path(root), to)
        finally:
            if created and not (to / MANIFEST).exists():
                _remove_empty(to)
        return cls.open(to)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an index. Small files are checked whole, the vectors by length; `verify` reads those too.

        Raises:
            InputError: no index, one of another version, or a damaged file, which is named.
        """
        path = Path(path)
        while True:
            text = _read_manifest(path)
            try:
                return cls._open(path, text)
            except InputError:
                if _read_manifest(path) == text:  # else it was replaced while we read: read the new one
                    raise

    @classmethod
    def _open(cls, path: Path, text: str) -> Self:
        manifest = _parse_manifest(path, text)
        try:
            made_by, count = MadeBy.from_dict(manifest["made_by"]), int(manifest["count"])
            vectors, names, positions, zones = (_File.of(path, manifest["files"][part]) for part in _PARTS)
            vectors.check_length(count * made_by.dim * 4)
            rows = np.memmap(vectors.path, "<f4", "r", shape=(count, made_by.dim))
            descriptors = DescriptorSet(unpack_names(names.read()), rows, made_by)
            metres = positions.read(count * 16).view("<f8").reshape(count, 2)
            marks = zones.read().tobytes().decode()
            where = Positions(metres, tuple(marks.split("\n")) if marks else None)
            return cls(path, Path(manifest["root"]), descriptors, where)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path / MANIFEST, f"does not describe an index ({error})") from error

    def __len__(self) -> int:
        return len(self.descriptors)

    @property
    def names(self) -> tuple[str, ...]:
        return self.descriptors.names

    @property
    def made_by(self) -> MadeBy:
        return self.descriptors.made_by

    def photo(self, row: int) -> Path:
        """Where the photo of a row lay when the index was built."""
        return self.root / self.names[row]

    def search(self, queries: DescriptorSet, top: int = 5) -> Predictions:
        """The `top` best photos of the database for each query, exactly.

        Raises:
            MadeByError: the queries were described in another way.
            InputError: `top` below 1, or a query that is no descriptor.
        """
        self.made_by.require_same(queries.made_by, f"the descriptors of {self.path} and of the queries")
        if (bad := flaws(queries.vectors)).any():
            name = queries.names[int(np.argmax(bad))]
            raise InputError(f"the descriptor of {name} is not finite or not of unit length. Describe it again.")
        return search(self.descriptors.vectors, queries.vectors, top)

    def verify(self) -> None:
        """Read every byte and compare it with the checksums.

        Raises:
            InputError: a damaged file, which is named.
        """
        manifest = _parse_manifest(self.path, _read_manifest(self.path))
        for entry in manifest["files"].values():
            file = _File.of(self.path, entry)
            file.check_length(file.length)
            if sha256_of(file.path) != file.sha256:
                raise _damaged(file.path, "does not have the checksum that it was written with")

    def info(self) -> dict[str, Any]:
        """What the index holds, for people and for JSON."""
        return {
            "path": str(self.path),
            "format": FORMAT,
            "photos": len(self),
            "with_position": int(self.positions.known.sum()),
            "root": str(self.root),
            "vectors_bytes": len(self) * self.made_by.dim * 4,
            "made_by": self.made_by.to_dict(),
        }


# --- writing


def _check_content(descriptors: DescriptorSet, positions: Positions) -> None:
    if not len(descriptors):
        raise InputError("there are no descriptors, so there is nothing to index. Describe at least one photo.")
    if len(positions) != len(descriptors):
        raise InputError(f"{len(positions)} positions do not fit {len(descriptors)} descriptors. Give one for each.")
    for start in range(0, len(descriptors), ROWS_AT_ONCE):
        bad = flaws(descriptors.vectors[start : start + ROWS_AT_ONCE])
        if bad.any():
            name = descriptors.names[start + int(np.argmax(bad))]
            raise InputError(f"the descriptor of {name} is not finite or not of unit length. Describe it again.")


def refuse_foreign(to: Path) -> None:
    """Make sure that an index may be built at `to`: worth asking before the photos are described.

    Raises:
        InputError: a file, or a folder with other things in it.
    """
    with _one_line_errors(to):
        if to.is_dir():
            names = {entry.name for entry in to.iterdir()}
            strange = sorted(name for name in names if not name.startswith(".") and not _OURS.fullmatch(name))
            if strange and MANIFEST not in names:
                raise InputError(f"{to} holds other things ({strange[0]}) and is no place index. Choose another place.")
        elif to.exists():
            raise InputError(f"{to} is a file. An index is a folder: choose another place.")


def _prepare(to: Path) -> bool:
    """Make the folder, or make sure that it is one of ours; return whether it was made."""
    refuse_foreign(to)
    with _one_line_errors(to):
        if to.is_dir():
            return False
        to.mkdir(parents=True)
        sync(to.parent)
        return True


def _write(descriptors: DescriptorSet, positions: Positions, root: Path, to: Path) -> None:
    token = secrets.token_hex(4)
    paths = {part: to / f"{part}-{token}.bin" for part in _PARTS}
    content: dict[str, Iterable[bytes]] = {
        "vectors": _vector_bytes(descriptors.vectors),
        "names": [pack_names(descriptors.names).tobytes()],
        "positions": [positions.metres.astype("<f8").tobytes()],
        "zones": ["\n".join(positions.zones).encode() if positions.zones is not None else b""],
    }
    try:
        with _one_line_errors(to):
            entries = {part: _write_part(paths[part], content[part]) for part in _PARTS}
            sync(to)  # the names of the files, before the manifest speaks of them
        manifest = {
            "format": FORMAT,
            "count": len(descriptors),
            "root": os.path.abspath(root),  # noqa: PTH100  # resolve() would follow links that may move
            "made_by": descriptors.made_by.to_dict(),
            "files": entries,
        }
        write_text(to / MANIFEST, json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=1))
    finally:
        _remove_unused(to)


def _vector_bytes(vectors: NDArray[np.float32]) -> Iterator[bytes]:
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        yield vectors[start : start + ROWS_AT_ONCE].astype("<f4", copy=False).tobytes()


def _write_part(path: Path, chunks: Iterable[bytes]) -> dict[str, Any]:
    digest, length = hashlib.sha256(), 0
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            length += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return {"file": path.name, "bytes": length, "sha256": digest.hexdigest()}


def _remove_unused(folder: Path) -> None:
    """Remove files of ours that the manifest does not name: an older build's, or an unfinished one's."""
    with contextlib.suppress(OSError):
        used: set[str] = set()
        if (folder / MANIFEST).exists():
            try:
                manifest = _parse_manifest(folder, _read_manifest(folder))
                used = {entry["file"] for entry in manifest["files"].values()}
            except InputError:
                return  # a manifest that we cannot read may name any of them
        for entry in list(folder.iterdir()):
            if _OURS.fullmatch(entry.name) and entry.name not in used:
                entry.unlink()


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


@contextlib.contextmanager
def _one_line_errors(to: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write an index to {to}: {error.strerror or error}. Choose another place or free it."
        ) from error


# --- reading


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> str:
    try:
        return (path / MANIFEST).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} is no place index: it has no {MANIFEST}. Build one there first.") from error
    except OSError as error:
        raise InputError(f"cannot read {path / MANIFEST}: {error.strerror or error}.") from error
    except ValueError as error:
        raise _damaged(path / MANIFEST, "is not text") from error


def _parse_manifest(path: Path, text: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
        checksum = manifest.pop("checksum", None)
        version = manifest.get("format")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _damaged(path / MANIFEST, "is cut off or garbled") from error
    if isinstance(version, str) and version.startswith(FORMAT[:-1]) and version != FORMAT:
        raise InputError(
            f"{path / MANIFEST} has the format {version}, and this version reads {FORMAT}. Build it again."
        )
    if version != FORMAT or checksum != _checksum(manifest):
        raise _damaged(path / MANIFEST, "does not have the checksum that it was written with")
    assert isinstance(manifest, dict)
    return manifest


@dataclass(frozen=True)
class _File:
    """A data file with the length and checksum that it must have."""

    path: Path
    length: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, entry: dict[str, Any]) -> Self:
        if not _OURS.fullmatch(entry["file"]):
            raise _damaged(folder / MANIFEST, f"names a foreign file, {entry['file']}")
        return cls(folder / entry["file"], int(entry["bytes"]), str(entry["sha256"]))

    def check_length(self, expected: int) -> None:
        try:
            length = self.path.stat().st_size
        except OSError as error:
            raise _damaged(self.path, f"cannot be read ({error.strerror or error})") from error
        if length != self.length or length != expected:
            raise _damaged(self.path, f"has {length} bytes instead of {expected}")

    def read(self, expected: int | None = None) -> NDArray[np.uint8]:
        """Its bytes, checked."""
        self.check_length(self.length if expected is None else expected)
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise _damaged(self.path, f"cannot be read ({error.strerror or error})") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise _damaged(self.path, "does not have the checksum that it was written with")
        return np.frombuffer(content, np.uint8)


def _damaged(file: Path, why: str) -> InputError:
    return InputError(f"{file} {why}: the index is damaged. Build it again, or bring the file back from a copy.")
