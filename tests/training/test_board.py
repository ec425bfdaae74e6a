"""Event files of TensorBoard: what they hold, and that a resumed run shows no step twice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cricavpr.cli import main
from cricavpr.training import train
from cricavpr.training.log import Monitor
from tests.training.toy import machine, toy


def points(run: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def step(number: int, loss: float) -> dict[str, float]:
    return {"step": number, "loss": loss, "mined": 1.0, "rate": 1e-3, "group_size": 4}


def test_steps_and_measurements_are_shown_under_plain_names(tmp_path: Path) -> None:
    board = Monitor(tmp_path, 9, tensorboard=True)
    board.show(step(1, 2.0))
    board.show({"step": 1, "measured": {"R@1 in_order:4": 0.5}})
    board.close()
    assert points(tmp_path, "training/loss") == [(1, 2.0)]
    assert points(tmp_path, "recall/R_at_1/in_order_4") == [(1, 0.5)]


def test_what_a_resumed_run_does_again_counts_once(tmp_path: Path) -> None:
    first, again = (Monitor(tmp_path, 9, tensorboard=True) for _ in range(2))
    for number in (1, 2, 3, 4):
        first.show(step(number, 1.0))
    first.close()
    for number in (3, 4, 5):  # the checkpoint was of step 2
        again.show(step(number, 0.5))
    again.close()
    assert points(tmp_path, "training/loss") == [(1, 1.0), (2, 1.0), (3, 0.5), (4, 0.5), (5, 0.5)]


def test_a_run_writes_its_log_there_too(tmp_path: Path, pictures: Path) -> None:
    from dataclasses import replace

    shown = replace(machine(pictures), tensorboard=True)
    train.train(toy(steps=2), tmp_path / "run", shown)
    train.resume(tmp_path / "run", changes={"steps": 4}, machine=shown)
    assert [number for number, _ in points(tmp_path / "run", "training/loss")] == [1, 2, 3, 4]
    assert points(tmp_path / "run", "recall/R_at_1/alone")


def test_a_missing_library_is_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    recipe = str(Path(__file__).parents[2] / "recipes" / "cricavpr_tiny_town.toml")
    assert main(["train", recipe, "--out", str(tmp_path / "run"), "--tensorboard"]) == 2
    assert "cricavpr[tensorboard]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
