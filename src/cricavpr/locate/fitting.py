"""From cases to a calibration: two logistic regressions, thresholds for each precision, and radii.

All that is promised is measured on cases that the probabilities were not fitted on: the ground is cut into squares,
the squares into five parts, and each part is judged by what the other four say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.sketch import sketch_of
from cricavpr.locate.calibration import COVERAGE, LABELLED, LEAVE_PLACE_OUT, Bin, Calibration, Level, Ring, Source
from cricavpr.locate.cases import Cases
from cricavpr.locate.logistic import Logistic
from cricavpr.locate.together import Rule

FOLDS = 5
FEWEST = 30  # answerable cases: with fewer, a share of 95 % cannot be told from one of 80 %
RING_CASES, LEAST_RING_CASES, LEAST_RINGS = 60, 20, 4  # of one radius; with few cases smaller ones, to tell apart
RELIABILITY_BINS = 10
MOST_LEVELS = 400
CERTAIN = 0.9  # of a precision that is promised


@dataclass(frozen=True, eq=False)
class Judged:
    """Cases with what a model that never saw their ground says of them.

    Attributes:
        confidence: (M,) that the answer is right.
        weight: (M,) so that the answerable cases have the share that is expected of all questions.
    """

    cases: Cases
    confidence: NDArray[np.float64]
    weight: NDArray[np.float64]


def fit(index: PlaceIndex, cases: Cases, rule: Rule, share_in_map: float = 0.5) -> Calibration:
    """Calibrate an index.

    Args:
        share_in_map: which share of the questions to come is expected to be answerable. Nothing in the index says
            so, and every probability depends on it.

    Raises:
        InputError: a share that is none, or too few cases to promise anything.
    """
    check_share(share_in_map)
    _check(cases)
    weight = case_weights(cases.in_map, share_in_map)
    judged = Judged(cases, out_of_fold(cases, weight), weight)
    answerable = int(cases.in_map.sum())
    return Calibration(
        made_by=index.made_by,
        version=index.version,
        photos=len(index),
        sketch=sketch_of(index.snapshot.ids_and_metres()),
        rule=rule,
        source=Source(
            LEAVE_PLACE_OUT if cases.own else LABELLED,
            answerable,
            len(cases) - answerable,
            share_in_map,
            cases.right_m,
        ),
        right=Logistic.fit(cases.features, cases.right, weight),
        in_map=Logistic.fit(cases.features, cases.in_map, weight),
        levels=levels(judged),
        rings=rings(judged),
        reliability=reliability(judged),
    )


def check_share(share_in_map: float) -> None:
    """Raises: InputError: a share that is none."""
    if not 0.0 < share_in_map <= 1.0:
        raise InputError(f"an answerable share of {share_in_map} is none. Give more than 0 and at most 1.")


def _check(cases: Cases) -> None:
    answerable, cells = int(cases.in_map.sum()), len(np.unique(cases.cell))
    if answerable < FEWEST or cells < FOLDS:
        raise InputError(
            f"{answerable} answerable cases in {cells} squares of 100 m are too few to calibrate on. "
            f"Give at least {FEWEST}, from {FOLDS} squares or more: add photos, or --queries FOLDER."
        )


def case_weights(in_map: NDArray[np.bool_], share_in_map: float) -> NDArray[np.float64]:  # (M,)
    """Answerable cases together weigh `share_in_map` of all; the mean weight is 1."""
    count = len(in_map)
    answerable = int(in_map.sum())
    if answerable == count:
        return np.ones(count)
    return np.where(in_map, share_in_map * count / answerable, (1 - share_in_map) * count / (count - answerable))


def out_of_fold(cases: Cases, weight: NDArray[np.float64]) -> NDArray[np.float64]:  # (M,)
    """The confidence of each case by a model that saw no case of its part of the ground."""
    fold = np.random.default_rng(0).permutation(int(cases.cell.max()) + 1)[cases.cell] % FOLDS
    confidence = np.empty(len(cases))
    for part in range(FOLDS):
        held = fold == part
        model = Logistic.fit(cases.features[~held], cases.right[~held], weight[~held])
        confidence[held] = model(cases.features[held])
    return confidence


def levels(judged: Judged) -> tuple[Level, ...]:
    """Every threshold with what it gives, thinned out to a few hundred."""
    from scipy.special import betaincinv

    cases = judged.cases
    order = np.argsort(-judged.confidence, kind="stable")
    confidence, weight = judged.confidence[order], judged.weight[order]
    right, in_map = cases.right[order], cases.in_map[order]
    hits, all_ = np.cumsum(weight * right), np.cumsum(weight)
    heads = np.arange(1, len(order) + 1)
    share = hits / all_
    wrong = (1 - share) * heads  # in cases, of which there are as many as were counted
    # Clopper and Pearson's bound (1934) for a share that is at least so high with the certainty CERTAIN.
    at_least = betaincinv(np.maximum(heads - wrong, 1e-9), wrong + 1, 1 - CERTAIN)
    answered = np.cumsum(in_map) / max(1, in_map.sum())
    refused = 1 - np.cumsum(~in_map) / max(1, (~in_map).sum())
    last = np.flatnonzero(np.append(np.diff(confidence) < 0, True))  # equal cases are answered together
    chosen = last[np.unique(np.linspace(0, len(last) - 1, min(MOST_LEVELS, len(last))).astype(np.int64))]
    columns = (confidence, share, at_least, answered, refused)
    return tuple(Level(*(float(column[row]) for column in columns)) for row in reversed(chosen.tolist()))


def rings(judged: Judged) -> tuple[Ring, ...]:
    """A conformal quantile of the error for each range of confidence; more confidence never gets a larger radius.

    Split conformal prediction (Vovk et al. 2005), within ranges of about equal numbers of cases.
    """
    order = np.argsort(judged.confidence, kind="stable")
    count = max(1, min(len(order) // LEAST_RING_CASES, max(LEAST_RINGS, len(order) // RING_CASES)))
    blocks = [(part, _quantile(judged, part)) for part in np.array_split(order, count)]
    pooled: list[tuple[NDArray[np.int64], float]] = []
    for part, radius_m in blocks:  # pool adjacent violators: radii must fall as confidence rises
        while pooled and radius_m > pooled[-1][1]:
            part = np.concatenate([pooled.pop()[0], part])
            radius_m = _quantile(judged, part)
        pooled.append((part, radius_m))
    return tuple(Ring(float(judged.confidence[part].min()), radius_m) for part, radius_m in pooled)


def _quantile(judged: Judged, rows: NDArray[np.int64]) -> float:
    """The error that COVERAGE of some cases stay below, with room for one case more."""
    order = rows[np.argsort(judged.cases.error_m[rows], kind="stable")]
    weight = judged.weight[order]
    reached = np.cumsum(weight) >= COVERAGE * (weight.sum() + weight.mean())
    return float(judged.cases.error_m[order[int(np.argmax(reached)) if reached.any() else -1]])


def reliability(judged: Judged) -> tuple[Bin, ...]:
    """Cases in tenths of the confidence, with how often those in each were right."""
    tenth = np.minimum((judged.confidence * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    bins = []
    for number in np.unique(tenth).tolist():
        rows = tenth == number
        weight = judged.weight[rows]
        said = np.average(judged.confidence[rows], weights=weight)
        bins.append(Bin(float(said), float(np.average(judged.cases.right[rows], weights=weight)), int(rows.sum())))
    return tuple(bins)
