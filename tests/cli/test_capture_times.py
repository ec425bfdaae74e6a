"""When photos were taken, from EXIF through the index to a search, as a stranger types it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cricavpr.cli import main
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import remote_index
from tests.index.fake_server import FakeServer

METHOD = ["--method", "pixels"]
PIXELS = [*METHOD, "--quiet", "--workers", "0"]
BY_GPS, BY_CAMERA, LOCAL, UNKNOWN = "by-gps.jpg", "by-camera.jpg", "local.jpg", "unknown.jpg"
TIMES = {
    BY_CAMERA: "2023-12-31T23:30:00.250Z",
    BY_GPS: "2024-06-01T08:30:15.500Z",
    LOCAL: "2025-06-01T12:00:00.000Z",
    UNKNOWN: "",
}


def photo(path: Path, north: float, stamps: dict[int, str], gps: dict[int, object] | None = None) -> None:
    """A picture of its own, 31 m further north for each second of arc, with the stamps of a camera."""
    exif = Image.Exif()
    exif[0x0132] = "2026:01:01 00:00:00"  # edited then, which says nothing
    exif.get_ifd(0x8769).update(stamps)
    place = {1: "N", 2: (55.0, 42.0, north), 3: "E", 4: (13.0, 11.0, 0.0)}
    exif.get_ifd(0x8825).update(place | (gps or {}))
    seen = np.random.default_rng(int(north)).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(seen).resize((64, 64)).save(path, exif=exif, quality=95)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo(folder / BY_GPS, 1, {0x9003: "2024:06:01 10:30:16"}, {7: (8.0, 30.0, 15.5), 29: "2024:06:01"})
    photo(folder / BY_CAMERA, 2, {0x9003: "2024:01:01 00:30:00", 0x9291: "25", 0x9011: "+01:00"})
    photo(folder / LOCAL, 3, {0x9003: "2025:06:01 12:00:00"}, {7: (9.0, 0.0, 0.0), 29: "2019:04:01"})  # a stale fix
    photo(folder / UNKNOWN, 4, {0x9003: "0000:00:00 00:00:00"})
    return folder


@pytest.fixture
def index(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    to = tmp_path / "index"
    assert main(["index", "build", str(photos), "--out", str(to), *PIXELS]) == 0
    assert "4 photos, 3 with a time, method pixels" in capsys.readouterr().out
    return to


def exported(index: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    table = index.with_suffix(".csv")
    assert main(["index", "export", str(index), "--out", str(table)]) == 0
    capsys.readouterr()
    return {row["name"]: row["time"] for row in csv.DictReader(io.StringIO(table.read_text()))}


def matches(index: Path | str, photo: Path, capsys: pytest.CaptureFixture[str], *limits: str) -> list[str]:
    assert main(["locate", str(photo), "--index", str(index), "--json", *METHOD, *limits]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    return sorted(match["name"] for match in answer["matches"])


def test_the_times_of_photos_reach_the_table_of_an_index(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported(index, capsys) == TIMES
    assert main(["index", "info", str(index), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["with_time"] == 3


@pytest.mark.parametrize(
    "limits, expected",
    [
        ([], [BY_CAMERA, BY_GPS, LOCAL, UNKNOWN]),
        (["--since", "2024-01-01"], [BY_GPS, LOCAL]),
        (["--since", "2023-12-31T23:30"], [BY_CAMERA, BY_GPS, LOCAL]),
        (["--until", "2024-01-01"], [BY_CAMERA]),
        (["--since", "2024-01-01", "--until", "2025-01-01"], [BY_GPS]),
        (["--since", "2024-06-01T10:30:15.500+02:00", "--until", "2024-06-01T08:30:15.501"], [BY_GPS]),
    ],
)
def test_photos_are_found_by_when_they_were_taken(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str], limits: list[str], expected: list[str]
) -> None:
    assert matches(index, photos / UNKNOWN, capsys, *limits) == expected


def test_where_no_photo_was_taken_then_one_line_says_so(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["locate", str(photos / UNKNOWN), "--index", str(index), *METHOD]
    assert main([*command, "--since", "2025-12-31", "--until", "2026-02-01"]) == 2
    assert "none of 4 photos matches" in capsys.readouterr().err


def test_photos_that_are_added_bring_their_times(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    photo(more / "later.jpg", 5, {0x9003: "2025:09:01 12:00:00"})
    assert main(["index", "add", str(index), str(more), *PIXELS]) == 0
    assert exported(index, capsys) == TIMES | {"later.jpg": "2025-09-01T12:00:00.000Z"}


def test_an_update_fills_in_times_that_an_older_index_never_had(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = PlaceIndex.open(index)
    timeless = index.with_name("timeless")
    ids = [one.tobytes() for one in old.facts.ids]
    PlaceIndex.build(Photos(old.descriptors, photos, old.positions, ids=ids), timeless)
    assert set(exported(timeless, capsys).values()) == {""}
    assert main(["index", "update", str(timeless), str(photos), *PIXELS]) == 0
    assert "3 photos replaced by 3 photos, 1 unchanged, 4 photos now" in capsys.readouterr().out
    assert exported(timeless, capsys) == TIMES


def test_a_table_says_when_and_a_wrong_time_is_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, to = tmp_path / "where.csv", tmp_path / "index"
    rows = [f"{BY_GPS},55.7,13.2,2020-02-29T12:00+01:00", f"{LOCAL},55.7,13.2,", f"{UNKNOWN},55.7,13.2,noon"]
    table.write_text("\n".join(["name,lat,lon,time", *rows, f"{BY_CAMERA},55.7,13.2,2020-03-01"]))
    assert main(["index", "build", str(photos), "--positions", str(table), "--out", str(to), *PIXELS]) == 0
    said = capsys.readouterr()
    assert "4 photos, 2 with a time" in said.out and "line 4 of where.csv has the invalid time 'noon'" in said.err
    assert exported(to, capsys) == {
        BY_CAMERA: "2020-03-01T00:00:00.000Z",
        BY_GPS: "2020-02-29T11:00:00.000Z",
        LOCAL: "",
        UNKNOWN: "",
    }


def test_what_an_index_exports_is_a_table_of_positions_and_times(
    index: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(index, capsys)
    again = tmp_path / "again"
    table = str(index.with_suffix(".csv"))
    assert main(["index", "build", str(photos), "--positions", table, "--out", str(again), *PIXELS]) == 0
    assert exported(again, capsys) == TIMES


def test_an_interrupted_build_goes_on_and_keeps_every_time(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "index"
    with monkeypatch.context() as stopped:
        stopped.setattr(PlaceIndex, "build", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        main(["index", "build", str(photos), "--out", str(to), *PIXELS])
    assert [*to.glob(".describing/*/*")]
    assert main(["index", "build", str(photos), "--out", str(to), *PIXELS]) == 0
    assert exported(to, capsys) == TIMES and not [*to.glob(".describing*")]


def test_a_server_is_told_when_photos_were_taken(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeServer()
    monkeypatch.setattr(remote_index, "connected", lambda *_: server)
    monkeypatch.chdir(tmp_path)
    at = "milvus://localhost:19530/times"
    assert main(["index", "build", str(photos), "--out", at, *PIXELS]) == 0
    capsys.readouterr()
    kept = {one["name"]: one["time_ms"] for one in server.photos.values()}
    assert kept[BY_GPS] == np.datetime64("2024-06-01T08:30:15.500", "ms").astype(int)
    assert kept[UNKNOWN] == np.datetime64("NaT", "ms").astype(np.int64)
    assert matches(at, photos / UNKNOWN, capsys, "--until", "2025-01-01") == [BY_CAMERA, BY_GPS]
