"""Intervals of a recall, and tests whether two recalls differ.

One recall: the score interval of Wilson (1927), recommended by Brown, Cai and DasGupta, "Interval estimation for a
binomial proportion" (2001). Unlike a percentile bootstrap it has a width at 100 % and keeps its level with few queries.
Two recalls over the same queries: the interval of Newcombe, "Improved confidence intervals for the difference between
binomial proportions based on paired data" (1998), method 10, which combines two Wilson intervals.

Both assume independent queries. Frames of one sequence are not independent, and the true intervals are wider.
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
    """Return the 95 % Wilson score interval of a share.

    Raises:
        InputError: `of` is below 1, or `right` is not from 0 to `of`.

    Example:
        >>> low, high = wilson(29, 29)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.883 to 1.000
    """
    if of < 1 or not 0 <= right <= of:
        raise InputError(f"an interval needs at least 1 query and 0 to {of} right answers, got {right} of {of}.")
    share = right / of
    middle = share + Z * Z / (2 * of)
    half = Z * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of))
    scale = 1 + Z * Z / of
    # At 0 and 1 one end is the share itself; rounding must not move it.
    return min(share, max(0.0, (middle - half) / scale)), max(share, min(1.0, (middle + half) / scale))


def recall_intervals(recall_at: Mapping[int, float], queries: int) -> dict[int, Interval]:
    """Return the 95 % Wilson interval of each recall@N over `queries` queries, by N.

    Raises:
        InputError: no queries.
    """
    return {n: wilson(round(recall * queries), queries) for n, recall in recall_at.items()}


@dataclass(frozen=True)
class Paired:
    """Two runs over the same queries.

    Attributes:
        only_first, only_second: number of queries that only one of the two runs answered right.
        p_value: two-sided p-value of McNemar's exact test.
        difference: recall of the second minus recall of the first, as a fraction.
        interval: 95 % interval of the difference, by Newcombe's method 10.
    """

    only_first: int
    only_second: int
    p_value: float
    difference: float
    interval: Interval


def compare_paired(
    first: Sequence[bool] | NDArray[np.bool_],  # (Q,) right or wrong
    second: Sequence[bool] | NDArray[np.bool_],  # (Q,)
) -> Paired:
    """Compare two runs query by query.

    Raises:
        InputError: there are no queries, or the runs have different numbers of queries.

    Example:
        >>> compare_paired([True, True, False, False], [True, True, True, False]).difference
        0.25
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != other.shape or not one.size:
        raise InputError(f"a paired test needs the same queries in both runs, got {one.size} and {other.size}.")
    counts = [int(mask.sum()) for mask in (one & other, other & ~one, one & ~other, ~one & ~other)]
    _, gained, lost, _ = counts
    return Paired(lost, gained, sign_test(lost, gained), (gained - lost) / one.size, _newcombe(*counts))


def _newcombe(both: int, gained: int, lost: int, neither: int) -> Interval:
    """Return the interval of (gained - lost) / all queries."""
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
    """Return the two-sided p-value of the exact sign test, which is McNemar's test if one side alone was right.

    Example:
        >>> sign_test(5, 0)
        0.0625
    """
    from scipy.special import bdtr

    return min(1.0, 2.0 * float(bdtr(min(won, lost), won + lost, 0.5))) if won + lost else 1.0
