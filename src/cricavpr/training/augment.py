"""Augmentations: changes to the pictures of a place before the network sees them.

RandAugment is Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space" (2020),
with torchvision's 14 operations and magnitudes, on 8-bit pictures by Pillow, bilinear, with black where nothing was.
We depart only in the source of random numbers: a numpy Generator that the caller passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

# The pictures of one place, all of one size, to as many of the same size.
Augment = Callable[[Sequence[Image.Image], np.random.Generator], list[Image.Image]]


def unchanged(pictures: Sequence[Image.Image], random: np.random.Generator) -> list[Image.Image]:
    """Return the pictures as they are."""
    return list(pictures)


def mirror(pictures: Sequence[Image.Image], random: np.random.Generator) -> list[Image.Image]:
    """Mirror half of the places, all pictures of a place alike: other places, for free."""
    return list(map(ImageOps.mirror, pictures)) if random.random() < 0.5 else list(pictures)


def randaugment(pictures: Sequence[Image.Image], random: np.random.Generator) -> list[Image.Image]:
    """Apply 3 of the 14 operations to each picture, drawn with replacement, each with a random sign if it has one."""
    names, changed = list(OPERATIONS), []
    for picture in pictures:
        for _ in range(OPERATIONS_PER_PICTURE):
            name = names[int(random.integers(len(names)))]
            negative = random.random() < 0.5  # drawn for all, used by those that have a sign
            picture = apply(picture, name, MAGNITUDE, negative)
        changed.append(picture)
    return changed


def apply(picture: Image.Image, name: str, magnitude: int, negative: bool = False) -> Image.Image:
    """Apply one operation at a magnitude bin of 0 to 30; `negative` flips its sign, if it has one."""
    operation = OPERATIONS[name]
    strength = operation.strength(magnitude, picture.size)
    return operation.run(picture, -strength if negative and operation.signed else strength)


# ---- the operations

BINS = 31  # of magnitude
MAGNITUDE = 9  # the default of torchvision and of the paper
OPERATIONS_PER_PICTURE = 3

Strength = Callable[[int, tuple[int, int]], float]  # of a bin and the picture's (width, height)


@dataclass(frozen=True)
class _Operation:
    run: Callable[[Image.Image, float], Image.Image]
    strength: Strength
    signed: bool


def _affine(picture: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    """Transform by `matrix`, which maps a pixel of the result to where it comes from."""
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _ramp(first: float, last: float) -> Strength:
    """Rise evenly from bin 0 to bin 30, in float32: a shear that differs in the eighth digit changes pixels by 1."""
    return lambda bin, _: torch.linspace(first, last, BINS)[bin].item()


def _shift(axis: int) -> Strength:
    """Shift by up to 150 of 331 pixels, as in the ImageNet policy that RandAugment comes from."""
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
