"""When a photo says that it was taken: two clocks in one EXIF block, and all the rubbish that stands in them."""

from datetime import UTC, datetime, timedelta

import pytest

from cricavpr.geo import LatLon
from cricavpr.images import read_header
from tests.odd_files import Value, dms, encoded, exif_with

ORIGINAL, OFFSET, FRACTION = 0x9003, 0x9011, 0x9291
MORNING = datetime(2014, 10, 19, 8, 30, 15, tzinfo=UTC)
LUND: dict[int, Value] = {1: "N", 2: dms(55, 42, 0), 3: "E", 4: dms(13, 11, 0)}
HALF_PAST_EIGHT = dms(8, 30, 15)


def gps(day: Value = "2014:10:19", time: Value = HALF_PAST_EIGHT) -> dict[int, Value]:
    return LUND | {7: time, 29: day}


def taken(kind: str = "JPEG", **directories: dict[int, Value] | str) -> datetime | None:
    return read_header(encoded(kind=kind, exif=exif_with(**directories))).taken  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_time_of_the_satellites_is_utc(kind: str) -> None:
    assert taken(kind, gps=gps()) == MORNING


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_time_of_the_camera_is_moved_by_its_offset(kind: str) -> None:
    assert taken(kind, original={ORIGINAL: "2014:10:19 10:30:15", OFFSET: "+02:00"}) == MORNING


@pytest.mark.parametrize(
    "offset, hours",
    [
        ("+02:00", 2),
        ("-05:30", -5.5),
        ("+14:00", 14),
        ("Z", 0),
        ("   :  ", 0),
        ("+15:00", 0),
        ("+99:00", 0),
        ("2", 0),
        ("", 0),
    ],
)
def test_an_offset_that_makes_no_sense_is_none_and_then_the_time_is_taken_as_utc(offset: str, hours: float) -> None:
    assert taken(original={ORIGINAL: "2014:10:19 08:30:15", OFFSET: offset}) == MORNING - timedelta(hours=hours)


@pytest.mark.parametrize(
    "fraction, ms", [("123", 123), ("5", 500), ("05 ", 50), ("123999", 123), ("   ", 0), ("x", 0), ("-1", 0)]
)
def test_fractions_of_a_second_are_digits_behind_the_point(fraction: str, ms: int) -> None:
    found = taken(original={ORIGINAL: "2014:10:19 08:30:15", FRACTION: fraction})
    assert found == MORNING + timedelta(milliseconds=ms)


def test_fractions_of_the_satellites_are_kept_to_milliseconds() -> None:
    assert taken(gps=gps(time=dms(8, 30, (159_999, 10_000)))) == MORNING + timedelta(milliseconds=999)


@pytest.mark.parametrize("text", ["2014-10-19 08:30:15", "2014/10/19 08:30:15", "2014-10-19T08:30:15"])
def test_dates_with_other_signs_between_the_numbers_are_read(text: str) -> None:
    assert taken(original={ORIGINAL: text}) == MORNING


# --- which of two clocks


def test_the_satellites_come_before_a_camera_that_agrees() -> None:
    assert taken(gps=gps(), original={ORIGINAL: "2014:10:19 10:31:00"}) == MORNING  # 2 hours east, a bit fast


@pytest.mark.parametrize(
    "camera, stale",
    [("2014:10:18 06:30:15", False), ("2014:10:18 06:30:14", True), ("2014:10:20 10:30:15", False),
     ("2014:10:20 10:30:16", True), ("2014:10:24 08:30:15", True)],
)  # fmt: skip
def test_a_receiver_that_is_more_than_26_hours_off_tells_of_its_last_fix(camera: str, stale: bool) -> None:
    own = datetime.strptime(camera + " +0000", "%Y:%m:%d %H:%M:%S %z")
    assert taken(gps=gps(), original={ORIGINAL: camera}) == (own if stale else MORNING)


def test_half_a_stamp_of_the_satellites_leaves_the_camera() -> None:
    for half in (LUND | {7: dms(8, 30, 15)}, LUND | {29: "2014:10:19"}, LUND):
        assert taken(gps=half, original={ORIGINAL: "2001:01:01 00:00:00"}) == datetime(2001, 1, 1, tzinfo=UTC)


# --- nothing is invented


