"""The curves of a run: what is in a panel, and what happens without a library to draw them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cricavpr.errors import InputError
from cricavpr.training.curves import POINTS, curves, draw_curves, panels, read_log
from cricavpr.training.log import Monitor, elapsed_s
from cricavpr.training.train import train
from tests.training.toy import machine, toy

STEPS: list[dict[str, Any]] = [
    {"step": 1, "loss": 2.0, "mined": 1.0, "rate": 1e-3, "group_size": 4},
    {"step": 2, "loss": 1.0, "mined": 0.5, "rate": 5e-4, "group_size": 1, "distillation": 0.25},
    {"step": 2, "measured": {"R@10 alone": 0.9, "R@1 alone": 0.5, "R@1 in_order:4": 0.75}},
]


def log(folder: Path, rows: list[dict[str, Any]], end: str = "") -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return path


def test_each_panel_has_its_lines_and_recalls_are_sorted_by_grouping_then_number() -> None:
    found = panels(STEPS)
    assert list(found) == ["loss", "share of images mined", "learning rate", "recall"]
    assert found["loss"] == {"loss": [(1, 2.0), (2, 1.0)], "distillation": [(2, 0.25)]}
    assert found["learning rate"] == {"rate": [(1, 1e-3), (2, 5e-4)]}
    assert list(found["recall"]) == ["R@1 alone", "R@10 alone", "R@1 in_order:4"]


def test_the_figure_shows_what_the_panels_say() -> None:
    axes = curves(panels(STEPS)).axes
    assert [place.get_title(loc="left") for place in axes] == [
        "loss",
        "share of images mined",
        "learning rate",
        "recall",
    ]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["loss", "distillation"]
    assert axes[0].lines[0].get_xydata().tolist() == [[1.0, 2.0], [2.0, 1.0]]


def test_many_steps_are_drawn_as_means_of_neighbours() -> None:
    many = [{"step": step, "loss": float(step % 2)} for step in range(1, 2 * POINTS + 1)]
    line = panels(many)["loss"]["loss"]
    assert len(line) == POINTS and line[0] == (1.5, 0.5)


def test_half_a_last_line_is_left_out(tmp_path: Path) -> None:
    assert read_log(log(tmp_path, STEPS, '{"step": 3, "lo')) == STEPS


def test_curves_are_drawn_as_svg_and_png_and_nothing_before_there_is_a_step(tmp_path: Path) -> None:
    assert draw_curves(log(tmp_path, []), tmp_path / "curves.svg") == []
    drawn = draw_curves(log(tmp_path, STEPS), tmp_path / "curves.svg")
    assert [path.name for path in drawn] == ["curves.svg", "curves.png"]


def test_a_run_draws_its_curves_when_it_ends(tmp_path: Path, pictures: Path) -> None:
    train(toy(steps=1), tmp_path / "run", machine(pictures))
    assert "<svg" in (tmp_path / "run" / "curves.svg").read_text()
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_curves_are_drawn_again_while_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log(tmp_path, STEPS)
    monitor = Monitor(tmp_path, 1000, quiet=True)
    monitor.step_done(STEPS[0], 8, 0.0)
    assert not (tmp_path / "curves.svg").exists()
    monkeypatch.setattr("cricavpr.training.log.DRAW_EVERY_S", 0.0)
    monitor.step_done(STEPS[1], 8, 0.0)
    assert (tmp_path / "curves.svg").exists()


def test_without_matplotlib_a_run_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log(tmp_path, STEPS)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monitor = Monitor(tmp_path, 10)
    monitor.draw()
    monitor.draw()
    assert capsys.readouterr().err.count("cricavpr[plots]") == 1
    assert not (tmp_path / "curves.svg").exists()


def test_what_cannot_be_written_beside_the_log_is_said_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log(tmp_path, STEPS)
    (tmp_path / "speed.jsonl").mkdir()
    (tmp_path / "curves.svg").mkdir()
    (tmp_path / "tensorboard").write_text("in the way")
    monkeypatch.setattr("cricavpr.training.log.elapsed_s", lambda _: 0.0)
    monitor = Monitor(tmp_path, 3, quiet=True, tensorboard=True)
    for line in STEPS[:2]:
        monitor.step_done(line, 8, 0.0)
    monitor.end(2)
    monitor.end(2)
    monitor.close()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all("the run goes on without" in line for line in said)
    assert [sum(name in line for line in said) for name in ("speed.jsonl", "curves", "TensorBoard")] == [1, 1, 1]


def test_a_log_that_is_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = log(tmp_path, STEPS)
    path.write_text(path.read_text().replace('"loss": 1.0', '"loss": 1.'))
    with pytest.raises(InputError, match=r"line 2 of .*log.jsonl is not valid JSON"):
        read_log(path)


def test_the_time_of_a_run_goes_on_where_the_process_before_it_stopped(tmp_path: Path) -> None:
    assert elapsed_s(tmp_path) == 0.0
    (tmp_path / "speed.jsonl").write_text('{"step": 4, "elapsed_s": 100.0}\n{"step": 5, "elap')
    assert elapsed_s(tmp_path) == 100.0
    Monitor(tmp_path, 10, 4, quiet=True).end(4)
    (tmp_path / "speed.jsonl").write_text((tmp_path / "speed.jsonl").read_text().replace('"elap{', '"}\n{'))
    assert 100.0 <= elapsed_s(tmp_path) < 160.0


def test_of_more_recalls_than_can_be_named_the_first_ones_are_drawn() -> None:
    groupings = ("alone", "in_order:4", "in_order:8", "in_order:16")
    measured = {f"R@{n} {grouping}": 0.5 for grouping in groupings for n in (1, 5, 10)}
    rows = [{"step": 1, "loss": 1.0, "mined": 1.0, "rate": 0.1}, {"step": 1, "measured": measured}]
    assert set(panels(rows)["recall"]) == {f"R@1 {grouping}" for grouping in groupings}


def test_a_network_that_learnt_nothing_has_no_curves() -> None:
    assert panels([{"step": 0, "measured": {"R@1 alone": 0.5}}]) == {}
