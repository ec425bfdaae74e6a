"""The verbs, as a stranger types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.descriptors import DescriptorSet
from cricavpr.town.write import make_town
from tests.odd_files import make_odd_files

PIXELS = ["--method", "pixels", "--quiet"]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "town"
    make_town(folder, 7100, 12, "photos", image_size=(112, 112))
    return folder


@pytest.fixture(scope="module")
def index(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("index") / "index"
    assert main(["index", "build", str(town / "database"), "--out", str(to), *PIXELS]) == 0
    return to


def test_help_answers_without_loading_torch() -> None:
    code = """
import sys
from cricavpr.cli import main
try:
    main(["--help"])
except SystemExit:
    print("torch" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("usage: cricavpr")
    assert answer.stdout.rstrip().endswith("False")


def test_a_town_is_made_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for layout in ("photos", "utm"):
        folder = str(tmp_path / layout)
        made = ["town", "make", folder, "--seed", "7", "--places", "6", "--layout", layout, "--image-size", "56"]
        assert main([*made, "--workers", "1", "--quiet"]) == 0
        asked = ["--out", str(tmp_path / "out"), "--recall-at", "1,5,6,100"]
        assert main(["evaluate", folder, *asked, *PIXELS]) == 0
        told = capsys.readouterr().out
        assert "none (does not correlate)" in told
        assert "\nR@6, R@100 covers all 6 database photos, so it says nothing about the method\n" in told


def test_several_groupings_stand_side_by_side(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groupings = ["alone", "in_order:4", "shuffled:4:1", "by_key"]
    asked = [word for grouping in groupings for word in ("--grouping", grouping)]
    random = ["--method", "cricavpr-tiny", "--weights", "random:0", "--quiet", "--json"]
    assert main(["evaluate", str(town), "--out", str(tmp_path), *asked, *random]) == 0
    assert [result["grouping"] for result in json.loads(capsys.readouterr().out)] == groupings


def test_describe_leaves_a_file_that_says_how_it_was_made(town: Path, tmp_path: Path) -> None:
    out = tmp_path / "town.safetensors"
    assert main(["describe", str(town / "queries"), "--out", str(out), *PIXELS]) == 0
    loaded = DescriptorSet.load(out)
    assert (len(loaded), loaded.made_by.method, loaded.made_by.dim) == (12, "pixels", 2048)


def test_an_index_says_what_it_holds(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "info", str(index), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["photos"], facts["with_position"], facts["made_by"]["method"]) == (12, 12, "pixels")


def test_a_photo_of_the_database_is_located_where_it_was_taken(
    town: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = sorted((town / "database").iterdir())[3]
    assert main(["locate", str(photo), "--index", str(index), "--json", "--top", "2", *PIXELS]) == 0
    (estimate,) = json.loads(capsys.readouterr().out)
    assert estimate["matches"][0]["name"] == photo.name
    assert estimate["position"] == estimate["matches"][0]["position"]
    assert estimate["confidence"] == "uncalibrated"


def test_geojson_has_one_point_for_each_photo(town: Path, index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["locate", str(town / "queries"), "--index", str(index), "--geojson", *PIXELS]) == 0
    features = json.loads(capsys.readouterr().out)["features"]
    assert [feature["geometry"]["type"] for feature in features] == ["Point"] * 12


def test_a_missing_photo_is_named_and_the_others_are_located(
    town: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = sorted((town / "queries").iterdir())[0]
    assert main(["locate", str(photo), "nowhere.jpg", "--index", str(index), *PIXELS]) == 3
    answer = capsys.readouterr()
    assert answer.out.startswith(str(photo))
    assert "nowhere.jpg" in answer.err


def test_a_folder_of_odd_files_is_described_and_each_broken_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = make_odd_files(tmp_path / "odd")
    out = tmp_path / "odd.safetensors"
    assert main(["describe", str(tmp_path / "odd"), "--out", str(out), *PIXELS]) == 3
    described = set(DescriptorSet.load(out).names)
    lines = capsys.readouterr().err.splitlines()
    broken = {name: stage for name, stage in expected.items() if stage not in ("ok", "ignored")}
    assert len(broken) >= 30
    assert not described & broken.keys()
    named = [line for line in lines if line.startswith("cannot use ")]
    flat = {name for name, stage in expected.items() if stage == "ok"} - described
    assert len(named) == len(broken) + len(flat)  # a picture of one colour has no pixel descriptor
    assert all("descriptor has length" in line for line in named if line.endswith("[describe]"))
    for stage in set(broken.values()):
        wanted = sum(other == stage for other in broken.values())
        assert sum(line.endswith(f"[{stage}]") for line in named) == wanted


WRONG = [
    (["evaluate", "nowhere"], "there is no folder nowhere"),
    (["locate", "a.jpg", "--index", "nowhere"], "nowhere"),
    (["describe", ".", "--out", "x", "--method", "cricavrp"], "Did you mean 'cricavpr'"),
    (["describe", ".", "--out", "x", "--grouping", "in_order"], "invalid grouping"),
    (["describe", ".", "--out", "x", "--image-size", "big"], "expected height x width such as 322x322, got 'big'"),
    (["weights", "show", "nowhere.pth"], "nowhere.pth"),
    (["town", "make", "t", "--places", "0", "--quiet"], "places"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_input_gets_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("cricavpr: ") and error.count("\n") == 1
    assert says in error


def test_locating_with_another_method_than_the_index_is_refused(
    town: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["locate", str(town / "queries"), "--index", str(index), "--weights", "random:0"]
    assert main(arguments) == 2
    assert "method: pixels here, cricavpr-tiny there" in capsys.readouterr().err


def test_the_table_of_parameters_is_that_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--parameters"]) == 0
    assert "| 106.8 |     86.6 |     9.2 |   11.0 |    20.2 |" in capsys.readouterr().out
