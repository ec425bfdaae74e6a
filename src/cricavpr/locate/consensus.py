"""One position from many matches: the place that the best of them support together.

Weights fall from 1 for the best match to 0 for the last one considered, whatever the scale of a method's scores. Each
weight is spread over the ground by a Gaussian; the place is where their density is highest, and the matches near it
are its members. One false match, however good, stands alone; two photos of one place support each other. A match
without a position stands alone too: where it has the most support, the place is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.geo import Positions, distances_m

Floats = NDArray[np.floating[Any]]
FEATURES = ("score", "gap", "contrast", "agreement", "nearness")  # more of each speaks for the answer


@dataclass(frozen=True)
class Rule:
    """How matches become a position. A calibration holds for one rule only.

    Attributes:
        depth: how many matches take part.
        reach_m: matches this near to one another can show one place; the Gaussian's sigma is half of it.
        sharpness: 1 lets weights fall linearly with the score; higher values favour the best matches.
    """

    depth: int = 20
    reach_m: float = 25.0
    sharpness: float = 2.0


@dataclass(frozen=True, eq=False)
class Consensus:
    """The place that the matches of one photo support.

    Attributes:
        metres: (2,) easting, northing.
        zone: UTM zone of `metres`, or None in a local frame.
        members: the matches at the place, best first.
        features: (5,) inputs of the calibration, in the order of `FEATURES`.
    """

    metres: NDArray[np.float64]
    zone: str | None
    members: NDArray[np.int64]
    features: NDArray[np.float64]


def consensus(
    positions: Positions,  # of n matches, best first
    scores: Floats,  # (n,) falling
    rule: Rule,
) -> Consensus | None:
    """Return the place that the matches support, or None where it has no position."""
    here = positions.take(np.arange(min(rule.depth, len(positions))))
    exact: NDArray[np.float64] = np.asarray(scores[: rule.depth], np.float64)
    if not len(here):
        return None
    weights = _weights(exact, rule.sharpness)  # (n,)
    apart_m = _apart_m(here)  # (n, n)
    density = weights @ np.exp(-0.5 * (apart_m / (rule.reach_m / 2)) ** 2)  # (n,)
    mode = int(np.argmax(density))  # ties to the better match
    if not here.known[mode]:
        return None
    members = np.flatnonzero((apart_m[mode] <= rule.reach_m) & _same_zone(here, mode))
    share = np.maximum(weights[members], 1e-9)  # a single last match has weight 0, but a position
    metres = np.average(here.metres[members], axis=0, weights=share)
    features = _features(exact, weights, apart_m[mode], members, rule)
    return Consensus(metres, None if here.zones is None else here.zones[mode], members, features)


def _weights(scores: NDArray[np.float64], sharpness: float) -> NDArray[np.float64]:  # (n,) falling -> (n,) from 1 to 0
    span = scores[0] - scores[-1]
    if span <= 0:
        return np.ones(len(scores))
    weights: NDArray[np.float64] = ((scores - scores[-1]) / span) ** sharpness
    return weights


def _apart_m(here: Positions) -> NDArray[np.float64]:  # (n, n)
    """Return the metres between all matches; a match without a position is infinitely far from every other."""
    if here.zones is None or len(set(here.zones)) == 1:
        step = here.metres[:, None] - here.metres[None]
        apart_m = np.hypot(step[..., 0], step[..., 1])
    else:
        one, other = np.divmod(np.arange(len(here) ** 2), len(here))
        apart_m = distances_m(here.take(one), here.take(other)).reshape(len(here), len(here))
    apart_m[np.isnan(apart_m)] = np.inf
    np.fill_diagonal(apart_m, 0.0)
    return apart_m


def _same_zone(here: Positions, mode: int) -> NDArray[np.bool_]:  # (n,)
    """Return which matches are in the zone of the mode: metres of two zones have no mean."""
    if here.zones is None:
        return np.ones(len(here), np.bool_)
    return np.array([zone == here.zones[mode] for zone in here.zones])


def _features(
    scores: NDArray[np.float64],  # (n,)
    weights: NDArray[np.float64],  # (n,)
    away_m: NDArray[np.float64],  # (n,) from the mode, which is near the place and defined across zones
    members: NDArray[np.int64],
    rule: Rule,
) -> NDArray[np.float64]:  # (5,)
    best, elsewhere = scores[members[0]], scores[away_m > 2 * rule.reach_m]
    rival = elsewhere[0] if len(elsewhere) else scores[-1]  # what was not considered scores no higher
    noise = elsewhere.std() if len(elsewhere) > 2 else 0.0
    contrast = (best - elsewhere.mean()) / (noise + 0.01) if len(elsewhere) else 0.0
    total = weights.sum()
    located = np.isfinite(away_m)
    spread_m = np.sqrt(np.average(away_m[located] ** 2, weights=np.maximum(weights[located], 1e-9)))
    return np.array(
        [best, best - rival, contrast, weights[members].sum() / total, -np.log1p(spread_m / rule.reach_m)], np.float64
    )
