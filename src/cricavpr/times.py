"""When a photo was taken: milliseconds in UTC, and which of what is written down can be true."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.datetime64]  # milliseconds, UTC; NaT where unknown

OLDEST = datetime(1826, 1, 1, tzinfo=UTC)  # the oldest photograph that is left is of 1826 or 1827
AHEAD = timedelta(days=1)  # a local time without its offset may be 14 hours ahead of UTC
EXAMPLE = "2026-05-01T12:00Z"


def read_time(text: str) -> datetime | None:
    """A time in ISO 8601, UTC unless it names another offset; a day alone is its first moment in UTC.

    None for what is no time, and for one at which no photo can have been taken: before 1826 or later than a day
    from now.
    """
    try:
        return possible(datetime.fromisoformat(text.strip()))
    except ValueError:
        return None


def possible(time: datetime) -> datetime | None:
    """The time in UTC (what has no offset is taken as UTC), or None where no photo can have been taken then."""
    try:
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:  # an offset that leads out of the years 1 to 9999
        return None
    return utc if OLDEST <= utc <= datetime.now(UTC) + AHEAD else None


def as_times(times: Iterable[datetime | None]) -> Times:
    """(N,) times in UTC, rounded down to milliseconds; NaT for None."""
    plain = [None if time is None else time.astimezone(UTC).replace(tzinfo=None) for time in times]
    return np.array(plain, "datetime64[us]").astype("datetime64[ms]")