NO_CAMERA_TIME: dict[str, Value] = {
    "zeros": "0000:00:00 00:00:00",
    "blanks": "                   ",
    "blanks and colons": "    :  :     :  :  ",
    "empty": "",
    "month 13": "2014:13:01 08:30:15",
    "30 February": "2014:02:30 08:30:15",
    "29 February of no leap year": "2014:02:29 08:30:15",
    "hour 24": "2014:10:19 24:00:60",
    "second 60": "2014:10:19 08:30:60",
    "day alone": "2014:10:19",
    "no seconds": "2014:10:19 08:30",
    "something behind": "2014:10:19 08:30:15 PM",
    "two signs": "2014:10-19 08:30:15",
    "before photographs": "1825:06:01 12:00:00",
    "year 1": "0001:01:01 00:00:00",
    "far ahead": "2999:01:01 00:00:00",
    "year 9999": "9999:12:31 23:59:59",
    "a number": 2014,
    "rationals": dms(2014, 10, 19),
}


@pytest.mark.parametrize("value", NO_CAMERA_TIME.values(), ids=NO_CAMERA_TIME.keys())
@pytest.mark.parametrize("offset", ["+14:00", "-14:00"])
def test_no_time_of_a_camera_is_invented(value: Value, offset: str) -> None:
    header = read_header(encoded(exif=exif_with(LUND, original={ORIGINAL: value, OFFSET: offset})))
    assert header.taken is None and header.gps == LatLon(55.7, 13 + 11 / 60)


NO_GPS_TIME: dict[str, tuple[Value, Value]] = {
    "0/0": ("2014:10:19", dms((0, 0), (0, 0), (0, 0))),
    "seconds 0/0": ("2014:10:19", dms(8, 30, (0, 0))),
    "4294967295": ("2014:10:19", dms(4294967295, 4294967295, 4294967295)),
    "24:00:00": ("2014:10:19", dms(24, 0, 0)),
    "24:00:60": ("2014:10:19", dms(24, 0, 60)),
    "second 60": ("2014:10:19", dms(8, 30, 60)),
    "minute 60": ("2014:10:19", dms(8, 60, 15)),
    "half an hour": ("2014:10:19", dms((17, 2), 30, 15)),
    "one part": ("2014:10:19", dms(8)),
    "text": ("2014:10:19", "08:30:15"),
    "number": ("2014:10:19", 8),
    "no day": ("", dms(8, 30, 15)),
    "blank day": ("    :  :  ", dms(8, 30, 15)),
    "zero day": ("0000:00:00", dms(8, 30, 15)),
    "month 13": ("2014:13:19", dms(8, 30, 15)),
    "31 September": ("2014:09:31", dms(8, 30, 15)),
    "day as rationals": (dms(2014, 10, 19), dms(8, 30, 15)),
    "never had a fix": ("1980:01:06", dms(0, 0, 3)),
    "before photographs": ("1800:01:01", dms(8, 30, 15)),
    "far ahead": ("2999:01:01", dms(8, 30, 15)),
    "end of all years": ("9999:12:31", dms(23, 59, 59)),
}


@pytest.mark.parametrize("day, time", NO_GPS_TIME.values(), ids=NO_GPS_TIME.keys())
def test_no_time_of_the_satellites_is_invented(day: Value, time: Value) -> None:
    header = read_header(encoded(exif=exif_with(gps(day, time))))
    assert header.taken is None and header.gps == LatLon(55.7, 13 + 11 / 60)


def test_the_time_of_an_edit_or_a_scan_is_not_when_a_photo_was_taken() -> None:
    assert taken(edited="2014:10:19 08:30:15", original={0x9004: "2014:10:19 08:30:15"}) is None


def test_a_photo_without_exif_has_no_time() -> None:
    assert read_header(encoded()).taken is None


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_every_cut_of_a_block_gives_the_time_or_none() -> None:
    sound = exif_with(gps(), original={ORIGINAL: "2014:10:19 10:30:15", OFFSET: "+02:00", FRACTION: "000"})
    answers = {read_header(encoded(exif=sound[:cut])).taken for cut in range(6, len(sound) + 1)}
    local = MORNING + timedelta(hours=2)
    assert answers <= {None, MORNING, local} and MORNING in answers and None in answers


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_directory_of_one_clock_does_not_cost_the_rest() -> None:
    sound = exif_with(gps(), original={ORIGINAL: "2014:10:19 10:30:15", OFFSET: "+02:00"})
    pointer = bytes.fromhex("8769 0004 00000001".replace(" ", ""))
    at = sound.index(pointer) + len(pointer)
    lost = sound[:at] + b"\xff\xff\xff\xf0" + sound[at + 4 :]
    header = read_header(encoded(exif=lost))
    assert header.gps == LatLon(55.7, 13 + 11 / 60) and header.taken == MORNING


def test_a_block_that_is_none_is_no_time_and_no_error() -> None:
    sound = encoded(kind="WEBP", exif=exif_with(gps()))
    broken = sound.replace(b"MM\0*", b"XX\0*")
    assert broken != sound and read_header(sound).taken == MORNING
    header = read_header(broken)
    assert (header.format, header.gps, header.taken) == ("WEBP", None, None)
