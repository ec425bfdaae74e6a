"""What a step sees: a pure function of seed, epoch and place, whatever reads it and whatever is broken."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cricavpr.datasets.base import Problem
from cricavpr.datasets.gsv_cities import GsvCities, read_gsv_cities
from cricavpr.datasets.places import PhotoPlaces, Place, PlaceDataset, TownPlaces
from cricavpr.errors import InputError
from cricavpr.images import Preprocess
from cricavpr.town.write import make_town
from cricavpr.training.augment import randaugment
from cricavpr.training.data import Steps
from cricavpr.training.sampling import SAMPLERS, Order, normalised, sample_place
from tests.datasets.test_places import photo_places, town_files
from tests.training.toy import toy

SIZE = (8, 10)


# ---- the order of places


def order_of(name: str, dataset: PlaceDataset, seed: int, epoch: int) -> Order:
    return SAMPLERS[name](dataset.places, seed, epoch)


def cities(*sizes: int, images: int = 4) -> PhotoPlaces:
    """Cities of so many places each, and of `images` photos per place."""
    names = tuple(f"{k}.jpg" for k in range(images))
    places = [(f"city {number}", k) for number, size in enumerate(sizes) for k in range(size)]
    return PhotoPlaces("c", tuple(Place(row, city, names) for row, (city, _) in enumerate(places)), Path())


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_shows_each_place_once(name: str) -> None:
    order = order_of(name, cities(5, 1, 30), 3, 2)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(36))


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_order_depends_on_seed_and_epoch_and_on_nothing_before(name: str) -> None:
    dataset = cities(20, 20)
    np.random.seed(1)
    first = order_of(name, dataset, 7, 5).tolist()
    np.random.seed(2)
    assert order_of(name, dataset, 7, 5).tolist() == first
    assert order_of(name, dataset, 8, 5).tolist() != first


@pytest.mark.parametrize("name", ["cities_reshuffled", "shuffled"])
def test_the_next_epoch_is_not_the_first_again(name: str) -> None:
    assert len({tuple(order_of(name, cities(20, 20), 7, epoch).tolist()) for epoch in range(5)}) == 5


def test_the_authors_order_is_the_same_in_every_epoch() -> None:
    assert len({tuple(order_of("cities_in_order", cities(20, 20), 7, epoch).tolist()) for epoch in range(5)}) == 1


@pytest.mark.parametrize("name", ["cities_in_order", "cities_reshuffled"])
def test_cities_come_one_after_another_shuffled_inside(name: str) -> None:
    order = order_of(name, cities(20, 15, 5), 0, 1)
    assert set(order[:20].tolist()) == set(range(20)) and order[:20].tolist() != list(range(20))
    assert set(order[20:35].tolist()) == set(range(20, 35))
    assert not np.array_equal(order[:5] % 5, order[35:] % 5)


def test_two_cities_of_one_size_are_shuffled_apart() -> None:
    order = order_of("cities_in_order", cities(20, 20), 0, 0)
    assert (order[:20] + 20).tolist() != order[20:].tolist()


def test_shuffled_mixes_cities() -> None:
    order = order_of("shuffled", cities(20, 20), 0, 0)
    assert 4 <= (order[:20] < 20).sum() <= 16


def test_rows_are_shuffled_not_places_so_large_places_come_early() -> None:
    names = tuple(f"{k}.jpg" for k in range(20))
    places = tuple(Place(row, "c", names if row % 2 else names[:4]) for row in range(40))
    dataset = PhotoPlaces("c", places, Path())
    early = [np.mean(order_of("cities_in_order", dataset, seed, 0)[:20] % 2) for seed in range(20)]
    assert 0.7 < np.mean(early) < 1.0


# ---- the images of a place


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> TownPlaces:
    """Twelve places of six random pictures."""
    file = tmp_path_factory.mktemp("pictures") / "town.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, (12, 6, 16, 20, 3), np.uint8))
    return TownPlaces.open([file])


def draw(dataset: PlaceDataset, index: int, seed: int = 0, epoch: int = 0, count: int = 4) -> np.ndarray:
    return sample_place(dataset, index, count, SIZE, randaugment, seed=seed, epoch=epoch).images


def test_images_of_a_place_come_without_replacement(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path, 6, 4)
    for epoch in range(20):
        images, place_id, problems = sample_place(dataset, 0, 4, SIZE, seed=0, epoch=epoch)
        assert (images.shape, images.dtype, place_id, problems) == ((4, *SIZE, 3), np.uint8, 0, ())
        assert len(set(images[:, 0, 0, 1].tolist())) == 4
        assert set(images[:, 0, 0, 0].tolist()) == {0}


def test_a_draw_is_a_function_of_seed_epoch_and_place(drawn: TownPlaces) -> None:
    first = draw(drawn, 3, seed=5, epoch=2)
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    draw(drawn, 4)
    assert np.array_equal(draw(drawn, 3, seed=5, epoch=2), first)
    others = [draw(drawn, 3, seed=5, epoch=3), draw(drawn, 3, seed=6, epoch=2), draw(drawn, 4, seed=5, epoch=2)]
    assert not any(np.array_equal(other, first) for other in others)


def test_no_two_places_or_epochs_get_the_same_chances(tmp_path: Path) -> None:
    file = tmp_path / "alike.npy"
    np.save(file, np.broadcast_to(np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8), (2, 6, 16, 20, 3)))
    alike = TownPlaces.open([file])  # one picture over and over, so only chance can differ
    draws = [draw(alike, index, seed, epoch) for index in (0, 1) for seed in (0, 1) for epoch in (0, 1)]
    assert len({images.tobytes() for images in draws}) == 8


def test_no_two_places_choose_alike(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path, 12, 12, 12)
    chosen = [sample_place(dataset, k, 6, SIZE, seed=0, epoch=0).images[:, 0, 0, 1].tolist() for k in range(3)]
    assert len(set(map(tuple, chosen))) == 3


def test_every_image_of_a_place_is_shown_in_the_course_of_epochs(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path, 10)
    shown = [sample_place(dataset, 0, 4, SIZE, seed=0, epoch=epoch).images[:, 0, 0, 1] for epoch in range(30)]
    assert set(np.concatenate(shown).tolist()) == set(range(10))


def test_a_draw_depends_on_the_place_and_not_on_where_it_stands(tmp_path: Path, drawn: TownPlaces) -> None:
    fewer = TownPlaces(drawn.name, drawn.places[5:], drawn.files)
    assert np.array_equal(draw(fewer, 0), draw(drawn, 5))


def test_pictures_are_resized_by_pillow_and_then_augmented(drawn: TownPlaces) -> None:
    seen = []

    def remember(pictures, random):  # type: ignore[no-untyped-def]
        seen.extend(pictures)
        return [Image.fromarray(255 - np.asarray(picture)) for picture in pictures]

    shown = sample_place(drawn, 0, 2, SIZE, remember, seed=0, epoch=0).images
    pictures = [Image.fromarray(drawn.read(image)).resize((10, 8), Image.Resampling.BILINEAR) for image in range(6)]
    assert all(any(np.array_equal(np.asarray(s), np.asarray(p)) for p in pictures) for s in seen)
    assert np.array_equal(shown[0], 255 - np.asarray(seen[0]))


def test_the_tensor_is_that_of_describing(drawn: TownPlaces) -> None:
    image = drawn.read(0)
    ours = normalised(torch.from_numpy(image[None]))
    assert np.array_equal(ours[0], Preprocess(None)(image))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_workers_give_the_pixels_that_a_direct_draw_gives(drawn: TownPlaces, workers: int) -> None:
    recipe = toy(
        image_size=[14, 28], seed=9, steps=7, data__augment="randaugment", step__members="in_order"
    )  # three steps an epoch
    steps = Steps(recipe, drawn)
    for number, data in enumerate(steps.read(1, workers), 1):
        places = order_of("shuffled", drawn, 9, number // 3)[number % 3 * 4 :][:4].tolist()
        direct = [
            sample_place(drawn, place, 2, (14, 28), randaugment, seed=9, epoch=number // 3).images for place in places
        ]
        assert np.array_equal(data.images.numpy(), np.concatenate(direct))
        assert data.places.tolist() == [place for place in places for _ in range(2)]
    assert number == 6


# ---- broken and missing images


def test_a_broken_image_is_replaced_by_another_of_the_place_and_the_others_stay(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path, 6)
    whole = sample_place(dataset, 0, 4, SIZE, randaugment, seed=0, epoch=0).images
    plain = sample_place(dataset, 0, 4, SIZE, seed=0, epoch=0).images[:, 0, 0, 1].tolist()
    (tmp_path / f"0/{plain[1]}.png").write_bytes(b"broken")
    images, place_id, problems = sample_place(dataset, 0, 4, SIZE, randaugment, seed=0, epoch=0)
    assert place_id == 0
    assert [(problem.name, problem.stage) for problem in problems] == [(f"0/{plain[1]}.png", "open")]
    assert all(np.array_equal(images[k], whole[k]) for k in (0, 2, 3))
    now = sample_place(dataset, 0, 4, SIZE, seed=0, epoch=0).images[:, 0, 0, 1].tolist()
    assert len(set(now)) == 4 and plain[1] not in now


def test_where_too_few_are_left_another_place_is_shown_under_its_own_name(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path, 4, 4, 4, 4, 4)
    (tmp_path / "2/1.png").unlink()
    instead = set()
    for epoch in range(20):
        images, place_id, problems = sample_place(dataset, 2, 4, SIZE, seed=0, epoch=epoch)
        assert place_id != 2 and set(images[:, 0, 0, 0].tolist()) == {place_id}
        assert {(problem.name, problem.stage) for problem in problems} == {("2/1.png", "find")}
        again = sample_place(dataset, 2, 4, SIZE, seed=0, epoch=epoch)
        assert again.place_id == place_id and np.array_equal(again.images, images)
        instead.add(place_id)
    assert len(instead) > 1  # not always the same, which would then count more than the rest


def test_data_that_is_gone_stops_the_run_and_says_so(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path / "here", 4, 4, 4)
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(
        InputError, match=r"100 places .* fewer than 4 readable images \(the first: 0/\d.png: no such file"
    ):
        sample_place(dataset, 0, 4, SIZE, seed=0, epoch=0)
    with pytest.raises(InputError, match="no place has 5 images"):
        sample_place(photo_places(tmp_path / "here", 4, 4), 0, 5, SIZE, seed=0, epoch=0)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[GsvCities, set[str]]:
    """160 pictures of 40 places, two broken and two missing: one in a hundred each. And the names of those four."""
    root = tmp_path_factory.mktemp("gsv")
    make_town(root, 31, 40, "gsv", image_size=(40, 40))
    (root / "town.json").unlink()
    dataset = read_gsv_cities(root)
    photos = sorted(root.rglob("*.jpg"))
    chosen = [photos[int(k)] for k in np.random.default_rng(1).choice(len(photos), 4, replace=False)]
    chosen[0].write_bytes(chosen[0].read_bytes()[:400])
    chosen[1].write_bytes(b"")
    chosen[2].unlink()
    chosen[3].unlink()
    return dataset, {path.relative_to(root).as_posix() for path in chosen}


@pytest.mark.parametrize("images_per_place", [3, 4])
def test_gsv_cities_with_broken_and_missing_photos_is_read_to_the_end_and_names_them(
    damaged: tuple[GsvCities, set[str]], images_per_place: int
) -> None:
    dataset, bad = damaged
    recipe = toy(
        image_size=[28, 28],
        epochs=4,
        steps=0,
        step__places=8,
        step__images_per_place=images_per_place,
        data__sampler="cities_in_order",
        data__augment="randaugment",
    )
    steps, problems = Steps(recipe, dataset), set[Problem]()
    for data in steps.read(0, 0):
        assert data.images.shape == (8 * images_per_place, 28, 28, 3)
        problems.update(data.problems)
    assert steps.count == 20
    assert {problem.name for problem in problems} == bad
    assert sorted(problem.stage for problem in problems) == ["find", "find", "open", "open"]
    assert len(dataset.missing()) == 2 and {problem.name for problem in dataset.missing()} < bad


def test_towns_are_read_by_their_pictures(tmp_path: Path) -> None:
    towns = TownPlaces.open(town_files(tmp_path, (2, 4), (3, 5)))
    images, place_id, _ = sample_place(towns, 3, 4, (4, 6), seed=0, epoch=0)
    assert place_id == 3 and {tuple(image[0, 0, :2].tolist()) for image in images} == {(1, 1)}
