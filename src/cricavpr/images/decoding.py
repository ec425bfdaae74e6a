"""A photo, from a path or bytes, to upright sRGB pixels, or to its header with where and when it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.geo import LatLon
from cricavpr.images.damage import loaded
from cricavpr.images.exif import read_exif, turned
from cricavpr.images.opening import MAX_PIXELS, MIN_SIDE, open_image, open_stream, stage
from cricavpr.images.pixels import as_rgb


@dataclass(frozen=True)
class Header:
    """What a photo says about itself before its pixels are decoded."""

    width: int  # pixels as stored, before any turn
    height: int
    format: str
    gps: LatLon | None
    taken: datetime | None = None  # UTC


def decode(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE
) -> NDArray[np.uint8]:  # (H, W, 3)
    """Decode the first frame of a photo, upright, in sRGB.

    EXIF orientation is applied, a damaged one ignored. Grey, palette, CMYK, 1-bit and 16-bit pictures become
    RGB without clipping; see-through pixels are laid over `TRANSPARENT`; an embedded colour profile is
    converted to sRGB unless it is sRGB already, and then the pixels are those of a plain decode, bit for bit.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: refuse more from the header, before anything is decoded; at most Pillow's own 178,956,970.
        min_side: refuse a picture with a shorter side, in pixels.

    Raises:
        ImageError: stage find (no such file, or not a regular one), open (empty, or not a picture of a known
            format), size (too large or too small), or decode (truncated or damaged).
    """
    with open_stream(source) as stream:
        image = open_image(stream, max_pixels, min_side)
        with stage("decode"), image:
            upright = turned(as_rgb(loaded(image, stream)), image)
            return np.array(upright)


def read_header(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE) -> Header:
    """Check what can be checked without decoding, and read where and when the photo was taken.

    Raises:
        ImageError: as `decode`, except for damage that only decoding shows.
    """
    with open_stream(source) as stream, open_image(stream, max_pixels, min_side) as image:
        exif = read_exif(image, stream)
        return Header(image.width, image.height, image.format or "", exif.gps, exif.taken)


def read_gps(source: Path | bytes) -> LatLon | None:
    """The position in a photo's EXIF block, or None where there is none or it is not one.

    No position is ever invented: zero denominators, missing hemispheres, text, numbers out of range and
    exactly 0, 0 all mean None.

    Raises:
        ImageError: the file cannot be opened as a picture at all.
    """
    return read_header(source, min_side=1).gps


def decode_image(image: Image.Image) -> NDArray[np.uint8]:  # (H, W, 3)
    """Return the pixels of an open PIL image as `decode` returns those of a file: upright, in sRGB.

    Raises:
        ImageError: stage decode: the file behind the image is damaged.

    Example:
        >>> decode_image(Image.new("L", (40, 30))).shape
        (30, 40, 3)
    """
    with stage("decode"):
        return np.array(turned(as_rgb(image), image))
