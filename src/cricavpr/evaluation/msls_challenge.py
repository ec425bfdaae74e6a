"""Submission files for the challenge of Mapillary Street-Level Sequences, and their scores if ground truth is known.

Format and scores follow the data set's own evaluation script (mapillary_sls). The file has one line for each query,
`query_key prediction_key ...`, separated by spaces. Every line has the same number of predictions, best first. Lines
that begin with # are comments. The server finds queries by their key, so lines may have any order.

The server accepts predictions from a separate search in each city, and from one search over all test cities together.
The two give different scores, so the comment in the first line of a written file says which was done.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.errors import InputError
from cricavpr.evaluation.evaluate import EvalResult, evaluate
from cricavpr.evaluation.protocols import HONEST
from cricavpr.files import write_text, written_beside
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index.search import Predictions
from cricavpr.methods.base import Method

LEAST, USUAL = 20, 25  # predictions per query: the challenge needs 20 for recall@20; SALAD submits 25
CUT_OFFS = (1, 5, 10, LEAST)  # the values of N of recall@N and mAP@N

Part = tuple[EvalDataset, Predictions]


@dataclass(frozen=True, eq=False)
class ChallengeScores:
    """Scores of a submission over the queries that have positives.

    Attributes:
        recall_at: fraction of queries with a correct prediction among the first N; the keys are the values of N.
        map_at: mean average precision at N; the keys are the values of N. For the average precision of a
            query, the precisions at its correct predictions among the first N are added. The sum is divided by N or by
            the number of positives, whichever is smaller.
        queries: number of scored queries.
        skipped: number of queries without positives, which are not scored.
        rule: how positives were decided, and which ground-truth files could not be read.
    """

    recall_at: dict[int, float]
    map_at: dict[int, float]
    queries: int
    skipped: int
    rule: str


def predict(
    method: Method,
    parts: Sequence[EvalDataset],  # one dataset of all cities together, or one dataset per city
    grouping: Grouping = ALONE,
    *,
    count: int = USUAL,
    **how: Any,
) -> list[EvalResult]:
    """Search for the best `count` predictions of each query. The ground truth is not needed.

    Args:
        parts: one dataset of all cities together, or one dataset per city; each is searched separately.
        count: number of predictions per query, at least 20.
        how: batch_size, workers, progress and cache, as for `evaluate`.

    Raises:
        InputError: as for `evaluate`, or a `count` below 20.
    """
    _check_count(count)  # checked here, because the search below may take hours
    every = replace(HONEST, unanswered="miss")  # without ground truth, "skip" would skip every query
    return [evaluate(method, part, grouping, recall_ns=(count,), protocol=every, **how) for part in parts]


def write_submission(path: Path, parts: Sequence[Part], count: int = USUAL) -> None:
    """Write a submission file: a .csv, or a .zip that holds one .csv.

    Args:
        parts: pairs of a dataset and its predictions; one pair for all cities together, or one per city.
        count: number of predictions per query, at least 20.

    Raises:
        InputError: the suffix is neither .csv nor .zip, `count` is below 20, a query has fewer predictions than
            `count`, or a query occurs twice.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".zip"):
        raise InputError(f"a submission file must end in .csv or .zip, got {path}.")
    _check_count(count)
    lines: dict[str, str] = {}
    for dataset, predictions in parts:
        for query, line in _lines(dataset, predictions, count):
            if query in lines:
                raise InputError(f"query {query} must occur once, but it occurs in two datasets. Give every city once.")
            lines[query] = line
    if not lines:
        raise InputError("a submission needs at least one query, got none. Give the results of the test cities.")
    text = "\n".join([f"# {_scope([dataset for dataset, _ in parts])}", *lines.values()]) + "\n"
    if path.suffix == ".csv":
        write_text(path, text)
        return
    with written_beside(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        # ZipInfo has the fixed date 1980, so that equal predictions give equal bytes.
        archive.writestr(zipfile.ZipInfo(path.with_suffix(".csv").name), text)


def _check_count(count: int) -> None:
    if count < LEAST:
        raise InputError(f"the challenge needs at least {LEAST} predictions per query, got {count}.")


def _scope(datasets: Sequence[EvalDataset]) -> str:
    cities = {name.split("/")[1] for dataset in datasets for name in dataset.database.names if name.count("/") > 1}
    pooled = len(datasets) == 1 and len(cities) > 1
    how = f"{len(cities)} cities searched together in one database" if pooled else "each city searched separately"
    return f"{', '.join(dataset.name for dataset in datasets)}: {how}"


def _lines(dataset: EvalDataset, predictions: Predictions, count: int) -> list[tuple[str, str]]:
    """Return the key of each query and its line in the submission file."""
    if len(predictions) != len(dataset.queries):
        raise InputError(
            f"expected predictions for the {len(dataset.queries):,} queries of {dataset.name}, got predictions for "
            f"{len(predictions):,} queries."
        )
    database = _keys(dataset.database)
    lines = []
    for query, row in zip(_keys(dataset.queries), predictions.indices[:, :count].tolist(), strict=True):
        if len(row) < count or -1 in row:
            raise InputError(
                f"query {query} of {dataset.name} needs {count} predictions, got {sum(index >= 0 for index in row)}. "
                f"Search for {count} per query, and check that every photo can be described."
            )
        if len(set(row)) < count:
            raise InputError(
                f"the predictions of query {query} of {dataset.name} must differ, but two are the same. Search again."
            )
        lines.append((query, " ".join((query, *(database[index] for index in row)))))
    return lines


def _keys(images: ImageSet) -> list[str]:
    """Return the key of each image, which is its file name without folder and suffix."""
    keys = [name.rpartition("/")[2].rpartition(".")[0] for name in images.names]
    if wrong := [key for key in keys if not key or any(letter.isspace() for letter in key) or key.startswith("#")]:
        raise InputError(
            f"the name of an image without its suffix must not be empty, contain a space or begin with #, got "
            f"{wrong[0]!r} in {images.root}. Rename the image."
        )
    return keys


def read_submission(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a submission file, a .csv or a .zip with one .csv, and return the predicted keys by query key.

    Raises:
        InputError: the file cannot be read or has another format, a query occurs twice, a query has the same prediction
            twice, or lines have different numbers of predictions.
    """
    path = Path(path)
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        query, *predicted = line.partition("#")[0].split() or [""]
        if not query:
            continue
        where = f"line {number} of {path}"
        if query in found:
            raise InputError(f"{where} repeats query {query} of an earlier line. Give every query once.")
        if len(set(predicted)) < len(predicted):
            raise InputError(
                f"the predictions in {where} must differ, but two are the same. Give every prediction of a query once."
            )
        first = len(next(iter(found.values()), predicted))
        if len(predicted) != first:
            raise InputError(f"{where} must have {first} predictions, as many as the first line, got {len(predicted)}.")
        found[query] = tuple(predicted)
    if not found or not next(iter(found.values())):
        raise InputError(f"expected lines 'query_key prediction_key ...' in {path}, got none with predictions.")
    return found


def _text(path: Path) -> str:
    try:
        if path.suffix != ".zip":
            return path.read_text(encoding="utf-8")
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            if len(names) != 1:
                raise InputError(f"{path} must hold exactly one .csv file, got {len(names)}.")
            with archive.open(names[0]) as file:
                return io.TextIOWrapper(file, encoding="utf-8").read()
    except (OSError, UnicodeDecodeError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"cannot read {path}: {error}. Give a submission file, .csv or .zip.") from None


def score_submission(submission: dict[str, tuple[str, ...]], parts: Sequence[EvalDataset]) -> ChallengeScores:
    """Score a submission against the released ground truth.

    Like the data set's own evaluation script, this ignores submitted queries that the datasets do not have, and queries
    without positives.

    Args:
        submission: predicted keys by query key, as `read_submission` returns them.
        parts: the datasets of the challenge with positives: one of all cities together, or one per city.

    Raises:
        InputError: no query has positives, a query is missing from the submission, a query has fewer than 20
            predictions, or a prediction is not a database image.
    """
    if not any(found.size for dataset in parts for found in dataset.positives):
        raise InputError(
            f"scoring needs the ground truth of {parts[0].name}, but its folder has none ({parts[0].rule}). Add the "
            "released ground-truth files to the folder of the dataset."
        )
    given = len(next(iter(submission.values())))
    if given < LEAST:
        raise InputError(f"recall@{LEAST} needs at least {LEAST} predictions per query, got {given}.")
    known = {key for dataset in parts for key in _keys(dataset.database)}
    hits: list[NDArray[np.bool_]] = []
    answers: list[int] = []
    skipped = 0
    for dataset in parts:
        database = _keys(dataset.database)
        for query, found in zip(_keys(dataset.queries), dataset.positives, strict=True):
            predicted = submission.get(query)
            if predicted is None:
                raise InputError(
                    f"query {query} of {dataset.name} is missing from the submission. Give predictions for all queries."
                )
            if strange := [key for key in predicted if key not in known]:
                raise InputError(
                    f"every prediction must be the key of a database image, got {strange[0]!r} for query {query}."
                )
            if not found.size:
                skipped += 1
                continue
            right = {database[index] for index in found.tolist()}
            hits.append(np.array([key in right for key in predicted]))
            answers.append(len(right))
    matrix, counts = np.stack(hits), np.array(answers)
    return ChallengeScores(
        {n: float(matrix[:, :n].any(axis=1).mean()) for n in CUT_OFFS},
        {n: float(_average_precision(matrix[:, :n], counts).mean()) for n in CUT_OFFS},
        len(counts),
        skipped,
        parts[0].rule,
    )


def _average_precision(
    hits: NDArray[np.bool_],  # (Q, n)
    answers: NDArray[np.int64],  # (Q,) number of positives of each query
) -> NDArray[np.float64]:  # (Q,)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(axis=1) / np.minimum(answers, hits.shape[1]))
