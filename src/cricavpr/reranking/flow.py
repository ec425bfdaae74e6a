"""Re-ranking: the first candidates of each query are compared with the query by local features, and sorted by score.

Local features are computed once for each photo that is needed, and stored on disk. Only the local features of one query
and one candidate are in memory at the same time. An interrupted run is resumed, and gives the same result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing.reading import Failures, default_workers, load
from cricavpr.errors import ImageError, InputError
from cricavpr.grouping import ALONE
from cricavpr.index.search import Predictions
from cricavpr.methods.base import TwoStageMethod, made_by
from cricavpr.progress import Progress, Report
from cricavpr.reranking.storage import LocalStore, Results, identity

KEY_FORMAT = "cricavpr.rerank.3"


@dataclass(frozen=True, eq=False)
class Reranked(Predictions):
    """Predictions after re-ranking.

    For each query, the candidates that were compared come first, with the scores of the method. The other candidates
    follow in the order of the search: those whose photo failed, and those that were not among the first `candidates`.
    Their scores begin 1 below the lowest score of a compared candidate, and each is 1 lower than the one before. If no
    candidate of a query could be compared, its order and its scores stay those of the search.

    Attributes:
        failed_database: photos of the database whose local features could not be computed.
        failed_queries: queries whose local features could not be computed.
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
    """Sort the first `candidates` matches of each query by the scores of their local features.

    Candidates with equal scores keep the order of the search. The network takes photos one at a time, because in a
    batch the last digits of local features depend on the other photos.

    Args:
        method: the method that computes and compares local features.
        database: photos of the database.
        queries: query photos.
        predictions: result of the search; row i belongs to query i.
        cache: folder for local features and results; a photo takes from 0.1 to 25 MB, depending on the method.
        candidates: how many of the first matches of each query are compared.
        workers: number of processes that read photos; None chooses a number.
        progress: True for progress bars on stderr, or a function that is called with (done, total), first for photos,
            then for queries.

    Raises:
        InputError: the predictions do not fit the images, `candidates` is below 1, or a folder cannot be written.
        MissingExtraError: the method needs a library that is not installed.
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
    path = Path(cache) / f"reranked-{method.name}-{mark[:24]}.results"
    with Results(path, mark, predictions.indices.shape) as results, Progress(progress, len(queries)) as bar:
        bar.start(results.done)
        for query in range(results.done, len(queries)):
            found, scores = predictions.indices[query], predictions.scores[query].astype(np.float64)
            compared = [
                query not in failed[1] and place < candidates and index >= 0 and index not in failed[0]
                for place, index in enumerate(found.tolist())
            ]
            if any(compared):
                chosen = np.array(compared)
                fused = _scores(method, store, database, queries, query, found[chosen])
                found, scores = _in_order(found, chosen, fused)
            results.append(found, scores)
            bar.advance(1)
    problems = (
        tuple(Problem(images.names[index], *failures[index]) for index in sorted(failures))
        for images, failures in zip((database, queries), failed, strict=True)
    )
    return Reranked(results.indices, results.scores, *problems)


def _check(database: ImageSet, queries: ImageSet, predictions: Predictions, candidates: int) -> None:
    if candidates < 1:
        raise InputError(f"candidates must be at least 1, got {candidates}.")
    if len(predictions) != len(queries):
        raise InputError(f"expected predictions for {len(queries)} queries, got {len(predictions)}.")
    wrong = (predictions.indices < -1) | (predictions.indices >= len(database))
    if wrong.any():
        index = predictions.indices[wrong][0]
        raise InputError(f"prediction index {index} is out of range for a database of {len(database)} photos.")


# --- local features


def _find(
    method: TwoStageMethod,
    images: ImageSet,
    rows: NDArray[np.int64],
    store: LocalStore,
    workers: int | None,
    bar: Progress,
) -> Failures:
    """Compute the local features that are not yet in the store; return the photos that failed.

    Args:
        method: the method.
        images: the photos, of the database or of the queries.
        rows: indices of the photos whose local features are needed.
        store: store of local features.
        workers: number of processes that read photos; None chooses a number.
        bar: progress bar.
    """
    missing = [row for row in rows.tolist() if not store.has(images, row)]
    bar.advance(len(rows) - len(missing))
    failures: Failures = {}
    workers = default_workers(len(missing)) if workers is None else workers
    tried = False
    with contextlib.closing(load(method, images, [[np.array([row])] for row in missing], workers)) as reading:
        for row, loaded in zip(missing, reading, strict=True):
            failures |= loaded.failures
            for part in loaded.parts:  # one, or none if the photo could not be read
                try:
                    (features,) = method.local_features(part.images)
                except (InputError, ImageError) as error:  # such as a photo that is too small for patches
                    failures[row] = "describe", str(error)
                    continue
                if not all(array.dtype.kind != "f" or np.isfinite(array).all() for array in features.values()):
                    failures[row] = "describe", "its local features are not finite"
                    continue
                if not tried:
                    method.compare(features, features)  # report a missing library now, not after hours
                    tried = True
                store.put(images, row, features)
            bar.advance(1)
    return failures


# --- order


def _scores(
    method: TwoStageMethod,
    store: LocalStore,
    database: ImageSet,
    queries: ImageSet,
    query: int,
    candidates: NDArray[np.int64],  # (m,)
) -> NDArray[np.float64]:  # (m,)
    """Return the score of each candidate of a query, which is the photo with index `query` in `queries`."""
    own = store.get(queries, query)
    raw = np.stack([method.compare(own, store.get(database, index)) for index in candidates.tolist()])  # (m, S)
    fused = np.asarray(method.fuse(raw), np.float64)
    if fused.shape != candidates.shape or not np.isfinite(fused).all():
        raise InputError(
            f"method {method.name} must give {len(raw)} finite scores for the candidates of {queries.names[query]}, "
            f"got scores of the shape {fused.shape}; scores that are not finite are refused too. Check its `compare` "
            "and its `fuse`."
        )
    return fused


def _in_order(
    found: NDArray[np.int64],  # (n,), in the order of the search
    compared: NDArray[np.bool_],  # (n,)
    fused: NDArray[np.float64],  # (m,), scores of the compared candidates
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # (n,) each
    """Return the candidates of a query in their new order, and their scores.

    Compared candidates come first, the best first. The others follow, each with a score 1 lower than the one before.
    Empty entries (index -1) come last.
    """
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
    """Return a SHA-256 of everything that decides the result of re-ranking."""
    shape = "x".join(map(str, predictions.indices.shape))
    digest = hashlib.sha256(f"{KEY_FORMAT}\0{how}\0{shape}\0{candidates}\0".encode())
    digest.update(predictions.indices.astype("<i8").tobytes() + predictions.scores.astype("<f8").tobytes())
    for (images, rows), failures in zip(asked, failed, strict=True):
        for row in rows.tolist():
            digest.update(identity(images, row) + (b"failed" if row in failures else b""))
    return digest.hexdigest()
