"""Read from the EXIF tags of a photo when it was taken.

Two clocks may have written the time. GPSDateStamp and GPSTimeStamp are UTC by definition, and come first.
DateTimeOriginal is the camera's own clock: with OffsetTimeOriginal it can be converted to UTC; without, it is a local
time of an unknown place, is taken as UTC and is up to 14 hours off. Where the two are more than `STALE` apart the
camera's counts, because a receiver without a fix goes on writing the date of its last fix, which may be weeks old.

DateTime is when a file was last edited, and DateTimeDigitized when a picture was scanned: neither is read. Times in XMP
are not read.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from cricavpr.times import possible

STALE = timedelta(hours=26)  # local times without an offset are at most 14 hours off; 12 more for a clock set badly
GPS_BEGAN = date(1980, 1, 6)  # what a receiver that never had a fix counts from

_GPS_TIME, _GPS_DATE = 0x07, 0x1D
_ORIGINAL, _ORIGINAL_OFFSET, _ORIGINAL_FRACTION = 0x9003, 0x9011, 0x9291

_DATE = r"([0-9]{4})([:/-])([0-9]{2})\2([0-9]{2})"
_DATE_STAMP = re.compile(_DATE)
_DATE_TIME = re.compile(_DATE + r"[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})")
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):([0-5][0-9])")


def time_taken(original: Mapping[int, Any], gps: Mapping[int, Any]) -> datetime | None:
    """Return when a photo was taken, in UTC, or None where that is unknown.

    No time is ever invented: blanks, zeros, impossible dates, text in the place of numbers, zero denominators, missing
    parts, and times before 1826 or later than a day from now all give None.

    Args:
        original: tags of the EXIF directory, as Pillow gives them.
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
    """Return hours, minutes and seconds as one number."""
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
    try:
        local = datetime(year, month, day, hour, minute, second, _microseconds(tags.get(_ORIGINAL_FRACTION)))
    except ValueError:
        return None
    return possible(local.replace(tzinfo=_offset(tags.get(_ORIGINAL_OFFSET))))


def _microseconds(value: object) -> int:
    """Return the fraction of a second in microseconds; 0 for anything but digits."""
    digits = text_of(value)
    return int(digits[:3].ljust(3, "0")) * 1000 if re.fullmatch("[0-9]+", digits) else 0


def _offset(value: object) -> timezone:
    """Return the time zone of a local time; UTC if the offset is missing or invalid."""
    found = _OFFSET.fullmatch(text_of(value))
    if found is None:
        return UTC
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(ahead if found[1] == "+" else -ahead)


def text_of(value: object) -> str:
    """Return an EXIF text without padding; "" for anything but text."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return value.strip(" \0") if isinstance(value, str) else ""
