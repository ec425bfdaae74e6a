"""Reading every byte of an index: is it as it was written, and does it mean what an index must mean?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cricavpr.descriptors import flaws
from cricavpr.errors import InputError
from cricavpr.index.coding import damaged_codes
from cricavpr.index.columns import Bytes
from cricavpr.index.damage import DamagedError, MeasuredError
from cricavpr.index.durable import read_whole
from cricavpr.index.engines import ArrayFileError
from cricavpr.index.manifest import TUNED, Manifest, newest, read_manifest
from cricavpr.index.sealed import unsealed
from cricavpr.index.segments import HEADER, Segment
from cricavpr.index.sketch import CALIBRATION
from cricavpr.mapped import give_back

ROWS_AT_ONCE = 4096

Damage = DamagedError | ArrayFileError | MeasuredError


def damages(path: Path, progress: Callable[[int, int], None] | None = None) -> Iterator[Damage]:
    """All that is wrong with the newest version, file by file; nothing for a sound one.

    Raises:
        InputError: no index, or another format.
    """
    manifest, opened = _newest(path)
    if manifest is None:
        yield from (one for one in opened if isinstance(one, DamagedError))
        return
    done, ids = 0, []
    for piece in manifest.pieces:
        segment = opened.pop(0)  # what was read of it goes with it
        if isinstance(segment, DamagedError):
            yield segment
            continue
        broken = list(segment.file.damages()) or _unreadable(segment)
        yield from broken
        if not broken:
            yield from _nonsense(segment)
            ids.append(segment.columns.ids)
        done += piece.live
        if progress is not None:
            progress(done, manifest.count)
    if ids and _twice(np.concatenate(ids)):
        yield DamagedError(path / manifest.name, "names segments that hold a photo twice")
    yield from damaged_codes(path, manifest)
    yield from _measured(path)


def _measured(path: Path) -> Iterator[MeasuredError]:
    """What was measured on the index and is not believed any more."""
    for name, verb in ((TUNED, "tune"), (CALIBRATION, "calibrate")):
        try:
            unsealed(read_whole(path / name))
        except FileNotFoundError:
            continue
        except OSError as error:
            yield MeasuredError(path / name, f"cannot be read ({error.strerror or error})", verb)
        except ValueError as error:
            yield MeasuredError(path / name, str(error), verb)


def _newest(path: Path) -> tuple[Manifest | None, list[Segment | DamagedError]]:
    """The newest version as `_opened` gives it: files that went because it was replaced meanwhile are no damage."""
    number = newest(path)
    while True:
        found, seen = _opened(path, number), number
        number = newest(path)
        if number == seen or not any(isinstance(one, DamagedError) for one in found[1]):
            return found


def _opened(path: Path, version: int) -> tuple[Manifest | None, list[Segment | DamagedError]]:
    """A version with all its segments, which stay open whoever compacts meanwhile, or what keeps them from opening."""
    try:
        manifest = read_manifest(path, version)
    except DamagedError as damage:
        return None, [damage]
    opened: list[Segment | DamagedError] = []
    for piece in manifest.pieces:
        try:
            opened.append(Segment(path, piece, manifest.made_by))
        except DamagedError as damage:
            opened.append(damage)
    return manifest, opened


def _unreadable(segment: Segment) -> list[DamagedError]:
    """What keeps the columns of a segment from being read at all, although its checksums are right."""
    try:
        segment.columns  # noqa: B018  # which is read here and kept
    except DamagedError as damage:
        return [damage]
    return []


def _nonsense(segment: Segment) -> Iterator[DamagedError]:
    """What the checksums cannot know either: a segment that was written wrongly in the first place."""
    path = segment.file.path
    if segment.file.bytes[: len(HEADER)].tobytes() != HEADER:
        yield DamagedError(path, "does not begin like a segment", 0)
    try:
        segment.columns.positions()
    except InputError as error:
        yield DamagedError(path, f"has impossible positions ({error})")
    if (segment.find(segment.columns.ids) != np.arange(segment.piece.live)).any():
        yield DamagedError(path, "does not find its own photos")
    for start in range(0, segment.piece.live, ROWS_AT_ONCE):
        bad = flaws(segment.vectors(start, min(start + ROWS_AT_ONCE, segment.piece.live)))
        give_back(segment.mapped)
        if bad.any():
            yield DamagedError(path, f"holds no descriptor in row {start + int(np.argmax(bad))}")


def _twice(ids: Bytes) -> bool:
    whole = np.ascontiguousarray(ids).view("V32").reshape(-1)
    return len(np.unique(whole)) < len(whole)
