"""Validation: recall on data that is not trained on, under one or several groupings.

Letters: N images, Q queries, n cut-off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cricavpr.datasets import open_dataset
from cricavpr.datasets.base import EvalDataset, Problem
from cricavpr.datasets.places import PlaceDataset, TownPlaces
from cricavpr.describing import describe
from cricavpr.grouping import Grouping, pack
from cricavpr.index.search import search
from cricavpr.methods.base import Method
from cricavpr.town.views import Split
from cricavpr.training.data import draw_town
from cricavpr.training.network import Trainable
from cricavpr.training.recipe import Recipe
from cricavpr.training.sampling import normalised

AT = (1, 5, 10)
_IMAGES_AT_ONCE = 64  # images that go through the network together

Vectors = NDArray[np.float32]  # (N, D)
Recalls = dict[int, float]  # recall@N as a fraction of all queries, for each N in AT
HeldOut = Callable[[Method, Grouping], tuple[Recalls, list[Problem]]]  # Problems: photos that could not be used


def open_held_out(recipe: Recipe, pictures: Path, workers: int) -> tuple[HeldOut | None, tuple[Problem, ...]]:
    """Open the validation data of a recipe.

    Return two values: a function that measures recall on the data (None if the recipe has no validation), and the
    photos that cannot be used.

    Args:
        recipe: the recipe.
        pictures: folder for the pictures of drawn towns.
        workers: number of processes that draw or read pictures.
    """
    wanted = recipe.validation
    if wanted is None:
        return None, ()
    if wanted.town is not None:
        town = wanted.town
        visits: list[tuple[Split, int]] = [("database", 0), ("query", 0)]
        file = draw_town(town.seed, town.places, visits, recipe.image_size, pictures, workers)
        return partial(_recall_of_town, TownPlaces.open([file])), ()
    dataset, problems = open_dataset(Path(wanted.dataset), wanted.radius_m)
    return partial(_recall_of_dataset, dataset, workers), problems


def measure(network: Trainable, held_out: HeldOut, groupings: Sequence[str]) -> tuple[dict[str, float], list[Problem]]:
    """Measure recall under each grouping. Afterwards the network is in training mode.

    Return recalls such as `{"R@1 alone": 0.91, ...}`, and the photos that could not be used.
    """
    recalls: dict[str, float] = {}
    problems: list[Problem] = []
    method = network.method()
    try:
        with torch.inference_mode():
            for text in groupings:
                measured, found = held_out(method, Grouping.parse(text))
                recalls |= {f"R@{n} {text}": share for n, share in measured.items()}
                problems += found
    finally:
        network.model.train()
    return recalls, problems


def _recall_of_town(places: PlaceDataset, method: Method, grouping: Grouping) -> tuple[Recalls, list[Problem]]:
    """Measure recall on a computer-drawn town, whose places have a database picture and a query picture each."""
    vectors = np.empty((2, len(places), method.dim), np.float32)
    for side in (0, 1):
        for batch in pack(grouping.groups(len(places), draw=side), _IMAGES_AT_ONCE):
            rows = np.concatenate(batch)
            pictures = np.stack([places.read(places.places[row].images[side]) for row in rows.tolist()])
            images = normalised(torch.from_numpy(pictures)).numpy()
            vectors[side, rows] = method.describe(images, [len(group) for group in batch])
    return _recall(vectors[0], vectors[1], list(np.arange(len(places)).reshape(-1, 1))), []


def _recall_of_dataset(
    dataset: EvalDataset, workers: int, method: Method, grouping: Grouping
) -> tuple[Recalls, list[Problem]]:
    """Measure recall on a dataset on disk. A query that cannot be read counts as one without a correct match."""
    sides = (dataset.database, dataset.queries)
    found = [describe(method, side, grouping, workers=workers, draw=draw) for draw, side in enumerate(sides)]
    problems = [
        replace(problem, name=f"{side.root.name}/{problem.name}")
        for side, described in zip(sides, found, strict=True)
        for problem in described.problems
    ]
    database, queries = found
    positives = [np.flatnonzero(np.isin(database.kept, dataset.positives[row])) for row in queries.kept]
    recalls = _recall(database.descriptors.vectors, queries.descriptors.vectors, positives)
    readable = len(queries.kept) / len(dataset.queries)
    return {n: share * readable for n, share in recalls.items()}, problems


def _recall(database: Vectors, queries: Vectors, positives: Sequence[NDArray[np.int64]]) -> Recalls:
    found = search(database, queries, max(AT)).indices  # (Q, n)
    hits = np.stack([np.isin(row, right) for row, right in zip(found, positives, strict=True)])
    return {n: float(hits[:, :n].any(axis=1).mean()) for n in AT}
