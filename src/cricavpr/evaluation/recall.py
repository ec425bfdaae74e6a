"""Computation of recall@N: the fraction of queries with a correct image among their first N predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError


def first_hit_ranks(
    predictions: NDArray[np.integer[Any]],  # (Q, n) database indices, best first, -1 for no prediction
    positives: Sequence[NDArray[np.integer[Any]]],  # Q arrays of database indices
) -> NDArray[np.int64]:  # (Q,)
    """Return the rank of the first correct prediction of each query, counted from 1; 0 if all predictions are wrong.

    Raises:
        InputError: the number of queries differs between predictions and positives.
    """
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or len(predictions) != len(positives):
        raise InputError(
            f"predictions must have shape (Q, n) with one row for each of the {len(positives)} queries in positives, "
            f"got {predictions.shape}."
        )
    ranks = np.zeros(len(positives), np.int64)
    for query, correct in enumerate(positives):
        hits = np.flatnonzero(np.isin(predictions[query], correct) & (predictions[query] >= 0))
        ranks[query] = hits[0] + 1 if hits.size else 0
    return ranks


def recall_at(
    predictions: NDArray[np.integer[Any]],  # (Q, n) database indices, best first, -1 for no prediction
    positives: Sequence[NDArray[np.integer[Any]]],  # Q arrays of database indices
    ks: Iterable[int] = (1, 5, 10),
    *,
    skip_without_positives: bool = False,
) -> dict[int, float]:
    """Return recall@N, the fraction of queries with a correct prediction among their first N, for each N in `ks`.

    Args:
        ks: the values of N.
        skip_without_positives: leave out queries without positives. By default they count as misses, as in the code of
            the benchmarks.

    Raises:
        InputError: there is no query to count, or an N is below 1 or above the number of predictions per query.

    Example:
        >>> recall_at(np.array([[4, 2], [1, 3]]), [np.array([2]), np.array([1])], (1, 2))
        {1: 0.5, 2: 1.0}
    """
    ranks, most = first_hit_ranks(predictions, positives), np.shape(predictions)[1]
    if skip_without_positives:
        ranks = ranks[[len(correct) > 0 for correct in positives]]
    if not ranks.size:
        raise InputError(
            f"recall needs at least one query{' with positives' if skip_without_positives else ''}, got none."
        )
    recalls: dict[int, float] = {}
    for k in ks:
        if not 1 <= k <= most:
            raise InputError(f"recall@N needs an N from 1 to {most}, the number of predictions per query, got {k}.")
        recalls[k] = float(np.mean((ranks > 0) & (ranks <= k)))
    return recalls


def replaced_ranks(
    ranks: NDArray[np.integer[Any]],  # (Q,) over the whole database, before re-ranking
    predictions: NDArray[np.integer[Any]],  # (Q, n) after re-ranking
    positives: Sequence[NDArray[np.integer[Any]]],
) -> NDArray[np.int64]:  # (Q,)
    """Return the rank of each query's best positive among all database images, after re-ranking.

    A query without a positive among its re-ranked predictions keeps its rank in `ranks`.
    """
    hits = first_hit_ranks(predictions, positives)
    return np.where(hits > 0, hits, ranks)
