"""Descriptors of a dataset in bounded memory, and what a search finds among them.

Whatever is as large as the database stays in a file: descriptors are written as they are made, reduced from one file
to the next, and read in blocks by the search. Names, positions, positives and the first N of each query are in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet, Problem
from cricavpr.describing import Described, cache_key, describe
from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import Protocol
from cricavpr.files import write_text
from cricavpr.grouping import Grouping
from cricavpr.index.search import Indices, Predictions, search_and_rank
from cricavpr.methods.base import Method
from cricavpr.pca import Pca, fit_pca
from cricavpr.schema import build, parse_json, to_plain

IN_MEMORY_BYTES = 256_000_000  # descriptors of a dataset up to this size need no file


@contextlib.contextmanager
def room_for(method: Method, dataset: EvalDataset, cache: Path | None) -> Iterator[Path | None]:
    """Yield the folder for a dataset's descriptors: the cache, a temporary one, or None if they fit into memory."""
    small = 4 * method.dim * (len(dataset.database) + len(dataset.queries)) <= IN_MEMORY_BYTES
    if cache is not None or small:
        yield cache
        return
    with tempfile.TemporaryDirectory(prefix="cricavpr-") as folder:
        yield Path(folder)


def describe_sides(
    method: Method,
    dataset: EvalDataset,
    grouping: Grouping,
    pca: Pca | None = None,
    *,
    whiten: bool = False,
    folder: Path | None = None,
    **how: Any,
) -> tuple[Described, Described]:
    """Describe database and queries, each in groups of its own, as the authors' script does.

    A shuffle orders them differently: one order for both would put each query in the company that its match had.

    Args:
        pca: reduces the descriptors.
        whiten: fit a whitening on the database and apply it, as GCL does; in memory.
        folder: keeps the descriptors; None keeps them in memory.
        how: batch_size, workers and progress, as for `describe`.

    Raises:
        InputError: as for `describe`.
        MadeByError: the PCA was fitted on other descriptors.
    """
    sides = []
    for draw, images in enumerate((dataset.database, dataset.queries)):
        out = None
        if folder is not None:
            out = folder / f"{method.name}-{cache_key(method, images, grouping, draw)[:24]}.safetensors"
        side = describe_once(method, images, grouping, out=out, draw=draw, **how)
        sides.append(side if pca is None else replace(side, descriptors=_reduced(side.descriptors, pca, out)))
    if whiten:
        fitted = fit_pca(sides[0].descriptors, whiten=True)
        sides = [replace(side, descriptors=fitted.apply(side.descriptors)) for side in sides]
    database, queries = sides
    database.descriptors.made_by.require_same(queries.descriptors.made_by, "the database and the queries")
    return database, queries


def describe_once(method: Method, images: ImageSet, grouping: Grouping, *, out: Path | None, **how: Any) -> Described:
    """Describe the images, or read what an earlier call has put into `out`; arguments as for `describe`.

    Raises:
        InputError: as for `describe`.
    """
    if kept := _from_cache(out, images):
        return kept
    described = describe(method, images, grouping, out=out, **how)
    if out is not None:  # last: it says that the descriptors are complete
        write_text(_problems_file(out), json.dumps(to_plain(described.problems), indent=1))
    return described


def _from_cache(out: Path | None, images: ImageSet) -> Described | None:
    """Return what an earlier evaluation kept, or None; anything wrong with it means to describe again."""
    if out is None or not _problems_file(out).exists():
        return None
    try:
        kept_problems = parse_json(_problems_file(out).read_bytes(), "problems")
        problems = tuple(build(Problem, entry, "problem") for entry in kept_problems)
        descriptors = DescriptorSet.load(out)
    except (OSError, TypeError, InputError):
        return None
    failed = {problem.name for problem in problems}
    kept = np.array([row for row, name in enumerate(images.names) if name not in failed], np.int64)
    if descriptors.names != tuple(images.names[row] for row in kept.tolist()):
        return None
    return Described(descriptors, kept, problems)


def _problems_file(out: Path) -> Path:
    return out.with_suffix(".problems.json")


def _reduced(descriptors: DescriptorSet, pca: Pca, whole: Path | None) -> DescriptorSet:
    """Return the descriptors reduced; beside the file `whole`, if there is one, and only once."""
    if whole is None:
        return pca.apply(descriptors)
    mark = hashlib.sha256(pca.describe().encode()).hexdigest()[:16]
    out = whole.with_name(f"{whole.stem}-pca-{mark}.safetensors")
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
    """Return the first `n` of each query, and the rank of its best positive over the whole database, 0 for none.

    Indices are those of the split; rows of queries that failed are -1.

    Raises:
        InputError: one hit per panorama where the dataset does not say what a panorama is.
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
    count, width = len(dataset.queries), found.indices.shape[1]
    indices = np.full((count, n), -1, np.int64)
    scores = np.full((count, n), -np.inf, np.float32)
    whole_ranks = np.zeros(count, np.int64)
    indices[queries.kept, :width] = database.kept[found.indices]  # `found` counts described images only
    scores[queries.kept, :width] = found.scores
    whole_ranks[queries.kept] = ranks
    return Predictions(indices, scores), whole_ranks


def _positives_among(dataset: EvalDataset, database: Described, queries: Described) -> Sequence[Indices]:
    """Return the positives of the described queries, as rows of the described database images."""
    chosen = [dataset.positives[query] for query in queries.kept.tolist()]
    if len(database.kept) == len(dataset.database):
        return chosen
    rows = np.full(len(dataset.database), -1, np.int64)
    rows[database.kept] = np.arange(len(database.kept))
    return [rows[positives][rows[positives] >= 0] for positives in chosen]


def panoramas_of(dataset: EvalDataset) -> NDArray[np.int64]:  # (N,) rising
    """Return the panorama of each database image: by key, or by a fixed number of images in a row.

    Raises:
        InputError: the dataset has no panoramas, or the images of one are scattered over the list.
    """
    if dataset.database.keys is None:
        if dataset.per_panorama is None:
            raise InputError(f"{dataset.name} does not say which images belong to one panorama. Leave the rule out.")
        return np.arange(len(dataset.database)) // dataset.per_panorama
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(key, len(numbers)) for key in dataset.database.keys], np.int64)
    if (np.diff(ids) < 0).any():
        row = int(np.argmax(np.diff(ids) < 0)) + 1
        raise InputError(
            f"one hit per panorama needs the images of a panorama side by side, but those of "
            f"{dataset.database.keys[row]!r} of {dataset.name} are scattered. Leave the rule out."
        )
    return ids
