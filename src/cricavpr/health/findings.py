"""Examination of an index: `examine` returns all findings as one `Health`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.health.measures import MOST_HOLES, Hole, Measured, Quality, holes, main_plane, quality, thin_places
from cricavpr.health.similarity import MOST_PAIRS, Pair, Similarity, compared_rows, similarity
from cricavpr.index.place_index import PlaceIndex
from cricavpr.progress import Progress, Report

SAME_M = 25.0
FAR_M = 100.0
COPY_SCORE = 0.98


@dataclass(frozen=True, eq=False, repr=False)
class Health:
    """Findings about an index.

    Attributes:
        index: the examined index, in the version at that time.
        photos: the folder of its photos; None if it was not given.
        same_m, far_m: photos within `same_m` metres show the same place; photos more than `far_m` metres apart show
            different places.
        copy_score: two photos of one place with at least this score are near-duplicates.
        plane: rows of the photos in the most common UTM zone; the map shows only these photos.
        elsewhere: number of photos in other UTM zones.
        unlocated: number of photos without a position.
        holes: the largest empty circles between photos, largest first.
        thin: rows of the photos that have no other photo within `same_m`.
        similarity: pairs of near-duplicates and of similar places that are far apart.
        quality: blurred and dark photos; None if no folder of photos was given.
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
    similarity: Similarity
    quality: Quality | None

    def __repr__(self) -> str:
        return f"Health({self.index.path}: {self.summary()})"

    def path(self, row: int) -> Path | None:
        """Return the path where the photo of a row should be, or None if it is unknown."""
        return _path_in(self.photos, self.index, row)

    @property
    def hole_count(self) -> str:
        """Number of holes as text: "20 or more" if the list is full."""
        return _count(len(self.holes), MOST_HOLES)

    @property
    def lookalike_count(self) -> str:
        """Number of pairs in `similarity.lookalikes` as text: "20 or more" if the list is full."""
        found = len(self.similarity.lookalikes)
        return str(found) if self.similarity.usual_score is None else _count(found, MOST_PAIRS)

    @property
    def lookalike_kind(self) -> str:
        """Name of the pairs in `similarity.lookalikes`, for the summary and the page.

        The pairs are called similar places only if it is known which score two photos of one place usually have.
        """
        return "most similar pairs of far places" if self.similarity.usual_score is None else "pairs of similar places"

    def summary(self) -> str:
        """Return one line with the number of findings of each kind."""
        return (
            f"{len(self.index):,} photos, {self.hole_count} holes, {len(self.thin):,} places with one photo, "
            f"{self.lookalike_count} {self.lookalike_kind}, {self.similarity.copy_count:,} near-duplicates"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all findings, ready for JSON. This is the content of the JSON file beside the page."""
        found, measured = self.similarity, self.quality
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
            "compared": found.compared,
            "usual_score_at_one_place": found.usual_score,
            "best_match_far_away": found.confused,
            "near_duplicates": found.copy_count,
            "near_duplicates_listed": [self._pair(pair) for pair in found.copies],
            "look_alikes_listed": [self._pair(pair) for pair in found.lookalikes],
            "looked_at": measured and measured.measured,
            "not_readable": measured and measured.missing,
            "blurred": measured and [self._measured(one) for one in measured.blurred],
            "dark": measured and [self._measured(one) for one in measured.dark],
        }

    def _pair(self, pair: Pair) -> dict[str, Any]:
        names = [self.index.name(pair.first), self.index.name(pair.second)]
        return {"photos": names, "score": round(pair.score, 4), "apart_m": round(pair.apart_m, 1)}

    def _measured(self, one: Measured) -> dict[str, Any]:
        rounded = {"sharpness": round(one.sharpness, 1), "brightness": round(one.brightness, 1)}
        return {"photo": self.index.name(one.row), **rounded}


def examine(
    index: PlaceIndex,
    photos: Path | None = None,
    *,
    same_m: float = SAME_M,
    far_m: float = FAR_M,
    copy_score: float = COPY_SCORE,
    progress: bool | Report = False,
) -> Health:
    """Find weak points of an index: holes in its coverage, places with one photo, near-duplicates and similar places.

    Args:
        photos: the folder of the index's photos, to find blurred and dark photos too; None does not look for them.
        same_m: photos within this many metres show the same place.
        far_m: photos more than this many metres apart show different places.
        copy_score: two photos of one place with at least this score are near-duplicates.

    Raises:
        InputError: no photo of the index has a position, no photo of the index is in `photos`, or a distance or the
            score is out of range.

    Example:
        >>> import tempfile
        >>> from cricavpr.descriptors import DescriptorSet, MadeBy
        >>> from cricavpr.geo import Positions
        >>> from cricavpr.index.columns import Photos
        >>> made_by = MadeBy("mine", "none", None, "none", "none", None, 2)
        >>> descriptors = DescriptorSet(("a.jpg", "b.jpg"), np.eye(2, dtype=np.float32), made_by)
        >>> positions = Positions(np.array([[0.0, 0.0], [400.0, 0.0]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     index = PlaceIndex.build(Photos(descriptors, Path(folder), positions), Path(folder) / "index")
        ...     examine(index).summary()
        '2 photos, 0 holes, 2 places with one photo, 1 most similar pairs of far places, 0 near-duplicates'
    """
    if not 0 < same_m <= far_m:
        raise InputError(
            f"the distance of one place must be above 0 and not larger than that of different places, got {same_m:g} m "
            f"and {far_m:g} m."
        )
    if not -1 <= copy_score <= 1:  # NaN too
        raise InputError(
            f"the score of near-duplicates must be from -1 to 1, such as {COPY_SCORE:g}, got {copy_score:g}."
        )
    positions = index.positions if len(index) else None
    if positions is None or not positions.known.any():
        raise InputError(
            f"examining an index needs photos with positions, but no photo of {index.path} has one. Build the index "
            "from photos with positions."
        )
    plane, known = main_plane(positions), int(positions.known.sum())
    with Progress(progress, len(compared_rows(index)) + (len(index) if photos else 0)) as counting:
        counting.start(0)
        similar = similarity(index, same_m, far_m, copy_score, counting)
        measured = photos and quality([_path_in(photos, index, row) for row in range(len(index))], counting)
    if measured and not measured.measured:
        raise InputError(
            f"expected the {len(index):,} photos of the index in {photos}, found none that can be read. Give the "
            "folder that was indexed."
        )
    return Health(
        index=index,
        photos=photos,
        same_m=same_m,
        far_m=far_m,
        copy_score=copy_score,
        plane=plane,
        elsewhere=known - len(plane),
        unlocated=len(index) - known,
        holes=holes(positions.metres[plane], same_m),
        thin=thin_places(positions, same_m),
        similarity=similar,
        quality=measured or None,
    )


def _path_in(photos: Path | None, index: PlaceIndex, row: int) -> Path | None:
    """Return the path where the photo of a row should be, or None if it cannot be in `photos`.

    A merged index may have photos from several folders, and two photos in different folders may have the same name. So
    a photo whose path is inside `photos` keeps its path. A photo from the folder of the index's first photo is looked
    for in `photos`, because that folder may have been moved. A photo from any other folder gets None.
    """
    root, name = index.snapshot.photo(row)
    if photos is None or (root / name).is_relative_to(photos.absolute()):
        return root / name
    return photos / name if root == index.root else None


def _count(found: int, most: int) -> str:
    return f"{found} or more" if found == most else str(found)
