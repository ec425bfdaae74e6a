"""Search for photos with similar descriptors: near-duplicates of one place, and places far apart that look the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet
from cricavpr.geo import distances_m, within_radius
from cricavpr.index.place_index import PlaceIndex
from cricavpr.progress import Progress

MOST_COMPARED = 5000  # if an index is larger, this many photos, evenly spaced, are compared with all others
MOST_PAIRS = 20
AT_ONCE = 256
BEYOND = 8  # matches to search for each photo, in addition to as many as there are photos around it

_PAIR = np.dtype([("first", np.int64), ("second", np.int64), ("score", np.float64), ("apart_m", np.float64)])
_Pairs = np.ndarray[tuple[int], np.dtype[np.void]]  # of _PAIR


@dataclass(frozen=True)
class Pair:
    """Two photos of an index.

    Attributes:
        first, second: rows of the photos.
        score: cosine of their descriptors.
        apart_m: distance between them in metres.
    """

    first: int
    second: int
    score: float
    apart_m: float


@dataclass(frozen=True)
class Similarity:
    """Result of comparing photos with each other.

    Attributes:
        compared: number of photos that were compared with all others.
        usual_score: median, over the photos, of the score of a photo's best match at its own place; None if no photo
            has a match at its own place.
        copies: near-duplicates, that is, pairs at one place with at least the given score. At most 20, highest score
            first.
        copy_count: number of all near-duplicates.
        lookalikes: pairs of similar photos far apart. At most 20, highest score first. Of several pairs between the
            same two places, only the best is listed.
        confused: number of photos whose best match is farther than the distance of different places.
    """

    compared: int
    usual_score: float | None
    copies: tuple[Pair, ...]
    copy_count: int
    lookalikes: tuple[Pair, ...]
    confused: int


def compared_rows(index: PlaceIndex) -> NDArray[np.int64]:
    """Return the rows of the photos that `similarity` compares with all others.

    These are all photos with a position; if there are more than 5000, only 5000 of them in evenly spaced rows.
    """
    known = np.flatnonzero(index.positions.known)
    return known[np.linspace(0, len(known) - 1, min(MOST_COMPARED, len(known))).astype(np.int64)]


def similarity(index: PlaceIndex, same_m: float, far_m: float, copy_score: float, progress: Progress) -> Similarity:
    """Find near-duplicates and similar places in an index. Photos without a position are left out.

    Args:
        same_m: photos within this many metres show the same place.
        far_m: photos more than this many metres apart show different places.
        copy_score: photos of one place with at least this score are near-duplicates.
        progress: counts the compared photos.
    """
    rows = compared_rows(index)
    parts = [np.empty(0, _PAIR)]
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        parts.append(_compare(index, some, far_m))
        progress.advance(len(some))
    pairs: _Pairs = np.concatenate(parts)
    far = pairs["apart_m"] > far_m  # False for NaN
    here, there = pairs[~far], pairs[far]
    near = here[here["apart_m"] <= same_m]
    own = _best_of(near, rows)
    usual = float(np.median(own[np.isfinite(own)])) if np.isfinite(own).any() else None
    copies = _once(near, copy_score)
    # Pairs that are as similar as two photos of one place usually are; if that is unknown, all pairs, best first.
    lookalikes = _once(there, -np.inf if usual is None else usual)
    return Similarity(
        compared=len(rows),
        usual_score=usual,
        copies=tuple(_as_pairs(copies[:MOST_PAIRS])),
        copy_count=len(copies),
        lookalikes=_of_different_places(index, _as_pairs(lookalikes), same_m),
        confused=int((_best_of(there, rows) > _best_of(here, rows)).sum()),
    )


def _compare(index: PlaceIndex, rows: NDArray[np.int64], far_m: float) -> _Pairs:
    """Return the best matches of some photos as pairs.

    The search returns so many matches that each photo also gets matches farther away than `far_m`. A photo is never
    paired with itself.
    """
    around = max(map(len, within_radius(index.positions, index.positions.take(rows), far_m)))
    queries = DescriptorSet(tuple(map(str, rows.tolist())), np.asarray(index.vectors[rows], np.float32), index.made_by)
    found = index.search(queries, min(len(index), around + BEYOND))
    pairs = np.empty(found.indices.size, _PAIR)
    pairs["first"], pairs["second"] = np.repeat(rows, found.indices.shape[1]), found.indices.reshape(-1)
    pairs["score"] = found.scores.reshape(-1)
    pairs["apart_m"] = distances_m(index.positions.take(pairs["first"]), index.positions.take(pairs["second"]))
    others: _Pairs = pairs[pairs["first"] != pairs["second"]]
    return others


def _best_of(pairs: _Pairs, rows: NDArray[np.int64]) -> NDArray[np.float64]:  # (M,)
    """Return the best score of each compared photo in `rows`; -inf for a photo without a pair."""
    best = np.full(len(rows), -np.inf)
    np.maximum.at(best, np.searchsorted(rows, pairs["first"]), pairs["score"])
    return best


def _once(pairs: _Pairs, least_score: float) -> _Pairs:
    """Return the pairs with at least `least_score`, highest score first. Two photos give at most one pair."""
    ends = np.sort(np.column_stack([pairs["first"], pairs["second"]]), axis=1)
    rows = np.unique(ends, axis=0, return_index=True)[1]
    chosen: _Pairs = pairs[rows[np.lexsort((rows, -pairs["score"][rows]))]]
    return chosen[chosen["score"] >= least_score]


def _as_pairs(pairs: _Pairs) -> list[Pair]:
    return [Pair(*values) for values in pairs.tolist()]


def _of_different_places(index: PlaceIndex, pairs: list[Pair], same_m: float) -> tuple[Pair, ...]:
    """Return up to 20 pairs, best first. Of several pairs between the same two places, return only the best."""
    chosen: list[Pair] = []

    def same_places(one: Pair, other: Pair) -> bool:
        here = index.positions.take([one.first, one.second, one.first, one.second])
        there = index.positions.take([other.first, other.second, other.second, other.first])
        near = distances_m(here, there) <= same_m
        return bool(near[:2].all() or near[2:].all())

    for pair in pairs:
        if len(chosen) == MOST_PAIRS:
            break
        if not any(same_places(pair, other) for other in chosen):
            chosen.append(pair)
    return tuple(chosen)
