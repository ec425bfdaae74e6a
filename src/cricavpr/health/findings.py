"""All findings about an index in one value, and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.health.ground import Hole, holes, main_plane, thin_places
from cricavpr.health.likeness import Likeness, Pair, likeness
from cricavpr.health.photos import Look, Looks, look, path_in
from cricavpr.index.place_index import PlaceIndex

SAME_M = 25.0
FAR_M = 100.0
COPY_SCORE = 0.98

Report = Callable[[int, int], None]  # (done, of)


@dataclass(frozen=True, eq=False)
class Health:
    """What was found in an index.

    Attributes:
        index: the version that was examined.
        photos: the folder that was given to look at photos in, or None.
        same_m, far_m: photos this near show one place, photos this far apart show two.
        copy_score: photos of one place this alike are near-duplicates.
        plane: the photos on the map; `elsewhere` others have a position in another UTM zone.
        unlocated: photos without a position.
    """

    index: PlaceIndex
    photos: Path | None
    same_m: float
    far_m: float
    copy_score: float
    plane: NDArray[np.int64]
    elsewhere: int
    unlocated: int
    holes: tuple[Hole, ...]
    thin: NDArray[np.int64]
    alike: Likeness
    looks: Looks | None

    def path(self, row: int) -> Path | None:
        """Where the photo of a row should lie, if that is known."""
        return path_in(self.photos, self.index, row)

    def to_dict(self) -> dict[str, Any]:
        """The JSON that is written beside the page."""
        return {
            "index": str(self.index.path),
            "version": self.index.version,
            "made_by": self.index.made_by.to_dict(),
            "photos": len(self.index),
            "unlocated": self.unlocated,
            "in_other_zones": self.elsewhere,
            "same_m": self.same_m,
            "far_m": self.far_m,
            "copy_score": self.copy_score,
            "holes": [asdict(hole) for hole in self.holes],
            "thin": [self.index.name(row) for row in self.thin.tolist()],
            "compared": self.alike.asked,
            "usual_score_at_one_place": self.alike.usual,
            "best_match_far_away": self.alike.confused,
            "near_duplicates": self.alike.copies_in_all,
            "near_duplicates_listed": [self._pair(pair) for pair in self.alike.copies],
            "look_alikes_listed": [self._pair(pair) for pair in self.alike.aliases],
            "looked_at": None if self.looks is None else self.looks.seen,
            "not_readable": None if self.looks is None else self.looks.missing,
            "blurred": None if self.looks is None else [self._look(one) for one in self.looks.blurred],
            "dark": None if self.looks is None else [self._look(one) for one in self.looks.dark],
        }

    def _pair(self, pair: Pair) -> dict[str, Any]:
        names = [self.index.name(row) for row in (pair.first, pair.second)]
        return {"photos": names, "score": round(pair.score, 4), "apart_m": round(pair.apart_m, 1)}

    def _look(self, one: Look) -> dict[str, Any]:
        return {
            "photo": self.index.name(one.row),
            "sharpness": round(one.sharpness, 1),
            "brightness": round(one.brightness, 1),
        }


def examine(
    index: PlaceIndex,
    photos: Path | None = None,
    *,
    same_m: float = SAME_M,
    far_m: float = FAR_M,
    copy_score: float = COPY_SCORE,
    report: Report | None = None,
) -> Health:
    """Examine an index; with the folder of its photos also how blurred and dark they are.

    Raises:
        InputError: an index in which no photo has a position, or distances or a score that make no sense.
    """
    if not 0 < same_m <= far_m:
        raise InputError(
            f"places of {same_m:g} m that are far from {far_m:g} m on make no sense. Give 0 < near <= far."
        )
    if not -1 <= copy_score <= 1:  # NaN too
        raise InputError(f"no two photos have a score of {copy_score:g}. Give -1 to 1, such as {COPY_SCORE:g}.")
    positions = index.positions if len(index) else None
    if positions is None or not positions.known.any():
        raise InputError(f"no photo of {index.path} has a position, so there is no map to examine.")
    plane = main_plane(positions)
    alike = likeness(index, same_m, far_m, copy_score, report)
    looks = None
    if photos is not None:
        paths = [(row, path_in(photos, index, row)) for row in range(len(index))]
        looks = look(paths, None if report is None else _after(report, alike.asked))
        if not looks.seen:
            raise InputError(f"none of the {len(index):,} photos lies in {photos}. Give the folder that was indexed.")
    known = int(positions.known.sum())
    return Health(
        index,
        photos,
        same_m,
        far_m,
        copy_score,
        plane,
        known - len(plane),
        len(index) - known,
        holes(positions.metres[plane], same_m),
        thin_places(positions, same_m),
        alike,
        looks,
    )


def _after(report: Report, before: int) -> Report:
    """The progress of a second stage, on top of what the first one did."""
    return lambda done, of: report(before + done, before + of)
