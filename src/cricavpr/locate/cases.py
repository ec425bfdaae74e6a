"""Cases for a calibration: queries with known positions, and the results of searching them.

Each query is searched twice: in the whole index, and without the photos of its place, as if its place were not in the
index. Queries are photos of the index itself (leave-place-out), or other photos with known positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.geo import Positions, distances_m, within_radius
from cricavpr.index.place_index import PlaceIndex
from cricavpr.locate.consensus import Consensus, Rule, consensus
from cricavpr.progress import Report

MOST = 2000  # maximum number of photos of the index to use as queries; more hardly improve the result
AT_ONCE = 256  # queries that are searched between two reports of progress
CELL_M = 100.0  # side of a square; cases of one square are too similar to be split between fit and test


@dataclass(frozen=True, eq=False)
class Cases:
    """M cases: searched queries with known positions, and how well they were located.

    Attributes:
        features: (M, F) features of each result, from `consensus`.
        error_m: (M,) distance in metres from the estimated to the true position.
        in_map: (M,) whether the searched photos included a photo of the query's place.
        cell: (M,) number of the 100 m square that contains the true position.
        own: whether the queries are photos of the index.
        right_m: distance in metres within which an answer is correct, and within which photos show the same place.
    """

    features: NDArray[np.float64]
    error_m: NDArray[np.float64]
    in_map: NDArray[np.bool_]
    cell: NDArray[np.int64]
    own: bool
    right_m: float

    def __len__(self) -> int:
        return len(self.error_m)

    @property
    def right(self) -> NDArray[np.bool_]:  # (M,)
        """Whether each estimated position is correct."""
        return self.error_m <= self.right_m


def cases_of_index(
    index: PlaceIndex, right_m: float, rule: Rule, most: int = MOST, report: Report | None = None
) -> Cases:
    """Return cases whose queries are photos of the index (leave-place-out).

    Each query is searched twice: among all other photos, and among those that do not show its place.

    Args:
        right_m: distance in metres within which an answer is correct, and within which photos show the same place.
        rule: parameters by which matches become a position.
        most: maximum number of photos to use as queries.
        report: called with the number of queries searched and the number of all queries.

    Raises:
        InputError: no two photos show the same place, so that no query can be answered; or `most` is below 1.
    """
    if most < 1:
        raise InputError(f"the number of photos of the index to use as queries must be at least 1, got {most}.")
    known = np.flatnonzero(index.positions.known)
    near = within_radius(index.positions, index.positions.take(known), right_m)
    pairs = sum(len(others) > 1 for others in near)
    if not pairs:
        raise InputError(
            f"calibrating with the photos of {index.path} itself needs photos within {right_m:g} m of each other, but "
            "the index has none. Calibrate with other photos whose positions are known: --queries FOLDER."
        )
    rows = known[np.linspace(0, len(known) - 1, min(most, len(known))).astype(np.int64)]
    queries = DescriptorSet(tuple(map(str, rows.tolist())), np.asarray(index.vectors[rows], np.float32), index.made_by)
    return _cases(index, queries, index.positions.take(rows), rows, right_m, rule, report)


def cases_of_queries(
    index: PlaceIndex,
    queries: DescriptorSet,
    positions: Positions,  # of the queries, all known
    right_m: float,
    rule: Rule,
) -> Cases:
    """Return cases whose queries are photos outside the index.

    Each query is searched twice: among all photos of the index, and among those that do not show its place.

    Args:
        positions: true positions of the queries.
        right_m: distance in metres within which an answer is correct, and within which photos show the same place.
        rule: parameters by which matches become a position.

    Raises:
        MadeByError: the queries were described with another method, weights or settings than the index.
        InputError: a query has no position, or the index has no photo of the place of any query.
    """
    if len(positions) != len(queries) or not positions.known.all():
        raise InputError("calibrating needs the position of every query, got a query without a position.")
    cases = _cases(index, queries, positions, None, right_m, rule, None)
    if not cases.in_map.any():
        raise InputError(
            f"calibrating needs queries within {right_m:g} m of a photo of {index.path}, got none among "
            f"{len(queries)}. Give queries from places where the index has photos."
        )
    return cases


def _cases(
    index: PlaceIndex,
    queries: DescriptorSet,
    positions: Positions,
    own: NDArray[np.int64] | None,  # (Q,) the row of each query in the index
    right_m: float,
    rule: Rule,
    report: Report | None,
) -> Cases:
    near = within_radius(index.positions, positions, right_m)
    found: list[Consensus] = []
    asked: list[int] = []
    in_map: list[bool] = []
    for start in range(0, len(queries), AT_ONCE):
        rows = slice(start, min(start + AT_ONCE, len(queries)))
        left_out = max(map(len, near[rows])) + 1  # so that enough matches remain after leaving out the place
        part = DescriptorSet(queries.names[rows], queries.vectors[rows], queries.made_by)
        predictions = index.search(part, min(len(index), rule.depth + left_out))
        for query in range(rows.start, rows.stop):
            here = near[query] if own is None else np.setdiff1d(near[query], own[query])
            gone = np.empty(0, np.int64) if own is None else own[query : query + 1]
            for without, answerable in ((gone, True), (np.union1d(gone, here), False)):
                if answerable and not len(here):
                    continue
                kept = ~np.isin(predictions.indices[query - start], without)
                matches = predictions.indices[query - start][kept][: rule.depth]
                scores = predictions.scores[query - start][kept][: rule.depth]
                if one := consensus(index.positions.take(matches), scores, rule):
                    found.append(one)
                    asked.append(query)
                    in_map.append(answerable)
        if report is not None:
            report(rows.stop, len(queries))
    truth = positions.take(np.array(asked, np.int64))
    zones = [one.zone for one in found]
    metres = np.array([one.metres for one in found]).reshape(-1, 2)
    estimates = Positions(metres, None if None in zones else tuple(zone or "" for zone in zones))
    squares = np.floor(truth.metres / CELL_M).astype(np.int64)
    by_zone = np.unique(truth.zones or ("",) * len(truth), return_inverse=True)[1]
    cells = np.unique(np.column_stack([squares, by_zone]), axis=0, return_inverse=True)[1].reshape(-1)
    features = np.array([one.features for one in found]).reshape(len(found), -1)
    known = np.array(in_map, np.bool_)
    return Cases(features, distances_m(estimates, truth), known, cells, own is not None, right_m)
