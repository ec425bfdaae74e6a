"""The pixel matcher, a baseline without learning: its descriptor is a 64 x 32 grey image, normalised patch by patch.

Source: the image comparison of SeqSLAM (Milford and Wyeth, ICRA 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.images import Preprocess
from cricavpr.methods.base import Pixels
from cricavpr.methods.embedding import LoadedMethod

HEIGHT, WIDTH, PATCH = 32, 64, 8


class PixelMatcher(LoadedMethod):
    """Method whose descriptor is the normalised grey pixels of an image. It has no weights."""

    name = "pixels"
    dim = HEIGHT * WIDTH
    image_size = (HEIGHT, WIDTH)
    weights = "none"

    def __init__(self) -> None:
        self.preprocess = Preprocess((HEIGHT, WIDTH), resize="tensor", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.preprocessing = self.preprocess.describe()

    def describe(self, images: Pixels, groups: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return the descriptors of images (B, 3, 32, 64), (B, 2048) float32 of unit length. Groups have no effect."""
        grey = torch.from_numpy(np.require(images, requirements=("C", "W"))).mean(dim=1)
        patches = grey.view(-1, HEIGHT // PATCH, PATCH, WIDTH // PATCH, PATCH)
        centred = patches - patches.mean(dim=(2, 4), keepdim=True)
        spread = centred.square().mean(dim=(2, 4), keepdim=True).sqrt()
        vectors: NDArray[np.float32] = F.normalize((centred / (spread + 1e-3)).flatten(1), dim=1).numpy()
        return vectors


def load(name: str, weights: str | Path | None, device: str, **overrides: Any) -> PixelMatcher:
    """Return the pixel matcher, which always computes on the CPU. Raise InputError if weights or settings are given."""
    if weights is not None or overrides:
        raise InputError("the pixel matcher takes no weights and no settings; leave them out.")
    return PixelMatcher()
