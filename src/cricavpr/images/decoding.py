"""Decode a photo, from a path or bytes, to upright sRGB pixels, or read its header: size, position and time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.images.damage import load_pixels
from cricavpr.images.exif import Exif, read_exif, turn_upright
from cricavpr.images.opening import MAX_PIXELS, MIN_SIDE, open_image, open_stream, stage
from cricavpr.images.pixels import as_rgb


@dataclass(frozen=True)
class Header(Exif):
    """Metadata of a photo, read without decoding its pixels: its `Exif`, size and format."""

    width: int = 0  # pixels as stored, before any turn
    height: int = 0
    format: str = ""


def decode(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE
) -> NDArray[np.uint8]:  # (H, W, 3)
    """Decode the first frame of a photo, upright, in sRGB.

    EXIF orientation is applied; an invalid one is ignored. Grey, palette, CMYK, 1-bit and 16-bit pictures become RGB
    without clipping; transparent pixels are laid over `TRANSPARENT`; an embedded colour profile is converted to sRGB
    unless it is sRGB already, and then the pixels are those of a plain decode, bit for bit.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: refuse more from the header, before anything is decoded; at most Pillow's own 178,956,970.
        min_side: refuse a picture with a shorter side, in pixels.

    Raises:
        ImageError: stage find (no such file, or not a regular one), open (empty, or not a picture of a known
            format), size (too large or too small), or decode (truncated or damaged).

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30), 200).save(file, "PNG")
        >>> pixels = decode(file.getvalue())
        >>> pixels.shape, pixels[0, 0].tolist()
        ((30, 40, 3), [200, 200, 200])
    """
    with open_stream(source) as stream:
        image = open_image(stream, max_pixels, min_side)
        with stage("decode"), image:
            upright = turn_upright(as_rgb(load_pixels(image, stream)), image)
            return np.array(upright)


def read_header(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE) -> Header:
    """Check what can be checked without decoding, and read where and when the photo was taken.

    No position is ever invented: zero denominators, a missing N, S, E or W, text, numbers out of range, another datum
    and exactly 0, 0 all give None, and `no_gps` says why.

    Raises:
        ImageError: as `decode`, except for damage that only decoding shows.
    """
    with open_stream(source) as stream, open_image(stream, max_pixels, min_side) as image:
        exif = read_exif(image, stream)
        return Header(**vars(exif), width=image.width, height=image.height, format=image.format or "")


def decode_image(image: Image.Image) -> NDArray[np.uint8]:  # (H, W, 3)
    """Return the pixels of an open PIL image as `decode` returns those of a file: upright, in sRGB.

    Raises:
        ImageError: stage decode: the file behind the image is damaged.

    Example:
        >>> decode_image(Image.new("L", (40, 30))).shape
        (30, 40, 3)
    """
    with stage("decode"):
        return np.array(turn_upright(as_rgb(image), image))
