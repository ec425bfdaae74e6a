"""Indexes of earlier releases, read once and written again in today's form.

Format 1 was a `place_index.json` beside four files: vectors, names, positions and zones.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet, MadeBy, unpack_names
from cricavpr.errors import InputError
from cricavpr.files import sha256_of
from cricavpr.geo import Positions
from cricavpr.index.columns import stand_in_ids
from cricavpr.index.damage import DamagedError
from cricavpr.index.durable import read_whole
from cricavpr.index.manifest import FAMILY, OLD_MANIFEST, UPGRADE_PACKAGE, versions
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.sealed import unsealed


def upgrade(path: Path) -> PlaceIndex:
    """Bring the index of an earlier release into today's form; one that has it stays as it is.

    The new files are complete before the old ones go. Photos that still lie where they were get the SHA-256 of
    their bytes for an id, so that adding them again changes nothing.

    Raises:
        InputError: no index, a later format, a damaged file, or no room for both.
    """
    path = Path(path)
    if not path.is_dir() or versions(path) or not (path / OLD_MANIFEST).exists():
        return PlaceIndex.open(path)
    descriptors, positions, root = read_format_1(path)
    return PlaceIndex.build(descriptors, positions, root, path, ids=_ids(descriptors, root))


def _ids(descriptors: DescriptorSet, root: Path) -> tuple[bytes, ...]:
    found = []
    for stand_in, name in zip(
        stand_in_ids(descriptors.names, root, descriptors.vectors), descriptors.names, strict=True
    ):
        try:
            found.append(bytes.fromhex(sha256_of(root / name)))
        except (OSError, ValueError):
            found.append(stand_in)
    return tuple(found)


def read_format_1(path: Path) -> tuple[DescriptorSet, Positions, Path]:
    """Everything in an index of format 1, all of it checked.

    Raises:
        InputError: a damaged file, which is named, or a format that only a later release reads.
    """
    manifest = _manifest(path / OLD_MANIFEST)
    try:
        made_by, count = MadeBy.from_dict(manifest["made_by"]), int(manifest["count"])
        entries = manifest["files"]
        vectors = _vectors(path, entries["vectors"], count, made_by.dim)
        names = unpack_names(np.frombuffer(_content(path, entries["names"]), np.uint8))
        metres = np.frombuffer(_content(path, entries["positions"]), "<f8").reshape(count, 2)
        zones = _content(path, entries["zones"]).decode()
        positions = Positions(metres, tuple(zones.split("\n")) if zones else None)
        return DescriptorSet(names, vectors, made_by), positions, Path(manifest["root"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(path / OLD_MANIFEST, f"does not describe an index ({error})") from error


def _manifest(path: Path) -> dict[str, Any]:
    try:
        values = unsealed(read_whole(path))
    except OSError as error:
        raise DamagedError(path, f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DamagedError(path, str(error)) from error
    version = values.get("format")
    if version != FAMILY + "1":
        raise InputError(f"{path} has the format {version}, which this release cannot read. Upgrade: {UPGRADE_PACKAGE}")
    return values


def _file(path: Path, entry: dict[str, Any]) -> Path:
    name = str(entry["file"])
    if "/" in name or name.startswith("."):
        raise ValueError(f"it names a foreign file, {name}")
    return path / name


def _content(path: Path, entry: dict[str, Any]) -> bytes:
    file = _file(path, entry)
    try:
        content = read_whole(file)
    except OSError as error:
        raise DamagedError(file, f"cannot be read ({error.strerror or error})") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DamagedError(file, "does not have the checksum that it was written with")
    return content


def _vectors(path: Path, entry: dict[str, Any], count: int, dim: int) -> NDArray[np.float32]:  # (count, dim)
    file = _file(path, entry)
    try:
        if file.stat().st_size != 4 * count * dim or sha256_of(file) != entry["sha256"]:
            raise DamagedError(file, "is not as it was written")
        return np.memmap(file, "<f4", "r", shape=(count, dim))
    except OSError as error:
        raise DamagedError(file, f"cannot be read ({error.strerror or error})") from error
