"""Read the EXIF block of a photo: orientation, position, time and heading.

Positions and times that are only in XMP metadata are not read. An orientation that is only in XMP is applied, because
Pillow does so too.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from typing import IO, Any, TypeVar

from PIL import Image

from cricavpr.errors import InputError
from cricavpr.geo import LatLon
from cricavpr.images.opening import png_chunks
from cricavpr.times import possible

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
    """Return `upright` rotated or mirrored by the orientation tag of `source`.

    Pillow's exif_transpose is not used, because it also re-encodes the whole EXIF block, which can fail.
    """
    if source.format == "TIFF":
        return upright  # Pillow has already rotated the image while loading it
    orientation: object = 1
    with contextlib.suppress(Exception):
        orientation = _exif(source).get(_ORIENTATION, 1)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return upright if turn is None else upright.transpose(turn)


def _exif(image: Image.Image) -> Image.Exif:
    if image.format in ("AVIF", "HEIF"):
        # Their plugins have already applied the orientation in XMP; only the tag in EXIF remains to be applied.
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
        return exif
    return Image.Image.getexif(image)  # PngImageFile.getexif would decode the picture


@dataclass(frozen=True)
class Exif:
    """Contents of an EXIF block; None where a value is missing or invalid.

    Attributes:
        gps: the position of the camera.
        no_gps: why the GPS tags give no position; "" if they give a position, or if the photo has no GPS tags.
        taken: capture time in UTC.
        heading_deg: viewing direction, 0..360 clockwise from north; true and magnetic north are not distinguished.
    """

    gps: LatLon | None = None
    no_gps: str = ""
    taken: datetime | None = None
    heading_deg: float | None = None


def read_exif(image: Image.Image, stream: IO[bytes]) -> Exif:
    """Read every valid value of an EXIF block. Damaged values are skipped, so that the photo can still be used."""
    exif = _unless_damaged(lambda: _find(image, stream), Image.Exif())
    nothing: dict[int, Any] = {}
    gps, camera = (_unless_damaged(partial(exif.get_ifd, tag), nothing) for tag in (_GPS, _CAMERA))
    damaged: tuple[LatLon | None, str] = (None, "its GPS tags are damaged")
    where, why = _unless_damaged(lambda: _position(gps), damaged)
    heading = _unless_damaged(lambda: float(gps[_DIRECTION]), -1.0)
    return Exif(
        where,
        why,
        _unless_damaged(lambda: time_taken(camera, gps), None),
        heading % 360.0 if 0.0 <= heading <= 360.0 else None,
    )


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
        return None, "its GPS position has no N or S, or no E or W"
    lat, lon = _degrees(gps[_LAT]), _degrees(gps[_LON])
    if lat is None or lon is None:
        return None, "its GPS position is not in degrees, minutes and seconds"
    if lat == 0.0 and lon == 0.0:  # receivers without a fix write 0, 0, which is in the ocean
        return None, "its GPS position is 0, 0, which stands for an unknown position"
    try:
        return LatLon(north * lat, east * lon), ""
    except InputError:
        return None, f"its GPS position, latitude {north * lat:g}, longitude {east * lon:g}, is not on earth"


def _sign(reference: object, plus: str, minus: str) -> float | None:
    return {plus: 1.0, minus: -1.0}.get(text_of(reference).upper())


def _degrees(value: object) -> float | None:
    """Return a tuple of degrees, minutes and seconds as degrees without a sign; None if it is invalid."""
    if not isinstance(value, tuple) or len(value) != 3 or not all(isinstance(part, numbers.Real) for part in value):
        return None
    degrees, minutes, seconds = map(float, value)
    # A zero denominator has become NaN, which fails every comparison.
    if not (0.0 <= degrees < 1e6 and 0.0 <= minutes <= 60.0 and 0.0 <= seconds <= 60.0):
        return None
    return degrees + minutes / 60 + seconds / 3600


# --- the time

STALE = timedelta(hours=26)  # 14 hours for a missing time zone, 12 for a wrong clock
GPS_BEGAN = date(1980, 1, 6)  # a receiver that never had a fix reports this date

_GPS_TIME, _GPS_DATE = 0x07, 0x1D
_ORIGINAL, _ORIGINAL_OFFSET, _ORIGINAL_FRACTION = 0x9003, 0x9011, 0x9291

_DATE = r"([0-9]{4})([:/-])([0-9]{2})\2([0-9]{2})"
_DATE_STAMP = re.compile(_DATE)
_DATE_TIME = re.compile(_DATE + r"[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})")
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):([0-5][0-9])")


def time_taken(original: Mapping[int, Any], gps: Mapping[int, Any]) -> datetime | None:
    """Return when a photo was taken, in UTC, or None if that is unknown.

    GPSDateStamp and GPSTimeStamp, which are UTC by definition, are preferred. DateTimeOriginal is the camera's clock:
    it is converted to UTC by OffsetTimeOriginal. Without that tag it is taken as UTC, and is up to 14 hours off. If
    the two times are more than `STALE` apart, the camera's clock is used: a receiver without a fix repeats the date of
    its last fix, which may be weeks old. DateTime (last edited) and DateTimeDigitized (scanned) are not read.

    No time is guessed: blanks, zeros, impossible dates, text in the place of numbers, zero denominators, missing parts,
    and times before 1826 or later than a day from now all give None.

    Args:
        original: tags of the EXIF directory, as Pillow returns them.
        gps: tags of the GPS directory.
    """
    camera, satellite = _camera_time(original), _gps_time(gps)
    if camera is not None and satellite is not None and abs(camera - satellite) > STALE:
        return camera
    return satellite or camera


def _gps_time(tags: Mapping[int, Any]) -> datetime | None:
    found = _DATE_STAMP.fullmatch(text_of(tags.get(_GPS_DATE)))
    seconds = _seconds_of_day(tags.get(_GPS_TIME))
    if found is None or seconds is None:
        return None
    try:
        day = date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return None
    if day <= GPS_BEGAN:
        return None
    return possible(datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=seconds))


def _seconds_of_day(stamp: object) -> float | None:
    """Return a tuple of hours, minutes and seconds as seconds since midnight; None if it is invalid."""
    if not isinstance(stamp, tuple) or len(stamp) != 3 or not all(isinstance(part, numbers.Real) for part in stamp):
        return None
    hours, minutes, seconds = map(float, stamp)
    # A zero denominator has become NaN, which fails every comparison.
    if not (0.0 <= hours < 24.0 and 0.0 <= minutes < 60.0 and 0.0 <= seconds < 60.0):
        return None
    if hours % 1 or minutes % 1:
        return None
    return 3600 * hours + 60 * minutes + math.floor(1000 * seconds + 1e-6) / 1000


def _camera_time(tags: Mapping[int, Any]) -> datetime | None:
    found = _DATE_TIME.fullmatch(text_of(tags.get(_ORIGINAL)))
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6, 7))
    digits = text_of(tags.get(_ORIGINAL_FRACTION))
    milliseconds = int(digits[:3].ljust(3, "0")) if re.fullmatch("[0-9]+", digits) else 0
    try:
        local = datetime(year, month, day, hour, minute, second, 1000 * milliseconds)
    except ValueError:
        return None
    return possible(local.replace(tzinfo=_offset(tags.get(_ORIGINAL_OFFSET))))


def _offset(value: object) -> timezone:
    """Return the time zone of a local time; UTC if the offset is missing or invalid."""
    found = _OFFSET.fullmatch(text_of(value))
    if found is None:
        return UTC
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(ahead if found[1] == "+" else -ahead)


def text_of(value: object) -> str:
    """Return the text of an EXIF tag without padding; "" if the tag holds no text."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return value.strip(" \0") if isinstance(value, str) else ""
