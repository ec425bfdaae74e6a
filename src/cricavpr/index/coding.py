"""The codes of an index: what compressed search keeps beside the segments, made and swept under the writer's lock.

They are made from the vectors and can be made again at any time, so no version names them. What they may never do is
outlive their segment: only codes of a segment of the newest version are written, and they go when it goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index import engines
from cricavpr.index.columns import Indices
from cricavpr.index.durable import writer_of
from cricavpr.index.engines import ArrayFileError, CodesOf, Coding, Quantiser, quantiser_of, read_codes, write_codes
from cricavpr.index.manifest import Manifest, Piece, is_ours
from cricavpr.index.segments import Segment, Stored
from cricavpr.index.snapshot import Snapshot
from cricavpr.index.tuned import carry_tuned

Report = Callable[[int, int], None]  # rows done, rows in all


@dataclass(frozen=True, eq=False)
class CheckedRows:
    """All rows of a segment's file, removed ones too, as an engine reads them: what comes out was checked."""

    segment: Segment

    @property
    def mapped(self) -> Stored:
        return self.segment.mapped

    @property
    def shape(self) -> tuple[int, ...]:
        return self.segment.count, self.segment.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.segment.kind

    def __len__(self) -> int:
        return self.segment.count

    def __getitem__(self, rows: slice | Indices) -> Stored:
        if isinstance(rows, slice):
            first, end, _ = rows.indices(len(self))
            return self.segment.stretch(first, max(first, end))
        return self.segment.rows_of(rows)


def segments_of(snapshot: Snapshot) -> list[engines.Segment]:
    """What engines search: the files of a version, row by row as they lie there."""
    return [engines.Segment(CheckedRows(segment), segment.piece.footer_sha256) for segment in snapshot.segments]


def prepare(
    path: Path,
    *,
    learn: bool = False,
    coding: Coding | None = None,
    progress: Report | None = None,
    wait_s: float = 0.0,
) -> str | None:
    """Learn a quantiser on the newest version and code it; one that is there is kept unless `learn` is said.

    Killed, it leaves in use what was there before, and the same call goes on from there.

    Returns:
        One line where codes were made, and why.

    Raises:
        InputError: too few photos, another writer, or a place that cannot be written.
        MissingExtraError: faiss is not installed.
    """
    with writer_of(path, wait_s):
        newest, why = Snapshot.open(path), "there were none"
        try:
            if not learn and quantiser_of(path, newest.manifest.made_by) is not None:
                return None
        except ArrayFileError as error:
            why = f"learnt anew: {error.file} {error.why}"
        if not len(newest):
            raise InputError(f"{path} holds no photos, so no codes can be learnt. Add some first.")
        made_by, segments = newest.manifest.made_by, segments_of(newest)
        quantiser = engines.prepare(path, segments, made_by, newest.live, coding, progress)
        _sweep_codes_of_others(path, quantiser)
        return f"codes made for {len(newest):,} photos: {'as asked for' if learn else why}"


def _sweep_codes_of_others(path: Path, quantiser: Quantiser) -> None:
    ours = f"-{quantiser.fingerprint[:8]}.bin"
    for file in path.glob("codes-*"):
        if is_ours(file.name) and not file.name.endswith(ours):
            with contextlib.suppress(OSError):  # nobody reads them, and they go with their segment
                file.unlink()


class Keeper:
    """Keeps codes that had to be made again where that may be, and says where not.

    Whoever opened a version long ago must not bring codes back of photos that were wiped since.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, list[str]()

    def __call__(self, file: Path, codes: NDArray[np.uint8], owner: CodesOf) -> None:
        try:
            with writer_of(self.path, briefly=True):
                pieces = Snapshot.open(self.path).manifest.pieces
                if owner.segment in {piece.footer_sha256 for piece in pieces}:
                    write_codes(file, codes, owner)
        except InputError as error:
            self.notes.append(f"these codes are not kept: {error}")


def carry(base: Snapshot, written: Sequence[tuple[Sequence[Segment], Piece]]) -> None:
    """Codes of segments that were written together become those of the new one, less what was removed.

    Nothing is coded again. What cannot be carried is made when it is needed.

    Raises:
        InputError: a place that cannot be written.
    """
    with contextlib.suppress(ArrayFileError):
        quantiser = quantiser_of(base.path, base.manifest.made_by)
        if quantiser is None:
            return
        for run, piece in written:
            if piece in base.manifest.pieces:
                continue
            with contextlib.suppress(ArrayFileError):
                _carry_one(base.path, run, piece, quantiser)
    carry_tuned(base.path, base.manifest.pieces, [piece for _, piece in written])


def _carry_one(folder: Path, run: Sequence[Segment], piece: Piece, quantiser: Quantiser) -> None:
    parts = [_codes_of(folder, segment.piece, quantiser)[segment.live] for segment in run]
    owner = CodesOf.segment_by(piece.footer_sha256, piece.count, quantiser)
    write_codes(_file(folder, piece, quantiser), np.concatenate(parts), owner)


def _codes_of(folder: Path, piece: Piece, quantiser: Quantiser) -> NDArray[np.uint8]:
    owner = CodesOf.segment_by(piece.footer_sha256, piece.count, quantiser)
    return read_codes(_file(folder, piece, quantiser), owner, quantiser.code_bytes)


def _file(folder: Path, piece: Piece, quantiser: Quantiser) -> Path:
    return engines.codes_file(folder, piece.footer_sha256, quantiser)


def coded(folder: Path, pieces: Sequence[Piece], quantiser: Quantiser) -> list[Piece]:
    """The segments that have codes, sound or not."""
    return [piece for piece in pieces if _file(folder, piece, quantiser).exists()]


def damaged_codes(path: Path, manifest: Manifest) -> Iterator[ArrayFileError]:
    """All that is wrong with the quantiser and the codes of a version; that some are missing is not wrong."""
    try:
        quantiser = quantiser_of(path, manifest.made_by)
    except ArrayFileError as error:
        yield error
        return
    if quantiser is None:
        return
    for piece in coded(path, manifest.pieces, quantiser):
        try:
            _codes_of(path, piece, quantiser)
        except ArrayFileError as error:
            yield error
