"""Training data: places, their images, and how they are read."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cricavpr.datasets.places import PhotoPlaces, Place, TownPlaces
from cricavpr.errors import ImageError, InputError


def photo_places(root: Path, *sizes: int, city: str = "here") -> PhotoPlaces:
    """Places of so many photos; photo k of place p is a plain one of colour (p, k, 0)."""
    places = []
    for number, size in enumerate(sizes):
        names = tuple(f"{number}/{k}.png" for k in range(size))
        (root / f"{number}").mkdir(parents=True, exist_ok=True)
        for k, name in enumerate(names):
            Image.new("RGB", (40, 32), (number, k, 0)).save(root / name)
        places.append(Place(number, city, names))
    return PhotoPlaces("photos", tuple(places), root)


def town_files(folder: Path, *shapes: tuple[int, int]) -> list[Path]:
    """One array per town; picture k of place p of town t has the colour (t, p, k)."""
    files = []
    for town, (places, views) in enumerate(shapes):
        pictures = np.zeros((places, views, 4, 6, 3), np.uint8)
        pictures[..., 0] = town
        pictures[..., 1] = np.arange(places)[:, None, None, None]
        pictures[..., 2] = np.arange(views)[:, None, None]
        files.append(folder / f"town-{town}.npy")
        np.save(files[-1], pictures)
    return files


def test_an_image_is_read_from_below_the_root(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path, 2, 3)
    assert dataset.read("1/2.png")[0, 0].tolist() == [1, 2, 0]
    assert (len(dataset), dataset.image_count()) == (2, 5)
    with pytest.raises(ImageError) as caught:
        dataset.read("1/9.png")
    assert caught.value.stage == "find"


def test_a_photo_that_is_not_on_the_disk_is_named(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path, 2, 3)
    assert dataset.missing() == []
    (tmp_path / "1/2.png").unlink()
    assert [(problem.name, problem.stage) for problem in dataset.missing()] == [("1/2.png", "find")]


@pytest.mark.parametrize(
    "places, says",
    [
        ((), "no place"),
        ((Place(3, "a", ("x",)), Place(3, "b", ("y",))), "place id 3 .* used for two"),
        ((Place(-1, "a", ("x",)),), "below zero"),
        ((Place(0, "a", ()),), "no image"),
    ],
)
def test_places_that_cannot_be_told_apart_or_shown_are_refused(places: tuple[Place, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        PhotoPlaces("photos", places, Path())


def test_small_places_are_left_out_on_demand(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path, 2, 4, 3)
    assert [place.id for place in dataset.with_at_least(3).places] == [1, 2]
    assert dataset.with_at_least(2) is dataset
    with pytest.raises(InputError, match="no place of photos has 5 images; the largest has 4"):
        dataset.with_at_least(5)


def test_the_fingerprint_follows_names_and_ids_and_not_the_folder(tmp_path: Path) -> None:
    dataset = photo_places(tmp_path / "a", 2, 2)
    assert photo_places(tmp_path / "b", 2, 2).fingerprint() == dataset.fingerprint()
    first, second = dataset.places
    others = [
        (second, first),
        (first, replace(second, id=7)),
        (first, replace(second, city="there")),
        (first, replace(second, images=second.images[::-1])),
        (first, replace(second, images=("1/0.png\0001/1.png",))),
        (replace(first, images=first.images + second.images[:1]), replace(second, images=second.images[1:])),
    ]
    prints = {replace(dataset, places=places).fingerprint() for places in others}
    assert len(prints | {dataset.fingerprint()}) == len(others) + 1


def test_names_that_are_not_utf8_have_a_fingerprint() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert len(PhotoPlaces("photos", (Place(0, "a", (name,)),), Path()).fingerprint()) == 64


def test_pictures_of_several_towns_are_counted_through(tmp_path: Path) -> None:
    towns = TownPlaces.open(town_files(tmp_path, (2, 3), (3, 2)))
    assert [place.id for place in towns.places] == [0, 1, 2, 3, 4]
    assert [place.city for place in towns.places] == ["town-0"] * 2 + ["town-1"] * 3
    colours = [[towns.read(image)[0, 0].tolist() for image in place.images] for place in towns.places]
    assert colours == [
        [[0, 0, 0], [0, 0, 1], [0, 0, 2]],
        [[0, 1, 0], [0, 1, 1], [0, 1, 2]],
        [[1, 0, 0], [1, 0, 1]],
        [[1, 1, 0], [1, 1, 1]],
        [[1, 2, 0], [1, 2, 1]],
    ]
    with pytest.raises(ImageError, match="there is no picture 12 in 2 towns"):
        towns.read(12)


def test_towns_travel_to_workers_without_their_pictures(tmp_path: Path) -> None:
    file = tmp_path / "town.npy"
    np.save(file, np.zeros((10, 4, 64, 64, 3), np.uint8))
    towns = TownPlaces.open([file])
    towns.read(0)
    parcel = pickle.dumps(towns)
    assert len(parcel) < 5000
    assert np.array_equal(pickle.loads(parcel).read(39), towns.read(39))


def test_a_file_that_is_no_array_of_pictures_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "town.npy"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"town\.npy"):
        TownPlaces.open([file])
    np.save(file, np.zeros((2, 3, 4, 4), np.uint8))
    with pytest.raises(InputError, match="not an array of pictures"):
        TownPlaces.open([file])
