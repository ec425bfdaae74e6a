"""Tables that other programs read back."""

from __future__ import annotations

import builtins
import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cricavpr.errors import MissingExtraError
from cricavpr.files import plain_cell
from cricavpr.geo import Positions
from cricavpr.index import exporting
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex
from tests.index.places import ids, photos

NAMES = ('a "b", c\n.jpg', os.fsdecode(b"\xff.jpg"), "ü.jpg")


@pytest.fixture
def index(tmp_path: Path) -> PlaceIndex:
    positions = Positions(
        np.array([[386300.0, 6174700.0], [np.nan, np.nan], [386400.0, 6174700.0]]), ("33N", "", "33N")
    )
    times = np.array(["2026-01-02T03:04:05.678", "NaT", "NaT"], "datetime64[ms]")
    given = replace(photos([1, 2, 3]), names=NAMES)
    to, tags = tmp_path / "index", [["night", "rain"], [], []]
    return PlaceIndex.build(Photos(given, Path("/p"), positions, ids=ids([1, 2, 3]), times=times, tags=tags), to)


def test_csv_keeps_every_name_to_the_byte(index: PlaceIndex, tmp_path: Path) -> None:
    index.export(tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["name"] for row in rows] == list(NAMES)
    assert float(rows[0]["lat"]) == pytest.approx(55.70, abs=0.01) and float(rows[0]["easting"]) == 386300.0
    assert (rows[0]["time"], rows[0]["tags"], rows[0]["zone"]) == ("2026-01-02T03:04:05.678Z", "night rain", "33N")
    assert rows[1]["lat"] == rows[1]["easting"] == rows[1]["time"] == ""
    assert rows[2]["id"] == ids([3])[0].hex()


def test_a_name_that_begins_with_a_blank_keeps_it_where_blanks_after_commas_are_skipped(tmp_path: Path) -> None:
    given = replace(photos([1, 2]), names=(" a.jpg", "b.jpg"))
    PlaceIndex.build(Photos(given, Path("/p")), tmp_path / "index").export(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:  # as `--positions` reads it, too
        assert [row["name"] for row in csv.DictReader(file, skipinitialspace=True)] == [" a.jpg", "b.jpg"]


def test_no_spreadsheet_runs_a_name_or_a_tag_and_each_comes_back(tmp_path: Path) -> None:
    names = ("=cmd|' /C calc'!A1.jpg", "+1.jpg", "-1.jpg", "@a.jpg", "\ta.jpg", "\ra.jpg", "'a.jpg", "a=b.jpg")
    tags = [["=1+1"]] + [[]] * 7
    given = Photos(replace(photos(range(8)), names=names), Path("/p"), tags=tags)
    PlaceIndex.build(given, tmp_path / "index").export(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [plain_cell(row["name"]) for row in rows] == list(names)
    assert plain_cell(rows[0]["tags"]) == "=1+1"
    cells = [cell for row in rows for key, cell in row.items() if key not in ("lat", "lon", "easting", "northing")]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_geojson_has_a_feature_for_each_photo_and_null_where_nobody_knows(index: PlaceIndex, tmp_path: Path) -> None:
    index.export(tmp_path / "t.geojson")
    features = json.loads((tmp_path / "t.geojson").read_text())["features"]
    assert [feature["properties"]["name"] for feature in features] == list(NAMES)
    assert [feature["geometry"] is None for feature in features] == [False, True, False]


def test_parquet_has_the_descriptors_too(index: PlaceIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(exporting, "ROWS_AT_ONCE", 2)
    index.export(tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet")
    rows = table.to_pylist()
    assert np.array_equal(np.array([row["descriptor"] for row in rows], np.float32), index.vectors[:])
    assert [os.fsdecode(row["name_bytes"]) for row in rows] == list(NAMES)
    assert rows[1]["name"] == r"\xff.jpg" and rows[0]["tags"] == ["night", "rain"] and rows[1]["lat"] is None
    assert json.loads(table.schema.metadata[b"cricavpr.made_by"])["method"] == "mean_colour"


def test_parquet_escapes_a_tag_that_is_not_utf_8_as_it_does_a_name(tmp_path: Path) -> None:
    from pyarrow import parquet

    tags = [[os.fsdecode(b"t\xff"), "plain"]]
    PlaceIndex.build(Photos(photos([1]), Path("/p"), tags=tags), tmp_path / "index").export(tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist()[0]["tags"] == ["plain", r"t\xff"]


def test_without_the_extra_one_line_names_it(
    index: PlaceIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'cricavpr\[parquet\]'"):
        index.export(tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()
