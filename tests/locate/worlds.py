"""An index of made-up places: photos of one place have nearly one descriptor, some places have twins far away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.geo import Positions
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex

DIM = 24
MADE = MadeBy("made_up", "none", None, "none", "none", None, DIM)


class World:
    """Places in a square grid, 60 m apart; each photo is its place's direction with noise."""

    def __init__(self, places: int = 150, seed: int = 0, noise: float = 0.5) -> None:
        self.rng = np.random.default_rng(seed)
        self.directions = self.rng.normal(size=(places, DIM))
        side = int(np.ceil(np.sqrt(places)))
        self.metres = np.array([(500_000.0 + 60.0 * (p % side), 60.0 * (p // side)) for p in range(places)])
        self.noise = noise

    def photos(self, places: NDArray[np.int64], what: str) -> tuple[DescriptorSet, Positions]:
        """One photo for each entry of `places`, a few metres off."""
        vectors = self.directions[places] + self.noise * self.rng.normal(size=(len(places), DIM))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        metres = self.metres[places] + self.rng.normal(scale=3.0, size=(len(places), 2))
        names = tuple(f"{what}/{number:05d}.jpg" for number in range(len(places)))
        return DescriptorSet(names, vectors.astype(np.float32), MADE), Positions(metres, ("31N",) * len(places))

    def index(self, to: Path, places: NDArray[np.int64]) -> PlaceIndex:
        described, positions = self.photos(places, "database")
        return PlaceIndex.build(Photos(described, to.parent, positions), to)
