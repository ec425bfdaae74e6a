"""The order of places in an epoch, and the images of a place in a step.

Every random choice depends only on the seed, the epoch and the place, and not on the worker process or on earlier
choices. So a resumed run reads the same images as an uninterrupted run.

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

_CHOICE, _AUGMENT, _OTHER = range(3)  # parts of the seed, so that these random numbers differ
_MAX_TRIES = 100  # after so many places in a row without enough readable images, the data is broken

# ---- the order of places

Order = NDArray[np.int64]  # the indices of all places, each once


def shuffled(places: Sequence[Place], seed: int, epoch: int) -> Order:
    """Return the indices of all places in random order, which differs between epochs."""
    return np.random.default_rng([seed, epoch]).permutation(len(places)).astype(np.int64)


def cities_in_order(places: Sequence[Place], seed: int, epoch: int) -> Order:
    """Return the indices of the places city by city, in the same order in every epoch.

    So most steps have places of only one city. As in the authors' loader, the images of each city are shuffled, and
    places are ordered by their first image in the shuffled list. So places with more images tend to come earlier. The
    authors shuffle only once, not in each epoch.
    """
    return cities_reshuffled(places, seed, 0)


def cities_reshuffled(places: Sequence[Place], seed: int, epoch: int) -> Order:
    """Return the indices of the places city by city like `cities_in_order`, but in a new random order in each epoch."""
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
    "cities_in_order": cities_in_order,  # the order of the paper
    "cities_reshuffled": cities_reshuffled,
    "shuffled": shuffled,
}

# ---- the images of a place


class Sample(NamedTuple):
    """Images of one place. If the wanted place has too few readable images, the images are of another place."""

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

    An unreadable image is listed in `problems`, and another image of the place replaces it. If a place has fewer than
    K readable images, another random place replaces it.

    Raises:
        InputError: 100 places in a row have too few readable images.
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
    why = f"the first: {first.name}: {first.reason}" if first else f"no place has {images_per_place} images"
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
    """Read the first `count` readable images of a place, in the given order. Return fewer if the place has fewer.

    The substitute of an unreadable image gets that image's index in the list. So the random augmentation of the other
    images does not change.
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
    """Convert uint8 images to normalised float32 images on the same device.

    Move uint8 images to a GPU before this call: they are four times smaller than float32 images.
    """
    scaled = images.permute(0, 3, 1, 2).contiguous().float() / 255
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (scaled - mean) / std
