"""Fitting of a calibration to cases: two logistic regressions, thresholds of the confidence, and radii.

Thresholds and radii are measured by cross-validation over geographic squares of 100 m, which are divided into five
parts. The confidence of the cases in each part comes from a model that was fitted on the other four parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.sketch import sketch_of
from cricavpr.locate.calibration import (
    CERTAINTY,
    COVERAGE,
    LABELLED,
    LEAVE_PLACE_OUT,
    Bin,
    Calibration,
    Level,
    Logistic,
    Ring,
    Source,
)
from cricavpr.locate.cases import Cases
from cricavpr.locate.consensus import Rule

FOLDS = 5
FEWEST = 30  # minimum number of answerable cases; with fewer, precisions of 95 % and 80 % cannot be told apart
RING_CASES, LEAST_RING_CASES, LEAST_RINGS = 60, 20, 4  # 60 cases per radius; fewer, at least 20, to get 4 radii
RELIABILITY_BINS = 10
MOST_LEVELS = 50  # maximum number of thresholds; with more, chance would more often fail a test and stop the sequence


@dataclass(frozen=True, eq=False)
class Judged:
    """Cases with their confidence by models that were fitted on other squares (cross-validation).

    Attributes:
        cases: the M cases.
        confidence: (M,) predicted probability that the answer is correct.
        weight: (M,) weight of each case, from `case_weights`.
    """

    cases: Cases
    confidence: NDArray[np.float64]
    weight: NDArray[np.float64]


def fit(index: PlaceIndex, cases: Cases, rule: Rule, share_in_map: float = 0.5) -> Calibration:
    """Fit the calibration of an index to cases.

    Args:
        rule: parameters by which matches become a position; the same as for the cases.
        share_in_map: expected fraction of future photos whose place is in the index. It cannot be learnt from the
            index, and every probability depends on it.

    Raises:
        InputError: `share_in_map` is not above 0 and at most 1, or there are too few cases.
    """
    check_share(share_in_map)
    answerable, cells = int(cases.in_map.sum()), len(np.unique(cases.cell))
    if answerable < FEWEST or cells < FOLDS:
        raise InputError(
            f"a calibration needs at least {FEWEST} queries whose place is in the index, and queries in at least "
            f"{FOLDS} different squares of 100 m, got {answerable} queries and {cells} squares. Add photos to the "
            "index, or give more queries with --queries FOLDER."
        )
    weight = case_weights(cases.in_map, share_in_map)
    judged = Judged(cases, out_of_fold(cases, weight), weight)
    kind = LEAVE_PLACE_OUT if cases.own else LABELLED
    return Calibration(
        made_by=index.made_by,
        version=index.version,
        photos=len(index),
        sketch=sketch_of(index.snapshot.ids_and_metres()),
        rule=rule,
        source=Source(kind, answerable, len(cases) - answerable, share_in_map, cases.right_m),
        right=Logistic.fit(cases.features, cases.right, weight),
        in_map=Logistic.fit(cases.features, cases.in_map, weight),
        levels=levels(judged),
        rings=rings(judged),
        reliability=reliability(judged),
    )


def check_share(share_in_map: float) -> None:
    """Raise InputError unless the share is above 0 and at most 1."""
    if not 0.0 < share_in_map <= 1.0:
        raise InputError(
            f"the share of photos whose place is in the map must be more than 0 and at most 1, got {share_in_map:g}."
        )


def case_weights(in_map: NDArray[np.bool_], share_in_map: float) -> NDArray[np.float64]:  # (M,)
    """Return a weight for each case. The mean weight is 1.

    Together, the answerable cases have the fraction `share_in_map` of the total weight.

    Args:
        in_map: whether each case is answerable, that is, its place is in the index.
    """
    count, answerable = len(in_map), int(in_map.sum())
    if answerable == count:
        return np.ones(count)
    return np.where(in_map, share_in_map * count / answerable, (1 - share_in_map) * count / (count - answerable))


def out_of_fold(cases: Cases, weight: NDArray[np.float64]) -> NDArray[np.float64]:  # (M,)
    """Return the confidence of each case by cross-validation.

    The confidence of a case comes from a model that was fitted only on cases from other geographic squares.
    """
    fold = np.random.default_rng(0).permutation(int(cases.cell.max()) + 1)[cases.cell] % FOLDS
    confidence = np.empty(len(cases))
    for part in range(FOLDS):
        held = fold == part
        model = Logistic.fit(cases.features[~held], cases.right[~held], weight[~held])
        confidence[held] = model(cases.features[held])
    return confidence


def levels(judged: Judged) -> tuple[Level, ...]:
    """Return the thresholds from which `Calibration.level` chooses, in ascending order, with their results."""
    from scipy.special import betaincinv

    order = np.argsort(-judged.confidence, kind="stable")
    confidence, weight = judged.confidence[order], judged.weight[order]
    right, in_map = judged.cases.right[order], judged.cases.in_map[order]
    total = np.cumsum(weight)
    share = np.cumsum(weight * right) / total
    cases = total**2 / np.cumsum(weight**2)  # effective sample size of Kish (1965)
    wrong = (1 - share) * cases
    at_least = betaincinv(np.maximum(cases - wrong, 1e-9), wrong + 1, 1 - CERTAINTY)  # Clopper and Pearson (1934)
    answered = np.cumsum(in_map) / max(1, in_map.sum())
    refused = 1 - np.cumsum(~in_map) / max(1, (~in_map).sum())
    last = np.flatnonzero(
        np.append(np.diff(confidence) < 0, True)
    )  # cases of equal confidence are all answered or all refused
    chosen = last[np.unique(np.linspace(0, len(last) - 1, min(MOST_LEVELS, len(last))).astype(np.int64))]
    columns = (confidence, cases, share, at_least, answered, refused)
    return tuple(Level(*(float(column[row]) for column in columns)) for row in reversed(chosen.tolist()))


def rings(judged: Judged) -> tuple[Ring, ...]:
    """Return a radius for each range of confidence. A higher confidence never has a larger radius.

    Ranges have about equal numbers of cases. The radius of a range is the conformal quantile of its position errors
    (split conformal prediction, Vovk et al. 2005). Two neighbouring ranges are joined if the range of higher confidence
    would have the larger radius.
    """
    order = np.argsort(judged.confidence, kind="stable")
    count = max(1, min(len(order) // LEAST_RING_CASES, max(LEAST_RINGS, len(order) // RING_CASES)))
    pooled: list[tuple[NDArray[np.int64], float]] = []
    for part in np.array_split(order, count):
        radius_m = _quantile(judged, part)
        while pooled and radius_m > pooled[-1][1]:  # pool adjacent violators
            part = np.concatenate([pooled.pop()[0], part])
            radius_m = _quantile(judged, part)
        pooled.append((part, radius_m))
    return tuple(Ring(float(judged.confidence[part].min()), radius_m) for part, radius_m in pooled)


def _quantile(judged: Judged, rows: NDArray[np.int64]) -> float:
    """Return the conformal quantile of the position errors of some cases, in metres.

    For n cases of equal weight, this is the ceil((n + 1) q)-th smallest error, where q is COVERAGE. If n is less
    than this rank, it is the largest error. A new case like these has at most this error with a probability of about q.

    Args:
        rows: rows of the cases.
    """
    order = rows[np.argsort(judged.cases.error_m[rows], kind="stable")]
    weight = judged.weight[order]
    reached = np.cumsum(weight) >= COVERAGE * (weight.sum() + weight.mean())
    return float(judged.cases.error_m[order[int(np.argmax(reached)) if reached.any() else -1]])


def reliability(judged: Judged) -> tuple[Bin, ...]:
    """Return how often cases are correct, for each interval of confidence (0 to 0.1, 0.1 to 0.2 and so on)."""
    tenth = np.minimum((judged.confidence * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    bins = []
    for number in np.unique(tenth).tolist():
        rows = tenth == number
        said = float(np.average(judged.confidence[rows], weights=judged.weight[rows]))
        right = float(np.average(judged.cases.right[rows], weights=judged.weight[rows]))
        bins.append(Bin(said, right, int(rows.sum())))
    return tuple(bins)
