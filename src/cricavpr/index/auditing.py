"""Verification of an index: read every byte, compare all checksums, and check that the content is valid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cricavpr.descriptors import flaws
from cricavpr.errors import InputError
from cricavpr.files import give_back
from cricavpr.index.checksummed_json import unseal
from cricavpr.index.codes.coding import damaged_codes
from cricavpr.index.columns import first_of_each
from cricavpr.index.manifest import CALIBRATION, TUNED, Manifest, Piece, newest, read_manifest
from cricavpr.index.segments import Segment
from cricavpr.index.storage import CalibrationError, DamagedError, FileError, TuningError, failed_read, read_whole
from cricavpr.progress import Report

ROWS_AT_ONCE = 4096
MEASURED = {TUNED: TuningError, CALIBRATION: CalibrationError}


def damages(path: Path, progress: Report | None = None) -> Iterator[FileError]:
    """Yield an error for each damaged or unreadable file of the newest version of an index.

    Args:
        path: the folder of the index.
        progress: called with (photos checked, photos in the index).

    Raises:
        InputError: the folder holds no index, or the index has another format.
    """
    manifest, opened = _opened(path)
    if isinstance(manifest, FileError):
        yield manifest
        return
    done, ids = 0, []
    for piece in manifest.pieces:
        segment = opened.pop(0)  # removed from the list, so that its memory is released after this iteration
        if isinstance(segment, FileError):
            yield segment
            continue
        broken = list(segment.file.damages()) or _invalid_columns(segment)
        yield from broken
        if not broken:
            yield from _invalid(segment)
            ids.append(segment.columns.ids)
        done += piece.live
        if progress is not None:
            progress(done, manifest.count)
    if ids and len(first_of_each(together := np.concatenate(ids))) < len(together):
        yield DamagedError(path / manifest.name, "lists two segments that hold the same photo")
    yield from damaged_codes(path, manifest)
    yield from _measured(path)


def _measured(path: Path) -> Iterator[FileError]:
    """Yield an error for each invalid file that `cricavpr index tune` or `cricavpr index calibrate` wrote."""
    for name, kind in MEASURED.items():
        try:
            unseal(read_whole(path / name))
        except FileNotFoundError:
            continue
        except OSError as error:
            found = failed_read(path / name, error, kind)
            if isinstance(found, FileError):
                yield found
        except ValueError as error:
            yield kind(path / name, str(error))


def _opened(path: Path) -> tuple[Manifest | FileError, list[Segment | FileError]]:
    """Return the manifest of the newest version and its segments.

    For a file that cannot be used, the result holds the error instead.

    If another process writes a new version meanwhile, old files may be missing; then the new version is opened.
    """
    while True:
        number = newest(path)
        try:
            manifest = read_manifest(path, number)
            opened = [_segment_of(path, manifest, piece) for piece in manifest.pieces]
            found: tuple[Manifest | FileError, list[Segment | FileError]] = manifest, opened
        except FileError as damage:
            found = damage, []
        if newest(path) == number or not any(isinstance(one, FileError) for one in (found[0], *found[1])):
            return found


def _segment_of(path: Path, manifest: Manifest, piece: Piece) -> Segment | FileError:
    try:
        return Segment(path, piece, manifest.made_by)
    except FileError as damage:
        return damage


def _invalid_columns(segment: Segment) -> list[FileError]:
    """Return a list with the error if the columns of a segment are not valid, and an empty list otherwise."""
    try:
        segment.columns  # noqa: B018  # a cached property
    except FileError as damage:
        return [damage]
    return []


def _invalid(segment: Segment) -> Iterator[FileError]:
    """Yield an error for each kind of invalid content in a segment whose checksums match.

    Such content was invalid already when the segment was written, so the checksums cannot detect it.
    """
    path = segment.file.path
    try:
        segment.columns.positions  # noqa: B018
    except InputError as error:
        yield DamagedError(path, f"has invalid positions ({error})")
    if (segment.find(segment.columns.ids) != segment.live).any():
        yield DamagedError(path, "has sorted keys that do not match the ids of its photos")
    for start in range(0, len(segment), ROWS_AT_ONCE):
        bad = flaws(segment[start : start + ROWS_AT_ONCE].astype(np.float32, copy=False))
        give_back(segment.mapped)
        if bad.any():
            yield DamagedError(path, f"has an invalid descriptor in row {start + int(np.argmax(bad))}")
