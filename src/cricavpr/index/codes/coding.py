"""The files of compressed search in the folder of an index: a quantiser, and one file of codes for each segment.

A code is a short approximation of a descriptor, and the quantiser computes codes. The codes and the quantiser can be
made again from the descriptors at any time, so the manifest does not list their files. A process must hold the lock of
the index to write or remove these files. Codes are written only for segments of the newest version, and removed
together with their segment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.files import written_beside
from cricavpr.index.array_file import ArrayFile, Column, write_arrays
from cricavpr.index.codes.compressed import CompressedEngine, Quantiser
from cricavpr.index.codes.fast_scan import Codes, Packed, pack
from cricavpr.index.codes.tuning import Tuned
from cricavpr.index.manifest import QUANTISER, Manifest, Piece, is_ours
from cricavpr.index.segments import Segment
from cricavpr.index.snapshot import Snapshot
from cricavpr.index.storage import CodesError, FileError, remove_quietly, writer_of
from cricavpr.index.vectors import release
from cricavpr.progress import Progress, Report

KIND = "cricavpr.codes.2"
ROWS_AT_ONCE = 4096
TUNE = "cricavpr index tune"


# --- files


def quantiser_of(folder: Path, made_by: MadeBy) -> Quantiser | None:
    """Return the quantiser of an index, or None if it has none. Raises FileError if the file is damaged."""
    path = folder / QUANTISER
    return Quantiser.load(path, made_by) if os.path.lexists(path) else None


def required_quantiser(folder: Path, made_by: MadeBy) -> Quantiser:
    """Return the quantiser of an index. Raises InputError if it is missing or damaged."""
    try:
        quantiser = quantiser_of(folder, made_by)
    except FileError as error:
        raise InputError(f"{error.file} {error.why}. Make it and all codes again: {TUNE} {folder}") from error
    if quantiser is None:
        raise InputError(f"{folder} has no codes for compressed search. Make them: {TUNE} {folder}")
    return quantiser


def codes_file(folder: Path, piece: Piece, quantiser: Quantiser) -> Path:
    """Return the path of the file with the codes of a segment. The name depends on the segment and the quantiser."""
    return folder / f"codes-{piece.checksum[:16]}-{quantiser.fingerprint[:8]}.bin"


def header_of(piece: Piece, quantiser: Quantiser) -> dict[str, Any]:
    """Return the header that the file with the codes of a segment must have."""
    about = {"kind": KIND, "segment": piece.checksum, "count": piece.count}
    return {**about, "made_by": quantiser.made_by, "quantiser": quantiser.fingerprint}


def write_codes(folder: Path, codes: Codes, piece: Piece, quantiser: Quantiser) -> None:
    """Write the codes of a segment to a file and sync it. Raises InputError if the file cannot be written."""
    with written_beside(codes_file(folder, piece, quantiser)) as beside:
        write_arrays(beside, header_of(piece, quantiser), {"codes": Column.of(codes)})


def read_codes(folder: Path, piece: Piece, quantiser: Quantiser) -> Codes:
    """Return the codes of a segment.

    Raises:
        FileError: the file is missing, damaged or unreadable, or belongs to another segment or quantiser.
    """
    file = ArrayFile(codes_file(folder, piece, quantiser), error=CodesError)
    for what, value in header_of(piece, quantiser).items():
        if file.about.get(what) != value:
            raise CodesError(file.path, f"has the {what} {file.about.get(what)} in its header, expected {value}")
    place = file.arrays.get("codes")
    if place is None or (place.type, place.shape) != ("|u1", (piece.count, quantiser.code_bytes)):
        raise CodesError(file.path, f"does not hold {piece.count} codes of {quantiser.code_bytes} bytes")
    return file.read("codes")


def encode_all(segment: Segment, quantiser: Quantiser, progress: Callable[[int], None] | None = None) -> Codes:
    """Compute and return the codes of all rows of a segment.

    Args:
        progress: called with the number of rows done since the last call.
    """
    codes = np.empty((len(segment), quantiser.code_bytes), np.uint8)
    for start in range(0, len(segment), ROWS_AT_ONCE):
        some = quantiser.encode(segment[start : start + ROWS_AT_ONCE])
        codes[start : start + len(some)] = some
        release(segment)
        if progress:
            progress(len(some))
    return codes


def damaged_codes(path: Path, manifest: Manifest) -> Iterator[FileError]:
    """Yield an error for each damaged file of codes of a version, and for its quantiser if that is damaged.

    Missing files are ignored.
    """
    try:
        quantiser = quantiser_of(path, manifest.made_by)
    except FileError as error:
        yield error
        return
    if quantiser is None:
        return
    for piece in coded(path, manifest.pieces, quantiser):
        try:
            read_codes(path, piece, quantiser)
        except FileError as error:
            yield error


def coded(folder: Path, pieces: Sequence[Piece], quantiser: Quantiser) -> list[Piece]:
    """Return the segments that have a file of codes, even if the file is damaged."""
    return [piece for piece in pieces if os.path.lexists(codes_file(folder, piece, quantiser))]


# --- making them


def prepare(
    path: Path,
    *,
    learn: bool = False,
    progress: Report | None = None,
    wait_s: float = 0.0,
) -> str | None:
    """Learn a quantiser and make the codes of the newest version. See `PlaceIndex.prepare`.

    Nothing is done if the index has a quantiser and `learn` is False.

    If the process is killed, the earlier codes remain in use, because the new quantiser is written last. Calling this
    function again resumes the work: the same photos give the same quantiser, and finished files of codes are kept.
    """
    with writer_of(path, wait_s):
        newest, why = Snapshot.open(path), "there were none"
        made_by = newest.manifest.made_by
        try:
            if not learn and quantiser_of(path, made_by) is not None:
                return None
        except FileError as error:
            why = f"{error.file} {error.why}, so it was made again"
        if not len(newest):
            raise InputError(f"codes are learnt from photos, but the index {path} has no photos. Add photos first.")
        quantiser = Quantiser.learn(newest.rows, made_by)
        _code(newest, quantiser, progress)
        quantiser.save(path / QUANTISER)
        for file in path.glob("codes-*"):
            if is_ours(file.name) and not file.name.endswith(f"-{quantiser.fingerprint[:8]}.bin"):
                remove_quietly(file)
        return f"codes made for {len(newest):,} photos: {'as requested' if learn else why}"


def _code(snapshot: Snapshot, quantiser: Quantiser, progress: Report | None) -> None:
    """Compute and write the codes of each segment without valid codes."""
    with Progress(progress or False, len(snapshot.rows)) as meter:
        for segment in snapshot.segments:
            try:
                read_codes(snapshot.path, segment.piece, quantiser)
                meter.done += len(segment)
            except FileError:
                write_codes(snapshot.path, encode_all(segment, quantiser, meter.advance), segment.piece, quantiser)


def carry(base: Snapshot, written: Sequence[tuple[Sequence[Segment], Piece]]) -> None:
    """Write the codes of merged segments, and update the result of `tune`, before a compacted version is committed.

    The codes are copied from the codes of the old segments, without removed rows. If old codes are missing or damaged,
    the merged segment gets no codes; a search makes them when it needs them.

    Args:
        written: for each new segment, the old segments that were merged and the manifest entry of the new segment.

    Raises:
        InputError: a file cannot be written.
    """
    with contextlib.suppress(FileError):
        quantiser = quantiser_of(base.path, base.manifest.made_by)
        if quantiser is None:
            return
        for run, piece in written:
            if piece in base.manifest.pieces:
                continue
            with contextlib.suppress(FileError):
                parts = [read_codes(base.path, segment.piece, quantiser)[segment.live] for segment in run]
                write_codes(base.path, np.concatenate(parts), piece, quantiser)
    try:
        tuned = Tuned.read(base.path)
    except InputError:
        return
    tuned.carry(base.manifest.pieces, [piece for _, piece in written]).write(base.path)


# --- opening the engine


# Codes in memory. The key is the fingerprint of the quantiser and the checksum of the segment.
InMemory = dict[tuple[str, str], tuple[Packed, ...]]


@dataclass(frozen=True, eq=False)
class Opened:
    """The compressed engine of one version of an index, ready to search.

    Attributes:
        codes: the codes of the engine, which later versions use again.
        notes: one line for each file of codes that was missing or damaged and was made again.
    """

    engine: CompressedEngine
    codes: InMemory
    notes: tuple[str, ...]


def open_compressed(snapshot: Snapshot, known: InMemory | None = None) -> Opened:
    """Open the compressed engine of a version. Missing or damaged codes are made, and written if possible.

    Args:
        known: codes that were loaded into memory for an earlier version. They are used again.

    Raises:
        InputError: there is no valid quantiser, or a segment is damaged.
        MissingExtraError: faiss is not installed.
    """
    quantiser = required_quantiser(snapshot.path, snapshot.manifest.made_by)
    notes: list[str] = []
    codes: InMemory = {}
    in_order: list[Packed] = []
    for segment in snapshot.segments:
        key = quantiser.fingerprint, segment.piece.checksum
        there = (known or {}).get(key)
        codes[key] = there or pack(quantiser.centroids, _codes(snapshot, segment, quantiser, notes))
        in_order += codes[key]
    return Opened(CompressedEngine(snapshot.rows, quantiser, in_order), codes, tuple(notes))


def _codes(snapshot: Snapshot, segment: Segment, quantiser: Quantiser, notes: list[str]) -> Codes:
    """Return the codes of a segment. Missing or damaged codes are made, and the reason is added to `notes`."""
    path = codes_file(snapshot.path, segment.piece, quantiser)
    there = os.path.lexists(path)
    try:
        return read_codes(snapshot.path, segment.piece, quantiser)
    except FileError as error:
        why = f"again: {path} {error.why}" if there else f"for {len(segment):,} rows: {path} was missing"
    codes = encode_all(segment, quantiser)
    notes.append(f"codes made {why}")
    try:
        with writer_of(snapshot.path, briefly=True):
            pieces = Snapshot.open(snapshot.path).manifest.pieces
            # Another process may have removed the segment meanwhile, to wipe photos; then its codes must not be kept.
            if segment.piece.checksum in {piece.checksum for piece in pieces}:
                write_codes(snapshot.path, codes, segment.piece, quantiser)
    except InputError as error:
        notes.append(f"these codes could not be saved for the next search: {error}")
    return codes
