"""What a step sees of a place: K images, drawn, resized and augmented.

Every draw is a pure function of (seed, epoch, place id): it does not depend on the worker that makes it, on how
many there are, or on what was drawn before, so a run that goes on sees what it would have seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from cricavpr.training.augment import NONE, Augment

_CHOICE, _AUGMENT, _OTHER = range(3)  # streams of random numbers that must not be the same
_TRIES = 100  # places in a row without enough readable images: then it is the data, not a photo


class Sample(NamedTuple):
    """One place of a step. `place_id` is that of another place where the wanted one had too few images."""

    images: NDArray[np.uint8]  # (K, h, w, 3)
    place_id: int
    problems: tuple[Problem, ...]


def draw_place(
    dataset: PlaceDataset,
    place_index: int,
    images_per_place: int,
    image_size: tuple[int, int],  # (h, w)
    augment: Augment = NONE,
    *,
    seed: int,
    epoch: int,
) -> Sample:
    """Draw K images of a place without replacement: resized by Pillow (bilinear), then augmented.

    An image that cannot be read is reported and another one of the place is taken; where fewer than K are left,
    another place takes its place.

    Raises:
        InputError: 100 places in a row have too few readable images.
    """
    problems: list[Problem] = []
    others = np.random.default_rng([seed, epoch, dataset.places[place_index].id, _OTHER])
    for _ in range(_TRIES):
        place = dataset.places[place_index]
        keys = seed, epoch, place.id
        order = np.random.default_rng([*keys, _CHOICE]).permutation(len(place.images))
        pictures = _read(dataset, place, order, images_per_place, image_size, problems)
        if len(pictures) == images_per_place:
            shown = augment(pictures, np.random.default_rng([*keys, _AUGMENT]))
            return Sample(np.stack([np.asarray(picture) for picture in shown]), place.id, tuple(problems))
        place_index = int(others.integers(len(dataset)))
    first = problems[0] if problems else None
    why = f"first {first.name!r} {first.reason}" if first else f"none has {images_per_place} images"
    raise InputError(
        f"{_TRIES} places of {dataset.name} in a row have fewer than {images_per_place} readable images ({why}). "
        "Look at the folder of the data."
    )


def _read(
    dataset: PlaceDataset,
    place: Place,
    order: NDArray[np.int64],
    count: int,
    image_size: tuple[int, int],  # (h, w)
    problems: list[Problem],
) -> list[Image.Image]:
    """The first `count` readable images; fewer where there are no more. A substitute stands where the broken one
    would have stood, so the others get the augmentation that they would have got."""
    spare = iter(order[count:].tolist())
    pictures: list[Image.Image] = []
    for wanted in order[:count].tolist():
        for row in itertools.chain([wanted], spare):
            picture = _resized(dataset, place, row, image_size, problems)
            if picture is not None:
                pictures.append(picture)
                break
    return pictures


def _resized(
    dataset: PlaceDataset,
    place: Place,
    row: int,
    image_size: tuple[int, int],  # (h, w)
    problems: list[Problem],
) -> Image.Image | None:
    try:
        pixels = dataset.read(place.images[row])
    except ImageError as error:
        problems.append(Problem(dataset.called(place.images[row], place), error.stage, str(error)))
        return None
    height, width = image_size
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)


def normalised(images: Tensor) -> Tensor:  # (B, H, W, 3) bytes -> (B, 3, H, W) float32
    """To what the network takes. On the device of `images`: bytes are a quarter of what floats are to move."""
    scaled = images.permute(0, 3, 1, 2).contiguous().float() / 255
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (scaled - mean) / std


class Batch(NamedTuple):
    """Several places of one step, place by place: B = P K."""

    images: Tensor  # (B, h, w, 3) bytes; see `normalised`
    place_ids: Tensor  # (B,)
    problems: tuple[Problem, ...]


def collate(samples: Sequence[Sample]) -> Batch:
    """Lay samples one after another."""
    images = torch.from_numpy(np.concatenate([sample.images for sample in samples]))
    ids = torch.tensor([sample.place_id for sample in samples for _ in sample.images])
    return Batch(images, ids, tuple(problem for sample in samples for problem in sample.problems))


@dataclass(frozen=True, eq=False)
class Samples(torch.utils.data.Dataset[Sample]):
    """`draw_place` for torch's DataLoader: a key is (epoch, index of a place), so workers hold no state and may
    outlive an epoch. Give `collate` to the loader, and lists of such keys as its `batch_sampler`.
    """

    dataset: PlaceDataset
    images_per_place: int
    image_size: tuple[int, int]  # (h, w)
    augment: Augment
    seed: int

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        return draw_place(
            self.dataset,
            index,
            self.images_per_place,
            self.image_size,
            self.augment,
            seed=self.seed,
            epoch=epoch,
        )


class Reported:
    """Names each unusable image once in a run, though every epoch meets it again."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._names: set[str] = set()

    def new(self, problems: Iterable[Problem]) -> list[Problem]:
        """Those of `problems` that were not there before; they are kept."""
        fresh = []
        for problem in problems:
            if problem.name not in self._names:
                self._names.add(problem.name)
                fresh.append(problem)
        self.problems += fresh
        return fresh
