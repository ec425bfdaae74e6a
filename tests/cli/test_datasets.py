"""`cricavpr datasets`, as a stranger types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.datasets.benchmarks import SPLITS, open_split
from cricavpr.town import Town
from tests.miniatures.pittsburgh import write_raw

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pitts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pitts")
    write_raw(folder, Town(3, 2), database=(0, 1), queries=(1,))
    return folder


def test_the_list_has_every_split_in_a_line_of_its_own(capsys: Output) -> None:
    assert main(["datasets", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["split", "queries", "database", "positives", "layouts"]
    assert {line.split()[0] for line in lines[1:]} >= set(SPLITS)
    tokyo = next(line for line in lines if line.startswith("tokyo247"))
    assert "315" in tokyo and "75,984" in tokyo and "within 25 m" in tokyo and "raw (dbStruct .mat)" in tokyo


def test_info_tells_source_licence_registration_and_traps(capsys: Output) -> None:
    assert main(["datasets", "info", "tokyo247"]) == 0
    said = capsys.readouterr().out
    for part in ("315", "75,984", "in_order:16", "licence", "registration", ".png", "one hit per panorama", "modulo 3"):
        assert part in said
    assert main(["datasets", "info", "pitts250k-val"]) == 0
    said = capsys.readouterr().out
    assert "in_order:8" in said and "pitts250k-test" not in said


def test_everything_comes_as_json_too(capsys: Output) -> None:
    assert main(["datasets", "list", "--json"]) == 0
    assert [entry["split"] for entry in json.loads(capsys.readouterr().out)] == list(SPLITS)
    assert main(["datasets", "info", "svox", "--json"]) == 0
    assert {entry["database"] for entry in json.loads(capsys.readouterr().out)} == {17_166}


def test_a_check_that_finds_differences_ends_with_3_and_names_them(pitts: Path, capsys: Output) -> None:
    assert main(["datasets", "check", "pitts30k-test", "--root", str(pitts), "--quiet"]) == 3
    said = capsys.readouterr().out
    assert [line.split()[-3:] for line in said.splitlines() if "database images" in line] == [
        ["10,000", "DIFFERS", "48"]
    ]
    assert "not all as expected" in said and "netvlad_v100_datasets" in said


def test_a_check_where_nothing_is_ends_with_2(tmp_path: Path, capsys: Output) -> None:
    assert main(["datasets", "check", "svox", "--root", str(tmp_path), "--quiet"]) == 2
    assert "svox is not found" in capsys.readouterr().out
    assert main(["datasets", "check", "svox-night", "--root", str(tmp_path / "nowhere"), "--quiet"]) == 2


def test_a_check_ends_with_0_where_all_is_as_expected(
    pitts: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    benchmark, split = SPLITS["pitts30k-test"]
    monkeypatch.setitem(SPLITS, "pitts30k-test", (benchmark, replace(split, queries=24, database=48)))
    assert main(["datasets", "check", "pitts30k-test", "--root", str(pitts), "--quiet"]) == 0
    assert "pitts30k-test is as expected" in capsys.readouterr().out


def test_a_check_as_json_holds_the_hash_and_every_row(pitts: Path, capsys: Output) -> None:
    assert main(["datasets", "check", "pitts30k", "--root", str(pitts), "--quiet", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "differs" and [split["split"] for split in told["splits"]] == [
        *("pitts30k-train", "pitts30k-val", "pitts30k-test")
    ]
    assert told["splits"][2]["split_hash"] == open_split("pitts30k-test", pitts).split_hash()
    assert {"what": "queries", "expected": "6,816", "found": "24", "verdict": "differs"} in told["splits"][2][
        "findings"
    ]


def test_a_wrong_name_ends_with_2_and_the_nearest(capsys: Output) -> None:
    assert main(["datasets", "info", "tokio247"]) == 2
    assert "Did you mean 'tokyo247'" in capsys.readouterr().err
