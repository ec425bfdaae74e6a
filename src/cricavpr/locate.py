"""Locator: a photo in, an estimate of where it was taken out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing import describe, describe_one
from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.geo import LatLon, Positions, point_feature
from cricavpr.grouping import ALONE
from cricavpr.images import decode
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.search import Predictions
from cricavpr.methods.base import Method, made_by

UNCALIBRATED = "uncalibrated"  # nothing is known yet about how often such a score is right


@dataclass(frozen=True)
class Where:
    """One position in both its forms.

    Attributes:
        position: degrees; None where unknown, or where the index is in a local frame.
        easting_m, northing_m: metres in UTM `zone`, or in the local frame where that is None; None where
        unknown.
    """

    position: LatLon | None = None
    easting_m: float | None = None
    northing_m: float | None = None
    zone: str | None = None

    def to_dict(self) -> dict[str, Any]:
        position = self.position
        degrees = metres = None
        if position is not None:  # 8 decimals are a millimetre
            degrees = {"lat_deg": round(position.lat_deg, 8), "lon_deg": round(position.lon_deg, 8)}
        if self.easting_m is not None and self.northing_m is not None:
            easting_m, northing_m = round(self.easting_m, 3), round(self.northing_m, 3)
            metres = {"easting_m": easting_m, "northing_m": northing_m, "zone": self.zone}
        return {"position": degrees, "metres": metres}


@dataclass(frozen=True)
class Match:
    """A database photo that looks like the same place.

    Attributes:
        name: its name in the index.
        score: cosine of the two descriptors, higher is better.
        where: its position.
        path: where the photo lay when the index was built.
    """

    name: str
    score: float
    where: Where
    path: Path

    @property
    def position(self) -> LatLon | None:
        return self.where.position

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "score": self.score, **self.where.to_dict(), "path": str(self.path)}


@dataclass(frozen=True)
class LocationEstimate:
    """Where a photo was probably taken: at the position of its best match.

    Attributes:
        photo: what the photo is called.
        where: the estimated position.
        matches: best first.
        radius_m: within which the photo lies; None until an index is calibrated.
        confidence: "uncalibrated" until then. A score alone does not say how often it is right.
    """

    photo: str
    where: Where
    matches: tuple[Match, ...]
    radius_m: float | None = None
    confidence: str = UNCALIBRATED

    @property
    def position(self) -> LatLon | None:
        return self.where.position

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the command line and of HTTP alike."""
        return {
            "photo": self.photo,
            **self.where.to_dict(),
            "radius_m": self.radius_m,
            "confidence": self.confidence,
            "matches": [match.to_dict() for match in self.matches],
        }

    def to_feature(self) -> dict[str, Any]:
        """A GeoJSON feature; its geometry is null where there is no latitude."""
        properties = {key: value for key, value in self.to_dict().items() if key != "position"}
        if self.position is None:
            return {"type": "Feature", "geometry": None, "properties": properties}
        return point_feature(self.position, properties)


@dataclass(frozen=True)
class Located:
    """What `locate_many` returns: estimates in the order of the photos, and the photos that gave none."""

    estimates: tuple[LocationEstimate, ...]
    problems: tuple[Problem, ...]


class Locator:
    """An index and the method that made it. Every photo is described alone: none can change another's answer.

    Raises:
        MadeByError: the method would describe in another way than the photos of the index were described.
    """

    def __init__(self, index: PlaceIndex, method: Method) -> None:
        self.index, self.method = index, method
        self.made_by = made_by(method, ALONE)
        index.made_by.require_same(self.made_by, f"the photos of {index.path} and those to locate")

    def locate(
        self,
        photo: Path | str | bytes | NDArray[np.uint8],  # a file, its bytes, or (H, W, 3)
        top: int = 5,
        name: str | None = None,
    ) -> LocationEstimate:
        """Find where one photo was taken. `name` is what the answer calls it; a file goes by its own name.

        Raises:
            ImageError: the photo cannot be read or described.
            InputError: `top` below 1.
        """
        _check_top(top)
        if isinstance(photo, str):
            photo = Path(photo)
        if name is None:
            name = photo.name if isinstance(photo, Path) else "photo"
        image = photo if isinstance(photo, np.ndarray) else decode(photo)
        vectors = describe_one(self.method, image)[None]
        predictions = self.index.search(DescriptorSet((name,), vectors, self.made_by), top)
        return self._estimates([name], predictions)[0]

    def locate_many(
        self, paths: Sequence[Path | str], top: int = 5, *, batch_size: int = 16, workers: int | None = None
    ) -> Located:
        """Find where many photos were taken; each is called by the path that was given.

        Raises:
            InputError: no photos, none that can be read, or `top` below 1.
        """
        _check_top(top)
        root, names = _below_one_root(paths)
        images = ImageSet(root, tuple(dict.fromkeys(names)))  # a photo that is given twice is described once
        described = describe(self.method, images, ALONE, batch_size=batch_size, workers=workers)
        found = self.index.search(described.descriptors, top)
        row_of = {name: row for row, name in enumerate(described.descriptors.names)}
        rows = [row_of[name] for name in names if name in row_of]
        called = [str(path) for path, name in zip(paths, names, strict=True) if name in row_of]
        estimates = self._estimates(called, Predictions(found.indices[rows], found.scores[rows]))
        failed = {problem.name: problem for problem in described.problems}
        problems = (
            Problem(str(path), failed[name].stage, failed[name].reason)
            for path, name in zip(paths, names, strict=True)
            if name in failed
        )
        return Located(tuple(estimates), tuple(problems))

    def _estimates(self, names: Sequence[str], predictions: Predictions) -> list[LocationEstimate]:
        where = _where(self.index.positions, np.unique(predictions.indices))
        estimates = []
        for name, rows, scores in zip(names, predictions.indices.tolist(), predictions.scores.tolist(), strict=True):
            matches = tuple(
                Match(self.index.names[row], score, where[row], self.index.photo(row))
                for row, score in zip(rows, scores, strict=True)
            )
            estimates.append(LocationEstimate(name, matches[0].where, matches))
        return estimates


def _where(positions: Positions, rows: NDArray[np.int64]) -> dict[int, Where]:
    """The positions of some rows, each projected once."""
    chosen = positions.take(rows)
    zones = chosen.zones or (None,) * len(rows)
    degrees = np.full((len(rows), 2), np.nan) if chosen.zones is None else chosen.latlon()
    found: dict[int, Where] = {}
    for place, row in enumerate(rows.tolist()):
        if not chosen.known[place]:
            found[row] = Where()
            continue
        (east, north), (lat, lon) = chosen.metres[place].tolist(), degrees[place].tolist()
        found[row] = Where(None if np.isnan(lat) else LatLon(lat, lon), east, north, zones[place])
    return found


def _check_top(top: int) -> None:
    if top < 1:
        raise InputError(f"the {top} best matches of a photo are not defined. Ask for 1 or more.")


def _below_one_root(paths: Sequence[Path | str]) -> tuple[Path, list[str]]:
    """The folder that all paths share, and each path's name below it."""
    whole = [_absolute(path) for path in paths]
    root = Path(os.path.commonpath(list(map(os.path.dirname, whole))) if whole else os.curdir)
    return root, [Path(path).relative_to(root).as_posix() for path in whole]


def _absolute(path: Path | str) -> str:
    whole = os.path.abspath(path)  # noqa: PTH100  # resolve() would follow links
    return whole[1:] if whole.startswith("//") and os.name == "posix" else whole  # POSIX keeps two slashes as they are
