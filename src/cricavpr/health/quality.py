"""Find blurred and dark photos."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.errors import ImageError
from cricavpr.images import decode
from cricavpr.progress import Progress

LONG_SIDE = 512  # pixels: sharpness is compared at one size
BLURRED = 0.1  # share of the median sharpness of these photos
DARK = 40.0  # mean brightness, of 255


@dataclass(frozen=True)
class Measured:
    """Sharpness and brightness of a photo.

    Attributes:
        row: row of the photo in the index.
        sharpness: variance of the Laplacian; 0 without any edge.
        brightness: mean, 0 to 255.
    """

    row: int
    sharpness: float
    brightness: float


@dataclass(frozen=True)
class Quality:
    """Result of measuring the photos of an index.

    Attributes:
        measured: number of measured photos.
        missing: number of photos that do not exist or cannot be read.
        blurred, dark: the worst photos first.
    """

    measured: int
    missing: int
    blurred: tuple[Measured, ...]
    dark: tuple[Measured, ...]


def quality(paths: Sequence[Path | None], progress: Progress) -> Quality:
    """Measure the photos of an index. `paths` has the path of each row, or None if it is unknown."""
    found = []
    for row, path in enumerate(paths):
        with contextlib.suppress(ImageError):  # counted as missing; describing the photos names them
            if path is not None:
                found.append(Measured(row, *measure(decode(path))))
        progress.advance(1)
    usual = float(np.median([one.sharpness for one in found])) if found else 0.0
    blurred = sorted((one for one in found if one.sharpness < BLURRED * usual), key=lambda one: one.sharpness)
    dark = sorted((one for one in found if one.brightness < DARK), key=lambda one: one.brightness)
    return Quality(len(found), len(paths) - len(found), tuple(blurred), tuple(dark))


def measure(image: NDArray[np.uint8]) -> tuple[float, float]:  # (H, W, 3)
    """Return sharpness and mean brightness of a photo in grey, with a long side of at most 512 pixels.

    Sharpness is the variance of the Laplacian: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy"
    (2000).

    Example:
        >>> measure(np.full((9, 9, 3), 7, np.uint8))
        (0.0, 7.0)
    """
    picture = Image.fromarray(image).convert("L")
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    grey = np.asarray(picture, np.float64)
    if min(grey.shape) < 3:
        return 0.0, float(grey.mean())
    across = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
    return float(across.var()), float(grey.mean())
