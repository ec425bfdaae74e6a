"""Convert pictures of any mode, depth and colour profile to 8-bit RGB in sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TRANSPARENT = (124, 116, 104)  # ImageNet's mean colour: after normalisation a transparent pixel is 0


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB in sRGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image), _white(image))).convert("RGB")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return _in_srgb(_over_colour(image.convert("RGBA")), image.info.get("icc_profile"))
    if image.mode in ("P", "1"):
        return _in_srgb(image.convert("RGB"), image.info.get("icc_profile"))
    return _in_srgb(image, image.info.get("icc_profile")).convert("RGB")


def _over_colour(image: Image.Image) -> Image.Image:  # RGBA
    ground = Image.new("RGBA", image.size, (*TRANSPARENT, 255))
    ground.alpha_composite(image)
    return ground.convert("RGB")


def _white(image: Image.Image) -> float | None:
    """Return the value of white of a picture of more than 8 bits; None where the file does not say."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (16,))[0]  # BitsPerSample: 12-bit TIFFs are stored as they are in 16 bits
    if image.mode.startswith("I;16"):
        return float(2**bits - 1)
    return 65535.0 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _to_8_bits(deep: NDArray[Any], white: float | None) -> NDArray[np.uint8]:  # (H, W) -> (H, W)
    """Scale white to 255; an unknown white is the first of 1, 255, 65535 that no pixel exceeds."""
    values = np.nan_to_num(deep.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if white is None:
        largest = float(values.max())
        common = (1.0, 255.0, 65535.0) if deep.dtype.kind == "f" else (255.0, 65535.0)
        white = next((level for level in common if largest <= level), largest)
    scaled: NDArray[np.uint8] = np.rint(np.clip(values / white, 0.0, 1.0) * 255.0).astype(np.uint8)
    return scaled


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by the embedded profile; nothing changes if that is sRGB, damaged or of another mode."""
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
