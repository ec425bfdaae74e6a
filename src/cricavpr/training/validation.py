"""Recall on data that is not trained on, under one or several groupings.

Letters: N images, Q queries, n cut-off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

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
_IMAGES_AT_ONCE = 64

Vectors = NDArray[np.float32]  # (N, D)


class HeldOut(Protocol):
    """Data to measure recall on."""

    @property
    def problems(self) -> list[Problem]:
        """Photos that could not be used so far."""
        ...

    def recall(self, method: Method, grouping: Grouping) -> dict[int, float]:
        """Return recall@N, a fraction of all queries, for each N of AT."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOutPlaces:
    """Places of a drawn town, each with a database picture and a query picture."""

    places: PlaceDataset
    problems: list[Problem] = field(default_factory=list)

    def recall(self, method: Method, grouping: Grouping) -> dict[int, float]:
        database, queries = (self._describe(method, grouping, side) for side in (0, 1))
        return _recall(database, queries, list(np.arange(len(queries)).reshape(-1, 1)))

    def _describe(self, method: Method, grouping: Grouping, side: int) -> Vectors:
        vectors = np.empty((len(self.places), method.dim), np.float32)
        for batch in pack(grouping.groups(len(self.places), draw=side), _IMAGES_AT_ONCE):
            rows = np.concatenate(batch)
            pictures = np.stack([self.places.read(self.places.places[row].images[side]) for row in rows.tolist()])
            images = normalised(torch.from_numpy(pictures))
            vectors[rows] = method.describe(images, [len(group) for group in batch]).float().numpy()
        return vectors


@dataclass(frozen=True, eq=False)
class HeldOutDataset:
    """A dataset on disk. A query that cannot be read counts as missed."""

    dataset: EvalDataset
    workers: int
    problems: list[Problem]

    def recall(self, method: Method, grouping: Grouping) -> dict[int, float]:
        sides = (self.dataset.database, self.dataset.queries)
        found = [describe(method, side, grouping, workers=self.workers, draw=draw) for draw, side in enumerate(sides)]
        for side, described in zip(sides, found, strict=True):
            self.problems.extend(replace(p, name=f"{side.root.name}/{p.name}") for p in described.problems)
        database, queries = found
        positives = [np.flatnonzero(np.isin(database.kept, self.dataset.positives[row])) for row in queries.kept]
        recalls = _recall(database.descriptors.vectors, queries.descriptors.vectors, positives)
        readable = len(queries.kept) / len(self.dataset.queries)
        return {n: share * readable for n, share in recalls.items()}


def open_held_out(recipe: Recipe, pictures: Path, workers: int) -> HeldOut | None:
    """Open the data that the recipe validates on, if any.

    Raises:
        InputError: the data is missing or damaged.
    """
    wanted = recipe.validation
    if wanted is None:
        return None
    if wanted.town is not None:
        town = wanted.town
        visits: list[tuple[Split, int]] = [("database", 0), ("query", 0)]
        file = draw_town(town.seed, town.places, visits, recipe.image_size, pictures, workers)
        return HeldOutPlaces(TownPlaces.open([file]))
    dataset, problems = open_dataset(Path(wanted.dataset), wanted.radius_m)
    return HeldOutDataset(dataset, workers, list(problems))


def measure(network: Trainable, held_out: HeldOut, groupings: Sequence[str]) -> dict[str, float]:
    """Return recalls such as `{"R@1 alone": 0.91, ...}`, and leave the network in training mode."""
    method = network.method()
    try:
        with torch.inference_mode():
            recalls = {text: held_out.recall(method, Grouping.parse(text)) for text in groupings}
    finally:
        network.model.train()
    return {f"R@{n} {text}": share for text, recall in recalls.items() for n, share in recall.items()}


def _recall(database: Vectors, queries: Vectors, positives: Sequence[NDArray[np.int64]]) -> dict[int, float]:
    found = search(database, queries, max(AT)).indices  # (Q, n)
    hits = np.stack([np.isin(row, right) for row, right in zip(found, positives, strict=True)])
    return {n: float(hits[:, :n].any(axis=1).mean()) for n in AT}
