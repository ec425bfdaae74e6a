"""Description and search of a dataset in bounded memory.

Descriptors are written to a file as they are computed. A PCA reads that file and writes a second one, and the search
reads the descriptors in blocks. Only names, positions, positives and the first N matches of each query are in memory.
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

IN_MEMORY_BYTES = 256_000_000  # if the descriptors of a dataset are not larger than this, they stay in memory


@contextlib.contextmanager
def room_for(method: Method, dataset: EvalDataset, cache: Path | None) -> Iterator[Path | None]:
    """Yield the folder for a dataset's descriptors, or None if they can stay in memory.

    The folder is `cache` if given. Otherwise descriptors that are too large for memory get a temporary folder, which is
    removed on exit.
    """
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
    """Describe database and queries separately, so that no group holds images of both.

    A shuffled grouping gives database and queries different random orders. With the same order, the
    group of a query could show the same places as the group of its match, which would make the search easier.

    Args:
        pca: a PCA that reduces the descriptors.
        whiten: fit a whitening on the database descriptors and apply it to database and queries, as the method GCL
            does. All descriptors must fit into memory for this.
        folder: folder for the descriptor files; None keeps the descriptors in memory.
        how: batch_size, workers and progress, as for `describe`.

    Raises:
        InputError: as for `describe`.
        MadeByError: the PCA was fitted on descriptors of another method, weights or settings.
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
    """Describe the images, or read the descriptors from the file `out` if an earlier call wrote them for these images.

    The arguments are as for `describe`.

    Raises:
        InputError: as for `describe`.
    """
    if kept := _from_cache(out, images):
        return kept
    described = describe(method, images, grouping, out=out, **how)
    if out is not None:  # last, because the problems file means that the descriptors are complete
        write_text(_problems_file(out), json.dumps(to_plain(described.problems), indent=1))
    return described


def _from_cache(out: Path | None, images: ImageSet) -> Described | None:
    """Return the descriptors in the file `out`, or None if they are missing, damaged or of other images."""
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
    """Return the descriptors reduced by the PCA.

    Args:
        whole: file of the original descriptors. The file of the reduced descriptors is written beside it, or read if
            it exists. None keeps the reduced descriptors in memory.
    """
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
    """Return the method unchanged for fp32, else a copy whose network computes in bf16 or fp16 by torch's autocast.

    Descriptors of the copy are still float32, and their `preprocessing` names the precision.

    Raises:
        InputError: the precision is unknown.
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
        except (RuntimeError, NotImplementedError) as error:  # a layer does not support this precision
            why = " ".join(str(error).split())[:200]
            raise InputError(
                f"{method.name} cannot compute in {precision} on this device ({why}). Use fp32."
            ) from error
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
    """Return the first `n` matches of each query, and the rank of its best positive among all database images.

    Matches are rows of `dataset.database`; a row is -1 where there is no match, for example if the query could not be
    described. Ranks count from 1, and are 0 for a query without positives or without a descriptor.

    Raises:
        InputError: the protocol allows one hit per panorama, but the dataset does not say which images form one.
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
    """Return the positives of each described query, as rows of the described database images."""
    chosen = [dataset.positives[query] for query in queries.kept.tolist()]
    if len(database.kept) == len(dataset.database):
        return chosen
    rows = np.full(len(dataset.database), -1, np.int64)
    rows[database.kept] = np.arange(len(database.kept))
    return [rows[positives][rows[positives] >= 0] for positives in chosen]


def panoramas_of(dataset: EvalDataset) -> NDArray[np.int64]:  # (N,) ascending
    """Return the panorama number of each database image.

    Images with the same key form a panorama. In a dataset without keys, every `dataset.per_panorama` consecutive images
    form one.

    Raises:
        InputError: the dataset has neither keys nor `per_panorama`, or the images of a panorama are not consecutive.
    """
    if dataset.database.keys is None:
        if dataset.per_panorama is None:
            raise InputError(
                f"counting one hit per panorama needs to know the panoramas, but {dataset.name} does not say which "
                "images form one. Evaluate without --one-hit-per-panorama."
            )
        return np.arange(len(dataset.database)) // dataset.per_panorama
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(key, len(numbers)) for key in dataset.database.keys], np.int64)
    if (np.diff(ids) < 0).any():
        row = int(np.argmax(np.diff(ids) < 0)) + 1
        raise InputError(
            "counting one hit per panorama needs the images of each panorama to be consecutive in the list, but those "
            f"of {dataset.database.keys[row]!r} in {dataset.name} are not. Evaluate without --one-hit-per-panorama."
        )
    return ids
