"""What a photo's EXIF block says: which way is up, and where and when it was taken.

A GPS position that stands in XMP alone is not read; an orientation that stands in XMP alone is obeyed, as
Pillow does.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, TypeVar

from PIL import Image

from cricavpr.errors import InputError
from cricavpr.geo import LatLon
from cricavpr.images.png import png_chunks
from cricavpr.images.taken import time_taken

T = TypeVar("T")

_EXIF_ORIENTATION = 0x0112
_EXIF_ORIGINAL = 0x8769
_EXIF_GPS = 0x8825
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turned(upright: Image.Image, source: Image.Image) -> Image.Image:
    """Turn by the orientation tag alone: exif_transpose re-encodes the whole EXIF block, which can fail."""
    if source.format == "TIFF":
        return upright  # Pillow has already turned it while loading
    orientation: object = 1
    with contextlib.suppress(Exception):
        orientation = _exif(source).get(_EXIF_ORIENTATION, 1)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return upright if turn is None else upright.transpose(turn)


def _exif(image: Image.Image) -> Image.Exif:
    if image.format in ("AVIF", "HEIF"):
        # Their plugins leave in EXIF only the turn that is still due; an orientation in XMP is done already.
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
        return exif
    return Image.Image.getexif(image)  # not PNG's own, which decodes the picture to look behind it


@dataclass(frozen=True)
class Exif:
    """Where and when a photo was taken, each None where it is unknown."""

    gps: LatLon | None = None
    taken: datetime | None = None


def read_exif(image: Image.Image, stream: IO[bytes]) -> Exif:
    """Nothing in an EXIF block, however damaged, makes a picture unusable; one half of it does not cost the other."""
    exif = _unless_damaged(lambda: _found(image, stream), Image.Exif())
    gps, original = _directory(exif, _EXIF_GPS), _directory(exif, _EXIF_ORIGINAL)
    where = _unless_damaged(lambda: _position(gps), None)
    return Exif(where, _unless_damaged(lambda: time_taken(original, gps), None))


def _directory(exif: Image.Exif, tag: int) -> dict[int, Any]:
    nothing: dict[int, Any] = {}
    return _unless_damaged(lambda: exif.get_ifd(tag), nothing)


def _unless_damaged(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except Exception:  # damaged blocks make Pillow raise nearly anything
        return otherwise


def _found(image: Image.Image, stream: IO[bytes]) -> Image.Exif:
    exif = _exif(image)
    if image.format == "PNG" and not exif:
        exif.load(_png_exif_behind_pixels(stream))
    return exif


def _png_exif_behind_pixels(stream: IO[bytes]) -> bytes:
    """PNG allows the eXIf chunk after the pixels; walk there over the chunk headers."""
    return next((stream.read(length) for kind, length in png_chunks(stream) if kind == b"eXIf"), b"")


def _position(gps: dict[int, Any]) -> LatLon | None:
    lat = _signed_degrees(gps.get(2), gps.get(1), "N", "S")
    lon = _signed_degrees(gps.get(4), gps.get(3), "E", "W")
    if lat is None or lon is None or (lat == 0.0 and lon == 0.0):
        return None  # 0, 0 lies in the ocean and is what a receiver without a fix writes
    try:
        return LatLon(lat, lon)
    except InputError:
        return None


def _signed_degrees(value: object, reference: object, plus: str, minus: str) -> float | None:
    """Degrees, minutes, seconds and a hemisphere to one number."""
    if isinstance(reference, bytes):
        reference = reference.decode("ascii", "replace")
    if not isinstance(reference, str) or not isinstance(value, tuple) or len(value) != 3:
        return None
    sign = {plus: 1.0, minus: -1.0}.get(reference.strip(" \0").upper())
    if sign is None or not all(isinstance(part, numbers.Real) for part in value):
        return None
    degrees, minutes, seconds = map(float, value)
    # A zero denominator has become NaN, which fails every comparison.
    if not (0.0 <= degrees <= 180.0 and 0.0 <= minutes <= 60.0 and 0.0 <= seconds <= 60.0):
        return None
    return sign * (degrees + minutes / 60 + seconds / 3600)
