"""rerank: the first candidates of each query, compared by local features and put in a new order.

Local features are computed once for each photo that is needed and kept on disk; in memory are one query, one candidate
and what the network is working on. An interrupted run goes on where it stopped, and ends in the same result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing.reading import Failures, default_workers, load
from cricavpr.errors import ImageError, InputError
from cricavpr.grouping import ALONE
from cricavpr.index.search import Predictions
from cricavpr.methods.base import LocalFeatures, TwoStageMethod, made_by
from cricavpr.progress import Progress, Report
from cricavpr.reranking.journal import Journal
from cricavpr.reranking.store import LocalStore, identity

if TYPE_CHECKING:
    from torch import Tensor

KEY_FORMAT = "cricavpr.rerank.2"


@dataclass(frozen=True, eq=False)
class Reranked(Predictions):
    """Predictions in their new order.

    Scores are the method's own for what was compared. What follows keeps the order of the search and falls by 1 from
    the lowest of these: candidates whose photo failed, then those beyond the first ones. A query that was compared
    with nothing keeps its whole row.

    Attributes:
        failed_database, failed_queries: photos that gave no local features.
    """

    failed_database: tuple[Problem, ...] = ()
    failed_queries: tuple[Problem, ...] = ()


def rerank(
    method: TwoStageMethod,
    database: ImageSet,
    queries: ImageSet,
    predictions: Predictions,
    cache: Path,
    candidates: int = 100,
    *,
    workers: int | None = None,
    progress: bool | Report = False,
) -> Reranked:
    """Put the first `candidates` of each query in the order of their local features.

    Equal scores keep the order of the search, so a query that matches nothing keeps it altogether. The network takes
    photos one by one: in company the last digits of local features depend on who else is there.

    Args:
        cache: a folder for local features and results. A photo takes from 0.1 to 25 MB there, by method.
        workers: processes that read photos; None chooses.
        progress: True for bars on stderr, or a function that is told (done, in all), of photos and then of queries.

    Raises:
        InputError: predictions that do not fit the images, fewer than 1 candidate, or a place that cannot be written.
        MissingExtraError: the method compares with a library that is not installed.
    """
    _check(database, queries, predictions, candidates)
    made = made_by(method, ALONE)
    first = predictions.indices[:, :candidates]
    store = LocalStore(Path(cache) / "local-features", made, method.local)
    asked = [(database, np.unique(first[first >= 0])), (queries, np.flatnonzero((first >= 0).any(axis=1)))]
    with Progress(progress, sum(len(rows) for _, rows in asked)) as bar:
        bar.start(0)
        failed = [_find(method, images, rows, store, workers, bar) for images, rows in asked]
    how = json.dumps([made.to_dict(), method.local, method.matching], sort_keys=True)
    mark = _mark(how, asked, predictions, candidates, failed)
    path = Path(cache) / f"reranked-{method.name}-{mark[:24]}.journal"
    with Journal(path, mark, predictions.indices.shape[1]) as journal, Progress(progress, len(queries)) as bar:
        bar.start(len(journal.rows))
        for query in range(len(journal.rows), len(queries)):
            found, scores = predictions.indices[query], predictions.scores[query].astype(np.float64)
            compared = [
                query not in failed[1] and place < candidates and index >= 0 and index not in failed[0]
                for place, index in enumerate(found.tolist())
            ]
            if any(compared):
                chosen = np.array(compared)
                fused = _scores(method, store, database, queries, query, found[chosen])
                found, scores = _in_order(found, chosen, fused)
            journal.append(found, scores)
            bar.advance(1)
        indices = np.array([row for row, _ in journal.rows], np.int64).reshape(predictions.indices.shape)
        values = np.array([row for _, row in journal.rows], np.float64).reshape(indices.shape)
    return Reranked(indices, values, _problems(database, failed[0]), _problems(queries, failed[1]))


def _check(database: ImageSet, queries: ImageSet, predictions: Predictions, candidates: int) -> None:
    if candidates < 1:
        raise InputError(f"re-ranking the first {candidates} is not possible. Give 1 or more.")
    if len(predictions) != len(queries):
        raise InputError(f"predictions for {len(predictions)} queries do not fit {len(queries)} photos.")
    if predictions.indices.size and not -1 <= predictions.indices.min() <= predictions.indices.max() < len(database):
        raise InputError(f"predictions name photos that a database of {len(database)} has not.")


# --- local features


def _find(
    method: TwoStageMethod,
    images: ImageSet,
    rows: NDArray[np.int64],
    store: LocalStore,
    workers: int | None,
    bar: Progress,
) -> Failures:
    """Compute what the store does not have; return what failed."""
    missing = [row for row in rows.tolist() if not store.has(images, row)]
    bar.advance(len(rows) - len(missing))
    failures: Failures = {}
    workers = default_workers(len(missing)) if workers is None else workers
    tried = False
    with contextlib.closing(load(method, images, [[np.array([row])] for row in missing], workers)) as reading:
        for row, loaded in zip(missing, reading, strict=True):
            failures |= loaded.failures
            for run in loaded.runs:  # one, or none where the photo could not be read
                features = _features(method, run.tensor)
                if isinstance(features, str):
                    failures[row] = "describe", features
                    continue
                if not tried:
                    method.compare(features, features)  # a library that is missing is missed now, not in hours
                    tried = True
                store.put(images, row, features)
            bar.advance(1)
    return failures


def _features(method: TwoStageMethod, image: Tensor) -> LocalFeatures | str:  # (1, 3, h, w)
    """What the method finds in one photo, or why it finds nothing."""
    try:
        (features,) = method.local_features(image)
    except (InputError, ImageError) as error:  # too small for patches, say
        return str(error)
    return features if _finite(features) else "its local features are not finite"


def _finite(features: LocalFeatures) -> bool:
    return all(array.dtype.kind != "f" or np.isfinite(array).all() for array in features.values())


def _problems(images: ImageSet, failures: Failures) -> tuple[Problem, ...]:
    return tuple(Problem(images.names[index], *failures[index]) for index in sorted(failures))


# --- order


def _scores(
    method: TwoStageMethod,
    store: LocalStore,
    database: ImageSet,
    queries: ImageSet,
    query: int,
    candidates: NDArray[np.int64],  # (m,)
) -> NDArray[np.float64]:  # (m,)
    """How well each candidate matches one query."""
    own = store.get(queries, query)
    raw = np.stack([method.compare(own, store.get(database, index)) for index in candidates.tolist()])  # (m, S)
    fused = np.asarray(method.fuse(raw), np.float64)
    if fused.shape != candidates.shape or not np.isfinite(fused).all():
        raise InputError(
            f"method {method.name} made {fused.shape} scores, or scores that are not finite, of {len(raw)} candidates "
            f"of {queries.names[query]}. Its `compare` or its `fuse` is wrong."
        )
    return fused


def _in_order(
    found: NDArray[np.int64],  # (n,), in the order of the search
    compared: NDArray[np.bool_],  # (n,)
    fused: NDArray[np.float64],  # (m,), for those that were
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # (n,) each
    """Best first; then what was not compared, each 1 lower than the one before it; at the end what is not there."""
    order = np.argsort(-fused, kind="stable")
    after = found[~compared]
    after = np.concatenate([after[after >= 0], after[after < 0]])
    falling = np.where(after >= 0, fused.min() - 1.0 - np.arange(len(after)), -np.inf)
    return np.concatenate([found[compared][order], after]), np.concatenate([fused[order], falling])


def _mark(
    how: str,
    asked: Iterable[tuple[ImageSet, NDArray[np.int64]]],
    predictions: Predictions,
    candidates: int,
    failed: list[Failures],
) -> str:
    """SHA-256 over all that decides the result."""
    shape = "x".join(map(str, predictions.indices.shape))
    digest = hashlib.sha256(f"{KEY_FORMAT}\0{how}\0{shape}\0{candidates}\0".encode())
    digest.update(predictions.indices.astype("<i8").tobytes() + predictions.scores.astype("<f8").tobytes())
    for (images, rows), failures in zip(asked, failed, strict=True):
        for row in rows.tolist():
            digest.update(identity(images, row) + (b"failed" if row in failures else b""))
    return digest.hexdigest()
