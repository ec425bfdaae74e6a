"""The verb for the challenge of MSLS, on its test cities in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.town import Town
from tests.miniatures import msls


def test_a_file_is_written_and_scored_once_the_answers_lie_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, town = tmp_path / "msls", Town(3, 4)
    msls.write_test(root, town)
    where = ["--root", str(root)]
    out = str(tmp_path / "mine.zip")
    settings = ["--method", "pixels", "--count", "20", "--workers", "0", "--quiet"]
    assert main(["challenge", "write", *where, "--out", out, *settings]) == 0
    assert main(["challenge", "score", out, *where]) == 2
    assert "scoring needs the ground truth of" in capsys.readouterr().err
    msls.write_test(root, town, answers=msls.TEST_CITIES)
    assert main(["challenge", "score", out, *where, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["queries"] == 18 and 0 < scores["recall_at"]["20"] <= 1


def test_too_few_predictions_for_the_challenge_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    msls.write_test(tmp_path, Town(3, 4))
    asked = ["--root", str(tmp_path), "--out", str(tmp_path / "a.csv"), "--method", "pixels", "--count", "5"]
    assert main(["challenge", "write", *asked, "--workers", "0", "--quiet"]) == 2
    assert "at least 20 predictions per query, got 5" in capsys.readouterr().err


def test_evaluating_a_challenge_without_answers_points_to_the_file_to_hand_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    msls.write_test(tmp_path, Town(3, 4))
    assert main(["evaluate", "msls-challenge", "--root", str(tmp_path), "--method", "pixels"]) == 2
    assert "cricavpr challenge write" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["evaluate", "pitts30k-test"], ["audit", "pitts30k-test", "--method", "pixels"]])
def test_a_split_without_its_folder_is_asked_for_it(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(verb) == 2
    assert "--root DIR" in capsys.readouterr().err
