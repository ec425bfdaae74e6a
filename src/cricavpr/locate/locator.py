"""Locator of photos: describes them, searches the index, and estimates a position with its confidence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing import NothingDescribed, describe, describe_one
from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import ImageError, InputError
from cricavpr.geo import LatLon, Positions
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index import open_index
from cricavpr.index.filters import Filter
from cricavpr.index.photo_index import Found, PhotoIndex
from cricavpr.locate.calibration import check_precision, read_calibration
from cricavpr.locate.consensus import Rule, consensus
from cricavpr.locate.estimate import LocationEstimate, Match, Where
from cricavpr.methods import load_method
from cricavpr.methods.base import Method, made_by
from cricavpr.methods.embedding import Picture, pixels_of
from cricavpr.progress import Progress, Report

PRECISION = 0.95
PHOTOS_AT_ONCE = 256  # photos that are described before their answers are returned

AnyPath = Path | str


@dataclass(frozen=True)
class Located:
    """Result of `locate_many`.

    Attributes:
        estimates: one estimate per located photo, in the order given.
        problems: the photos that could not be located, with the reasons.
    """

    estimates: tuple[LocationEstimate, ...]
    problems: tuple[Problem, ...]


class Locator:
    """Locator of photos. It uses an index, and the method that computed the descriptors of the index.

    Args:
        index: an open index, its folder, or its address on a server.
        method: the method, or its name.
        precision: wanted fraction of correct answers. Photos whose confidence is too low for it get the status
            "unknown". The precision has no effect if the index is not calibrated.
        grouping: which photos are described together, so that they influence each other; the same as for the index.
            With "alone", no photo changes the answer of another.
        engine, where: the search engine, and a filter for the photos of the index, as for `PlaceIndex.search`.

    Attributes:
        searcher: the opened search. Its `choice` says which engine it uses and why. Its `notes` say what it prepared.
        calibration: the calibration of the index; None if it is missing or cannot be used.
        caveat: one line that warns about limits of the answers, or None.

    Raises:
        MadeByError: the method, its weights or settings, or the grouping are not those of the index.
        InputError: the index is empty or cannot be opened, no photo matches `where`, or a value is out of range.

    Example:
        >>> import tempfile
        >>> from cricavpr import build_index
        >>> from cricavpr.town import make_town
        >>> town, to = (Path(tempfile.mkdtemp()) / name for name in ("town", "index"))
        >>> _ = make_town(town, seed=7, places=4, layout="photos", image_size=(56, 56))
        >>> index, _ = build_index(town / "database", to, method="pixels")
        >>> photo = next((town / "database").iterdir())
        >>> Locator(index, "pixels").locate(photo).matches[0].name == photo.name
        True
    """

    def __init__(
        self,
        index: PhotoIndex | AnyPath,
        method: Method | str,
        precision: float = PRECISION,
        *,
        grouping: Grouping | str = ALONE,
        engine: str = "auto",
        where: Filter | None = None,
    ) -> None:
        check_precision(precision)
        index = open_index(index) if isinstance(index, Path | str) else index
        if not len(index):
            raise InputError(f"locating needs photos in the index, but {index.path} has none. Add photos to it first.")
        self.index, self.precision = index, precision
        self.method = load_method(method) if isinstance(method, str) else method
        self.grouping = Grouping.parse(grouping)
        self.made_by = made_by(self.method, self.grouping)
        index.made_by.require_same(self.made_by, f"the photos of {index.path} and the photos to locate")
        self.searcher = index.searcher(engine=engine, where=where)
        found = read_calibration(index)
        self.calibration = found.calibration
        self.caveat = found.why_not if found.calibration is None else found.calibration.caveat(precision)
        self.rule = Rule() if found.calibration is None else found.calibration.rule

    def __repr__(self) -> str:
        return f"<Locator {self.index.path}, {self.made_by.method}, {'un' * (not self.calibration)}calibrated>"

    def locate(self, photo: Picture, top: int = 5, name: str | None = None) -> LocationEstimate:
        """Locate one photo.

        Args:
            photo: a path, the bytes of an image file, a PIL image, or a uint8 array of shape (H, W, 3) or (H, W).
            top: number of matches to return; it does not change the estimated position.
            name: name of the photo in the answer; None takes the file name.

        Raises:
            ImageError: the photo cannot be read or described.
            InputError: `top` is out of range.
        """
        self._check_top(top)
        if name is None:
            name = Path(photo).name if isinstance(photo, Path | str) else "photo"
        try:
            vectors = describe_one(self.method, pixels_of(photo))[None]
        except ImageError as error:
            raise ImageError(error.stage, f"{photo if isinstance(photo, Path | str) else name}: {error}") from error
        found = self._search(DescriptorSet((name,), vectors, self.made_by), top)
        return next(self._estimates([name], found, top))

    def locate_many(
        self,
        paths: Sequence[AnyPath],
        top: int = 5,
        *,
        batch_size: int = 16,
        workers: int | None = None,
        progress: bool | Report = False,
    ) -> Located:
        """Locate many photos. In the estimates, each photo has its given path as its name.

        Args:
            top: number of matches to return for each photo.
            batch_size, workers, progress: as for `describe`.

        Raises:
            InputError: no photos were given, none of them can be used, or `top` is out of range.
        """
        results = list(self.stream(paths, top, batch_size=batch_size, workers=workers, progress=progress))
        estimates = tuple(one for one in results if isinstance(one, LocationEstimate))
        problems = tuple(one for one in results if isinstance(one, Problem))
        if not estimates:
            raise InputError(none_located(problems))
        return Located(estimates, problems)

    def stream(
        self,
        paths: Sequence[AnyPath],
        top: int = 5,
        *,
        batch_size: int = 16,
        workers: int | None = None,
        progress: bool | Report = False,
    ) -> Iterator[LocationEstimate | Problem]:
        """Locate many photos. Yield the estimate or the problem of each photo, in order, as soon as it is known.

        The arguments are those of `locate_many`. About 256 photos (only complete groups) are described at a time. With
        a shuffled grouping or groups by key (the folder of a photo), all photos are described before the first answer.

        Raises:
            InputError: no photos were given, or `top` is out of range.
        """
        self._check_top(top)
        if isinstance(paths, str | bytes | Path) or not len(paths):
            raise InputError(f"expected a list with at least one path, got {paths!r}.")
        if wrong := [photo for photo in paths if not isinstance(photo, str | Path)]:
            raise InputError(
                f"expected paths of photos, got {type(wrong[0]).__name__}. Use `locate` for each of those."
            )
        return self._stream(paths, top, batch_size, workers, progress)

    def _stream(
        self, paths: Sequence[AnyPath], top: int, batch_size: int, workers: int | None, progress: bool | Report
    ) -> Iterator[LocationEstimate | Problem]:
        with Progress(progress, len(paths)) as bar:
            bar.start(0)
            for start, end in _parts(len(paths), self.grouping):
                yield from self._located(paths[start:end], top, batch_size, workers)
                bar.reach(end, len(paths))

    def _located(
        self, paths: Sequence[AnyPath], top: int, batch_size: int, workers: int | None
    ) -> Iterator[LocationEstimate | Problem]:
        root, names = _below_one_root(paths)
        unique = tuple(dict.fromkeys(names))  # a photo that is given twice is described once
        images = ImageSet(root, unique, keys=tuple(name.rpartition("/")[0] for name in unique))
        answers: dict[str, LocationEstimate] = {}
        try:
            described = describe(self.method, images, self.grouping, batch_size=batch_size, workers=workers)
        except NothingDescribed as error:
            problems = error.problems
        else:
            found, problems = self._search(described.descriptors, top), described.problems
            answers = {one.photo: one for one in self._estimates(described.descriptors.names, found, top)}
        failed = {problem.name: problem for problem in problems}
        for path, name in zip(map(str, paths), names, strict=True):
            yield replace(answers[name], photo=path) if name in answers else replace(failed[name], name=path)

    def _search(self, queries: DescriptorSet, top: int) -> Found:
        """Search for at least `top` matches, and for as many as the position estimate needs."""
        return self.searcher.search(queries, max(top, self.rule.depth))

    def _estimates(self, names: Sequence[str], findings: Found, top: int) -> Iterator[LocationEstimate]:
        indices, scores = findings.indices, findings.scores
        known = np.unique(indices[indices >= 0])
        positions = findings.photos.positions_of(known)
        shown = np.unique(indices[:, :top][indices[:, :top] >= 0])
        where = dict(zip(shown.tolist(), _where(positions.take(np.searchsorted(known, shown))), strict=True))
        for query, name in enumerate(names):
            there = indices[query] >= 0
            rows, of = indices[query, there], scores[query, there]
            matches = tuple(
                Match(findings.photos.name(row), score, where[row], findings.photos.photo(row))
                for row, score in zip(rows[:top].tolist(), of[:top].tolist(), strict=True)
            )
            deciding = positions.take(np.searchsorted(known, rows[: self.rule.depth]))
            found, guess, doubt = consensus(deciding, of[: self.rule.depth], self.rule), Where(), None
            if found is not None:
                zones = None if found.zone is None else (found.zone,)
                guess = _where(Positions(found.metres[None], zones))[0]
                doubt = None if self.calibration is None else self.calibration.doubt(found, self.precision)
            yield LocationEstimate(name, guess, matches, doubt)

    def _check_top(self, top: int) -> None:
        most = self.searcher.most_matches
        if not 1 <= top <= most:
            limit = "at least 1" if top < 1 else f"at most {most:,}"
            raise InputError(f"the number of matches from {self.index.path} must be {limit}, got {top:,}.")


def none_located(problems: Sequence[Problem]) -> str:
    """Return the error message for the case that none of the photos could be used."""
    first = problems[0]
    return f"none of the {len(problems):,} photos could be used. The first was {first.name}: {first.reason}."


def _parts(count: int, grouping: Grouping) -> Iterator[tuple[int, int]]:
    """Divide the photos into parts that are described one after another, and yield start and end of each part.

    No group is split between two parts.
    """
    step = PHOTOS_AT_ONCE
    if grouping.kind == "in_order" and grouping.size is not None:
        step = grouping.size * max(1, PHOTOS_AT_ONCE // grouping.size)
    if grouping.kind in ("shuffled", "by_key"):
        step = count
    return ((start, min(start + step, count)) for start in range(0, count, step))


def _where(positions: Positions) -> list[Where]:
    """Return each position in degrees and in metres. One call converts all positions, because that is faster."""
    zones = positions.zones or (None,) * len(positions)
    degrees = np.full((len(positions), 2), np.nan) if positions.zones is None else positions.latlon()
    rows = zip(positions.known.tolist(), positions.metres.tolist(), degrees.tolist(), zones, strict=True)
    return [
        Where(None if np.isnan(lat) else LatLon(lat, lon), east, north, zone) if known else Where()
        for known, (east, north), (lat, lon), zone in rows
    ]


def _below_one_root(paths: Sequence[AnyPath]) -> tuple[Path, list[str]]:
    """Return the deepest folder that contains all paths, and each path relative to this folder."""
    whole = [os.path.abspath(path) for path in paths]  # noqa: PTH100  # resolve() would follow links
    if os.name == "posix":  # where os.path.abspath keeps two slashes at the beginning
        whole = [path[1:] if path.startswith("//") else path for path in whole]
    root = Path(os.path.commonpath(list(map(os.path.dirname, whole))))
    return root, [Path(path).relative_to(root).as_posix() for path in whole]
