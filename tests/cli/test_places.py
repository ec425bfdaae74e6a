"""`cricavpr places`, as a stranger types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.datasets.place_folder import read_places
from cricavpr.town.write import make_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "town"
    make_town(folder, 7100, 8, "photos", image_size=(40, 40), queries_per_place=3)
    return folder


def test_places_are_built_mapped_and_checked(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "places.json"
    assert main(["places", "build", str(town), "--out", str(out), "--apart-m", "5"]) == 0
    said = capsys.readouterr().out
    assert "8 places from 32 of 32 located photos" in said and "32 located photos have a heading" in said
    assert "8 places from 32 of 32 photos" in out.with_suffix(".html").read_text()
    assert read_places(out).image_count() == 32
    assert main(["places", "check", str(out)]) == 0
    assert "8 places of 1 cities, 32 photos" in capsys.readouterr().out


def test_photos_left_out_are_counted_and_unusable_ones_named(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    for source in (town / "database").iterdir():
        (photos / "a").mkdir(parents=True, exist_ok=True)
        (photos / "a" / source.name).write_bytes(source.read_bytes())
    (photos / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "places.json"
    rule = ["--min-images", "1", "--apart-m", "60", "--heading-deg", "180"]
    assert main(["places", "build", str(photos), "--out", str(out), *rule]) == 3
    said = capsys.readouterr()
    assert "left out: they are within 60 m of a place" in said.out
    assert "cannot use broken.jpg" in said.err


def test_what_cannot_be_built_is_said_in_one_line(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "places.json")]
    for command, says in (
        (["build", str(town), *out, "--min-images", "99"], "no place among"),
        (["build", str(town), *out, "--radius-m", "-1"], "must be at least 0"),
        (["build", str(town), "--out", str(tmp_path / "places.svg")], "--out must end in .json"),
        (["build", str(tmp_path / "nowhere"), *out], "no folder"),
        (["check", str(town)], "not a GSV-Cities folder"),
        (["check", str(tmp_path / "places.json")], "cannot read the file of places"),
    ):
        assert main(["places", *command]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
    assert not (tmp_path / "places.json").exists()


def test_missing_photos_of_gsv_cities_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_town(tmp_path / "gsv", 5, 3, "gsv", image_size=(40, 40))
    assert main(["places", "check", str(tmp_path / "gsv")]) == 0
    lost = sorted((tmp_path / "gsv").rglob("*.jpg"))[4]
    lost.unlink()
    assert main(["places", "check", str(tmp_path / "gsv")]) == 3
    assert lost.name in capsys.readouterr().err
