"""What `cricavpr index tune` found, kept in the folder of the index: which shortlist keeps what exact search finds.

It says by which quantiser and on which segments it was measured. Where much of the index is another by now it does
not count any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from cricavpr.errors import InputError
from cricavpr.files import write_text
from cricavpr.index.durable import read_whole
from cricavpr.index.manifest import TUNED, Piece
from cricavpr.index.sealed import sealed, unsealed

FORMAT = "cricavpr.tuned.1"
MOST_BYTES = 1 << 24
SAME_ENOUGH = 0.8  # of the photos must be those that were measured, now and then
AGAIN = "Run `cricavpr index tune`"


@dataclass(frozen=True)
class Tuned:
    """One measurement.

    Attributes:
        quantiser: the fingerprint of what codes were made by.
        segments: the checksum of each segment that was measured, and how many photos of it were.
        photos: of the index then.
        shortlist: the shortest that keeps the target, or None.
        target: the share of what exact search finds that was to be kept.
        queries: photos that asked.
        recall_at_1, recall_at_10: of that shortlist; 0 for None.
    """

    quantiser: str
    segments: dict[str, int]
    photos: int
    shortlist: int | None
    target: float
    queries: int
    recall_at_1: float = 0.0
    recall_at_10: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.photos, self.queries, *self.segments.values(), *([self.shortlist] if self.shortlist else ()))
        if any(type(number) is not int or number < 0 for number in numbers) or self.photos < 1:
            raise ValueError(f"a measurement of {numbers}")
        if not 0 < self.target <= 1 or not isinstance(self.quantiser, str) or self.shortlist == 0:
            raise ValueError("a measurement that cannot be")

    def write(self, folder: Path) -> None:
        """Raises: InputError: the place cannot be written."""
        write_text(folder / TUNED, sealed({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            InputError: missing or damaged.
        """
        path = folder / TUNED
        try:
            values = unsealed(read_whole(path, MOST_BYTES))
            if values.pop("format") != FORMAT:
                raise ValueError(f"is of another form than {FORMAT}")
            return cls(**values)
        except FileNotFoundError:
            raise InputError(f"{folder} was never measured with codes. {AGAIN} to search faster.") from None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}). {AGAIN} again.") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}). {AGAIN} again.") from error

    def kept(self, pieces: Sequence[Piece], quantiser: str) -> int:
        """The shortlist to take for these segments.

        Raises:
            InputError: it was measured on others, or found that none will do.
        """
        photos = sum(piece.live for piece in pieces)
        same = self.same(pieces)
        if self.quantiser != quantiser or same < SAME_ENOUGH * max(photos, self.photos):
            raise InputError(
                f"{same:,} of {photos:,} photos are among the {self.photos:,} that were measured. {AGAIN} again."
                if self.quantiser == quantiser
                else f"the codes are others than those that were measured. {AGAIN} again."
            )
        if self.shortlist is None:
            raise InputError(f"no shortlist that was measured keeps {self.target:.0%} of what exact search finds.")
        return self.shortlist

    def same(self, pieces: Sequence[Piece]) -> int:
        """How many photos of these segments were measured, at most."""
        return sum(min(piece.live, self.segments.get(piece.footer_sha256, 0)) for piece in pieces)

    def __str__(self) -> str:
        return f"a shortlist of {self.shortlist} found {self.recall_at_10:.1%} of the ten best of {self.queries} photos"


def carry_tuned(folder: Path, old: Sequence[Piece], new: Sequence[Piece]) -> None:
    """Let a measurement count for segments that hold the photos of old ones, once these are written together.

    The old segments stay named: whether the new version will stand is not known yet.

    Raises:
        InputError: the place cannot be written.
    """
    try:
        tuned = Tuned.read(folder)
    except InputError:
        return  # nothing to carry, and whoever needs it says so
    left, segments = tuned.same(old), dict(tuned.segments)
    kept = {piece.footer_sha256 for piece in new} & set(segments)
    left -= sum(segments[one] for one in kept)
    for piece in new:
        if piece.footer_sha256 not in kept:
            segments[piece.footer_sha256] = max(0, min(left, piece.live))
            left -= segments[piece.footer_sha256]
    there = {piece.footer_sha256 for piece in (*old, *new)}
    replace(tuned, segments={one: count for one, count in segments.items() if one in there}).write(folder)
