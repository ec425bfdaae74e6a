"""Parse and check capture times of photos, in UTC."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.datetime64]  # milliseconds, UTC; NaT where unknown

OLDEST = datetime(1826, 1, 1, tzinfo=UTC)  # the oldest surviving photograph was taken in 1826 or 1827
AHEAD = timedelta(days=1)  # a local time without a UTC offset may be 14 hours ahead of UTC
EXAMPLE = "2026-05-01T12:00Z"


def read_time(text: str) -> datetime | None:
    """Parse a time in ISO 8601. A time without a UTC offset is taken as UTC, and a date alone as midnight in UTC.

    Returns:
        The time in UTC. None if the text is not a time, or the time is before 1826 or more than a day in the future.

    Example:
        >>> read_time("2026-05-01T14:00+02:00")
        datetime.datetime(2026, 5, 1, 12, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        return possible(datetime.fromisoformat(text.strip()))
    except ValueError:
        return None


def possible(time: datetime) -> datetime | None:
    """Return `time` in UTC, or None if it is before 1826 or more than a day in the future.

    A time without a UTC offset is taken as UTC.
    """
    try:
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:  # after the conversion to UTC the year is not in 1..9999
        return None
    return utc if OLDEST <= utc <= datetime.now(UTC) + AHEAD else None


def as_times(times: Iterable[datetime | None]) -> Times:
    """Convert N times to an array in UTC, rounded down to milliseconds. None becomes NaT."""
    plain = [None if time is None else time.astimezone(UTC).replace(tzinfo=None) for time in times]
    return np.array(plain, "datetime64[us]").astype("datetime64[ms]")
