"""The codes of one segment as a file beside it, and proof that they are its codes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.engines.array_file import ArrayFile, ArrayFileError
from cricavpr.index.engines.quantiser import Quantiser
from cricavpr.index.engines.rows import Vectors

FORMAT = "cricavpr.codes.1"
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


def codes_for(
    path: Path,
    vectors: Vectors,  # (n, D)
    segment: str,  # its checksum
    quantiser: Quantiser,
    *,
    write: bool = True,
) -> tuple[Codes, str | None]:
    """The codes of a segment: read, or made again where they cannot be; then also one line that says why.

    Args:
        write: keep what was made again; False for an index that may not be written to.

    Raises:
        InputError: they cannot be written.
    """
    owner = CodesOf.segment_by(segment, len(vectors), quantiser)
    try:
        return read_codes(path, owner, quantiser.code_bytes), None
    except ArrayFileError as error:
        codes = quantiser.encode(vectors)
        if write:
            write_codes(path, codes, owner)
        return codes, f"codes made again: {error.file} {error.why}"
