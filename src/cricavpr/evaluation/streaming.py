"""Describe and search a dataset in bounded memory.

Descriptors stay in files: they are written as they are computed, reduced from one file to the next, and read in blocks
by the search. Names, positions, positives and the first N of each query are in memory.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet, Problem
from cricavpr.describing import Described, cache_key, describe
from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import Precision, Protocol
from cricavpr.files import write_text
from cricavpr.grouping import Grouping
from cricavpr.index.search import Indices, Predictions, search_and_rank
from cricavpr.methods.base import Method, Pixels
from cricavpr.pca import Pca, fit_pca
from cricavpr.schema import build, parse_json, to_plain

IN_MEMORY_BYTES = 256_000_000  # descriptors of a dataset up to this size need no file


@contextlib.contextmanager
def room_for(method: Method, dataset: EvalDataset, cache: Path | None) -> Iterator[Path | None]:
    """Yield the folder for a dataset's descriptors: the cache, a temporary folder, or None if they fit into memory."""
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
    """Describe database and queries, each in its own groups, as the authors' script does.

    A shuffle orders the two differently: the same order would group each query like its match.

    Args:
        pca: a PCA that reduces the descriptors.
        whiten: fit a whitening on the database and apply it, as GCL does; in memory.
        folder: where to keep the descriptors; None keeps them in memory.
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
    """Describe the images, or read the result of an earlier call from `out`. Arguments as for `describe`.

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
    """Return the descriptors of an earlier evaluation, or None if they are missing, damaged or of other images."""
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
    """Return the reduced descriptors. With a file `whole`, they are kept beside it, and read if they exist."""
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


# --- precision


def in_precision(method: Method, precision: Precision) -> Method:
    """Return the method itself for fp32, else a copy that computes under torch's autocast.

    Its descriptors are float32, and their provenance names the precision.

    Raises:
        InputError: an unknown precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}. Known: {', '.join(get_args(Precision))}.")
    if precision == "fp32":
        return method

    def describe(images: Pixels, groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        import torch

        try:
            with torch.autocast(
                method.device.partition(":")[0], torch.bfloat16 if precision == "bf16" else torch.float16
            ):
                vectors = method.describe(images, groups)
        except (RuntimeError, NotImplementedError) as error:  # a layer has no kernel for it, or mixes precisions
            why = " ".join(str(error).split())[:200]
            raise InputError(f"{method.name} cannot compute in {precision} here ({why}). Use fp32.") from error
        unit: NDArray[np.float32] = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1).numpy()
        return unit

    half = copy.copy(method)
    half.preprocessing = f"{method.preprocessing}; network in {precision}"
    half.describe = describe  # type: ignore[method-assign]
    return half


# --- search


def search_split(
    dataset: EvalDataset, database: Described, queries: Described, protocol: Protocol, n: int
) -> tuple[Predictions, Indices]:  # (Q, n) and (Q,)
    """Return the first `n` of each query, and the rank of its best positive over the whole database, 0 without one.

    Indices are those of the split; rows of queries that could not be described are -1.

    Raises:
        InputError: one hit per panorama was asked for, but the dataset has no panoramas.
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
    """Return the number of the panorama of each database image, by key or by a fixed count of images in a row.

    Raises:
        InputError: the dataset has no panoramas, or the images of a panorama are not side by side.
    """
    if dataset.database.keys is None:
        if dataset.per_panorama is None:
            raise InputError(f"{dataset.name} does not say which images form a panorama. Leave the rule out.")
        return np.arange(len(dataset.database)) // dataset.per_panorama
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(key, len(numbers)) for key in dataset.database.keys], np.int64)
    if (np.diff(ids) < 0).any():
        row = int(np.argmax(np.diff(ids) < 0)) + 1
        raise InputError(
            f"one hit per panorama needs the images of a panorama side by side, but {dataset.database.keys[row]!r} of "
            f"{dataset.name} is scattered over the list. Leave the rule out."
        )
    return ids
