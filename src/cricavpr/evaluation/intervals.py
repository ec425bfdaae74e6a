"""Intervals and tests: how sure a recall over so many queries is, and whether two recalls differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0


def bootstrap_intervals(
    ranks: NDArray[np.integer[Any]],  # (Q,) rank of the first right answer, 0 for none
    ns: Iterable[int],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[int, tuple[float, float]]:
    """95 % percentile bootstrap intervals of recall@N over queries, one draw for all N.

    A resample of the queries is only looked at through how many have their first right answer at ranks up to each N,
    and these numbers follow a multinomial distribution: that is what is drawn, so memory is `resamples` x N.

    Raises:
        InputError: no queries.
    """
    if not len(ranks):
        raise InputError("an interval over no queries is not defined. Give queries that have positives.")
    rising = sorted(set(ns))
    edges = [1, *(n + 1 for n in rising), np.iinfo(np.int64).max]
    counts = np.histogram(ranks[ranks > 0], edges)[0]  # queries answered between one N and the next
    counts[-1] += np.count_nonzero(ranks == 0)
    drawn = np.random.default_rng(seed).multinomial(len(ranks), counts / len(ranks), resamples)  # (resamples, n + 1)
    recalls = np.cumsum(drawn[:, :-1], axis=1) / len(ranks)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(recalls, [tail, 1 - tail], axis=0, method="nearest")  # what some resample did give
    return {n: (float(low[place]), float(high[place])) for place, n in enumerate(rising)}


@dataclass(frozen=True)
class Paired:
    """Two runs on the same queries.

    Attributes:
        only_first, only_second: queries that only the one answered right.
        p_value: of McNemar's exact test that either is as likely: two-sided binomial over these queries.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(
    first: Sequence[bool] | NDArray[np.bool_],  # (Q,) right or wrong
    second: Sequence[bool] | NDArray[np.bool_],  # (Q,)
) -> Paired:
    """McNemar's exact test on answers to the same queries.

    Raises:
        InputError: answers to other numbers of queries.
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != other.shape:
        raise InputError(f"answers to {one.size} and to {other.size} queries cannot be paired.")
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    return Paired(only_first, only_second, sign_test(only_first, only_second))


def sign_test(won: int, lost: int) -> float:
    """How often a fair coin, thrown once for each query that only one side gets right, falls as unevenly or more so."""
    from scipy.special import bdtr

    return min(1.0, 2.0 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0
