"""Turn pixels into the array that a network takes."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Resize = Literal["tensor_no_antialias", "tensor", "tensor_bicubic", "pil"]


@dataclass(frozen=True)
class Preprocess:
    """Turn pixels into the array that a network takes: resize and normalise. The defaults are those of CricaVPR.

    The ways to resize:
    tensor_no_antialias   normalise, then resize the tensor (bilinear, no antialias), the default of torchvision 0.15
    tensor                normalise, then resize the tensor (bilinear, antialias), the default of torchvision today
    tensor_bicubic        normalise, then resize the tensor (bicubic, antialias)
    pil                   resize the 8-bit picture with Pillow (bilinear, antialias), then normalise

    Attributes:
        image_size: (height, width) in pixels, or None to keep the size of each image.
        resize: the way to resize, one of the four above. Descriptors depend on it.
        mean, std: mean and standard deviation of each channel, for pixel values in 0..1.

    Raises:
        InputError: a size or a standard deviation is not positive, or the way to resize is unknown.

    Example:
        >>> Preprocess((28, 42))(np.zeros((100, 50, 3), np.uint8)).shape
        (3, 28, 42)
    """

    image_size: tuple[int, int] | None = (224, 224)
    resize: Resize = "tensor_no_antialias"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        ways = get_args(Resize)
        if self.resize not in ways:
            near = difflib.get_close_matches(self.resize, ways, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"unknown resize {self.resize!r}. Known: {', '.join(ways)}.{hint}")
        if self.image_size is not None and min(self.image_size) < 1:
            raise InputError(f"image_size must be (height, width), 1 pixel or more, got {self.image_size}.")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(0 < spread < math.inf for spread in self.std):
            raise InputError(f"mean and std must be three numbers each, std above 0, got {self.mean}, {self.std}.")

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:  # (H, W, 3) -> (3, h, w)
        """Return the normalised array of an image. An image that already has `image_size` is not resized."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"an image must be uint8 (H, W, 3), got {image.dtype} {image.shape}. Use `decode`.")
        if self.image_size is None or image.shape[:2] == tuple(self.image_size):
            return self._normalised(image)
        if self.resize == "pil":
            height, width = self.image_size
            picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            return self._normalised(np.asarray(picture))
        mode = "bicubic" if self.resize == "tensor_bicubic" else "bilinear"
        return resized(self._normalised(image), self.image_size, mode, self.resize != "tensor_no_antialias")

    def _normalised(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:  # (H, W, 3) -> (3, H, W)
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
        pixels /= np.float32(255)
        pixels -= np.array(self.mean, np.float32)[:, None, None]
        pixels /= np.array(self.std, np.float32)[:, None, None]
        return pixels

    def describe(self) -> str:
        """Return all settings in one line. Two descriptors may be compared only if this line is the same for both."""
        size = "native" if self.image_size is None else "{}x{}".format(*self.image_size)
        mean, std = (",".join(repr(value) for value in values) for values in (self.mean, self.std))
        way = "none" if self.image_size is None else self.resize
        return f"sRGB upright, size {size}, resize {way}, mean {mean}, std {std}"


def resized(
    pixels: NDArray[np.float32],  # (3, H, W)
    size: tuple[int, int],
    mode: str,
    antialias: bool,
) -> NDArray[np.float32]:  # (3, h, w)
    """Resize an array with torch's `interpolate`, which takes `mode` and `antialias`."""
    import torch
    import torch.nn.functional as F

    batch = torch.from_numpy(pixels)[None]
    done = F.interpolate(batch, size, mode=mode, align_corners=False, antialias=antialias)
    array: NDArray[np.float32] = done[0].numpy()
    return array
