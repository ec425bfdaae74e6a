"""The order of places, and the images of a place in a step.

Every draw is a pure function of the seed, the epoch and the place: it depends neither on the worker process nor on
earlier draws. So a resumed run reads the same images as an uninterrupted one.

Letters: K images of a place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cricavpr.datasets.base import Problem
from cricavpr.datasets.places import Place, PlaceDataset
from cricavpr.errors import ImageError, InputError
from cricavpr.images import IMAGENET_MEAN, IMAGENET_STD
from cricavpr.training.augment import Augment, unchanged

_CHOICE, _AUGMENT, _OTHER = range(3)  # streams of random numbers that must differ
_MAX_TRIES = 100  # places in a row without enough readable images: then the data is broken, not a photo

# ---- the order of places

Order = NDArray[np.int64]  # indices of places, each once


def shuffled(places: Sequence[Place], seed: int, epoch: int) -> Order:
    """Shuffle all places of all cities anew in each epoch."""
    return np.random.default_rng([seed, epoch]).permutation(len(places)).astype(np.int64)


def cities_in_order(places: Sequence[Place], seed: int, epoch: int) -> Order:
    """Take city after city, so that a step sees mostly one city; the same order in every epoch.

    The images of each city are shuffled, and places come in the order of their first image, as in the authors' loader:
    a place with more images tends to come earlier. The authors build their loader once, so their order stays.
    """
    return cities_reshuffled(places, seed, 0)


def cities_reshuffled(places: Sequence[Place], seed: int, epoch: int) -> Order:
    """Take city after city like `cities_in_order`, but shuffle each city anew in each epoch."""
    numbers: dict[str, int] = {}
    cities = np.array([numbers.setdefault(place.city, len(numbers)) for place in places], np.int64)
    sizes = np.array([len(place.images) for place in places], np.int64)
    order = []
    for city in range(len(numbers)):
        here = np.flatnonzero(cities == city)
        images = np.random.default_rng([seed, city, epoch]).permutation(np.repeat(here, sizes[here]))
        found, first = np.unique(images, return_index=True)
        order.append(found[np.argsort(first)])
    return np.concatenate(order).astype(np.int64)


SAMPLERS: dict[str, Callable[[Sequence[Place], int, int], Order]] = {
    "cities_in_order": cities_in_order,  # the paper's
    "cities_reshuffled": cities_reshuffled,
    "shuffled": shuffled,
}

# ---- the images of a place


class Sample(NamedTuple):
    """Images of one place; another place than the wanted one, if that had too few readable images."""

    images: NDArray[np.uint8]  # (K, h, w, 3)
    place_id: int
    problems: tuple[Problem, ...]


def sample_place(
    dataset: PlaceDataset,
    place_index: int,
    images_per_place: int,
    image_size: tuple[int, int],  # (h, w)
    augment: Augment = unchanged,
    *,
    seed: int,
    epoch: int,
) -> Sample:
    """Draw K images of a place without replacement, resize them with Pillow (bilinear), then augment them.

    An unreadable image is listed and another one of the place is taken; where fewer than K are left, another place is.
    """
    problems: list[Problem] = []
    others = np.random.default_rng([seed, epoch, dataset.places[place_index].id, _OTHER])
    for _ in range(_MAX_TRIES):
        place = dataset.places[place_index]
        keys = seed, epoch, place.id
        order = np.random.default_rng([*keys, _CHOICE]).permutation(len(place.images))
        pictures = _read(dataset, place, order, images_per_place, image_size, problems)
        if len(pictures) == images_per_place:
            shown = augment(pictures, np.random.default_rng([*keys, _AUGMENT]))
            return Sample(np.stack([np.asarray(picture) for picture in shown]), place.id, tuple(problems))
        place_index = int(others.integers(len(dataset)))
    first = problems[0] if problems else None
    why = f"the first: {first.name}: {first.reason}" if first else f"none has {images_per_place} images"
    raise InputError(
        f"{_MAX_TRIES} places of {dataset.name} in a row have fewer than {images_per_place} readable images ({why}). "
        "Check the folder of the data."
    )


def _read(
    dataset: PlaceDataset,
    place: Place,
    order: NDArray[np.int64],
    count: int,
    image_size: tuple[int, int],  # (h, w)
    problems: list[Problem],
) -> list[Image.Image]:
    """Read the first `count` readable images, or fewer if there are no more.

    A substitute takes the position of the unreadable image, so that the others are augmented as without it.
    """
    spare = iter(order[count:].tolist())
    pictures: list[Image.Image] = []
    for wanted in order[:count].tolist():
        for row in itertools.chain([wanted], spare):
            image = place.images[row]
            try:
                pixels = dataset.read(image)
            except ImageError as error:
                problems.append(Problem(dataset.called(image, place), error.stage, str(error)))
                continue
            height, width = image_size
            pictures.append(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
            break
    return pictures


def normalised(images: Tensor) -> Tensor:  # (B, H, W, 3) uint8 -> (B, 3, H, W) float32
    """Convert uint8 images to normalised floats on the same device, to which bytes move four times as fast."""
    scaled = images.permute(0, 3, 1, 2).contiguous().float() / 255
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (scaled - mean) / std
