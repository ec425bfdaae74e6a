"""Photos that look alike: copies of one place, and far places that could be taken for one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet
from cricavpr.geo import distances_m, within_radius
from cricavpr.health.ground import counted
from cricavpr.index.place_index import PlaceIndex

MOST_ASKED = 5000  # photos that are compared with all others; more are asked evenly
MOST_PAIRS = 20
AT_ONCE = 256
BEYOND = 8  # matches looked at besides those of a photo's own place

Report = Callable[[int, int], None]  # (done, of)


@dataclass(frozen=True)
class Pair:
    """Two photos of an index, how alike they look, and how far apart they were taken."""

    first: int
    second: int
    score: float
    apart_m: float


@dataclass(frozen=True)
class Likeness:
    """What comparing photos with one another gave.

    Attributes:
        asked: how many photos were compared with all others.
        usual: the median score of a photo's best match at its own place; None where no photo found such a one.
        copies: pairs at one place with a score of at least what was asked for, most alike first.
        aliases: pairs of far places, most alike first; of two pairs between the same places the better one.
        confused: how many photos have their best match, apart from themselves, at a far place.
        copies_in_all: also those that are not listed.
    """

    asked: int
    usual: float | None
    copies: tuple[Pair, ...]
    aliases: tuple[Pair, ...]
    confused: int
    copies_in_all: int

    @property
    def count(self) -> str:
        """How many pairs of far places there are; of the most alike there are always as many as are shown."""
        return str(len(self.aliases)) if self.usual is None else counted(len(self.aliases), MOST_PAIRS)

    @property
    def kind(self) -> str:
        """What they are: without two photos of one place nobody knows how alike is too alike."""
        return "most alike pairs of far places" if self.usual is None else "pairs of places that look alike"

    @property
    def said(self) -> str:
        return f"{self.count} {self.kind}"


def likeness(
    index: PlaceIndex, same_m: float, far_m: float, copy_score: float, report: Report | None = None
) -> Likeness:
    """Compare the photos of an index with one another. Those without a position are left out."""
    known = np.flatnonzero(index.positions.known)
    rows = known[np.linspace(0, len(known) - 1, min(MOST_ASKED, len(known))).astype(np.int64)] if len(known) else known
    found = [_Best.none(), _Best.none()]
    for start in range(0, len(rows), AT_ONCE):
        here, far = _compare(index, rows[start : start + AT_ONCE], far_m)
        found = [found[0].with_(here), found[1].with_(far)]
        if report is not None:
            report(min(start + AT_ONCE, len(rows)), len(rows))
    here, far = found
    near = here.take(here.apart_m <= same_m)  # False for NaN
    own = near.best_of(rows)
    usual = float(np.median(own[np.isfinite(own)])) if np.isfinite(own).any() else None
    copies = near.once().above(copy_score)
    # As alike as two photos of one place usually are; where there are no such two, the most alike of all.
    aliases = far.once() if usual is None else far.once().above(usual)
    return Likeness(
        len(rows),
        usual,
        copies.pairs()[:MOST_PAIRS],
        _of_different_places(index, aliases.pairs(), same_m),
        int((far.best_of(rows) > here.best_of(rows)).sum()),
        len(copies.score),
    )


@dataclass(frozen=True, eq=False)
class _Best:
    """Pairs as columns."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    score: NDArray[np.float64]
    apart_m: NDArray[np.float64]

    @classmethod
    def none(cls) -> _Best:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))

    def with_(self, other: _Best) -> _Best:
        sides = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Best(*(np.concatenate(side) for side in sides))

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> _Best:
        return _Best(*(column[rows] for column in vars(self).values()))

    def once(self) -> _Best:
        """Each pair once, whichever of the two asked; most alike first."""
        ends = np.sort(np.column_stack([self.first, self.second]), axis=1)
        rows = np.unique(ends, axis=0, return_index=True)[1]
        return self.take(rows[np.lexsort((rows, -self.score[rows]))])

    def above(self, score: float) -> _Best:
        return self.take(self.score >= score)

    def best_of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:  # (M,)
        """The best score of each asking photo, -inf where it has none."""
        best = np.full(len(rows), -np.inf)
        np.maximum.at(best, np.searchsorted(rows, self.first), self.score)
        return best

    def pairs(self) -> tuple[Pair, ...]:
        return tuple(Pair(*values) for values in zip(*(column.tolist() for column in vars(self).values()), strict=True))


def _compare(index: PlaceIndex, rows: NDArray[np.int64], far_m: float) -> tuple[_Best, _Best]:
    """The matches of some photos, apart from themselves, that are not far away, and the best far away."""
    here = index.positions.take(rows)
    around = max(map(len, within_radius(index.positions, here, far_m)))
    queries = DescriptorSet(tuple(map(str, rows.tolist())), np.asarray(index.vectors[rows], np.float32), index.made_by)
    found = index.search(queries, min(len(index), around + BEYOND))
    width = found.indices.shape[1]
    first, second = np.repeat(rows, width), found.indices.reshape(-1)
    apart_m = distances_m(index.positions.take(first), index.positions.take(second))
    all_ = _Best(first, second, found.scores.reshape(-1).astype(np.float64), apart_m)
    far = apart_m > far_m  # False for NaN
    return all_.take(~far & (first != second)), all_.take(far)


def _of_different_places(index: PlaceIndex, pairs: tuple[Pair, ...], same_m: float) -> tuple[Pair, ...]:
    """The most alike pairs; none joins two places that an earlier one joins."""
    chosen: list[Pair] = []
    for pair in pairs:
        if len(chosen) == MOST_PAIRS:
            break
        if not any(_same_places(index, pair, other, same_m) for other in chosen):
            chosen.append(pair)
    return tuple(chosen)


def _same_places(index: PlaceIndex, one: Pair, other: Pair, same_m: float) -> bool:
    here = index.positions.take([one.first, one.second, one.first, one.second])
    there = index.positions.take([other.first, other.second, other.second, other.first])
    near = distances_m(here, there) <= same_m
    return bool(near[:2].all() or near[2:].all())
