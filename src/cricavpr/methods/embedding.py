"""The method `embed`, which computes descriptors of pictures in memory, and helpers shared with `cricavpr.describe`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.descriptors import flaws
from cricavpr.errors import ImageError, InputError
from cricavpr.grouping import ALONE, Grouping, pack
from cricavpr.images import decode, decode_image
from cricavpr.methods.base import Method, Pixels
from cricavpr.progress import Progress, Report

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]  # (H, W, 3) or (H, W)
Prepared = Sequence[tuple[int, Pixels]]  # the images of one group: index and preprocessed array of each


@dataclass(frozen=True, eq=False)
class SameSize:
    """A batch of complete groups whose images all have the same size, so that the network can take them together."""

    images: Pixels  # (b, 3, h, w)
    groups: list[int] | None  # sizes of the groups, which add up to b; None if every group has one image
    indices: NDArray[np.int64]  # (b,) index of each image in the whole list of images


class LoadedMethod(ABC):
    """Base class of the methods in this package. It adds `embed` and a one-line repr to the protocol `Method`."""

    name: str
    dim: int
    correlates: bool = False
    image_size: tuple[int, int] | None
    weights: str
    preprocessing: str
    device: str = "cpu"
    preprocess: Any  # a separate object, so that worker processes get it without the network

    @abstractmethod
    def describe(self, images: Pixels, groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return the descriptors of images (B, 3, h, w), (B, D) float32 of unit length; see `Method.describe`."""

    def embed(
        self,
        images: Iterable[Picture],
        grouping: Grouping | str = ALONE,
        *,
        batch_size: int = 16,
        progress: bool | Report = False,
    ) -> NDArray[np.float32]:
        """Return the descriptors of N images in memory or on disk, (N, D) float32 of unit length, in the same order.

        For many photos on disk use `cricavpr.describe`: it reads photos in worker processes, resumes after an
        interruption, and leaves out photos that cannot be read.

        Args:
            images: each is a path, the bytes of an image file, a PIL image, or a uint8 array (H, W, 3) or (H, W).
                Files and PIL images are turned upright by their EXIF orientation.
            grouping: which images influence one another, if the method correlates images; a `Grouping` or a text for
                `Grouping.parse`.
            batch_size: number of images that go through the network together; it does not change results.
            progress: True for a progress bar on stderr, or a function that is called with (done, total).

        Raises:
            ImageError: an image cannot be used; the message has its index.
            InputError: images of one group differ in size, or the grouping is `by_key`, which needs more than images.

        Example:
            >>> from cricavpr import load_method
            >>> method = load_method("pixels")
            >>> noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
            >>> method.embed([noise, Image.linear_gradient("L")]).shape
            (2, 2048)
        """
        if isinstance(images, str | Path | bytes | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
            raise InputError("images must be a list of images, got a single image; put it into a list: embed([image]).")
        pictures = list(images)
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}.")
        groups = (Grouping.parse(grouping) if self.correlates else ALONE).groups(len(pictures))
        vectors = np.zeros((len(pictures), self.dim), np.float32)
        with Progress(progress, len(pictures)) as bar:
            bar.start(0)
            for batch in pack(groups, batch_size):
                prepared = [[(i, _prepared(self, pictures[i], i)) for i in group.tolist()] for group in batch]
                for part in by_size(prepared, lambda i: _name(pictures[i], i)):
                    described = checked_descriptors(self, part.images, part.groups)
                    bad = np.flatnonzero(flaws(described))
                    if len(bad):
                        first = int(part.indices[bad[0]])
                        raise ImageError("describe", f"{_name(pictures[first], first)}: {flaw(described[bad[0]])}")
                    vectors[part.indices] = described
                bar.advance(sum(map(len, batch)))
        return vectors

    def __repr__(self) -> str:
        size = "any size" if self.image_size is None else "{} x {} px".format(*self.image_size)
        return f"<{type(self).__name__} {self.name}: {size}, {self.dim}-d, weights {self.weights[:12]}, {self.device}>"


def by_size(groups: Sequence[Prepared], name_of: Callable[[int], str]) -> list[SameSize]:
    """Stack the images of complete groups into batches, one batch for each image size.

    Args:
        groups: the groups, each with the index and the array of its images.
        name_of: function that returns the name of the image with a given index, for messages.

    Raises:
        InputError: images of one group differ in size.
    """
    found: dict[tuple[int, ...], list[Prepared]] = {}
    for group in groups:
        sizes = {pixels.shape: index for index, pixels in group}
        if len(sizes) > 1:
            (a, first), (b, second) = list(sizes.items())[:2]
            raise InputError(
                f"{name_of(first)} ({a[1]} x {a[2]}) and {name_of(second)} ({b[1]} x {b[2]}) are in one group but "
                "differ in size. Give the method an image size, or describe each photo alone."
            )
        found.setdefault(next(iter(sizes)), []).append(group)
    parts = []
    for same in found.values():
        images = np.stack([pixels for group in same for _, pixels in group])
        lengths = [len(group) for group in same]
        indices = np.array([index for group in same for index, _ in group])
        parts.append(SameSize(images, lengths if max(lengths) > 1 else None, indices))
    return parts


def checked_descriptors(method: Method, images: Pixels, groups: Sequence[int] | None) -> NDArray[np.float32]:
    """Compute descriptors; raise InputError if their shape is not (number of images, `method.dim`)."""
    vectors = np.asarray(method.describe(images, groups), np.float32)
    if vectors.shape != (len(images), method.dim):
        raise InputError(
            f"method {method.name} must give descriptors of shape ({len(images)}, {method.dim}), got "
            f"{vectors.shape}. Its `dim` or its `describe` is wrong."
        )
    return vectors


def flaw(vector: NDArray[np.float32]) -> str:  # (D,)
    """Return a clause that says whether a bad descriptor is not finite or not of unit length."""
    if not np.isfinite(vector).all():
        return "its descriptor is not finite"
    return f"its descriptor has length {np.linalg.norm(vector):.3g} instead of 1"


# --- pictures


def _prepared(method: Method, picture: Picture, index: int) -> Pixels:  # (3, h, w)
    try:
        return method.preprocess(pixels_of(picture))
    except ImageError as error:
        raise ImageError(error.stage, f"{_name(picture, index)}: {error}") from error


def pixels_of(picture: Picture) -> NDArray[np.uint8]:
    """Return the pixels of a picture as a uint8 array (H, W, 3), turned upright by its EXIF orientation.

    Raises:
        ImageError: the file cannot be used, or the argument is not a picture.

    Example:
        >>> pixels_of(np.zeros((20, 30), np.uint8)).shape
        (20, 30, 3)
    """
    if isinstance(picture, str | Path | bytes):
        return decode(Path(picture) if isinstance(picture, str) else picture)
    if isinstance(picture, Image.Image):
        return decode_image(picture)
    if not isinstance(picture, np.ndarray):
        raise ImageError(
            "open", f"expected a path, the bytes of a file, a PIL image or an array, got {type(picture).__name__}"
        )
    right = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if picture.dtype != np.uint8 or not right or not picture.size:
        raise ImageError("open", f"expected an array (H, W, 3) or (H, W) of uint8, got {picture.shape} {picture.dtype}")
    return picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)


def _name(picture: Picture, index: int) -> str:
    return f"image {index} ({picture})" if isinstance(picture, str | Path) else f"image {index}"
