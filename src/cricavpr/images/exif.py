"""Read the EXIF block of a photo: orientation, position, time and heading.

A GPS position that stands in XMP alone is not read; an orientation that stands in XMP alone is obeyed, as Pillow does.
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
from cricavpr.images.opening import png_chunks
from cricavpr.images.taken import text_of, time_taken

T = TypeVar("T")

_ORIENTATION, _CAMERA, _GPS = 0x0112, 0x8769, 0x8825
_LAT_REF, _LAT, _LON_REF, _LON, _DIRECTION, _DATUM = 1, 2, 3, 4, 17, 18
_OTHER_DATUMS = ("tokyo", "nad27", "nad 27", "ed50", "ed 50", "osgb")  # metres to hundreds of metres off WGS84
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_upright(upright: Image.Image, source: Image.Image) -> Image.Image:
    """Turn by the orientation tag alone: exif_transpose re-encodes the whole EXIF block, which can fail."""
    if source.format == "TIFF":
        return upright  # Pillow has already turned it while loading
    orientation: object = 1
    with contextlib.suppress(Exception):
        orientation = _exif(source).get(_ORIENTATION, 1)
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
    """Contents of an EXIF block; None where a value is missing or invalid.

    Attributes:
        gps: the position of the camera.
        no_gps: why GPS tags that exist give no position, or "".
        taken: capture time in UTC.
        heading_deg: viewing direction, 0..360 clockwise from north; true and magnetic north are not told apart.
    """

    gps: LatLon | None = None
    no_gps: str = ""
    taken: datetime | None = None
    heading_deg: float | None = None


def read_exif(image: Image.Image, stream: IO[bytes]) -> Exif:
    """Read what can be read: a damaged block makes no picture unusable, nor a damaged part the others."""
    exif = _unless_damaged(lambda: _find(image, stream), Image.Exif())
    gps, camera = _directory(exif, _GPS), _directory(exif, _CAMERA)
    damaged: tuple[LatLon | None, str] = (None, "its GPS tags are damaged")
    where, why = _unless_damaged(lambda: _position(gps), damaged)
    heading = _unless_damaged(lambda: float(gps[_DIRECTION]), -1.0)
    return Exif(
        where,
        why,
        _unless_damaged(lambda: time_taken(camera, gps), None),
        heading % 360.0 if 0.0 <= heading <= 360.0 else None,
    )


def _directory(exif: Image.Exif, tag: int) -> dict[int, Any]:
    nothing: dict[int, Any] = {}
    return _unless_damaged(lambda: exif.get_ifd(tag), nothing)


def _unless_damaged(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except Exception:  # damaged blocks make Pillow raise nearly anything
        return otherwise


def _find(image: Image.Image, stream: IO[bytes]) -> Image.Exif:
    exif = _exif(image)
    if image.format == "PNG" and not exif:  # PNG allows the eXIf chunk after the pixels
        exif.load(next((stream.read(length) for kind, length in png_chunks(stream) if kind == b"eXIf"), b""))
    return exif


def _position(gps: dict[int, Any]) -> tuple[LatLon | None, str]:
    """Return the position in the GPS tags, or the reason why there is none."""
    if _LAT not in gps or _LON not in gps:
        return None, ""
    datum = text_of(gps.get(_DATUM))
    if datum.casefold().startswith(_OTHER_DATUMS):
        return None, f"its GPS position is in the datum {datum!r}, not in WGS84"
    north, east = _sign(gps.get(_LAT_REF), "N", "S"), _sign(gps.get(_LON_REF), "E", "W")
    if north is None or east is None:
        return None, "its GPS position does not say N or S, and E or W"
    lat, lon = _degrees(gps[_LAT]), _degrees(gps[_LON])
    if lat is None or lon is None:
        return None, "its GPS position is not in degrees, minutes and seconds"
    if lat == 0.0 and lon == 0.0:  # in the ocean; receivers without a fix write it
        return None, "its GPS position is 0, 0, which stands for an unknown one"
    try:
        return LatLon(north * lat, east * lon), ""
    except InputError:
        return None, f"its GPS position, latitude {north * lat:g}, longitude {east * lon:g}, is not on earth"


def _sign(reference: object, plus: str, minus: str) -> float | None:
    return {plus: 1.0, minus: -1.0}.get(text_of(reference).upper())


def _degrees(value: object) -> float | None:
    """Return degrees, minutes and seconds as one number without a sign."""
    if not isinstance(value, tuple) or len(value) != 3 or not all(isinstance(part, numbers.Real) for part in value):
        return None
    degrees, minutes, seconds = map(float, value)
    # A zero denominator has become NaN, which fails every comparison.
    if not (0.0 <= degrees < 1e6 and 0.0 <= minutes <= 60.0 and 0.0 <= seconds <= 60.0):
        return None
    return degrees + minutes / 60 + seconds / 3600
