"""The challenge of Mapillary Street-Level Sequences: the file to hand in, and its scores where the answers are known.

Format and measures: the data set's own evaluation (mapillary_sls). One line per query, `query_key prediction_key ...`
separated by spaces, best first, as many predictions on every line; lines that begin with # are comments. The server
aligns by key, so the order of lines is free. Searching each city by itself and searching all test cities pooled are
both accepted and give different numbers, so the file says in its first line which it was.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.describing import Report
from cricavpr.errors import InputError
from cricavpr.evaluation.evaluate import evaluate
from cricavpr.evaluation.protocols import HONEST
from cricavpr.files import write_text, written_beside
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index.search import Predictions
from cricavpr.methods.base import Method

LEAST, USUAL = 20, 25  # predictions per query: recall is taken at 20; SALAD hands in 25
CUT_OFFS = (1, 5, 10, 20)


@dataclass(frozen=True, eq=False)
class ChallengeScores:
    """What the challenge reports, over the queries that have an answer.

    Attributes:
        recall_at: fraction of queries with a right prediction among the first N.
        map_at: mean over queries of the average precision at N: the precision at each right prediction among the
            first N, summed, over the number of right ones that N places can hold.
        queries: how many were scored; `skipped`: how many have no answer.
        rule: how the answers were decided, and which files were not understood.
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
    batch_size: int = 16,
    workers: int | None = None,
    progress: bool | Report = False,
    cache: Path | None = None,
) -> list[tuple[EvalDataset, Predictions]]:
    """What `write_submission` takes: the first `count` of each query. No answers are needed.

    Raises:
        InputError: as for `evaluate`, or fewer than 20 wanted.
    """
    _check_count(count)  # before hours of work
    how = replace(HONEST, unanswered="miss")  # without answers every query is one; to skip them would leave none
    found = []
    for dataset in parts:
        result = evaluate(
            method,
            dataset,
            grouping,
            recall_ns=(count,),
            batch_size=batch_size,
            workers=workers,
            progress=progress,
            cache=cache,
            protocol=how,
        )
        found.append((dataset, result.predictions))
    return found


def write_submission(
    path: Path,
    parts: Sequence[tuple[EvalDataset, Predictions]],  # one for all cities pooled, or one per city
    count: int = USUAL,
) -> None:
    """Write the file to hand in; a name that ends in .zip gives one .csv inside one .zip.

    Raises:
        InputError: fewer than 20 predictions wanted or there, a query twice or not described, or another suffix.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".zip"):
        raise InputError(f"{path} is neither .csv nor .zip. Name the file to hand in so.")
    _check_count(count)
    lines = [f"# {_scope([dataset for dataset, _ in parts])}"]
    seen: set[str] = set()
    for dataset, predictions in parts:
        for line in _lines(dataset, predictions, count):
            query = line.partition(" ")[0]
            if query in seen:
                raise InputError(f"query {query} occurs twice. Give every city once.")
            seen.add(query)
            lines.append(line)
    if not seen:
        raise InputError("there is no query to hand in. Give the results of the test cities.")
    text = "\n".join(lines) + "\n"
    if path.suffix == ".csv":
        write_text(path, text)
        return
    with written_beside(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(path.with_suffix(".csv").name), text)  # dated 1980: equal bytes each time


def _check_count(count: int) -> None:
    if count < LEAST:
        raise InputError(f"{count} predictions per query are too few for the challenge. Give {LEAST} or more.")


def _scope(datasets: Sequence[EvalDataset]) -> str:
    cities = {name.split("/")[1] for dataset in datasets for name in dataset.database.names if name.count("/") > 1}
    pooled = len(datasets) == 1 and len(cities) > 1
    how = f"{len(cities)} cities pooled in one database" if pooled else "each city searched by itself"
    return f"{', '.join(dataset.name for dataset in datasets)}: {how}"


def _lines(dataset: EvalDataset, predictions: Predictions, count: int) -> list[str]:
    if len(predictions) != len(dataset.queries):
        raise InputError(
            f"{len(predictions):,} predictions do not fit the {len(dataset.queries):,} queries of {dataset.name}."
        )
    database, queries = _keys(dataset.database), _keys(dataset.queries)
    lines = []
    for query, row in zip(queries, predictions.indices[:, :count].tolist(), strict=True):
        if len(row) < count or -1 in row:
            there = sum(index >= 0 for index in row)
            raise InputError(
                f"query {query} of {dataset.name} has {there} predictions and {count} are needed. "
                "Search that many, and see that every photo can be described."
            )
        if len(set(row)) < count:
            raise InputError(f"query {query} of {dataset.name} predicts an image twice. Search again.")
        lines.append(" ".join((query, *(database[index] for index in row))))
    return lines


def _keys(images: ImageSet) -> list[str]:
    """A key is a file name without its folder and suffix."""
    keys = [name.rpartition("/")[2].rpartition(".")[0] for name in images.names]
    if wrong := [key for key in keys if not key or any(letter.isspace() for letter in key) or key.startswith("#")]:
        raise InputError(f"{wrong[0]!r} in {images.root} cannot be written as a key: it is empty or has a space.")
    return keys


def read_submission(path: Path) -> dict[str, tuple[str, ...]]:
    """Predicted keys by query key, out of a .csv or a .zip with one .csv.

    Raises:
        InputError: no such file, another format, a query or prediction twice, or lines of different length.
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
            raise InputError(f"{where} predicts an image twice. Give every prediction of a query once.")
        if found and len(predicted) != len(next(iter(found.values()))):
            first = len(next(iter(found.values())))
            raise InputError(
                f"{where} has {len(predicted)} predictions and the first line {first}. Give as many on each."
            )
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
                raise InputError(f"{path} holds {len(names)} .csv files. Hand in one.")
            with archive.open(names[0]) as file:
                return io.TextIOWrapper(file, encoding="utf-8").read()
    except (OSError, UnicodeDecodeError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"cannot read {path}: {error}. Give the file that was handed in.") from None


