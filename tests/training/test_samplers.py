"""Orders of places: each once, a function of seed and epoch alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets.places import PhotoPlaces, Place
from cricavpr.errors import InputError
from cricavpr.training.samplers import SAMPLERS, make_sampler


def cities(*sizes: int, images: int = 4) -> PhotoPlaces:
    """Cities of so many places each, and of `images` photos per place."""
    names = tuple(f"{k}.jpg" for k in range(images))
    places = [(f"city {number}", k) for number, size in enumerate(sizes) for k in range(size)]
    return PhotoPlaces("c", tuple(Place(row, city, names) for row, (city, _) in enumerate(places)), Path())


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_shows_each_place_once(name: str) -> None:
    order = make_sampler(name, cities(5, 1, 30), 3).order(2)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(36))


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_order_depends_on_seed_and_epoch_and_on_nothing_before(name: str) -> None:
    dataset = cities(20, 20)
    sampler = make_sampler(name, dataset, 7)
    sampler.order(0)
    fresh = make_sampler(name, dataset, 7)
    assert fresh.order(5).tolist() == sampler.order(5).tolist()
    assert make_sampler(name, dataset, 8).order(5).tolist() != sampler.order(5).tolist()


@pytest.mark.parametrize("name", ["cities_reshuffled", "shuffled"])
def test_the_next_epoch_is_not_the_first_again(name: str) -> None:
    sampler = make_sampler(name, cities(20, 20), 7)
    assert len({tuple(sampler.order(epoch).tolist()) for epoch in range(5)}) == 5


def test_the_authors_order_is_the_same_in_every_epoch() -> None:
    sampler = make_sampler("cities_in_order", cities(20, 20), 7)
    assert len({tuple(sampler.order(epoch).tolist()) for epoch in range(5)}) == 1


@pytest.mark.parametrize("name", ["cities_in_order", "cities_reshuffled"])
def test_cities_come_one_after_another_shuffled_inside(name: str) -> None:
    order = make_sampler(name, cities(20, 15, 5), 0).order(1)
    assert set(order[:20].tolist()) == set(range(20)) and order[:20].tolist() != list(range(20))
    assert set(order[20:35].tolist()) == set(range(20, 35))
    assert not np.array_equal(order[:5] % 5, order[35:] % 5)


def test_two_cities_of_one_size_are_shuffled_apart() -> None:
    order = make_sampler("cities_in_order", cities(20, 20), 0).order(0)
    assert (order[:20] + 20).tolist() != order[20:].tolist()


def test_shuffled_mixes_cities() -> None:
    order = make_sampler("shuffled", cities(20, 20), 0).order(0)
    assert 4 <= (order[:20] < 20).sum() <= 16


def test_rows_are_shuffled_not_places_so_large_places_come_early() -> None:
    names = tuple(f"{k}.jpg" for k in range(20))
    places = tuple(Place(row, "c", names if row % 2 else names[:4]) for row in range(40))
    dataset = PhotoPlaces("c", places, Path())
    early = [np.mean(make_sampler("cities_in_order", dataset, seed).order(0)[:20] % 2) for seed in range(20)]
    assert 0.7 < np.mean(early) < 1.0


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'shuffled'"):
        make_sampler("shufled", cities(3), 0)
    with pytest.raises(InputError, match="negative"):
        make_sampler("shuffled", cities(3), -1)
