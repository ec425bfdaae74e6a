"""When a photo was taken: which texts are times, and which times can be true."""

import time
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from cricavpr.times import as_times, possible, read_time


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01T12:00",
        "2026-05-01 12:00:00",
        " 2026-05-01T12:00:00.000Z ",
        "2026-05-01T14:00+02:00",
        "2026-05-01T04:00-08:00",
        "20260501T120000Z",
    ],
)
def test_a_time_is_utc_unless_it_names_an_offset(text: str) -> None:
    assert read_time(text) == datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_a_time_without_an_offset_does_not_depend_on_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert read_time("2026-05-01T12:00") == datetime(2026, 5, 1, 12, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_day_is_its_first_moment() -> None:
    assert read_time("2026-05-01") == datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "noon", "1714564800", "2026-02-30", "2026-13-01", "2026:05:01 12:00:00", "12:00"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert read_time(text) is None


@pytest.mark.parametrize(
    "text", ["1825-12-31T23:59Z", "0001-01-01T00:00+14:00", "2999-01-01", "9999-12-31T23:59-14:00"]
)
def test_no_photo_was_taken_before_photographs_or_will_be_taken_next_year(text: str) -> None:
    assert read_time(text) is None


def test_a_local_time_of_today_is_possible_wherever_it_was_read() -> None:
    now = datetime.now(UTC)
    assert possible(now + timedelta(hours=14)) is not None
    assert possible(now + timedelta(hours=25)) is None


def test_times_become_milliseconds_in_utc() -> None:
    noon = datetime(2026, 5, 1, 14, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2)))
    times = as_times([noon, None, datetime(1926, 5, 1, tzinfo=UTC)])
    assert times.dtype == np.dtype("datetime64[ms]")
    assert [str(one) for one in times] == ["2026-05-01T12:00:00.123", "NaT", "1926-05-01T00:00:00.000"]
    assert as_times([]).dtype == np.dtype("datetime64[ms]")
