"""Classes for training data: places, the images of each place, and how to read an image.

A dataset is sent to worker processes. So it holds only names or memory-mapped files, never decoded pictures.
"""

from __future__ import annotations

import abc
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.errors import ImageError, InputError
from cricavpr.images import decode

Picture = str | int  # a path relative to the dataset's folder, or the number of an image in arrays


@dataclass(frozen=True, slots=True)
class Place:
    """One place and the images that show it.

    Attributes:
        id: unique number in the whole dataset, not only in its city. Losses use it as the label.
        city: name of its city, town or folder. Some samplers draw a batch from one city.
        images: paths or numbers of the images, each to be passed to `PlaceDataset.read`.
    """

    id: int
    city: str
    images: tuple[Picture, ...]


@dataclass(frozen=True, eq=False)
class PlaceDataset(abc.ABC):
    """Training places in a fixed order; subclasses read their images.

    Attributes:
        name: name of the dataset in logs.
        places: the places, each with at least one image.

    Raises:
        InputError: there is no place, an id is negative or used twice, or a place has no image.
    """

    name: str
    places: tuple[Place, ...]

    def __post_init__(self) -> None:
        if not self.places:
            raise InputError(f"{self.name} has no places. Give a dataset with places to train on.")
        seen: set[int] = set()
        for place in self.places:
            if place.id < 0 or place.id in seen:
                what = "below zero" if place.id < 0 else "used for two places"
                raise InputError(
                    f"place id {place.id} of {self.name} ({place.city}) is {what}. Ids must be unique, from 0."
                )
            if not place.images:
                raise InputError(f"place {place.id} of {self.name} ({place.city}) has no image. Leave it out.")
            seen.add(place.id)

    def __len__(self) -> int:
        return len(self.places)

    @abc.abstractmethod
    def read(self, image: Picture) -> NDArray[np.uint8]:  # (H, W, 3)
        """Return the pixels of one image.

        Raises:
            ImageError: the image is missing or damaged.
        """

    def called(self, image: Picture, place: Place) -> str:
        """Return the name of an image of a place for messages."""
        return image if isinstance(image, str) else f"{place.city}, place {place.id}, picture {image}"

    def image_count(self) -> int:
        return sum(len(place.images) for place in self.places)

    def with_at_least(self, images: int) -> Self:
        """Return a dataset of the places with at least `images` images, in the same order.

        Raises:
            InputError: no place has at least `images` images.
        """
        kept = tuple(place for place in self.places if len(place.images) >= images)
        if not kept:
            most = max(len(place.images) for place in self.places)
            raise InputError(f"no place of {self.name} has {images} images; the largest has {most}. Lower the minimum.")
        return self if len(kept) == len(self) else replace(self, places=kept)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the place ids, cities and image names, in their order.

        It does not change if the data move to another folder or if pixels change.
        """
        digest = hashlib.sha256(b"cricavpr places 1")
        for place in self.places:
            parts = (f"{place.id}", place.city, f"{len(place.images)}", *map(str, place.images))
            digest.update(os.fsencode("\0".join(parts)) + b"\0\n")
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class PhotoPlaces(PlaceDataset):
    """Training places whose images are files in the folder `root` and its subfolders."""

    root: Path

    def read(self, image: Picture) -> NDArray[np.uint8]:  # (H, W, 3)
        return decode(self.root / str(image))

    def missing(self) -> list[Problem]:
        """Return a problem for each image file that does not exist. No image is opened."""
        there: dict[str, set[str]] = {}
        problems = []
        for place in self.places:
            for name in map(str, place.images):
                folder, _, file = name.rpartition("/")
                if folder not in there:
                    there[folder] = set(file_names(self.root / folder))
                if file not in there[folder]:
                    problems.append(Problem(name, "find", "no such file"))
        return problems

    def image_set(self) -> ImageSet:
        """Return all images, place by place. The key of an image is the id of its place.

        Raises:
            InputError: a path occurs twice, or leaves the folder `root`.
        """
        names = tuple(str(image) for place in self.places for image in place.images)
        keys = tuple(f"{place.id}" for place in self.places for _ in place.images)
        return ImageSet(self.root, names, keys=keys)


def file_names(folder: Path) -> list[str]:
    """Return the names of all entries of a folder; an empty list if the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


@dataclass(frozen=True, eq=False)
class TownPlaces(PlaceDataset):
    """Training places of synthetic towns that were rendered before training.

    Each town has one .npy file with an array of shape (places, views, H, W, 3). An image is a number: the images of the
    first town are numbered first, then those of the second town, and so on.
    """

    files: tuple[Path, ...]
    _maps: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)  # opened when an image is first read

    @classmethod
    def open(cls, files: Sequence[Path]) -> Self:
        """Open the files of several towns. They are memory-mapped: images are read from disk only when needed.

        Raises:
            InputError: a file is not an array of pictures (places, views, H, W, 3).
        """
        places: list[Place] = []
        images = 0
        for file in files:
            count, views = _map(Path(file)).shape[:2]
            for _ in range(count):
                places.append(Place(len(places), Path(file).stem, tuple(range(images, images + views))))
                images += views
        return cls("towns", tuple(places), tuple(map(Path, files)))

    def read(self, image: Picture) -> NDArray[np.uint8]:  # (H, W, 3)
        row = int(image)
        for number, file in enumerate(self.files):
            if number not in self._maps:
                self._maps[number] = _map(file)
            places, views = self._maps[number].shape[:2]
            if row < places * views:
                return np.array(self._maps[number][row // views, row % views])
            row -= places * views
        raise ImageError("find", f"there is no picture {image} in {len(self.files)} towns")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # workers map the files again: pickling a memory map copies its data


def _map(file: Path) -> NDArray[np.uint8]:
    try:
        pictures = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read the pictures {file}: {error}. Remove it and draw them again.") from None
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.shape[4:] != (3,):
        raise InputError(f"{file} is not an array of pictures (places, views, H, W, 3). Remove it and draw them again.")
    return pictures
