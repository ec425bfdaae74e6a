"""Parse and check capture times of photos, in UTC."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.datetime64]  # milliseconds, UTC; NaT where unknown

OLDEST = datetime(1826, 1, 1, tzinfo=UTC)  # the oldest surviving photograph was taken in 1826 or 1827
AHEAD = timedelta(days=1)  # a local time without its offset may be 14 hours ahead of UTC
EXAMPLE = "2026-05-01T12:00Z"


def read_time(text: str) -> datetime | None:
    """Parse a time in ISO 8601. Without an offset it is UTC; a date alone means midnight in UTC.

    Returns:
        The time in UTC; None for any other text, and for a time before 1826 or later than a day from now.

    Example:
        >>> read_time("2026-05-01T14:00+02:00")
        datetime.datetime(2026, 5, 1, 12, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        return possible(datetime.fromisoformat(text.strip()))
    except ValueError:
        return None


def possible(time: datetime) -> datetime | None:
    """Return `time` in UTC, or None if it is before 1826 or over a day ahead. A time without an offset is UTC."""
    try:
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:  # an offset that leads out of the years 1 to 9999
        return None
    return utc if OLDEST <= utc <= datetime.now(UTC) + AHEAD else None


def as_times(times: Iterable[datetime | None]) -> Times:
    """Return (N,) times in UTC, rounded down to milliseconds; NaT for None."""
    plain = [None if time is None else time.astimezone(UTC).replace(tzinfo=None) for time in times]
    return np.array(plain, "datetime64[us]").astype("datetime64[ms]")
