"""Cases to calibrate on: queries with known positions, each once with its place in the map and once without.

The queries are photos of the index itself (leave-place-out) or labelled photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.geo import Positions, distances_m, within_radius
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.search import Predictions
from cricavpr.locate.consensus import Consensus, Rule, consensus
from cricavpr.progress import Report

MOST = 2000  # photos of an index that become queries: more hardly improve the figures
AT_ONCE = 256  # queries between two reports of progress
CELL_M = 100.0  # cases of one square are fitted or tested together, because neighbours are too much alike


@dataclass(frozen=True, eq=False)
class Cases:
    """M queries and their results.

    Attributes:
        features: (M, F) of `consensus`.
        error_m: (M,) from the estimate to the truth.
        in_map: (M,) whether the index had a photo of the place when it was searched.
        cell: (M,) the square of ground that the truth lies in.
        own: whether the queries are photos of the index.
        right_m: an answer this near is right, and a photo this near shows the place.
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
        """Which estimates are right."""
        return self.error_m <= self.right_m


def cases_of_index(
    index: PlaceIndex, right_m: float, rule: Rule, most: int = MOST, report: Report | None = None
) -> Cases:
    """Search each photo once without itself and once without all photos of its place (leave-place-out).

    Args:
        most: how many photos of the index become queries.

    Raises:
        InputError: no two photos show one place, so no query has an answer; or `most` is below 1.
    """
    if most < 1:
        raise InputError(f"at least 1 photo of the index must be a query, got {most}.")
    known = np.flatnonzero(index.positions.known)
    near = within_radius(index.positions, index.positions.take(known), right_m)
    pairs = sum(len(others) > 1 for others in near)
    if not pairs:
        raise InputError(
            f"no two photos of {index.path} lie within {right_m:g} m, so none can be found by another. "
            "Calibrate with photos whose positions you know: --queries FOLDER."
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
    report: Report | None = None,
) -> Cases:
    """Search each query once as it is and once without all photos of its place.

    Raises:
        MadeByError: the queries have descriptors of another provenance.
        InputError: an unknown position, or no query has its place in the map.
    """
    if len(positions) != len(queries) or not positions.known.all():
        raise InputError("calibrating needs the position of every query, got a query without one.")
    cases = _cases(index, queries, positions, None, right_m, rule, report)
    if not cases.in_map.any():
        raise InputError(
            f"none of the {len(queries)} queries lies within {right_m:g} m of a photo of {index.path}. "
            "Give queries from where the index has photos."
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
        left_out = max(map(len, near[rows])) + 1  # so that enough are left when a place is taken away
        part = DescriptorSet(queries.names[rows], queries.vectors[rows], queries.made_by)
        predictions = index.search(part, min(len(index), rule.depth + left_out))
        for query in range(rows.start, rows.stop):
            here = near[query] if own is None else np.setdiff1d(near[query], own[query])
            gone = np.empty(0, np.int64) if own is None else own[query : query + 1]
            for without, answerable in ((gone, True), (np.union1d(gone, here), False)):
                if answerable and not len(here):
                    continue
                one = _consensus_without(index, predictions, query - rows.start, without, rule)
                if one is not None:
                    found.append(one)
                    asked.append(query)
                    in_map.append(answerable)
        if report is not None:
            report(rows.stop, len(queries))
    truth = positions.take(np.array(asked, np.int64))
    return Cases(
        np.array([one.features for one in found]).reshape(len(found), -1),
        distances_m(_places(found), truth),
        np.array(in_map, np.bool_),
        _cells(truth),
        own is not None,
        right_m,
    )


def _consensus_without(
    index: PlaceIndex, predictions: Predictions, query: int, without: NDArray[np.int64], rule: Rule
) -> Consensus | None:
    """Return the result of one query in the index without some photos."""
    kept = ~np.isin(predictions.indices[query], without)
    rows = predictions.indices[query][kept][: rule.depth]
    return consensus(index.positions.take(rows), predictions.scores[query][kept][: rule.depth], rule)


def _places(found: list[Consensus]) -> Positions:
    metres = np.array([one.metres for one in found]).reshape(-1, 2)
    zones = [one.zone for one in found]
    return Positions(metres, None if None in zones else tuple(zone or "" for zone in zones))


def _cells(truth: Positions) -> NDArray[np.int64]:  # (M,)
    squares = np.floor(truth.metres / CELL_M).astype(np.int64)
    zones = np.unique(truth.zones or ("",) * len(truth), return_inverse=True)[1]
    cells: NDArray[np.int64] = np.unique(np.column_stack([squares, zones]), axis=0, return_inverse=True)[1]
    return cells.reshape(-1)
