"""Ctrl-C and SIGTERM while a run starts up: one line, no traceback, and nothing half done."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cricavpr.cli import main
from cricavpr.datasets import read_photos
from cricavpr.describing import describe
from cricavpr.methods import load_method
from cricavpr.training import train
from cricavpr.training.signals import Interrupted, stop_requests

RECIPE = """
image_size = [42, 42]
steps = 2
data = {town = {seeds = [11, 12], places = 8, views = 4}}
network = {backbone = "nano", encoder_heads = 4, encoder_ffn = 64}
step = {places = 4, images_per_place = 2}
validation = {town = {seed = 13, places = 5}, every_steps = 2}
"""
DRAWING = """
import sys
from functools import partial
from cricavpr.cli import main
from cricavpr.training import data

data.render_arrays = partial(data.render_arrays, progress=lambda *_: print("drawing", flush=True))
sys.exit(main())
"""
STAGES = ("open_places", "make_learner", "open_held_out")  # towns are drawn, weights are read


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def asked(verb: str, recipe: Path, pictures: Path) -> list[str]:
    out = str(recipe.parent / "out")
    return [verb, str(recipe), "--out", out, "--pictures", str(pictures), "--workers", "0", "--quiet"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("verb", ["train", "ablate"])
def test_a_signal_during_start_up_ends_it_with_one_line_and_the_command_runs_again(
    verb: str,
    number: int,
    code: int,
    stage: str,
    recipe: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original: Callable[..., Any] = getattr(train, stage)

    def signalled(*arguments: Any) -> Any:
        os.kill(os.getpid(), number)
        time.sleep(5)  # cut short by the signal
        raise AssertionError

    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(train, stage, signalled)
    assert main(asked(verb, recipe, pictures)) == code
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "Run the same command again" in said.err
    assert not list(recipe.parent.rglob("*.safetensors"))
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    monkeypatch.setattr(train, stage, original)
    if verb == "train" and number == signal.SIGTERM:
        assert main(asked(verb, recipe, pictures)) == 0


@pytest.mark.parametrize(
    ("verb", "number", "code"), [("train", signal.SIGINT, 130), ("ablate", signal.SIGTERM, 143)], ids=str
)
def test_a_signal_to_all_processes_that_draw_a_town_leaves_one_line(
    verb: str, number: int, code: int, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(RECIPE.replace("places = 8", "places = 120").replace("42", "84"))
    words = [*asked(verb, recipe, tmp_path / "pictures"), "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", DRAWING, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == "drawing\n"
        os.killpg(running.pid, number)
        try:
            _, said = running.communicate(timeout=100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    assert (running.returncode, said.count("\n")) == (code, 1), said
    assert "Run the same command again" in said


def test_a_second_ctrl_c_does_not_wait_for_the_step(
    recipe: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def impatient(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        raise AssertionError

    monkeypatch.setattr("cricavpr.training.learning.Learner.describe", impatient)
    assert main(asked("train", recipe, pictures)) == 130
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"cricavpr train --resume {recipe.parent / 'out'}" in said


def test_a_step_at_hand_is_finished_unless_a_second_ctrl_c_comes() -> None:
    with stop_requests() as stop:
        stop.finish_step = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(Interrupted) as stopped:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert stopped.value.signal == signal.SIGINT


@dataclass
class Hit:
    """A preprocessing in whose worker processes both signals arrive, as in those of a validation."""

    preprocess: Callable[[NDArray[np.uint8]], Any]

    def __call__(self, image: NDArray[np.uint8]) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        return self.preprocess(image)


def test_processes_that_read_photos_leave_signals_to_the_parent(tmp_path: Path) -> None:
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    photos, _ = read_photos(tmp_path)
    method = load_method("pixels")
    method.preprocess = Hit(method.preprocess)  # type: ignore[method-assign]
    assert describe(method, photos, workers=1).kept.tolist() == [0, 1, 2]
