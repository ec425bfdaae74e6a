"""Small photos with or without GPS: noise of a seed, so that no two are alike."""

from pathlib import Path

import numpy as np
from PIL import Image


def photo(path: Path, seed: int, lat: float | None = None, lon: float = 0.0) -> Path:
    """Write a photo; its EXIF block has a position if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if lat is not None:
        exif[0x8825] = {1: "NS"[lat < 0], 2: _dms(lat), 3: "EW"[lon < 0], 4: _dms(lon)}
    noise = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    Image.fromarray(noise).resize((64, 64)).save(path, exif=exif)
    return path


def _dms(value: float) -> tuple[int, int, float]:
    value = abs(value)
    return int(value), int(value % 1 * 60), round(value * 3600 % 60, 3)
