"""Augmentations: random changes to the pictures of a place before the network sees them.

The source of RandAugment is Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search
space" (2020). The 14 operations and their magnitudes are torchvision's. Pillow applies them to 8-bit pictures, with
bilinear interpolation; areas without a source pixel become black. Only the random numbers differ from torchvision's:
they come from a numpy Generator that the caller passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

# Takes the pictures of one place, all of the same size; returns as many pictures of this size.
Augment = Callable[[Sequence[Image.Image], np.random.Generator], list[Image.Image]]


def unchanged(pictures: Sequence[Image.Image], random: np.random.Generator) -> list[Image.Image]:
    """Return the pictures unchanged: no augmentation."""
    return list(pictures)


def mirror(pictures: Sequence[Image.Image], random: np.random.Generator) -> list[Image.Image]:
    """Mirror all pictures of a place or none, with equal probability."""
    return list(map(ImageOps.mirror, pictures)) if random.random() < 0.5 else list(pictures)


def randaugment(pictures: Sequence[Image.Image], random: np.random.Generator) -> list[Image.Image]:
    """Apply 3 random operations, drawn with replacement from 14, to each picture. Their signs are random, too."""
    names, changed = list(OPERATIONS), []
    for picture in pictures:
        for _ in range(OPERATIONS_PER_PICTURE):
            name = names[int(random.integers(len(names)))]
            negative = random.random() < 0.5  # drawn for every operation, used only if it has a sign
            picture = apply(picture, name, MAGNITUDE, negative)
        changed.append(picture)
    return changed


def apply(picture: Image.Image, name: str, magnitude: int, negative: bool = False) -> Image.Image:
    """Apply one operation to a picture.

    Args:
        picture: the picture.
        name: a key of OPERATIONS.
        magnitude: magnitude bin, from 0 to 30.
        negative: whether to flip the sign of the operation, if it has one.
    """
    operation = OPERATIONS[name]
    strength = operation.strength(magnitude, picture.size)
    return operation.run(picture, -strength if negative and operation.signed else strength)


# ---- the operations

BINS = 31  # number of magnitude bins
MAGNITUDE = 9  # magnitude bin: the default of torchvision and of the RandAugment paper
OPERATIONS_PER_PICTURE = 3

Strength = Callable[[int, tuple[int, int]], float]  # takes magnitude bin and (width, height)


@dataclass(frozen=True)
class _Operation:
    run: Callable[[Image.Image, float], Image.Image]
    strength: Strength
    signed: bool


def _affine(picture: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    """Transform a picture. `matrix` maps the coordinates of a result pixel to coordinates in the picture."""
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _ramp(first: float, last: float) -> Strength:
    """Return a function that maps a magnitude bin to a strength, linearly from `first` (bin 0) to `last` (bin 30).

    The strength is computed in float32, as in torchvision. Even a difference in the eighth digit of a shear could
    change pixel values by 1.
    """
    return lambda bin, _: torch.linspace(first, last, BINS)[bin].item()


def _shift(axis: int) -> Strength:
    """Return a function that maps a magnitude bin to a shift in pixels.

    The largest shift is 150/331 of the picture's width (axis 0) or height (axis 1).

    These numbers are from the ImageNet policy that RandAugment is based on.
    """
    return lambda bin, size: int(torch.linspace(0, 150 / 331 * size[axis], BINS)[bin].item())


OPERATIONS = {
    "Identity": _Operation(lambda p, s: p, lambda bin, size: 0.0, False),
    "ShearX": _Operation(lambda p, s: _affine(p, (1, s, 0, 0, 1, 0)), _ramp(0, 0.3), True),
    "ShearY": _Operation(lambda p, s: _affine(p, (1, 0, 0, s, 1, 0)), _ramp(0, 0.3), True),
    "TranslateX": _Operation(lambda p, s: _affine(p, (1, 0, -s, 0, 1, 0)), _shift(axis=0), True),
    "TranslateY": _Operation(lambda p, s: _affine(p, (1, 0, 0, 0, 1, -s)), _shift(axis=1), True),
    "Rotate": _Operation(lambda p, s: p.rotate(s, Image.Resampling.BILINEAR), _ramp(0, 30), True),
    "Brightness": _Operation(lambda p, s: ImageEnhance.Brightness(p).enhance(1 + s), _ramp(0, 0.9), True),
    "Color": _Operation(lambda p, s: ImageEnhance.Color(p).enhance(1 + s), _ramp(0, 0.9), True),
    "Contrast": _Operation(lambda p, s: ImageEnhance.Contrast(p).enhance(1 + s), _ramp(0, 0.9), True),
    "Sharpness": _Operation(lambda p, s: ImageEnhance.Sharpness(p).enhance(1 + s), _ramp(0, 0.9), True),
    "Posterize": _Operation(lambda p, s: ImageOps.posterize(p, int(s)), lambda bin, _: 8 - round(bin / 7.5), False),
    "Solarize": _Operation(lambda p, s: ImageOps.solarize(p, math.ceil(s)), _ramp(255, 0), False),
    "AutoContrast": _Operation(lambda p, s: ImageOps.autocontrast(p), lambda bin, size: 0.0, False),
    "Equalize": _Operation(lambda p, s: ImageOps.equalize(p), lambda bin, size: 0.0, False),
}

AUGMENTS: dict[str, Augment] = {"none": unchanged, "randaugment": randaugment, "mirror": mirror}
