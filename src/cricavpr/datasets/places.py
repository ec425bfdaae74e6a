"""Training data: places, the images of each, and how one image is read. No pixels are held in memory.

A dataset travels to worker processes, so it holds names and open maps of files, never decoded pictures.
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
    """One place and what shows it.

    Attributes:
        id: distinct in the whole dataset, across cities; the label that losses see.
        city: which city (or town, or folder) it lies in; samplers keep cities together by it.
        images: what `PlaceDataset.read` takes.
    """

    id: int
    city: str
    images: tuple[Picture, ...]


@dataclass(frozen=True, eq=False)
class PlaceDataset(abc.ABC):
    """Places in a fixed order.

    Attributes:
        name: what to call it in a log.
        places: each with at least one image.

    Raises:
        InputError: no place, an id twice or below zero, or a place without images.
    """

    name: str
    places: tuple[Place, ...]

    def __post_init__(self) -> None:
        if not self.places:
            raise InputError(f"{self.name} has no place to learn from. Give a dataset with places.")
        seen: set[int] = set()
        for place in self.places:
            if place.id < 0 or place.id in seen:
                what = "below zero" if place.id < 0 else "given to two places"
                raise InputError(f"place id {place.id} of {self.name} ({place.city}) is {what}. Give each its own.")
            if not place.images:
                raise InputError(f"place {place.id} of {self.name} ({place.city}) has no image. Leave it out.")
            seen.add(place.id)

    def __len__(self) -> int:
        return len(self.places)

    @abc.abstractmethod
    def read(self, image: Picture) -> NDArray[np.uint8]:  # (H, W, 3)
        """The pixels of one image.

        Raises:
            ImageError: it is missing or damaged.
        """

    def called(self, image: Picture, place: Place) -> str:
        """What to call an image in a report."""
        return image if isinstance(image, str) else f"{place.city}, place {place.id}, picture {image}"

    def image_count(self) -> int:
        return sum(len(place.images) for place in self.places)

    def with_at_least(self, images: int) -> Self:
        """The places that have so many images; the order stays.

        Raises:
            InputError: none has.
        """
        kept = tuple(place for place in self.places if len(place.images) >= images)
        if not kept:
            most = max(len(place.images) for place in self.places)
            raise InputError(f"no place of {self.name} has {images} images; the most is {most}. Ask for fewer.")
        return self if len(kept) == len(self) else replace(self, places=kept)

    def fingerprint(self) -> str:
        """SHA-256 over ids, cities and names in their order: equal means that the same data is meant.

        It does not change with the folder that the data lies in, and knows nothing of pixels.
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
        """Each image that is not on the disk; lists every folder once and decodes nothing."""
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
        """All images place by place, each with its place as key.

        Raises:
            InputError: a name twice, or one that leaves the folder.
        """
        names = tuple(str(image) for place in self.places for image in place.images)
        keys = tuple(f"{place.id}" for place in self.places for _ in place.images)
        return ImageSet(self.root, names, keys=keys)


def file_names(folder: Path) -> list[str]:
    """What lies in a folder; nothing where there is none."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


@dataclass(frozen=True, eq=False)
class TownPlaces(PlaceDataset):
    """Pictures that were drawn before training: one file of an array (places, views, H, W, 3) per town.

    An image is its number when the views of all towns are counted through.
    """

    files: tuple[Path, ...]
    _maps: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)  # opened when first read

    @classmethod
    def open(cls, files: Sequence[Path]) -> Self:
        """Places of several towns; the files stay where they are and are mapped, not read.

        Raises:
            InputError: not an array of pictures (places, views, H, W, 3).
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
        return self.__dict__ | {"_maps": {}}  # a worker maps the files itself: pickling a map would copy it


def _map(file: Path) -> NDArray[np.uint8]:
    try:
        pictures = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read the pictures {file}: {error}. Remove it and draw them again.") from None
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.shape[4:] != (3,):
        raise InputError(f"{file} is not an array of pictures (places, views, H, W, 3). Remove it and draw them again.")
    return pictures
