"""Methods whose descriptors can be checked by eye: the mean colour of a photo, at unit length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.datasets.base import ImageSet
from cricavpr.geo import Positions


class MeanColour:
    """The direction of the mean RGB: red is (1, 0, 0), grey is (0.58, 0.58, 0.58), and black has none."""

    name = "mean_colour"
    dim = 3
    correlates = False
    image_size: tuple[int, int] | None = (1, 1)
    weights = "none"
    preprocessing = "the mean of all pixels"
    device = "cpu"

    def preprocess(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        pixels = image / 255 if self.image_size is None else image.mean(axis=(0, 1), keepdims=True) / 255
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def describe(self, images: NDArray[np.float64], groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        return unit(images.mean(axis=(2, 3)))


class NativeMeanColour(MeanColour):
    """The same for photos in their own size."""

    image_size = None
    preprocessing = "native"


class GroupColour(MeanColour):
    """Correlates: half a photo's own colour, half the mean colour of its group."""

    name = "group_colour"
    correlates = True

    def describe(self, images: NDArray[np.float64], groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        own = images.mean(axis=(2, 3))
        sizes = [1] * len(images) if groups is None else list(groups)
        assert sum(sizes) == len(images)
        parts = np.split(own, np.cumsum(sizes)[:-1])
        return unit(own + np.concatenate([np.broadcast_to(part.mean(axis=0), part.shape) for part in parts]))


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:  # (N, D)
    """At unit length; zeros stay."""
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def colours(count: int, seed: int = 0) -> NDArray[np.uint8]:  # (count, 3)
    """Colours that are told apart by their direction."""
    return np.random.default_rng(seed).integers(20, 256, (count, 3)).astype(np.uint8)


def photos(
    root: Path,
    of: NDArray[np.uint8],  # (N, 3)
    metres: NDArray[np.float64] | None = None,  # (N, 2) in zone 33N
    keys: tuple[str, ...] | None = None,
    size: tuple[int, int] = (32, 40),
) -> ImageSet:
    """Write plain photos, one for each colour, and return them as a set."""
    root.mkdir(parents=True, exist_ok=True)
    names = tuple(f"{index:04d}.png" for index in range(len(of)))
    for name, colour in zip(names, of, strict=True):
        Image.fromarray(np.full((*size, 3), colour, np.uint8)).save(root / name)
    positions = None if metres is None else Positions(metres, ("33N",) * len(of))
    return ImageSet(root, names, positions, keys)


def expected(of: NDArray[np.uint8]) -> NDArray[np.float64]:  # (N, 3) -> (N, 3)
    """What MeanColour must give."""
    return of / np.linalg.norm(of.astype(np.float64), axis=1, keepdims=True)
