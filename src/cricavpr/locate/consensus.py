"""Estimation of one position from many matches: the place that the matches support most.

The best match has the weight 1, the last match the weight 0, and matches between them have weights by their score. The
weight of each match is spread around its position as a Gaussian. The support of a match is the sum of all Gaussians at
its position. The estimated place is at the match with the most support, and its position is the weighted mean of the
matches near it. So two matches of one place support each other, while a single wrong match has only its own weight.

A match without a position supports only itself. If it has the most support, the place is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.geo import Positions, distances_m

Floats = NDArray[np.floating[Any]]
FEATURES = ("score", "gap", "contrast", "agreement", "nearness")  # a higher value means that an answer is more likely


@dataclass(frozen=True)
class Rule:
    """Parameters by which matches become a position. A calibration is valid only for the rule that it was fitted with.

    Attributes:
        depth: number of matches to use.
        reach_m: distance in metres within which matches can show the same place; half of it is the Gaussian's sigma.
        sharpness: exponent of the weights. With 1, weights rise linearly with the score. A larger exponent lowers all
            weights between 0 and 1.
    """

    depth: int = 20
    reach_m: float = 25.0
    sharpness: float = 2.0


@dataclass(frozen=True, eq=False)
class Consensus:
    """The place that the matches of one photo support.

    Attributes:
        metres: (2,) easting and northing of the place.
        zone: UTM zone of `metres`; None for local coordinates.
        members: rows of the matches near the place, best first.
        features: (5,) inputs of the calibration, in the order of `FEATURES`.
    """

    metres: NDArray[np.float64]
    zone: str | None
    members: NDArray[np.int64]
    features: NDArray[np.float64]


def consensus(
    positions: Positions,  # of n matches, best first
    scores: Floats,  # (n,) of the matches, highest first
    rule: Rule,
) -> Consensus | None:
    """Return the place that the matches support most.

    Return None if there are no matches, or if the match with the most support has no position.
    """
    here = positions.take(np.arange(min(rule.depth, len(positions))))
    exact: NDArray[np.float64] = np.asarray(scores[: rule.depth], np.float64)
    if not len(here):
        return None
    span = exact[0] - exact[-1]
    weights = ((exact - exact[-1]) / span) ** rule.sharpness if span > 0 else np.ones(len(exact))  # (n,) from 1 to 0
    apart_m = _apart_m(here)  # (n, n)
    density = weights @ np.exp(-0.5 * (apart_m / (rule.reach_m / 2)) ** 2)  # (n,)
    mode = int(np.argmax(density))  # the better match if several are equal
    if not here.known[mode]:
        return None
    near, zone = apart_m[mode] <= rule.reach_m, None if here.zones is None else here.zones[mode]
    if here.zones is not None:  # coordinates of different zones cannot be averaged
        near &= np.array([other == zone for other in here.zones])
    members = np.flatnonzero(near)
    share = np.maximum(weights[members], 1e-9)  # the last match has weight 0, but may be the only one with a position
    metres = np.average(here.metres[members], axis=0, weights=share)
    return Consensus(metres, zone, members, _features(exact, weights, apart_m[mode], members, rule))


def _apart_m(here: Positions) -> NDArray[np.float64]:  # (n, n)
    """Return the distances in metres between all matches. A match without a position has infinite distances."""
    if here.zones is None or len(set(here.zones)) == 1:
        step = here.metres[:, None] - here.metres[None]
        apart_m = np.hypot(step[..., 0], step[..., 1])
    else:
        one, other = np.divmod(np.arange(len(here) ** 2), len(here))
        apart_m = distances_m(here.take(one), here.take(other)).reshape(len(here), len(here))
    apart_m[np.isnan(apart_m)] = np.inf
    np.fill_diagonal(apart_m, 0.0)
    return apart_m


def _features(
    scores: NDArray[np.float64],  # (n,)
    weights: NDArray[np.float64],  # (n,)
    away_m: NDArray[np.float64],  # (n,) distance of each match from the match with the most support
    members: NDArray[np.int64],
    rule: Rule,
) -> NDArray[np.float64]:  # (5,)
    best, elsewhere = scores[members[0]], scores[away_m > 2 * rule.reach_m]
    rival = elsewhere[0] if len(elsewhere) else scores[-1]  # other photos of the index have at most this score
    noise = elsewhere.std() if len(elsewhere) > 2 else 0.0
    contrast = (best - elsewhere.mean()) / (noise + 0.01) if len(elsewhere) else 0.0
    total = weights.sum()
    located = np.isfinite(away_m)
    spread_m = np.sqrt(np.average(away_m[located] ** 2, weights=np.maximum(weights[located], 1e-9)))
    return np.array(
        [best, best - rival, contrast, weights[members].sum() / total, -np.log1p(spread_m / rule.reach_m)], np.float64
    )
