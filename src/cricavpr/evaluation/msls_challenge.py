"""The challenge of Mapillary Street-Level Sequences: write a submission file, and score it if answers are known.

Format and measures follow the data set's own evaluation (mapillary_sls). One line per query, `query_key prediction_key
...` separated by spaces, best first, with equally many predictions on every line; lines that begin with # are comments.
The server aligns by key, so the lines may come in any order. It accepts searching each city by itself and searching all
test cities pooled, which give different numbers; the first line of our file says which was done.
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

LEAST, USUAL = 20, 25  # predictions per query: recall is measured at 20; SALAD submits 25
CUT_OFFS = (1, 5, 10, LEAST)  # the N of recall@N and mAP@N

Part = tuple[EvalDataset, Predictions]


@dataclass(frozen=True, eq=False)
class ChallengeScores:
    """Scores over the queries that have an answer.

    Attributes:
        recall_at: fraction of queries with a right prediction among the first N.
        map_at: mean over queries of the average precision at N: the sum of the precisions at each right prediction
            among the first N, divided by the number of right predictions that fit into N places.
        queries: number of scored queries.
        skipped: number of queries without an answer.
        rule: how the answers were decided, and which files could not be read.
    """

    recall_at: dict[int, float]
    map_at: dict[int, float]
    queries: int
    skipped: int
    rule: str


def predict(
    method: Method,
    parts: Sequence[EvalDataset],  # one for all cities pooled, or one per city
    grouping: Grouping = ALONE,
    *,
    count: int = USUAL,
    **how: Any,
) -> list[EvalResult]:
    """Search the first `count` predictions of each query; answers are not needed.

    Args:
        how: batch_size, workers, progress and cache, as for `evaluate`.

    Raises:
        InputError: as for `evaluate`, or a `count` below 20.
    """
    _check_count(count)  # check before hours of work
    every = replace(HONEST, unanswered="miss")  # without answers, skipping would leave no query
    return [evaluate(method, part, grouping, recall_ns=(count,), protocol=every, **how) for part in parts]


def write_submission(path: Path, parts: Sequence[Part], count: int = USUAL) -> None:
    """Write the submission file: a .csv, or a .zip with one .csv in it.

    Args:
        parts: predictions for all cities pooled, or for each city.

    Raises:
        InputError: the suffix is neither .csv nor .zip, there are fewer than 20 predictions, or a query occurs twice or
            was not described.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".zip"):
        raise InputError(f"a submission file must end in .csv or .zip, got {path}.")
    _check_count(count)
    lines: dict[str, str] = {}
    for dataset, predictions in parts:
        for query, line in _lines(dataset, predictions, count):
            if query in lines:
                raise InputError(f"query {query} occurs twice. Give every city once.")
            lines[query] = line
    if not lines:
        raise InputError("there are no queries to submit. Give the results of the test cities.")
    text = "\n".join([f"# {_scope([dataset for dataset, _ in parts])}", *lines.values()]) + "\n"
    if path.suffix == ".csv":
        write_text(path, text)
        return
    with written_beside(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(path.with_suffix(".csv").name), text)  # dated 1980, for equal bytes


def _check_count(count: int) -> None:
    if count < LEAST:
        raise InputError(f"the challenge needs at least {LEAST} predictions per query, got {count}.")


def _scope(datasets: Sequence[EvalDataset]) -> str:
    cities = {name.split("/")[1] for dataset in datasets for name in dataset.database.names if name.count("/") > 1}
    pooled = len(datasets) == 1 and len(cities) > 1
    how = f"{len(cities)} cities pooled in one database" if pooled else "each city searched by itself"
    return f"{', '.join(dataset.name for dataset in datasets)}: {how}"


