"""Evaluation in bounded memory: descriptors that lie on disk, and what a search finds among them.

Whatever is as large as the database stays in a file: descriptors are written as they are made, reduced from one file
to the next, and read in blocks by the search. In memory are names, positions, positives and the first N of each query.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet, Problem
from cricavpr.describing import Described, Report, cache_key, describe
from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import Protocol
from cricavpr.files import write_text
from cricavpr.grouping import Grouping
from cricavpr.index.search import Indices, Predictions, search_and_rank
from cricavpr.methods.base import Method
from cricavpr.pca import Pca, fit_pca

IN_MEMORY_BYTES = 256_000_000  # descriptors of a dataset up to here need no file of their own


@dataclass(frozen=True)
class Describing:
    """How descriptors of a dataset come about, and where they lie.

    Attributes:
        grouping: which images see one another.
        pca: what reduces the descriptors, or None.
        whiten: whiten by what is learnt on the database itself, as GCL does; in memory.
        folder: where they are kept; None keeps them in memory.
        batch_size, workers, progress: as for `describe`; they change no result.
    """

    grouping: Grouping
    pca: Pca | None = None
    folder: Path | None = None
    batch_size: int = 16
    workers: int | None = None
    progress: bool | Report = False
    whiten: bool = False


@contextlib.contextmanager
def room_for(method: Method, dataset: EvalDataset, cache: Path | None) -> Iterator[Path | None]:
    """Where the descriptors of a dataset lie: the cache, a temporary folder, or None for the memory if they are few."""
    few = 4 * method.dim * (len(dataset.database) + len(dataset.queries)) <= IN_MEMORY_BYTES
    if cache is not None or few:
        yield cache
        return
    with tempfile.TemporaryDirectory(prefix="cricavpr-") as folder:
        yield Path(folder)


def describe_sides(method: Method, dataset: EvalDataset, how: Describing) -> tuple[Described, Described]:
    """Describe database and queries, each in groups of its own, as the authors' script does.

    A shuffle draws them apart: one order for both would put each query in the company that its match had.

    Raises:
        InputError: as for `describe`.
        MadeByError: a PCA that does not fit.
    """
    database = _side(method, dataset.database, how, 0)
    queries = _side(method, dataset.queries, how, 1)
    if how.whiten:
        pca = fit_pca(database.descriptors, whiten=True)
        database, queries = (replace(side, descriptors=pca.apply(side.descriptors)) for side in (database, queries))
    database.descriptors.made_by.require_same(queries.descriptors.made_by, "the database and the queries")
    return database, queries


def _side(method: Method, images: ImageSet, how: Describing, draw: int) -> Described:
    out = _cached_file(method, images, how, draw)
    described = _from_cache(out, images) or _described(method, images, how, draw, out)
    if how.pca is None:
        return described
    return Described(_reduced(described.descriptors, how.pca, out), described.kept, described.problems)


def _cached_file(method: Method, images: ImageSet, how: Describing, draw: int) -> Path | None:
    if how.folder is None:
        return None
    return Path(how.folder) / f"{method.name}-{cache_key(method, images, how.grouping, draw)[:24]}.safetensors"


def _described(method: Method, images: ImageSet, how: Describing, draw: int, out: Path | None) -> Described:
    described = describe(
        method,
        images,
        how.grouping,
        batch_size=how.batch_size,
        workers=how.workers,
        out=out,
        progress=how.progress,
        draw=draw,
    )
    if out is not None:
        problems = [problem_dict(problem) for problem in described.problems]
        write_text(_problems_file(out), json.dumps(problems, indent=1))  # last: it says that all is there
    return described


def _from_cache(out: Path | None, images: ImageSet) -> Described | None:
    """What an earlier evaluation kept, or None; anything wrong with it means describing again."""
    if out is None or not _problems_file(out).exists():
        return None
    try:
        problems = tuple(Problem(**entry) for entry in json.loads(_problems_file(out).read_text(encoding="utf-8")))
        descriptors = DescriptorSet.load(out)
    except (OSError, ValueError, TypeError, InputError):
        return None
    failed = {problem.name for problem in problems}
    kept = np.array([row for row, name in enumerate(images.names) if name not in failed], np.int64)
    if descriptors.names != tuple(images.names[row] for row in kept.tolist()):
        return None
    return Described(descriptors, kept, problems)


def _problems_file(out: Path) -> Path:
    return out.with_suffix(".problems.json")


def problem_dict(problem: Problem) -> dict[str, str]:
    """A problem for JSON."""
    return {"name": problem.name, "stage": problem.stage, "reason": problem.reason}


def _reduced(descriptors: DescriptorSet, pca: Pca, beside: Path | None) -> DescriptorSet:
    """Through the PCA; from one file to another where there are files, and only once."""
    if beside is None:
        return pca.apply(descriptors)
    mark = hashlib.sha256(pca.describe().encode()).hexdigest()[:16]
    out = beside.with_name(f"{beside.stem}-pca-{mark}.safetensors")
    pca.require_fits(descriptors.made_by)
    with contextlib.suppress(InputError):
        found = DescriptorSet.load(out)
        if found.names == descriptors.names and found.made_by == pca.made(descriptors.made_by):
            return found
    return pca.apply(descriptors, out)


# --- search


def search_split(
    dataset: EvalDataset, database: Described, queries: Described, protocol: Protocol, n: int
) -> tuple[Predictions, Indices]:  # (Q, n) and (Q,)
    """The first `n` of each query, and the rank of its best positive over the whole database; 0 where there is none.

    Indices are those of the split; rows of queries that failed are -1.

    Raises:
        InputError: one hit per panorama where nothing says what a panorama is.
    """
    panoramas = panoramas_of(dataset) if protocol.one_hit_per_panorama else None
    found, ranks = search_and_rank(
        database.descriptors.vectors,
        np.asarray(queries.descriptors.vectors),
        n,
        _positives_among(dataset, database, queries),
        distance=protocol.distance,
        panoramas=None if panoramas is None else panoramas[database.kept],
    )
    whole_ranks = np.zeros(len(dataset.queries), np.int64)
    whole_ranks[queries.kept] = ranks
    return _over_whole_split(found, database, queries, len(dataset.queries), n), whole_ranks


def _positives_among(dataset: EvalDataset, database: Described, queries: Described) -> Sequence[Indices]:
    """Positives of the queries that were described, as rows of the database images that were."""
    chosen = [dataset.positives[query] for query in queries.kept.tolist()]
    if len(database.kept) == len(dataset.database):
        return chosen
    rows = np.full(len(dataset.database), -1, np.int64)
    rows[database.kept] = np.arange(len(database.kept))
    return [rows[positives][rows[positives] >= 0] for positives in chosen]


def _over_whole_split(
    found: Predictions,  # rows and indices count described images only
    database: Described,
    queries: Described,
    count: int,  # queries in the split
    n: int,
) -> Predictions:  # (count, n)
    indices = np.full((count, n), -1, np.int64)
    scores = np.full((count, n), -np.inf, np.float32)
    width = found.indices.shape[1]
    indices[queries.kept, :width] = database.kept[found.indices]
    scores[queries.kept, :width] = found.scores
    return Predictions(indices, scores)


def panoramas_of(dataset: EvalDataset) -> NDArray[np.int64]:  # (N,) rising
    """Which panorama each database image was cut out of: so many in a row, or those that share a key.

    Raises:
        InputError: the dataset says nothing of panoramas, or one lies scattered over the list.
    """
    if dataset.database.keys is None:
        if dataset.per_panorama is None:
            raise InputError(f"{dataset.name} does not say which images are of one panorama. Leave the rule out.")
        return np.arange(len(dataset.database)) // dataset.per_panorama
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(key, len(numbers)) for key in dataset.database.keys], np.int64)
    if (np.diff(ids) < 0).any():
        row = int(np.argmax(np.diff(ids) < 0)) + 1
        raise InputError(
            f"the images of panorama {dataset.database.keys[row]!r} of {dataset.name} do not stand together, so one "
            "hit per panorama cannot be counted. Leave the rule out."
        )
    return ids
