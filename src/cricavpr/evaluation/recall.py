"""recall@N: the fraction of queries for which one of the first N predictions shows the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError


def first_hit_ranks(
    predictions: NDArray[np.integer[Any]],  # (Q, n) database indices, best first, -1 for nothing
    positives: Sequence[NDArray[np.integer[Any]]],  # Q arrays of database indices
) -> NDArray[np.int64]:  # (Q,)
    """The rank of the first correct prediction of each query: 1 is the best, 0 where none is correct.

    Raises:
        InputError: another number of queries in the two.
    """
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or len(predictions) != len(positives):
        raise InputError(
            f"predictions of shape {predictions.shape} do not fit the positives of {len(positives)} queries."
        )
    ranks = np.zeros(len(positives), np.int64)
    for query, correct in enumerate(positives):
        hits = np.flatnonzero(np.isin(predictions[query], correct) & (predictions[query] >= 0))
        ranks[query] = hits[0] + 1 if hits.size else 0
    return ranks


def recall_at(
    predictions: NDArray[np.integer[Any]],  # (Q, n) database indices, best first, -1 for nothing
    positives: Sequence[NDArray[np.integer[Any]]],  # Q arrays of database indices
    ks: Iterable[int] = (1, 5, 10),
    *,
    skip_without_positives: bool = False,
) -> dict[int, float]:
    """recall@N as fractions over all queries.

    A query without positives can only be missed, and counts, as in the benchmarks' own code;
    `skip_without_positives` leaves such queries out instead.

    Raises:
        InputError: no queries, an N below 1, or more than there are predictions.
    """
    ranks = first_hit_ranks(predictions, positives)
    if skip_without_positives:
        ranks = ranks[[len(correct) > 0 for correct in positives]]
    if not ranks.size:
        raise InputError("recall over no queries is not defined. Give queries that have positives.")
    recalls: dict[int, float] = {}
    for k in ks:
        if not 1 <= k <= np.shape(predictions)[1]:
            raise InputError(f"recall@{k} needs {k} predictions per query, and there are {np.shape(predictions)[1]}.")
        recalls[k] = float(np.mean((ranks > 0) & (ranks <= k)))
    return recalls


def replaced_ranks(
    ranks: NDArray[np.integer[Any]],  # (Q,) over the whole database, before the first predictions were re-ordered
    predictions: NDArray[np.integer[Any]],  # (Q, n) after
    positives: Sequence[NDArray[np.integer[Any]]],
) -> NDArray[np.int64]:  # (Q,)
    """Ranks over the whole database after re-ranking: what it did not reach keeps its rank."""
    hits = first_hit_ranks(predictions, positives)
    return np.where(hits > 0, hits, ranks)


def counted_ranks(
    ranks: NDArray[np.integer[Any]],  # (Q,)
    positives: Sequence[NDArray[np.integer[Any]]],
    *,
    skip: bool,
) -> NDArray[np.integer[Any]]:  # (Q,) or fewer
    """The ranks of the queries that count: all, or with `skip` those that have positives."""
    return ranks[[len(correct) > 0 for correct in positives]] if skip else ranks
