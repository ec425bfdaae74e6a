"""Image sizes for networks that cut images into patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.images import Preprocess

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WholePatches(Preprocess):
    """Normalise, then bring each side to its nearest multiple of `patch` pixels, bilinear with antialias.

    A side half-way between two multiples goes to the even one, as Python rounds.
    """

    image_size: tuple[int, int] | None = None
    patch: int = 14

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:  # (H, W, 3) to (3, h, w)
        return self.resized(super().__call__(image)[None])[0]

    def resized(self, pixels: Tensor) -> Tensor:  # (B, 3, H, W) to (B, 3, h, w)
        import torch.nn.functional as F

        height, width = pixels.shape[-2:]
        whole = (nearest_multiple(height, self.patch), nearest_multiple(width, self.patch))
        if whole == (height, width):
            return pixels
        return F.interpolate(pixels, whole, mode="bilinear", align_corners=False, antialias=True)

    def describe(self) -> str:
        way = f"size native to the nearest multiple of {self.patch}, resize tensor"
        return super().describe().replace("size native, resize none", way)


def check_patches(image_size: tuple[int, int] | None, patch: int) -> None:
    """Refuse an image size that does not divide into patches.

    Raises:
        InputError: naming the nearest size that does.
    """
    if image_size is not None and any(side < 1 or side % patch for side in image_size):
        nearest = tuple(nearest_multiple(side, patch) for side in image_size)
        raise InputError(f"image size {image_size} does not divide into patches of {patch} px. Give {nearest}, say.")


def nearest_multiple(side: int, patch: int) -> int:
    """In pixels, one patch or more."""
    return max(1, round(side / patch)) * patch
