"""The order in which places come. An order is a pure function of the seed and the epoch, so a run that goes on
needs to know only its epoch and its position in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.places import PlaceDataset
from cricavpr.errors import InputError
from cricavpr.schema import nearest

Order = NDArray[np.int64]  # indices into `PlaceDataset.places`, each once


class Sampler(Protocol):
    """Nothing in it changes while it is used."""

    def order(self, epoch: int) -> Order: ...


@dataclass(frozen=True, eq=False)
class CitiesInOrder:
    """Cities one after another, so a batch is mostly one city.

    The rows (images) of each city are shuffled, and places come in the order of their first row, as in the
    authors' loader; a place with more images therefore tends to come earlier.

    Attributes:
        sizes: (P,) images per place.
        cities: (P,) number of the city of each place, by first appearance.
        reshuffled: anew in each epoch. The authors build their loader once, so theirs is the same in all.
    """

    sizes: NDArray[np.int64]
    cities: NDArray[np.int64]
    seed: int
    reshuffled: bool

    def order(self, epoch: int) -> Order:
        return np.concatenate([self._in_city(city, epoch) for city in range(self.cities.max() + 1)])

    def _in_city(self, city: int, epoch: int) -> Order:
        here = np.flatnonzero(self.cities == city)
        random = np.random.default_rng([self.seed, city, epoch if self.reshuffled else 0])
        rows = random.permutation(np.repeat(here, self.sizes[here]))
        places, first = np.unique(rows, return_index=True)
        return np.asarray(places[np.argsort(first)], np.int64)


@dataclass(frozen=True)
class Shuffled:
    """All places of all cities, shuffled anew in each epoch."""

    count: int
    seed: int

    def order(self, epoch: int) -> Order:
        return np.random.default_rng([self.seed, epoch]).permutation(self.count).astype(np.int64)


def _cities(dataset: PlaceDataset, seed: int, reshuffled: bool) -> CitiesInOrder:
    numbers: dict[str, int] = {}
    cities = [numbers.setdefault(place.city, len(numbers)) for place in dataset.places]
    sizes = [len(place.images) for place in dataset.places]
    return CitiesInOrder(np.array(sizes, np.int64), np.array(cities, np.int64), seed, reshuffled)


SAMPLERS: dict[str, Callable[[PlaceDataset, int], Sampler]] = {
    "cities_in_order": partial(_cities, reshuffled=False),  # the paper's
    "cities_reshuffled": partial(_cities, reshuffled=True),
    "shuffled": lambda dataset, seed: Shuffled(len(dataset), seed),
}


def make_sampler(name: str, dataset: PlaceDataset, seed: int) -> Sampler:
    """A sampler by its name.

    Raises:
        InputError: there is none of that name, or the seed is below zero.
    """
    if name not in SAMPLERS:
        raise InputError(f"there is no sampler {name!r}. {nearest(name, SAMPLERS)}")
    if seed < 0:
        raise InputError(f"the seed {seed} is negative. Give 0 or more.")
    return SAMPLERS[name](dataset, seed)
