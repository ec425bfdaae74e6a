"""Decode a photo to upright sRGB pixels, or read only its header: size, position and time."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.images.damage import load_pixels
from cricavpr.images.exif import Exif, read_exif, turn_upright
from cricavpr.images.opening import MAX_PIXELS, MIN_SIDE, open_image, open_stream, stage


@dataclass(frozen=True)
class Header(Exif):
    """Metadata of a photo, read without decoding its pixels: its `Exif`, size and format."""

    width: int = 0  # pixels as stored in the file, before the rotation that EXIF demands
    height: int = 0
    format: str = ""


def decode(
    source: Path | bytes, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE
) -> NDArray[np.uint8]:  # (H, W, 3)
    """Decode the first frame of a photo, upright, in sRGB.

    EXIF orientation is applied; an invalid orientation is ignored. Grey, palette, CMYK, 1-bit and 16-bit pictures
    become RGB without clipping. Transparent pixels are blended with the colour `TRANSPARENT`. Colours are converted
    to sRGB with the embedded colour profile; if that profile is sRGB already, the pixels are not changed.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: refuse a picture with more pixels, before decoding it; at most 178,956,970, Pillow's own limit.
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
    """Read the header of a photo: size, format, position and time. Pixels are not decoded.

    No position is guessed. These GPS tags give no position, and `no_gps` says why: zero denominators, no N or S, no E
    or W, text in the place of numbers, numbers out of range, a datum other than WGS84, and exactly 0, 0.

    Raises:
        ImageError: as for `decode`, but damaged pixel data are not noticed.
    """
    with open_stream(source) as stream, open_image(stream, max_pixels, min_side) as image:
        exif = read_exif(image, stream)
        return Header(**vars(exif), width=image.width, height=image.height, format=image.format or "")


def decode_image(image: Image.Image) -> NDArray[np.uint8]:  # (H, W, 3)
    """Return the upright sRGB pixels of an open PIL image. `decode` does the same for a file.

    Raises:
        ImageError: stage decode: the file behind the image is damaged.

    Example:
        >>> decode_image(Image.new("L", (40, 30))).shape
        (30, 40, 3)
    """
    with stage("decode"):
        return np.array(turn_upright(as_rgb(image), image))


# --- conversion of any mode, depth and colour profile to 8-bit sRGB

TRANSPARENT = (124, 116, 104)  # the mean colour of ImageNet, so a fully transparent pixel is 0 after normalisation


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to 8-bit RGB in the colour space sRGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image), _white(image))).convert("RGB")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        ground = Image.new("RGBA", image.size, (*TRANSPARENT, 255))
        ground.alpha_composite(image.convert("RGBA"))
        return _in_srgb(ground.convert("RGB"), image.info.get("icc_profile"))
    if image.mode in ("P", "1"):
        return _in_srgb(image.convert("RGB"), image.info.get("icc_profile"))
    return _in_srgb(image, image.info.get("icc_profile")).convert("RGB")


def _white(image: Image.Image) -> float | None:
    """Return the pixel value of white in a picture with more than 8 bits; None if the file does not state it."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (16,))[0]  # BitsPerSample; a 12-bit TIFF is stored in 16 bits, where white is 4095
    if image.mode.startswith("I;16"):
        return float(2**bits - 1)
    return 65535.0 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _to_8_bits(deep: NDArray[Any], white: float | None) -> NDArray[np.uint8]:  # (H, W) -> (H, W)
    """Scale pixel values so that `white` becomes 255.

    If `white` is None, it is the smallest of 1 (for floats only), 255 and 65535 that no pixel exceeds.
    """
    values = np.nan_to_num(deep.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if white is None:
        largest = float(values.max())
        common = (1.0, 255.0, 65535.0) if deep.dtype.kind == "f" else (255.0, 65535.0)
        white = next((level for level in common if largest <= level), largest)
    scaled: NDArray[np.uint8] = np.rint(np.clip(values / white, 0.0, 1.0) * 255.0).astype(np.uint8)
    return scaled


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB with the embedded colour profile. If it is sRGB, damaged or for another mode, change nothing."""
    transform = _transform(profile, image.mode) if profile else None
    if transform is None:
        return image
    from PIL import ImageCms

    return ImageCms.applyTransform(image, transform) or image


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Any | None:
    """Return the transform from a colour profile to sRGB; None if none is needed or the profile is damaged."""
    try:
        from PIL import ImageCms

        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), mode, "RGB"
        )
        if mode not in ("L", "RGB"):
            return transform
        # The name of a profile is not reliable: apply it to a few colours and see whether they change.
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        probe = Image.fromarray(grid if mode == "RGB" else grid[..., 0])
        changed = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int)
        unchanged = np.asarray(probe.convert("RGB")).astype(int)
        return transform if np.abs(changed - unchanged).max() > 2 else None
    except Exception:  # a damaged profile says nothing about the pixels, which stay as they are
        return None