def score_submission(
    submission: dict[str, tuple[str, ...]], parts: Sequence[EvalDataset], cut_offs: Sequence[int] = CUT_OFFS
) -> ChallengeScores:
    """Score a file against the released answers. Queries that are no query of the challenge are ignored, and so are
    queries without an answer, as the data set's own evaluation does.

    Args:
        submission: as `read_submission` gives it.
        parts: the challenge, pooled or by city, with positives.
        cut_offs: the N of recall@N and mAP@N.

    Raises:
        InputError: no answers, a query that is missing, too few predictions, or a prediction that is no database image.
    """
    if not any(found.size for dataset in parts for found in dataset.positives):
        raise InputError(f"{parts[0].name} has no answers here ({parts[0].rule}). Put the released answers beside.")
    given = len(next(iter(submission.values())))
    if given < max(cut_offs):
        raise InputError(f"{given} predictions per query do not reach recall@{max(cut_offs)}. Hand in that many.")
    known = {key for dataset in parts for key in _keys(dataset.database)}
    hits: list[NDArray[np.bool_]] = []
    answers: list[int] = []
    skipped = 0
    for dataset in parts:
        database = _keys(dataset.database)
        for query, found in zip(_keys(dataset.queries), dataset.positives, strict=True):
            predicted = submission.get(query)
            if predicted is None:
                raise InputError(f"query {query} of {dataset.name} is not in the file. Every query must be there.")
            if strange := [key for key in predicted if key not in known]:
                raise InputError(f"query {query} predicts {strange[0]!r}, which is no database image of the challenge.")
            if not found.size:
                skipped += 1
                continue
            right = {database[index] for index in found.tolist()}
            hits.append(np.array([key in right for key in predicted]))
            answers.append(len(right))
    matrix, counts = np.stack(hits), np.array(answers)
    return ChallengeScores(
        recall_at={n: float(matrix[:, :n].any(axis=1).mean()) for n in cut_offs},
        map_at={n: float(_average_precision(matrix[:, :n], counts).mean()) for n in cut_offs},
        queries=len(counts),
        skipped=skipped,
        rule=parts[0].rule,
    )


def _average_precision(
    hits: NDArray[np.bool_],  # (Q, n)
    answers: NDArray[np.int64],  # (Q,) how many right images there are
) -> NDArray[np.float64]:  # (Q,)
    places = np.arange(1, hits.shape[1] + 1)
    precision = np.cumsum(hits, axis=1) / places
    return np.asarray((precision * hits).sum(axis=1) / np.minimum(answers, hits.shape[1]))
