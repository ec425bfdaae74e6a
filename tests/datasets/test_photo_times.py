"""When the photos of a folder were taken: from each photo, or from a table."""

import json
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets import Problem, open_dataset, open_photos, read_photos
from cricavpr.errors import InputError
from tests.odd_files import dms, encoded, exif_with

NOON = exif_with({1: "N", 2: dms(55, 42, 0), 3: "E", 4: dms(13, 11, 0), 7: dms(12, 0, 0), 29: "2026:05:01"})
NO_TIME = exif_with({1: "N", 2: dms(55, 42, 1), 3: "E", 4: dms(13, 11, 0)})
NEITHER = encoded()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(encoded(exif=NOON))
    (tmp_path / "b.jpg").write_bytes(encoded(exif=NO_TIME))
    (tmp_path / "c.jpg").write_bytes(NEITHER)
    return tmp_path


def of_times(problems: tuple[Problem, ...]) -> list[Problem]:
    """Without the note that the photos' own GPS is some streets away."""
    assert all(problem.is_note for problem in problems)
    return [problem for problem in problems if problem.stage != "note"]


def shown(times: np.ndarray | None) -> list[str]:
    assert times is not None and times.dtype == np.dtype("datetime64[ms]")
    return [str(time)[:16] for time in times]


def test_times_come_from_the_photos_and_follow_them(folder: Path) -> None:
    assert shown(read_photos(folder)[0].times) == ["2026-05-01T12:00", "NaT", "NaT"]
    images, problems = read_photos(folder, need_positions=True, need_times=True)
    assert shown(images.times) == ["2026-05-01T12:00", "NaT"]
    assert [problem.name for problem in problems] == ["c.jpg"]  # a photo without a time is no problem


def test_a_folder_where_no_photo_has_a_time_has_none(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(encoded(exif=NO_TIME))
    assert read_photos(tmp_path)[0].times is None


def test_a_table_without_times_leaves_those_of_the_photos(folder: Path) -> None:
    (folder / "positions.csv").write_text("name,lat,lon\nc.jpg,55.7,13.2\na.jpg,55.7,13.3\n")
    images, _ = read_photos(folder, need_positions=True)
    assert images.names == ("a.jpg", "c.jpg") and shown(images.times) == ["2026-05-01T12:00", "NaT"]


@pytest.mark.parametrize(
    "header, place", [("name,lat,lon,Time", "55.7,13.2"), ("Time;name;east;north;zone", "386000;6173000;33N")]
)
def test_a_column_of_times_counts_alone(folder: Path, header: str, place: str) -> None:
    times = {"c.jpg": "2020-02-29T23:30-01:00", "a.jpg": "", "b.jpg": "2020-02-29 12:00:00.5"}
    rows = [f"{time};{name};{place}" if ";" in header else f"{name},{place},{time}" for name, time in times.items()]
    (folder / "where.csv").write_text("\n".join([header, *rows]))
    images, problems = read_photos(folder, folder / "where.csv", need_positions=True, need_times=True)
    assert shown(images.times) == ["NaT", "2020-02-29T12:00", "2020-03-01T00:30"] and not of_times(problems)


def test_a_photo_that_a_table_of_times_does_not_name_has_none(folder: Path) -> None:
    (folder / "positions.csv").write_text("name,lat,lon,time\nb.jpg,55.7,13.2,2020-01-01\n")
    assert shown(read_photos(folder)[0].times) == ["NaT", "2020-01-01T00:00", "NaT"]


def test_a_wrong_time_is_not_why_no_photo_can_be_used(folder: Path) -> None:
    (folder / "positions.csv").write_text("name,lat,lon,time\ngone.jpg,55.7,13.2,noon\n")
    with pytest.raises(InputError, match=r"none of 3 photos .* 3 without a position in positions\.csv"):
        read_photos(folder, need_positions=True, need_times=True)


def test_a_wrong_time_of_a_table_is_named_where_times_are_needed_and_costs_nothing(folder: Path) -> None:
    lines = [
        "name,lat,lon,time",
        "a.jpg,55.7,13.2,yesterday",
        "b.jpg,55.7,13.3,1714564800",
        "c.jpg,55.7,13.4,2020-01-01",
    ]
    (folder / "positions.csv").write_text("\n".join(lines))
    images, problems = open_photos(folder, need_positions=True, need_times=True)
    assert len(images) == 3 and shown(images.times) == ["NaT", "NaT", "2020-01-01T00:00"]
    found = of_times(problems)
    assert [(problem.name, problem.stage) for problem in found] == [("a.jpg", "time"), ("b.jpg", "time")]
    assert "line 2 of positions.csv has the invalid time 'yesterday'" in found[0].reason
    assert not of_times(open_photos(folder, need_positions=True)[1])


def test_a_geojson_may_say_when(folder: Path) -> None:
    def feature(name: str, **known: object) -> dict[str, object]:
        point = {"type": "Point", "coordinates": [13.2, 55.7]}
        return {"type": "Feature", "properties": {"name": name, **known}, "geometry": point}

    features = [feature("a.jpg", time="2020-01-01T00:00Z"), feature("b.jpg", time=None), feature("c.jpg", time=7)]
    (folder / "positions.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    images, problems = read_photos(folder, need_times=True)
    assert shown(images.times) == ["2020-01-01T00:00", "NaT", "NaT"]
    assert [(problem.name, problem.stage) for problem in of_times(problems)] == [("c.jpg", "time")]


def test_both_sides_of_a_dataset_keep_their_times(tmp_path: Path) -> None:
    for side in ("database", "queries"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.jpg").write_bytes(encoded(exif=NOON))
    dataset, _ = open_dataset(tmp_path)
    assert shown(dataset.queries.times) == ["2026-05-01T12:00"]
    rows = "database/a.jpg,55.7,13.2,2020-01-01\nqueries/a.jpg,55.7,13.2,2021-01-01\n"
    (tmp_path / "positions.csv").write_text("name,lat,lon,time\n" + rows)
    dataset, _ = open_dataset(tmp_path)
    assert shown(dataset.database.times) == ["2020-01-01T00:00"] and shown(dataset.queries.times) == [
        "2021-01-01T00:00"
    ]
