"""Photos that are hard to use: blurred or dark."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.errors import ImageError
from cricavpr.images import decode
from cricavpr.index.place_index import PlaceIndex

LONG_SIDE = 512  # pixels: sharpness is compared at one size
BLURRED = 0.1  # of the usual sharpness of these photos
DARK = 40.0  # mean brightness of 255

Report = Callable[[int, int], None]  # (done, of)


@dataclass(frozen=True)
class Look:
    """One photo: the variance of its Laplacian (0 where nothing is sharp) and its mean brightness (0 to 255)."""

    row: int
    sharpness: float
    brightness: float


@dataclass(frozen=True)
class Looks:
    """What looking at the photos gave.

    Attributes:
        seen: photos that were looked at.
        missing: photos that are not there or cannot be read.
        blurred, dark: the worst first.
    """

    seen: int
    missing: int
    blurred: tuple[Look, ...]
    dark: tuple[Look, ...]


def path_in(
    folder: Path | None,  # where the photos of an index lie now, or None for where they lay
    index: PlaceIndex,
    row: int,
) -> Path | None:
    """Where a photo should lie; None where the folder cannot be meant for it.

    An index that was merged may have names from several folders, the same ones twice: one folder below which they all
    lie serves all of them, and another one stands for the folder of the first photo only.
    """
    root, name = index.snapshot.photo(row)
    if folder is None or (root / name).is_relative_to(folder.absolute()):
        return root / name
    return folder / name if root == index.root else None


def look(paths: list[tuple[int, Path | None]], report: Report | None = None) -> Looks:
    """Look at each photo, given with its row in the index and where it is to be, if that is known."""
    looks = []
    for number, (row, path) in enumerate(paths, 1):
        with contextlib.suppress(ImageError):  # counted: which photos are unusable is what describing them says
            if path is not None:
                looks.append(Look(row, *measure(decode(path))))
        if report is not None:
            report(number, len(paths))
    usual = float(np.median([one.sharpness for one in looks])) if looks else 0.0
    blurred = sorted((one for one in looks if one.sharpness < BLURRED * usual), key=lambda one: one.sharpness)
    dark = sorted((one for one in looks if one.brightness < DARK), key=lambda one: one.brightness)
    return Looks(len(looks), len(paths) - len(looks), tuple(blurred), tuple(dark))


def measure(image: NDArray[np.uint8]) -> tuple[float, float]:  # (H, W, 3)
    """Variance of the Laplacian and mean brightness, in grey at a long side of at most 512 pixels.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000).
    """
    picture = Image.fromarray(image).convert("L")
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    grey = np.asarray(picture, np.float64)
    if min(grey.shape) < 3:
        return 0.0, float(grey.mean())
    across = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
    return float(across.var()), float(grey.mean())
