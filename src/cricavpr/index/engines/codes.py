"""The codes of one segment as a file beside it, and proof that they are its codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.engines.array_file import ArrayFile, ArrayFileError
from cricavpr.index.engines.pages import let_go
from cricavpr.index.engines.quantiser import Quantiser
from cricavpr.index.engines.rows import Vectors

FORMAT = "cricavpr.codes.1"
ROWS_AT_ONCE = 4096
Codes = NDArray[np.uint8]  # (n, bytes)


@dataclass(frozen=True)
class CodesOf:
    """What codes belong to; all of it must match before they are used.

    Attributes:
        segment: the checksum of the segment's vectors.
        count: rows of the segment.
        made_by: fingerprint of how the descriptors were made.
        quantiser: fingerprint of the quantiser.
    """

    segment: str
    count: int
    made_by: str
    quantiser: str

    @classmethod
    def segment_by(cls, segment: str, count: int, quantiser: Quantiser) -> Self:
        return cls(segment, count, quantiser.made_by, quantiser.fingerprint)


Write = Callable[[Path, Codes, CodesOf], None]


def write_codes(path: Path, codes: Codes, owner: CodesOf) -> None:
    """Write codes durably. Raises: InputError: the place cannot be written, or another number of rows."""
    if len(codes) != owner.count:
        raise InputError(f"{len(codes)} codes do not fit a segment of {owner.count} rows.")
    ArrayFile({"format": FORMAT, **asdict(owner)}, {"codes": codes}).write(path)


def read_codes(path: Path, owner: CodesOf, code_bytes: int) -> Codes:
    """Codes that are whole and belong to the segment.

    Raises:
        ArrayFileError: missing, damaged, or codes of something else; it says of what.
    """
    file = ArrayFile.read(path)
    if file.about.get("format") != FORMAT:
        raise ArrayFileError(Path(path), f"holds no codes of this version ({FORMAT})")
    for what, value in asdict(owner).items():
        if file.about.get(what) != value:
            raise ArrayFileError(
                Path(path), f"holds codes of another {what} ({file.about.get(what)} instead of {value})"
            )
    codes = file.arrays.get("codes")
    if codes is None or codes.dtype != np.uint8 or codes.shape != (owner.count, code_bytes):
        raise ArrayFileError(Path(path), f"does not hold {owner.count} codes of {code_bytes} bytes")
    return codes


def encode_all(vectors: Vectors, quantiser: Quantiser, progress: Callable[[int], None] | None = None) -> Codes:
    """The codes of (n, D) vectors, which are read some at a time; `progress` is told how many were coded."""
    codes = np.empty((len(vectors), quantiser.code_bytes), np.uint8)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        some = quantiser.encode(vectors[start : start + ROWS_AT_ONCE])
        codes[start : start + len(some)] = some
        let_go(vectors)
        if progress:
            progress(len(some))
    return codes


def codes_for(
    path: Path,
    vectors: Vectors,  # (n, D)
    segment: str,  # its checksum
    quantiser: Quantiser,
    *,
    write: Write | None = write_codes,
) -> tuple[Codes, str | None]:
    """The codes of a segment: read, or made again where they cannot be; then also one line that says why.

    Args:
        write: keeps what was made again; None for an index that may not be written to.

    Raises:
        InputError: they cannot be written.
    """
    owner, there = CodesOf.segment_by(segment, len(vectors), quantiser), path.exists()
    try:
        return read_codes(path, owner, quantiser.code_bytes), None
    except ArrayFileError as error:
        codes = encode_all(vectors, quantiser)
        if write:
            write(path, codes, owner)
        why = f"again: {error.file} {error.why}" if there else f"of {len(vectors):,} rows: {path} was not there"
        return codes, f"codes made {why}"