def _lines(dataset: EvalDataset, predictions: Predictions, count: int) -> list[tuple[str, str]]:
    """Return the key and the line of each query."""
    if len(predictions) != len(dataset.queries):
        raise InputError(
            f"{dataset.name} has {len(dataset.queries):,} queries, got predictions for {len(predictions):,}."
        )
    database = _keys(dataset.database)
    lines = []
    for query, row in zip(_keys(dataset.queries), predictions.indices[:, :count].tolist(), strict=True):
        if len(row) < count or -1 in row:
            raise InputError(
                f"query {query} of {dataset.name} needs {count} predictions, got {sum(index >= 0 for index in row)}. "
                "Search that many, and check that every photo can be described."
            )
        if len(set(row)) < count:
            raise InputError(f"query {query} of {dataset.name} has the same prediction twice. Search again.")
        lines.append((query, " ".join((query, *(database[index] for index in row)))))
    return lines


def _keys(images: ImageSet) -> list[str]:
    """Return the key of each image: its file name without folder and suffix."""
    keys = [name.rpartition("/")[2].rpartition(".")[0] for name in images.names]
    if wrong := [key for key in keys if not key or any(letter.isspace() for letter in key) or key.startswith("#")]:
        raise InputError(f"a key must not be empty, hold a space or begin with #, got {wrong[0]!r} in {images.root}.")
    return keys


def read_submission(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the predicted keys by query key from a .csv, or from a .zip with one .csv.

    Raises:
        InputError: the file cannot be read or has another format, a query or a prediction occurs twice, or lines have
            different lengths.
    """
    path = Path(path)
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        query, *predicted = line.partition("#")[0].split() or [""]
        if not query:
            continue
        where = f"line {number} of {path}"
        if query in found:
            raise InputError(f"{where} has query {query} again. Give every query once.")
        if len(set(predicted)) < len(predicted):
            raise InputError(f"{where} has the same prediction twice. Give every prediction of a query once.")
        first = len(next(iter(found.values()), predicted))
        if len(predicted) != first:
            raise InputError(f"{where} must have {first} predictions as the first line does, got {len(predicted)}.")
        found[query] = tuple(predicted)
    if not found or not next(iter(found.values())):
        raise InputError(f"{path} holds no predictions. Expected lines 'query_key prediction_key ...'.")
    return found


def _text(path: Path) -> str:
    try:
        if path.suffix != ".zip":
            return path.read_text(encoding="utf-8")
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            if len(names) != 1:
                raise InputError(f"{path} must hold one .csv file, got {len(names)}.")
            with archive.open(names[0]) as file:
                return io.TextIOWrapper(file, encoding="utf-8").read()
    except (OSError, UnicodeDecodeError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"cannot read {path}: {error}. Give the submission file.") from None


def score_submission(submission: dict[str, tuple[str, ...]], parts: Sequence[EvalDataset]) -> ChallengeScores:
    """Score a file against the released answers.

    Like the data set's own evaluation, it ignores lines of unknown queries, and queries without an answer.

    Args:
        submission: from `read_submission`.
        parts: the challenge, pooled or by city, with positives.


    Raises:
        InputError: there are no answers, a query is missing, or predictions are too few or not in the database.
    """
    if not any(found.size for dataset in parts for found in dataset.positives):
        raise InputError(f"{parts[0].name} has no answers here ({parts[0].rule}). Put the released answers beside it.")
    given = len(next(iter(submission.values())))
    if given < LEAST:
        raise InputError(f"recall@{LEAST} needs {LEAST} predictions per query, got {given}.")
    known = {key for dataset in parts for key in _keys(dataset.database)}
    hits: list[NDArray[np.bool_]] = []
    answers: list[int] = []
    skipped = 0
    for dataset in parts:
        database = _keys(dataset.database)
        for query, found in zip(_keys(dataset.queries), dataset.positives, strict=True):
            predicted = submission.get(query)
            if predicted is None:
                raise InputError(f"query {query} of {dataset.name} is not in the file. Give every query.")
            if strange := [key for key in predicted if key not in known]:
                raise InputError(f"query {query} predicts {strange[0]!r}, which is not a database image.")
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
    answers: NDArray[np.int64],  # (Q,) how many right images there are
) -> NDArray[np.float64]:  # (Q,)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(axis=1) / np.minimum(answers, hits.shape[1]))
