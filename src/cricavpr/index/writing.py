"""Changes of an index: write new files, then a manifest that makes these files the newest version.

A writer holds the lock of the index when it reads the newest version, so two writers never undo each other's changes.
The argument `near` is any open version of the index; its open segments are used again, which saves time. If a writer
fails or is killed, the earlier version remains the newest, and the next writer removes the unfinished files.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.files import make_folders, sync
from cricavpr.index.codes.coding import carry
from cricavpr.index.columns import Columns, Indices, first_of_each, one_frame
from cricavpr.index.manifest import FLOAT32, WORK, Manifest, Piece, Removed, is_ours, versions
from cricavpr.index.matching import match
from cricavpr.index.photo_index import Change
from cricavpr.index.segments import Segment, write_segment
from cricavpr.index.sketch import wipe
from cricavpr.index.snapshot import Snapshot
from cricavpr.index.storage import LOCK, one_line_errors, publish, remove_quietly, write_new, writer_of
from cricavpr.index.vectors import Vectors
from cricavpr.locks import exclusive
from cricavpr.progress import Progress, Report

ROWS_AT_ONCE = 4096
MOST_ATTEMPTS = 50  # to lock a folder that another process removes at the same time
FOLD_BYTES = 8_000_000  # small segments at the end are merged with new photos if the result has at most this size
SETTLED_BYTES = 1 << 30  # `compact` rewrites a segment of at least this size only if it has removed photos

Blocks = Iterator[NDArray[np.float32]]  # (n, D) each
Floats = Vectors | NDArray[np.float32]  # (N, D)


# --- the changes


def create(path: Path, made_by: MadeBy, dtype: str = FLOAT32) -> Snapshot:
    """Make an index without photos.

    Raises InputError if the folder holds an index or other files, or if it cannot be written.
    """
    with _made(path), writer_of(path):
        if versions(path):
            raise InputError(f"{path} is a place index already. Open this index, or choose another folder.")
        return _commit(path, Manifest(1, made_by, dtype=dtype))


def rebuild(
    path: Path, made_by: MadeBy, columns: Columns, vectors: Floats, wait_s: float = 0.0, dtype: str = FLOAT32
) -> Snapshot:
    """Make an index of these photos in the folder `path`. If the folder holds an index already, it is replaced."""
    with _made(path), writer_of(path, wait_s):
        first = first_of_each(columns.ids)
        piece = write_segment(path, made_by, columns.take(first), _blocks(vectors, first), dtype)
        version = 1 + max(versions(path), default=0)
        built = _commit(path, Manifest(version, made_by, (piece,), dtype))
        with contextlib.suppress(OSError, InputError):  # the index is complete
            wipe(path, [(columns.ids, columns.metres)])
        return built


def add(
    near: Snapshot,
    made_by: MadeBy,
    columns: Columns,
    vectors: Floats,
    wait_s: float = 0.0,
    progress: Report | None = None,
) -> Change[Snapshot]:
    """Add the photos that the index does not have, in order, after the photos of the index."""
    with writer_of(near.path, wait_s):
        base = _newest_made_by(near, made_by)
        first = first_of_each(columns.ids)
        fresh = first[base.find(columns.ids[first]) < 0]
        change = _append(base, {}, columns.take(fresh), vectors, fresh)
    if progress is not None:
        progress(len(columns), len(columns))
    return replace(change, already=len(columns) - len(fresh))


def update(
    near: Snapshot,
    made_by: MadeBy,
    columns: Columns,
    vectors: Floats,
    wait_s: float = 0.0,
    *,
    keep_tags: bool = False,
    keep_positions: bool = False,
) -> Change[Snapshot]:
    """Add photos. Each replaces the photo of the index that it matches; unchanged photos keep their rows.

    `matching` explains which photos match.

    Args:
        keep_tags: whether a new photo takes the tags of the photo that it replaces, because no tags are given.
        keep_positions: whether a new photo takes the position of the photo that it replaces, because no positions are
            given.
    """
    with writer_of(near.path, wait_s):
        base = _newest_made_by(near, made_by)
        first, old = first_of_each(columns.ids), base.columns
        new, same = columns.take(first), base.find(columns.ids[first])
        matches = match(old, new, same)
        new = matches.keep(old, new, tags=keep_tags, positions=keep_positions)
        gone: set[int] = set()
        fresh = []
        for row, (rows, twin) in enumerate(zip(matches.rows, same.tolist(), strict=True)):
            if rows == (twin,) and _unchanged(base, twin, new, vectors[first[row : row + 1]], row):
                continue
            gone.update(rows)
            fresh.append(row)
        chosen = np.array(fresh, np.int64)
        change = _append(base, _by_segment(base, sorted(gone)), new.take(chosen), vectors, first[chosen])
        return replace(change, already=len(columns) - len(fresh), moved=matches.moved)


def remove(near: Snapshot, choose: Callable[[Snapshot], Indices], wait_s: float = 0.0) -> Change[Snapshot]:
    """Remove photos from the newest version. Their bytes stay in the files until `compact` wipes them.

    `choose` gets the newest version and returns the numbers of the photos to remove.
    """
    with writer_of(near.path, wait_s):
        base = Snapshot.open(near.path, near=near)
        rows = np.unique(choose(base))
        if not len(rows):
            sync(base.path)
            return Change(base)
        pieces = _without(base, _by_segment(base, rows.tolist()))
        return Change(_commit_after(base, pieces), removed=len(rows))


def compact(near: Snapshot, progress: Report | None = None, wait_s: float = 0.0) -> Snapshot:
    """Merge small segments, and wipe removed photos from all files.

    Readers can still use an older version that they have opened.

    Raises:
        InputError: the disk is full, or an old file cannot be removed.
    """
    path = near.path
    with writer_of(path, wait_s), Progress(progress or False, len(near)) as meter:
        base = Snapshot.open(path, near=near)
        meter.total = len(base)
        written = [(run, piece) for run in _runs(base.segments) for piece in _rewritten(base, run, meter)]
        pieces = tuple(piece for _, piece in written)
        if pieces != base.manifest.pieces:
            carry(base, written)
            base = _commit_after(base, pieces)
        _sweep(path, [base.manifest], strict=True)
        _sweep_work(path)
        wipe(path, base.ids_and_metres())
        sync(path)
        return base


# --- descriptors that are not in the index yet


@contextlib.contextmanager
def work_folder(path: Path, job: str, wait_s: float = 0.0) -> Iterator[Path]:
    """Yield a folder for unfinished descriptors inside the folder of an index, locked for this process.

    The folder is removed if the block succeeds. It stays if the block fails or the process dies, so that the same job
    can resume. `compact` removes such folders if no process uses them.

    Args:
        path: the folder of the index, which is made if it is missing.
        job: a text that identifies the photos and the method; the same text gives the same folder.
        wait_s: how long to wait for another process with the same job, in seconds.

    Raises:
        InputError: another process does the same job (the message names the process), or the folder cannot be written.
    """
    folder = path / WORK / hashlib.sha256(os.fsencode(job)).hexdigest()[:16]
    with contextlib.ExitStack() as held:
        for attempt in range(MOST_ATTEMPTS):
            with one_line_errors(path), contextlib.suppress(FileNotFoundError):  # another process has just removed it
                make_folders(path)
                if any(one.is_symlink() for one in (folder.parent, folder)):
                    raise InputError(f"the path {folder} must not contain a symbolic link. Remove the link.")
                make_folders(folder)
            try:
                held.enter_context(exclusive(folder / LOCK, f"describing these photos for the index {path}", wait_s))
                break
            except InputError as error:
                if not isinstance(error.__cause__, FileNotFoundError) or attempt == MOST_ATTEMPTS - 1:
                    raise
        try:
            yield folder
        except BaseException:
            if os.listdir(folder) == [LOCK]:  # noqa: PTH208
                _remove_work(folder)
            raise
        _remove_work(folder)


def _sweep_work(path: Path) -> None:
    """Remove the folders of unfinished descriptors that no process uses."""
    folders = [] if (path / WORK).is_symlink() else [*(path / WORK).glob("?" * 16)]
    for folder in (one for one in folders if not one.is_symlink()):
        with contextlib.suppress(InputError), exclusive(folder / LOCK, str(folder)):
            _remove_work(folder)


def _remove_work(folder: Path) -> None:
    """Remove a folder of unfinished descriptors, and its parent and grandparent folder if they are empty."""
    shutil.rmtree(folder, ignore_errors=True)
    for empty in (folder.parent, folder.parent.parent):
        with contextlib.suppress(OSError):
            empty.rmdir()


# --- a commit


@contextlib.contextmanager
def _made(path: Path) -> Iterator[None]:
    """Make the folder of an index if it is missing. If the block fails, a folder made here is removed again."""
    refuse_foreign(path)
    created = not path.is_dir()
    with one_line_errors(path):
        make_folders(path)
    try:
        yield
    except BaseException:
        if created:
            remove_quietly(path / LOCK)
            with contextlib.suppress(OSError):
                path.rmdir()  # fails if the folder is not empty
        raise


def refuse_foreign(path: Path) -> None:
    """Raise if no index may be built at `path`. Call this before the photos are described, to fail early.

    Raises:
        InputError: `path` is a file, or a folder that holds other files and no index.
    """
    with one_line_errors(path):
        if path.is_dir():
            names = os.listdir(path)  # noqa: PTH208
            strange = sorted(name for name in names if not name.startswith(".") and not is_ours(name))
            if strange and not versions(path):
                raise InputError(
                    f"{path} is not a place index and holds other files ({strange[0]}). Choose another folder."
                )
        elif path.exists():
            raise InputError(f"{path} is a file, but an index is a folder. Choose another path.")


def _newest_made_by(near: Snapshot, made_by: MadeBy) -> Snapshot:
    base = Snapshot.open(near.path, near=near)
    base.manifest.made_by.require_same(made_by, f"the photos of {base.path} and the photos to add")
    return base


def _commit_after(base: Snapshot, pieces: tuple[Piece, ...]) -> Snapshot:
    manifest = replace(base.manifest, version=base.manifest.version + 1, pieces=pieces)
    return _commit(base.path, manifest, base)


def _commit(path: Path, manifest: Manifest, base: Snapshot | None = None) -> Snapshot:
    """Open the files of a new version, make it the newest version, and remove files that are no longer needed.

    Args:
        base: the version before, whose files are kept; None if there is no such version.
    """
    snapshot = Snapshot.of(path, manifest, base)
    publish(path / manifest.name, manifest.encode())
    with contextlib.suppress(OSError):  # the version is complete
        _sweep(path, [manifest] if base is None else [base.manifest, manifest], codes=base is not None)
    return snapshot


def _sweep(path: Path, keep: Sequence[Manifest], strict: bool = False, codes: bool = True) -> None:
    """Remove the files of an index that no manifest in `keep` needs, such as those of older versions or killed writers.

    Files that are not part of an index are not touched.

    Args:
        strict: whether to raise InputError if a file cannot be removed, instead of leaving the file.
        codes: whether to keep the files of compressed search that belong to the versions in `keep`.
    """
    files = {name for manifest in keep for name in manifest.files()}
    for name in sorted(os.listdir(path)):  # noqa: PTH208
        kept = name in files or (codes and any(manifest.has_codes(name) for manifest in keep))
        if kept or not is_ours(name):
            continue
        try:
            os.unlink(path / name)  # noqa: PTH108  # tests replace `os.unlink`
        except OSError as error:
            if strict:
                raise InputError(
                    f"cannot remove {path / name} ({error.strerror or error}), which may hold removed photos. "
                    f"Fix its permissions and run this again: cricavpr index compact {path}"
                ) from error


def _append(base: Snapshot, gone: dict[int, Indices], new: Columns, vectors: Any, rows: Indices) -> Change[Snapshot]:
    """Commit a new version without the removed photos, and with new photos at the end.

    Args:
        gone: for each segment number, the rows of the photos to remove.
        new: the columns of the new photos.
        rows: the rows of `vectors` that hold the descriptors of the new photos.
    """
    one_frame([new.frame, base.frame])
    if not len(new):
        sync(base.path)  # an earlier call may have written the photos and failed at its last sync
        return Change(base)
    pieces = _without(base, gone)
    tail = 0 if gone else _tail(base.segments, len(new))
    kept = base.segments[len(base.segments) - tail :]
    together = Columns.concatenate([*(segment.columns for segment in kept), new])
    old = Snapshot(base.path, base.manifest, kept).vectors
    blocks = itertools.chain(_blocks(old, np.arange(len(old))), _blocks(vectors, rows))
    piece = _write(base, together, blocks)
    snapshot = _commit_after(base, (*pieces[: len(pieces) - tail], piece))
    return Change(snapshot, added=len(new), removed=sum(map(len, gone.values())))


def _write(base: Snapshot, columns: Columns, blocks: Blocks) -> Piece:
    """Write a segment with the same `made_by` and dtype as the other segments; return its manifest entry."""
    return write_segment(base.path, base.manifest.made_by, columns, blocks, base.manifest.dtype)


def _tail(segments: Sequence[Segment], rows: int) -> int:
    """Return how many segments at the end of the index to merge with `rows` new photos.

    The last segment is merged if it has less than twice as many photos as are to be written, and the result has at most
    `FOLD_BYTES`. Then the segment before it is looked at in the same way, and so on. So adding photos one by one makes
    few segments and writes each photo only a few times.
    """
    taken = 0
    for segment in reversed(segments):
        row_bytes = segment.dim * segment.dtype.itemsize
        if segment.piece.live >= 2 * rows or row_bytes * (rows + segment.piece.live) > FOLD_BYTES:
            break
        rows, taken = rows + segment.piece.live, taken + 1
    return taken


def _blocks(vectors: Any, rows: Indices) -> Blocks:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield vectors[rows[start : start + ROWS_AT_ONCE]]


# --- which rows


def _unchanged(base: Snapshot, there: int, columns: Columns, vector: NDArray[np.float32], row: int) -> bool:
    given = vector.astype(base.manifest.dtype).astype(np.float32)
    same = base.vectors[np.array([there])].tobytes() == given.tobytes()
    return same and columns.same_row(row, base.columns, there)


def _by_segment(base: Snapshot, photos: Sequence[int]) -> dict[int, Indices]:
    """Group photos by segment: return, for each segment number, the rows of the photos in that segment."""
    rows = base.vectors.file_rows(np.array(photos, np.int64))
    return {number: own for number, own, _ in base.rows.by_part(rows)}


def _without(base: Snapshot, gone: dict[int, Indices]) -> tuple[Piece, ...]:
    """Return the manifest entries of the segments after removing some rows.

    A segment without any remaining row is left out. For each other segment that loses rows, a file with its removed
    rows is written.

    Args:
        gone: for each segment number, the rows to remove.
    """
    pieces = []
    for number, segment in enumerate(base.segments):
        if number not in gone:
            pieces.append(segment.piece)
        elif len(gone[number]) < segment.piece.live:
            pieces.append(_mark_removed(base.path, segment, gone[number]))
    return tuple(pieces)


def _mark_removed(path: Path, segment: Segment, gone: Indices) -> Piece:
    before = np.empty(0, np.int64) if segment.removed is None else segment.removed
    rows = np.union1d(before, gone).astype("<i8")
    name, content = f"removed-{secrets.token_hex(8)}.bin", rows.tobytes()
    write_new(path / name, [content])
    return replace(segment.piece, removed=Removed(name, len(rows), hashlib.sha256(content).hexdigest()))


# --- compacting


def _runs(segments: Sequence[Segment]) -> Iterator[tuple[Segment, ...]]:
    """Return groups of neighbouring segments to merge; a large segment without removed photos is a group by itself."""

    def settled(segment: Segment) -> str:  # neighbours with the same result are merged
        return segment.piece.file if segment.removed is None and segment.piece.bytes >= SETTLED_BYTES else ""

    return (tuple(run) for _, run in itertools.groupby(segments, settled))


def _rewritten(base: Snapshot, run: tuple[Segment, ...], meter: Progress) -> Iterator[Piece]:
    rows = sum(segment.piece.live for segment in run)
    if len(run) == 1 and run[0].removed is None:
        meter.advance(rows)
        yield run[0].piece
    elif rows:
        columns = Columns.concatenate([segment.columns for segment in run])
        vectors = Snapshot(base.path, base.manifest, run).vectors
        yield _write(base, columns, _counted(_blocks(vectors, np.arange(rows)), meter))


def _counted(blocks: Blocks, meter: Progress) -> Blocks:
    for block in blocks:
        yield block
        meter.advance(len(block))
