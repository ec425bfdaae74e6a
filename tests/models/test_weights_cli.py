"""`cricavpr weights`: data on stdout, talk on stderr."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from cricavpr.cli import weights
from cricavpr.errors import WeightsError
from cricavpr.models.registry import KNOWN, place_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path / "home"))


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="cricavpr weights")
    weights.add_arguments(parser)
    args = parser.parse_args(list(arguments))
    code: int = args.run(args)
    return code


def test_the_list_names_every_weight_with_size_licence_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    place = place_of(KNOWN["dinov2_vits14"])
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *KNOWN]
    rows = {line.split()[0]: line for line in lines}
    assert "346 MB" in rows["dinov2_vitb14"] and "Apache-2.0" in rows["dinov2_vitb14"]
    assert rows["dinov2_vitb14"].split()[4] == "no"
    assert str(place) in rows["dinov2_vits14"]
    assert rows["cricavpr"].endswith("CricaVPR.pth")
    assert "about 590 MB" in rows["cricavpr"]


def test_the_list_is_also_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(KNOWN)
    assert rows[1]["url"].endswith("CricaVPR.pth") and rows[1]["path"] is None


def test_a_pth_file_is_converted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {f"module.w{number}": torch.ones(2, 3) for number in range(12)}
    torch.save({"model_state_dict": state}, tmp_path / "a.pth")
    assert run("convert", str(tmp_path / "a.pth"), str(tmp_path / "a.safetensors"), "--half") == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'a.safetensors'}\n"
    assert "12 tensors" in told.err
    assert run("show", str(tmp_path / "a.safetensors")) == 0
    shown = capsys.readouterr().out
    assert "float16" in shown and "w0 2x3" in shown and "… and 2 more" in shown and "a.pth" in shown
    assert run("show", "--json", str(tmp_path / "a.safetensors")) == 0
    assert json.loads(capsys.readouterr().out)["tensors"] == 12


def test_names_in_a_file_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w\x1b[2J\n": torch.ones(1)}, tmp_path / "a.pth")
    run("show", str(tmp_path / "a.pth"))
    assert "\x1b" not in capsys.readouterr().out


def test_pulling_an_unknown_name_raises_for_the_door_to_print() -> None:
    with pytest.raises(WeightsError, match="weights list"):
        run("pull", "nothing")


def test_pull_prints_the_place_and_talks_about_the_licence_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cricavpr.cli.weights.pull", lambda name, progress, url: tmp_path / name)
    assert run("pull", "cricavpr", "--quiet") == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'cricavpr'}\n"
    assert "MIT" in told.err


def test_an_action_must_be_given() -> None:
    with pytest.raises(SystemExit):
        run()
