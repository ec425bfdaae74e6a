"""Confidence intervals of a recall, and tests whether two recalls differ.

The interval of a recall is the score interval of Wilson (1927), recommended by Brown, Cai and DasGupta, "Interval
estimation for a binomial proportion" (2001). Unlike a percentile bootstrap, it does not shrink to zero width at a
recall of 100 %. Even with few queries, it contains the true recall about as often as stated.

The interval of the difference of two recalls over the same queries is method 10 of Newcombe, "Improved confidence
intervals for the difference between binomial proportions based on paired data" (1998). It combines two Wilson
intervals.

Both intervals assume independent queries. Frames of one sequence are not independent, so their true intervals are
wider.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError

CONFIDENCE = 0.95
Z = 1.959963984540054  # the normal quantile of (1 + CONFIDENCE) / 2

Interval = tuple[float, float]


def wilson(right: int, of: int) -> Interval:
    """Return the 95 % Wilson score interval of the fraction `right / of`.

    Args:
        right: number of correct queries.
        of: number of all queries.

    Raises:
        InputError: `of` is below 1, or `right` is not from 0 to `of`.

    Example:
        >>> low, high = wilson(29, 29)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.883 to 1.000
    """
    if of < 1 or not 0 <= right <= of:
        raise InputError(
            "a confidence interval needs at least 1 query, and no more correct queries than queries, "
            f"got {right} correct of {of}."
        )
    share = right / of
    middle = share + Z * Z / (2 * of)
    half = Z * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of))
    scale = 1 + Z * Z / of
    # If the share is 0 or 1, one end of the interval is the share itself; rounding must not move that end.
    return min(share, max(0.0, (middle - half) / scale)), max(share, min(1.0, (middle + half) / scale))


def recall_intervals(recall_at: Mapping[int, float], queries: int) -> dict[int, Interval]:
    """Return the 95 % Wilson interval of each recall@N, by N.

    Args:
        recall_at: recall@N as a fraction, by N.
        queries: number of queries over which the recalls were computed.

    Raises:
        InputError: `queries` is below 1.
    """
    return {n: wilson(round(recall * queries), queries) for n, recall in recall_at.items()}


@dataclass(frozen=True)
class Paired:
    """Result of a paired test of two evaluations over the same queries.

    Attributes:
        only_first: number of queries that are correct only in the first evaluation.
        only_second: number of queries that are correct only in the second evaluation.
        p_value: two-sided p-value of McNemar's exact test.
        difference: recall of the second minus recall of the first, as a fraction.
        interval: 95 % confidence interval of the difference, by Newcombe's method 10.
    """

    only_first: int
    only_second: int
    p_value: float
    difference: float
    interval: Interval


def compare_paired(
    first: Sequence[bool] | NDArray[np.bool_],  # (Q,) whether each query is correct
    second: Sequence[bool] | NDArray[np.bool_],  # (Q,)
) -> Paired:
    """Compare two evaluations query by query, given which queries are correct in each.

    Raises:
        InputError: there are no queries, or the two numbers of queries differ.

    Example:
        >>> compare_paired([True, True, False, False], [True, True, True, False]).difference
        0.25
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != other.shape or not one.size:
        raise InputError(
            "a paired test needs the same queries in both evaluations, and at least one, got "
            f"{one.size} and {other.size} queries."
        )
    counts = [int(mask.sum()) for mask in (one & other, other & ~one, one & ~other, ~one & ~other)]
    _, gained, lost, _ = counts
    return Paired(lost, gained, sign_test(lost, gained), (gained - lost) / one.size, _newcombe(*counts))


def _newcombe(both: int, gained: int, lost: int, neither: int) -> Interval:
    """Return Newcombe's 95 % interval of the difference of two recalls.

    The difference is (gained - lost) / all queries. The arguments count the queries that are correct in both
    evaluations, only in the second, only in the first, and in neither.
    """
    of = both + gained + lost + neither
    new, old = (both + gained) / of, (both + lost) / of
    (new_low, new_high), (old_low, old_high) = wilson(both + gained, of), wilson(both + lost, of)
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    tied = float(both * neither - gained * lost)
    tied = max(tied - of / 2, 0.0) if tied > 0 else tied  # Newcombe's continuity correction
    correlation = tied / math.sqrt(margins) if margins else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    difference = new - old
    return difference - reach(new - new_low, old_high - old), difference + reach(new_high - new, old - old_low)


def sign_test(won: int, lost: int) -> float:
    """Return the two-sided p-value of the exact sign test, given the numbers of wins and losses without ties.

    This is McNemar's exact test if the arguments count the queries that are correct in only one of two evaluations.

    Example:
        >>> sign_test(5, 0)
        0.0625
    """
    from scipy.special import bdtr

    return min(1.0, 2.0 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0
