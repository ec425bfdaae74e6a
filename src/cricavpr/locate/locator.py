"""Locator: a photo in, an estimate of where it was taken out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing import describe, describe_one
from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.geo import LatLon, Positions
from cricavpr.grouping import ALONE
from cricavpr.images import decode
from cricavpr.index.filters import Filter
from cricavpr.index.photo_index import Found, PhotoIndex
from cricavpr.locate.calibration import check_precision, read_calibration
from cricavpr.locate.together import Consensus, Rule, consensus
from cricavpr.locate.values import Doubt, LocationEstimate, Match, Where
from cricavpr.methods.base import Method, made_by

PRECISION = 0.95


@dataclass(frozen=True)
class Located:
    """What `locate_many` returns: estimates in the order of the photos, and the photos that gave none."""

    estimates: tuple[LocationEstimate, ...]
    problems: tuple[Problem, ...]


class Locator:
    """An index and the method that made it. Every photo is described alone: none can change another's answer.

    Attributes:
        searcher: the index ready for searching: its `choice` says how it is searched and why, its `notes` what had
            to be made for that.
        calibration: what the index knows of its own doubt, or None.
        caveat: one line for the user where there is none, or of what it does not promise.

    Raises:
        MadeByError: the method would describe in another way than the photos of the index were described.
        InputError: an index without photos, no photo that fits `where`, an engine that cannot be had, a precision
            that is no share, or a server that does not answer.
    """

    def __init__(
        self,
        index: PhotoIndex,
        method: Method,
        precision: float = PRECISION,
        *,
        engine: str = "auto",
        where: Filter | None = None,
    ) -> None:
        check_precision(precision)
        if not len(index):
            raise InputError(f"{index.path} holds no photos, so nothing can be found in it. Add some first.")
        self.index, self.method, self.precision = index, method, precision
        self.made_by = made_by(method, ALONE)
        index.made_by.require_same(self.made_by, f"the photos of {index.path} and those to locate")
        self.searcher = index.searcher(engine=engine, where=where)
        found = read_calibration(index)
        self.calibration = found.calibration
        self.caveat = found.why_not if found.calibration is None else found.calibration.caveat(precision)
        self.rule = Rule() if found.calibration is None else found.calibration.rule

    def locate(
        self,
        photo: Path | str | bytes | NDArray[np.uint8],  # a file, its bytes, or (H, W, 3)
        top: int = 5,
        name: str | None = None,
    ) -> LocationEstimate:
        """Find where one photo was taken. `name` is what the answer calls it; a file goes by its own name.

        Raises:
            ImageError: the photo cannot be read or described.
            InputError: something that is no photo, or `top` out of range.
        """
        self._check_top(top)
        _refuse_what_is_no_photo(photo)
        if isinstance(photo, str):
            photo = Path(photo)
        if name is None:
            name = photo.name if isinstance(photo, Path) else "photo"
        image = photo if isinstance(photo, np.ndarray) else decode(photo)
        vectors = describe_one(self.method, image)[None]
        found = self._search(DescriptorSet((name,), vectors, self.made_by), top)
        return self._estimates([name], found, [0], top)[0]

    def locate_many(
        self, paths: Sequence[Path | str], top: int = 5, *, batch_size: int = 16, workers: int | None = None
    ) -> Located:
        """Find where many photos were taken; each is called by the path that was given.

        Raises:
            InputError: no photos, none that can be read, or `top` out of range.
        """
        self._check_top(top)
        if isinstance(paths, str):
            raise InputError(f"{paths!r} is one photo, and its letters are none. Give a list of paths.")
        if not len(paths):
            raise InputError("there are no photos to locate. Give at least one.")
        root, names = _below_one_root(paths)
        images = ImageSet(root, tuple(dict.fromkeys(names)))  # a photo that is given twice is described once
        described = describe(self.method, images, ALONE, batch_size=batch_size, workers=workers)
        found = self._search(described.descriptors, top)
        row_of = {name: row for row, name in enumerate(described.descriptors.names)}
        rows = [row_of[name] for name in names if name in row_of]
        called = [str(path) for path, name in zip(paths, names, strict=True) if name in row_of]
        estimates = self._estimates(called, found, rows, top)
        failed = {problem.name: problem for problem in described.problems}
        problems = (
            Problem(str(path), failed[name].stage, failed[name].reason)
            for path, name in zip(paths, names, strict=True)
            if name in failed
        )
        return Located(tuple(estimates), tuple(problems))

    def _search(self, queries: DescriptorSet, top: int) -> Found:
        """As many matches as are shown, and as many as decide: `top` changes what is shown and nothing else."""
        return self.searcher.search(queries, max(top, self.rule.depth))

    def _estimates(
        self, names: Sequence[str], findings: Found, asked: Sequence[int], top: int
    ) -> list[LocationEstimate]:
        """One for each name; `asked` says which query of the findings it is."""
        indices = findings.indices
        known = np.unique(indices[indices >= 0])
        positions = findings.photos.positions_of(known)
        shown = np.unique(indices[:, :top][indices[:, :top] >= 0])
        where = dict(zip(shown.tolist(), _where(positions.take(np.searchsorted(known, shown))), strict=True))
        estimates = []
        for name, query in zip(names, asked, strict=True):
            there = indices[query] >= 0
            rows, scores = indices[query, there], findings.scores[query, there]
            matches = tuple(
                Match(findings.photos.name(row), score, where[row], findings.photos.photo(row))
                for row, score in zip(rows[:top].tolist(), scores[:top].tolist(), strict=True)
            )
            deciding = slice(0, self.rule.depth)
            nearest = positions.take(np.searchsorted(known, rows[deciding]))
            found = consensus(nearest, scores[deciding], self.rule)
            guess = Where() if found is None else _where_of(found)
            estimates.append(LocationEstimate(name, guess, matches, self._doubt(found)))
        return estimates

    def _check_top(self, top: int) -> None:
        """Said before a photo is looked for."""
        if top < 1:
            raise InputError(f"the {top} best matches of a photo are not defined. Ask for 1 or more.")
        if top > self.searcher.most_matches:
            raise InputError(
                f"{self.index.path} gives at most {self.searcher.most_matches:,} matches of a photo. Ask for fewer "
                f"than {top:,}."
            )

    def _doubt(self, found: Consensus | None) -> Doubt | None:
        if self.calibration is None or found is None:
            return None
        return self.calibration.doubt(found, self.precision)


def _refuse_what_is_no_photo(given: object) -> None:
    """Said here, because what opens photos would say that it has no attribute `stat`."""
    if not isinstance(given, Path | str | bytes | np.ndarray):
        what = f"{type(given).__name__} is no photo"
        raise InputError(f"{what}. Give a path, the bytes of a file, or pixels as a uint8 array (H, W, 3).")


def _where(positions: Positions) -> list[Where]:
    """All of them, projected together."""
    zones = positions.zones or (None,) * len(positions)
    degrees = np.full((len(positions), 2), np.nan) if positions.zones is None else positions.latlon()
    rows = zip(positions.known.tolist(), positions.metres.tolist(), degrees.tolist(), zones, strict=True)
    return [
        Where(None if np.isnan(lat) else LatLon(lat, lon), east, north, zone) if known else Where()
        for known, (east, north), (lat, lon), zone in rows
    ]


def _where_of(found: Consensus) -> Where:
    zones = None if found.zone is None else (found.zone,)
    return _where(Positions(found.metres[None], zones))[0]


def _below_one_root(paths: Sequence[Path | str]) -> tuple[Path, list[str]]:
    """The folder that all paths share, and each path's name below it."""
    whole = [_absolute(path) for path in paths]
    root = Path(os.path.commonpath(list(map(os.path.dirname, whole))) if whole else os.curdir)
    return root, [Path(path).relative_to(root).as_posix() for path in whole]


def _absolute(path: Path | str) -> str:
    whole = os.path.abspath(path)  # noqa: PTH100  # resolve() would follow links
    return whole[1:] if whole.startswith("//") and os.name == "posix" else whole  # POSIX keeps two slashes as they are
