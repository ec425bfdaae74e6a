"""Recall on data that is not trained on, under one or several groupings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cricavpr.datasets import open_dataset
from cricavpr.datasets.base import EvalDataset
from cricavpr.describing import describe
from cricavpr.grouping import Grouping, pack
from cricavpr.index.search import search
from cricavpr.methods.base import Method
from cricavpr.training.network import Trainable
from cricavpr.training.pictures import Pictures, render_test
from cricavpr.training.recipe import Recipe
from cricavpr.training.samples import normalised

AT = (1, 5, 10)
_IMAGES_AT_ONCE = 64

Vectors = NDArray[np.float32]  # (N, D)


class HeldOut(Protocol):
    """Something to measure recall on."""

    def recall(self, method: Method, grouping: Grouping) -> dict[int, float]:
        """recall@N, a fraction of all queries, for each N of AT."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOutPictures:
    """Database and query picture of each place of a town: (places, 2, H, W, 3)."""

    pictures: Pictures

    def recall(self, method: Method, grouping: Grouping) -> dict[int, float]:
        database, queries = (self._describe(method, grouping, side) for side in (0, 1))
        return _recall(database, queries, list(np.arange(len(queries)).reshape(-1, 1)))

    def _describe(self, method: Method, grouping: Grouping, side: int) -> Vectors:
        vectors = np.empty((len(self.pictures), method.dim), np.float32)
        for batch in pack(grouping.groups(len(self.pictures), draw=side), _IMAGES_AT_ONCE):
            rows = np.concatenate(batch)
            images = normalised(torch.from_numpy(self.pictures[rows, side])).numpy()
            vectors[rows] = method.describe(images, [len(group) for group in batch])
        return vectors


@dataclass(frozen=True, eq=False)
class HeldOutDataset:
    """A dataset on disk. Photos that cannot be read are missed."""

    dataset: EvalDataset
    workers: int

    def recall(self, method: Method, grouping: Grouping) -> dict[int, float]:
        sides = (self.dataset.database, self.dataset.queries)
        database, queries = (
            describe(method, images, grouping, workers=self.workers, draw=draw) for draw, images in enumerate(sides)
        )
        positives = [np.flatnonzero(np.isin(database.kept, self.dataset.positives[row])) for row in queries.kept]
        found = _recall(database.descriptors.vectors, queries.descriptors.vectors, positives)
        read = len(queries.kept) / len(self.dataset.queries)
        return {n: share * read for n, share in found.items()}


def open_held_out(recipe: Recipe, pictures: Path, workers: int) -> HeldOut | None:
    """What the recipe validates on, if anything."""
    wanted = recipe.validation
    if wanted is None:
        return None
    if wanted.town is not None:
        return HeldOutPictures(render_test(wanted.town.seed, wanted.town.places, recipe.image_size, pictures, workers))
    dataset, _ = open_dataset(Path(wanted.dataset), wanted.radius_m)
    return HeldOutDataset(dataset, workers)


def measure(network: Trainable, held_out: HeldOut, groupings: Sequence[str]) -> dict[str, float]:
    """`{"R@1 alone": 0.91, ...}`; the network is in training mode again afterwards."""
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
