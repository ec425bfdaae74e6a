"""What changes an index: each verb writes new files, then one manifest, and only then says that it is done.

Nobody who writes starts from what they had open: the newest version is read under the lock, so two writers never
undo each other. What is open (`near`) only spares opening again the segments that are still the same. A verb that
fails or is killed leaves the version before it, and files that the next writer sweeps.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.files import sync
from cricavpr.index.coding import carry
from cricavpr.index.columns import Bytes, Columns, Indices, one_frame
from cricavpr.index.durable import LOCK, one_line_errors, publish, write_new, writer_of
from cricavpr.index.manifest import DTYPES, OLD_MANIFEST, Manifest, Piece, Removed, is_ours, versions
from cricavpr.index.segments import Segment, write_segment
from cricavpr.index.sketch import wipe
from cricavpr.index.snapshot import Snapshot
from cricavpr.index.vectors import Vectors

ROWS_AT_ONCE = 4096
FOLD_BYTES = 8_000_000  # small segments at the end are written again with the next, up to here
SETTLED_BYTES = 1 << 30  # a segment this large is left alone by `compact` unless photos of it are removed

Report = Callable[[int, int], None]  # photos done, photos in all
Rows = Vectors | NDArray[np.float32]  # (N, D), read in blocks


@dataclass(frozen=True)
class Outcome:
    """What a verb has done: the version that stands now, and how many photos it concerned."""

    snapshot: Snapshot
    added: int = 0
    removed: int = 0
    already: int = 0


# --- the verbs


def create(path: Path, made_by: MadeBy, dtype: str = DTYPES[0]) -> Snapshot:
    """An index without photos.

    Raises:
        InputError: an index is there, or another thing, or the place cannot be written.
    """
    with _made(path), writer_of(path):
        if versions(path) or (path / OLD_MANIFEST).exists():
            raise InputError(f"{path} is a place index already. Open it, or choose another place.")
        return _commit(path, Manifest(1, made_by, dtype=dtype))


def rebuild(
    path: Path, made_by: MadeBy, columns: Columns, vectors: Rows, wait_s: float = 0.0, dtype: str = DTYPES[0]
) -> Snapshot:
    """An index of these photos and no others, in place of whatever index was there."""
    with _made(path), writer_of(path, wait_s):
        first = _first_of_each(columns.ids)
        piece = write_segment(path, made_by, columns.take(first), _blocks(vectors, first), dtype)
        version = 1 + max(versions(path), default=0)
        built = _commit(path, Manifest(version, made_by, (piece,), dtype))
        with contextlib.suppress(OSError, InputError):  # it stands; and what is left fits no other photos
            wipe(path, [(columns.ids, columns.metres)])
        return built


def add(near: Snapshot, made_by: MadeBy, columns: Columns, vectors: Rows, wait_s: float = 0.0) -> Outcome:
    """Add the photos that are not there yet, at the end and in order."""
    with writer_of(near.path, wait_s):
        base = _newest_made_by(near, made_by)
        first = _first_of_each(columns.ids)
        fresh = first[base.find(columns.ids[first]) < 0]
        return _append(base, {}, columns, vectors, fresh)


def update(near: Snapshot, made_by: MadeBy, columns: Columns, vectors: Rows, wait_s: float = 0.0) -> Outcome:
    """Add photos, each in place of those with its name below its root, or with its bytes."""
    with writer_of(near.path, wait_s):
        base = _newest_made_by(near, made_by)
        first, old = _first_of_each(columns.ids), base.columns
        by_name = _rows_by_name(old)
        gone: set[int] = set()
        fresh = []
        for row, same in zip(first.tolist(), base.find(columns.ids[first]).tolist(), strict=True):
            there = {*by_name.get(_key(columns, row), ()), *([same] if same >= 0 else [])}
            if there == {same} and _unchanged(base, same, columns, vectors, row):
                continue
            gone |= there
            fresh.append(row)
        return _append(base, _by_segment(base, sorted(gone)), columns, vectors, np.array(fresh, np.int64))


def remove(near: Snapshot, choose: Callable[[Snapshot], Indices], wait_s: float = 0.0) -> Outcome:
    """Take photos out; `choose` says which rows of the newest version. Their bytes stay until `compact`."""
    with writer_of(near.path, wait_s):
        base = Snapshot.open(near.path, near=near)
        rows = np.unique(choose(base))
        if not len(rows):
            sync(base.path)
            return Outcome(base)
        pieces = _without(base, _by_segment(base, rows.tolist()))
        return Outcome(_commit_after(base, pieces), removed=len(rows))


def compact(near: Snapshot, progress: Report | None = None, wait_s: float = 0.0) -> Snapshot:
    """Write small segments together and leave out what was removed; nothing of that is in any file afterwards.

    Readers that have an older version open keep it: what they have mapped lasts until they let go.

    Raises:
        InputError: the disk has no room for the new files, or an old file cannot be removed, which is named.
    """
    path = near.path
    with writer_of(path, wait_s):
        base = Snapshot.open(path, near=near)
        meter = _Meter(progress, len(base))
        written = [(run, piece) for run in _runs(base.segments) for piece in _rewritten(base, run, meter)]
        pieces = tuple(piece for _, piece in written)
        if pieces != base.manifest.pieces:
            carry(base, written)
            base = _commit_after(base, pieces)
        _sweep(path, [base.manifest], strict=True)
        wipe(path, base.ids_and_metres())
        sync(path)
        return base


# --- a commit


@contextlib.contextmanager
def _made(path: Path) -> Iterator[None]:
    """The folder, made where it was missing, and taken away again when nothing came of it."""
    refuse_foreign(path)
    created = not path.is_dir()
    with one_line_errors(path):
        if created:
            path.mkdir(parents=True)
            sync(path.parent)
    try:
        yield
    except BaseException:
        if created:
            with contextlib.suppress(OSError):
                (path / LOCK).unlink(missing_ok=True)
                path.rmdir()  # which only works where nothing is in it
        raise


def refuse_foreign(path: Path) -> None:
    """Make sure that an index may be built at `path`: worth asking before the photos are described.

    Raises:
        InputError: a file, or a folder with other things in it.
    """
    with one_line_errors(path):
        if path.is_dir():
            names = os.listdir(path)  # noqa: PTH208
            strange = sorted(name for name in names if not name.startswith(".") and not is_ours(name))
            if strange and not versions(path) and OLD_MANIFEST not in names:
                raise InputError(
                    f"{path} holds other things ({strange[0]}) and is no place index. Choose another place."
                )
        elif path.exists():
            raise InputError(f"{path} is a file. An index is a folder: choose another place.")


def _newest_made_by(near: Snapshot, made_by: MadeBy) -> Snapshot:
    base = Snapshot.open(near.path, near=near)
    base.manifest.made_by.require_same(made_by, f"the photos of {base.path} and those to add")
    return base


def _commit_after(base: Snapshot, pieces: tuple[Piece, ...]) -> Snapshot:
    manifest = replace(base.manifest, version=base.manifest.version + 1, pieces=pieces)
    return _commit(base.path, manifest, base)


def _segment_of(base: Snapshot, columns: Columns, blocks: Iterator[NDArray[np.float32]]) -> Piece:
    """A new segment that stores as the others do."""
    return write_segment(base.path, base.manifest.made_by, columns, blocks, base.manifest.dtype)


def _commit(path: Path, manifest: Manifest, base: Snapshot | None = None) -> Snapshot:
    """Make a version the newest, once its new files were opened. Only when it stands are old files swept."""
    snapshot = Snapshot.of(path, manifest, base)
    publish(path / manifest.name, manifest.encode())
    with contextlib.suppress(OSError):  # nothing that happens from here on takes the version back
        _sweep(path, [manifest] if base is None else [base.manifest, manifest], codes=base is not None)
    return snapshot


def _sweep(path: Path, keep: Sequence[Manifest], strict: bool = False, codes: bool = True) -> None:
    """Remove files of older versions and of writers that were killed. Other people's files are left alone.

    Codes go with their segment, and all of them where other photos have taken the place of those they were learnt on.
    """
    files = {name for manifest in keep for name in manifest.files()}
    for name in sorted(os.listdir(path)):  # noqa: PTH208
        kept = name in files or (codes and any(manifest.has_codes(name) for manifest in keep))
        if kept or not is_ours(name):
            continue
        try:
            os.unlink(path / name)  # noqa: PTH108  # the calls of `os` are what tests interpose on
        except OSError as error:
            if strict:
                raise InputError(
                    f"{path / name} cannot be removed ({error.strerror or error}), and may hold photos that were taken "
                    "out. Free it and compact again."
                ) from error


def _append(base: Snapshot, gone: dict[int, Indices], columns: Columns, vectors: Rows, fresh: Indices) -> Outcome:
    """Commit without some rows and with some new ones."""
    removed, already = sum(map(len, gone.values())), len(columns) - len(fresh)
    one_frame([columns.frame, *(segment.frame for segment in base.segments)])
    if not len(fresh):
        sync(base.path)  # what an earlier call may have written without being able to say so
        return Outcome(base, already=already)
    pieces = _without(base, gone)
    tail = 0 if gone else _tail(base.segments, len(fresh))
    kept = base.segments[len(base.segments) - tail :]
    together = Columns.concatenate([*(segment.columns for segment in kept), columns.take(fresh)])
    old = Vectors(kept, base.manifest.made_by.dim)
    blocks = itertools.chain(_blocks(old, np.arange(len(old))), _blocks(vectors, fresh))
    piece = _segment_of(base, together, blocks)
    snapshot = _commit_after(base, (*pieces[: len(pieces) - tail], piece))
    return Outcome(snapshot, added=len(fresh), removed=removed, already=already)


def _tail(segments: Sequence[Segment], rows: int) -> int:
    """How many of the last segments to write again with `rows` new photos.

    Segments below `FOLD_BYTES` keep doubling, so that adding photos one by one makes few segments, and each photo
    is written again a few times only.
    """
    taken = 0
    for segment in reversed(segments):
        if segment.piece.live >= 2 * rows or segment.row_bytes * (rows + segment.piece.live) > FOLD_BYTES:
            break
        rows, taken = rows + segment.piece.live, taken + 1
    return taken


def _blocks(vectors: Rows, rows: Indices) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield vectors[rows[start : start + ROWS_AT_ONCE]]


# --- which rows


def _first_of_each(ids: Bytes) -> Indices:  # (N, 32) -> rising rows
    """The first row of each photo: one that is given twice is one photo."""
    if not len(ids):
        return np.empty(0, np.int64)
    whole = np.ascontiguousarray(ids).view("V32").reshape(-1)
    return np.sort(np.unique(whole, return_index=True)[1]).astype(np.int64)


def _key(columns: Columns, row: int) -> tuple[str, bytes]:
    return columns.roots[int(columns.codes[row])], columns.names[row]


def _rows_by_name(columns: Columns) -> dict[tuple[str, bytes], list[int]]:
    found: dict[tuple[str, bytes], list[int]] = {}
    for row, (code, name) in enumerate(zip(columns.codes.tolist(), columns.names.all(), strict=True)):
        found.setdefault((columns.roots[code], name), []).append(row)
    return found


def _unchanged(base: Snapshot, there: int, columns: Columns, vectors: Rows, row: int) -> bool:
    given = vectors[np.array([row])].astype(base.manifest.dtype)
    same = base.vectors[np.array([there])].tobytes() == given.astype(np.float32).tobytes()
    return same and columns.same_row(row, base.columns, there)


def _by_segment(base: Snapshot, rows: Sequence[int]) -> dict[int, Indices]:
    """Places among the live rows of each segment that has some of `rows`."""
    starts, wanted = base.vectors.starts, np.array(rows, np.int64)
    numbers = np.searchsorted(starts, wanted, "right") - 1
    return {int(number): wanted[numbers == number] - starts[number] for number in np.unique(numbers)}


def _without(base: Snapshot, gone: dict[int, Indices]) -> tuple[Piece, ...]:
    """The pieces of a version without some rows; one file for each segment that loses some."""
    pieces = []
    for number, segment in enumerate(base.segments):
        if number not in gone:
            pieces.append(segment.piece)
        elif len(gone[number]) < segment.piece.live:
            pieces.append(_mark_removed(base.path, segment, gone[number]))
    return tuple(pieces)


def _mark_removed(path: Path, segment: Segment, places: Indices) -> Piece:
    before = np.empty(0, np.int64) if segment.removed is None else segment.removed
    rows = np.union1d(before, segment.live[places]).astype("<i8")
    name, content = f"removed-{secrets.token_hex(8)}.bin", rows.tobytes()
    write_new(path / name, [content])
    return replace(segment.piece, removed=Removed(name, len(rows), hashlib.sha256(content).hexdigest()))


# --- compacting


def _runs(segments: Sequence[Segment]) -> Iterator[tuple[Segment, ...]]:
    """Neighbours that are written together; a large segment of which nothing is removed stands alone."""
    run: list[Segment] = []
    for segment in segments:
        if segment.removed is None and segment.piece.bytes >= SETTLED_BYTES:
            yield from (part for part in (tuple(run), (segment,)) if part)
            run = []
        else:
            run.append(segment)
    if run:
        yield tuple(run)


def _rewritten(base: Snapshot, run: tuple[Segment, ...], meter: _Meter) -> Iterator[Piece]:
    rows = sum(segment.piece.live for segment in run)
    if len(run) == 1 and run[0].removed is None:
        meter.advance(rows)
        yield run[0].piece
    elif rows:
        columns = Columns.concatenate([segment.columns for segment in run])
        blocks = _blocks(Vectors(run, base.manifest.made_by.dim), np.arange(rows))
        yield _segment_of(base, columns, meter.over(blocks))


class _Meter:
    """How far a long rewriting is."""

    def __init__(self, report: Report | None, total: int) -> None:
        self.report, self.total, self.done = report, total, 0

    def advance(self, rows: int) -> None:
        self.done += rows
        if self.report is not None:
            self.report(self.done, self.total)

    def over(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for block in blocks:
            yield block
            self.advance(len(block))
