"""From the segments of an index to an engine over them; what lies beside the vectors is made here, and checked.

Learning a quantiser is an act of its own, `prepare`: nothing is learnt anew because photos were added.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.index.engines.array_file import ArrayFileError
from cricavpr.index.engines.codes import Codes, CodesOf, Write, codes_for, encode_all, read_codes, write_codes
from cricavpr.index.engines.compressed import SHORTLIST, CompressedEngine
from cricavpr.index.engines.fast_scan import Scan
from cricavpr.index.engines.quantiser import Coding, Quantiser
from cricavpr.index.engines.rows import Mask, Rows, Vectors
from cricavpr.index.manifest import QUANTISER

Report = Callable[[int, int], None]  # rows coded, and how many will be


def codes_file(folder: Path, segment: str, quantiser: Quantiser) -> Path:
    """Where the codes lie of the segment with a checksum: the name says of what and by what."""
    return folder / f"codes-{segment[:16]}-{quantiser.fingerprint[:8]}.bin"


@dataclass(frozen=True, eq=False)
class Segment:
    """Vectors of an index that never change.

    Attributes:
        vectors: (n, D), usually memory-mapped.
        checksum: of them, as the index has it.
    """

    vectors: Vectors
    checksum: str

    def codes_file(self, folder: Path, quantiser: Quantiser) -> Path:
        """Where its codes lie."""
        return codes_file(folder, self.checksum, quantiser)

    def owner(self, quantiser: Quantiser) -> CodesOf:
        """What its codes must say of themselves."""
        return CodesOf.segment_by(self.checksum, len(self.vectors), quantiser)


@dataclass(frozen=True, eq=False)
class LaidOut:
    """Codes in memory, and of which segments they are: a later version need not lay them out again.

    Attributes:
        segments: checksum and rows of each, in order.
    """

    quantiser: Quantiser
    scan: Scan
    segments: tuple[tuple[str, int], ...]

    def shared(self, segments: Sequence[Segment], quantiser: Quantiser) -> tuple[int, Scan]:
        """How many of the first of some segments have their codes here, and these codes."""
        if quantiser.fingerprint != self.quantiser.fingerprint:
            return 0, Scan(quantiser.centroids)
        pairs = zip(self.segments, _named(segments), strict=False)
        same = [one for one, other in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
        return len(same), self.scan.first(sum(count for _, count in same))


@dataclass(frozen=True, eq=False)
class Opened:
    """An engine, its codes as a later version may use them, and what had to be made again on the way."""

    engine: CompressedEngine
    laid_out: LaidOut
    notes: tuple[str, ...]


def _named(segments: Sequence[Segment]) -> tuple[tuple[str, int], ...]:
    return tuple((segment.checksum, len(segment.vectors)) for segment in segments)


def prepare(
    folder: Path,
    segments: Sequence[Segment],
    made_by: MadeBy,
    live: Mask | None = None,  # (N,)
    coding: Coding | None = None,
    report: Report | None = None,
) -> Quantiser:
    """Learn a quantiser on the live rows and write it and all codes to `folder`.

    Interrupted, it leaves what was there before in use: codes come first, and the quantiser that names them last. The
    same call goes on from there: equal rows teach the same quantiser, and codes that are whole are kept.

    Raises:
        InputError: too few rows, or a folder that cannot be written.
        MissingExtraError: faiss is not installed.
    """
    rows = Rows(tuple(segment.vectors for segment in segments), live)
    quantiser, done = Quantiser.learn(rows, made_by, coding), 0

    def meter(coded: int) -> None:
        nonlocal done
        done += coded
        if report:
            report(done, len(rows))

    for segment in segments:
        path, owner = segment.codes_file(folder, quantiser), segment.owner(quantiser)
        if _whole(path, owner, quantiser):
            done += len(segment.vectors)
        else:
            write_codes(path, encode_all(segment.vectors, quantiser, meter), owner)
    quantiser.save(folder / QUANTISER)
    return quantiser


def _whole(path: Path, owner: CodesOf, quantiser: Quantiser) -> bool:
    try:
        read_codes(path, owner, quantiser.code_bytes)
    except ArrayFileError:
        return False
    return True


def open_compressed(
    folder: Path,
    segments: Sequence[Segment],
    made_by: MadeBy,
    live: Mask | None = None,  # (N,)
    *,
    shortlist: int = SHORTLIST,
    write: Write | None = write_codes,
    laid_out: LaidOut | None = None,
) -> Opened:
    """The compressed engine over what was prepared; `choose` says when it is worth it.

    Codes that are missing or damaged are made again and named in the notes, and `write` keeps them. What an engine over
    an earlier version has laid out is used again.

    Raises:
        InputError: nothing was prepared, or the quantiser is damaged or was learnt on other descriptors.
        MissingExtraError: faiss is not installed.
    """
    rows = Rows(tuple(segment.vectors for segment in segments), live)
    quantiser = required_quantiser(folder, made_by)
    shared, scan = _shared(folder, segments, quantiser, laid_out)
    codes = _Codes(folder, segments[shared:], quantiser, write)
    engine = CompressedEngine(rows, quantiser, scan.extended(codes), shortlist)
    return Opened(engine, LaidOut(quantiser, engine.scan, _named(segments)), tuple(codes.notes))


def _shared(
    folder: Path, segments: Sequence[Segment], quantiser: Quantiser, laid_out: LaidOut | None
) -> tuple[int, Scan]:
    """What of an earlier layout serves; none of one that is worn, where its codes need not be made again."""
    nothing = Scan(quantiser.centroids)
    shared, scan = laid_out.shared(segments, quantiser) if laid_out else (0, nothing)
    if scan.worn and all(one.codes_file(folder, quantiser).exists() for one in segments[:shared]):
        return 0, nothing
    return shared, scan


def quantiser_of(folder: Path, made_by: MadeBy) -> Quantiser | None:
    """What the codes of an index are made by, or None where nothing was learnt.

    Raises:
        ArrayFileError: damaged, or learnt on descriptors that were made otherwise.
    """
    path = folder / QUANTISER
    return Quantiser.load(path, made_by) if path.exists() else None


def required_quantiser(folder: Path, made_by: MadeBy) -> Quantiser:
    """As `quantiser_of`.

    Raises:
        InputError: also where nothing was learnt.
    """
    try:
        quantiser = quantiser_of(folder, made_by)
    except ArrayFileError as error:
        raise InputError(
            f"{error.file} {error.why}. Make it and the codes again with `cricavpr index tune`."
        ) from error
    if quantiser is None:
        raise InputError(f"{folder} has no codes yet. Make them with `cricavpr index tune`.")
    return quantiser


class _Codes:
    """The codes of one segment after the other, and a note for each that had to be made."""

    def __init__(self, folder: Path, segments: Sequence[Segment], quantiser: Quantiser, write: Write | None) -> None:
        self.folder, self.segments, self.quantiser, self.write = folder, segments, quantiser, write
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Codes]:
        for segment in self.segments:
            path = segment.codes_file(self.folder, self.quantiser)
            codes, note = codes_for(path, segment.vectors, segment.checksum, self.quantiser, write=self.write)
            self.notes += [note] if note else []
            yield codes
