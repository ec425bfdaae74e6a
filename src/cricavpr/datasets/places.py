"""Training data: places, the images of each place, and how to read an image.

A dataset is sent to worker processes, so it holds names and memory-mapped files, never decoded pictures.
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

Picture = str | int  # a path below the dataset's folder, or a row of an array


@dataclass(frozen=True, slots=True)
class Place:
    """One place and the images that show it.

    Attributes:
        id: unique in the whole dataset, across cities; losses use it as the label.
        city: name of its city, town or folder, for samplers that draw city by city.
        images: paths or row numbers, the arguments of `PlaceDataset.read`.
    """

    id: int
    city: str
    images: tuple[Picture, ...]


@dataclass(frozen=True, eq=False)
class PlaceDataset(abc.ABC):
    """Training places in a fixed order; subclasses read their images.

    Attributes:
        name: name used in logs.
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
                raise InputError(f"place id {place.id} of {self.name} ({place.city}) is {what}. Ids must be unique.")
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
        """Return the text that messages use for an image of a place."""
        return image if isinstance(image, str) else f"{place.city}, place {place.id}, picture {image}"

    def image_count(self) -> int:
        return sum(len(place.images) for place in self.places)

    def with_at_least(self, images: int) -> Self:
        """Return a dataset of the places with at least `images` images, in the same order.

        Raises:
            InputError: no place has so many images.
        """
        kept = tuple(place for place in self.places if len(place.images) >= images)
        if not kept:
            most = max(len(place.images) for place in self.places)
            raise InputError(f"no place of {self.name} has {images} images; the most is {most}. Lower the minimum.")
        return self if len(kept) == len(self) else replace(self, places=kept)

    def fingerprint(self) -> str:
        """Return the SHA-256 of place ids, cities and image names, in their order.

        It depends neither on the location of the data on disk nor on pixels.
        """
        digest = hashlib.sha256(b"cricavpr places 1")
        for place in self.places:
            parts = (f"{place.id}", place.city, f"{len(place.images)}", *map(str, place.images))
            digest.update(os.fsencode("\0".join(parts)) + b"\0\n")
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class PhotoPlaces(PlaceDataset):
    """Places whose images are files below `root`."""

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
            InputError: a name occurs twice, or leaves the folder.
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
    """Training places of synthetic towns, rendered before training: per town one .npy file (places, views, H, W, 3).

    An image is a number: the views of the first town come first, then those of the second, and so on.
    """

    files: tuple[Path, ...]
    _maps: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)  # opened when first read

    @classmethod
    def open(cls, files: Sequence[Path]) -> Self:
        """Open the pictures of several towns; the files are memory-mapped, not read.

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
        raise ImageError("find", f"picture {image} does not exist in {len(self.files)} towns")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # a worker maps the files itself: pickling a map would copy its data


def _map(file: Path) -> NDArray[np.uint8]:
    try:
        pictures = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read the pictures {file}: {error}. Remove it and draw them again.") from None
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.shape[4:] != (3,):
        raise InputError(f"{file} is not an array of pictures (places, views, H, W, 3). Remove it and draw them again.")
    return pictures
