"""Interrupted and gone on with: the bytes of an uninterrupted run, or a clear refusal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cricavpr.errors import InputError
from cricavpr.training import train
from cricavpr.training.checkpoints import list_checkpoints, load_newest
from cricavpr.training.data import StepData
from cricavpr.training.learning import Described, Learner
from tests.training.toy import TOY, machine, toy

ROOT = Path(__file__).parents[2]
LEFT = ("log.jsonl", "last.safetensors", "best.safetensors")


ENDLESS = """
image_size = [42, 42]
steps = 100000
data = {town = {seeds = [11, 12], places = 8, views = 4}, augment = "mirror"}
network = {backbone = "nano", tuning = "full", encoder_heads = 4, encoder_ffn = 64}
step = {places = 4, images_per_place = 2}
"""


def killed_everywhere(kind: str, folder: Path, steps: int) -> dict[str, Any]:
    arguments = [sys.executable, "-m", "tests.training.killing", kind, str(folder), str(steps)]
    done = subprocess.run(
        arguments, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_killed_at_any_step_a_run_ends_in_the_same_bytes(tmp_path: Path) -> None:
    assert killed_everywhere("steps", tmp_path, 8) == {"kills": 8, "problems": []}


@pytest.mark.slow
def test_killed_at_any_of_sixty_steps_a_run_ends_in_the_same_bytes(tmp_path: Path) -> None:
    assert killed_everywhere("steps", tmp_path, 60) == {"kills": 60, "problems": []}


@pytest.mark.slow
def test_killed_after_any_call_of_a_save_a_run_ends_in_the_same_bytes(tmp_path: Path) -> None:
    answer = killed_everywhere("calls", tmp_path, 4)
    assert answer["kills"] > 40
    assert answer["problems"] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    train.train(TOY, out, machine(pictures))
    return out


def same(run: Path, whole: Path) -> bool:
    return all((run / name).read_bytes() == (whole / name).read_bytes() for name in LEFT)


def stopped_after(run: Path, step: int, number: int, pictures: Path, workers: int = 0) -> train.Outcome:
    """A run that is sent a signal while it works on the step after `step`."""
    describe, done = Learner.describe, 0

    def signalled(self: Learner, data: StepData) -> Described:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), number)
        return describe(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "describe", signalled)
        return train.train(TOY, run, machine(pictures, workers))


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_asked_to_stop_a_run_saves_and_goes_on_to_the_same_bytes(
    number: int, workers: int, tmp_path: Path, pictures: Path, whole: Path
) -> None:
    outcome = stopped_after(tmp_path / "run", 6, number, pictures, workers)
    assert (outcome.step, outcome.stopped_by) == (6, number)
    assert load_newest(tmp_path / "run" / "checkpoints")[0].facts.step == 6
    assert not (tmp_path / "run" / "last.safetensors").exists()
    train.resume(tmp_path / "run", machine=machine(pictures, 2 - workers))
    assert same(tmp_path / "run", whole)


def test_sigterm_to_the_whole_family_of_processes_gives_143_and_a_checkpoint(tmp_path: Path, pictures: Path) -> None:
    recipe, run = tmp_path / "toy.toml", tmp_path / "run"
    recipe.write_text(ENDLESS)
    verb = ["train", str(recipe), "--out", str(run), "--pictures", str(pictures), "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; from cricavpr.cli import main; sys.exit(main(sys.argv[1:]))", *verb],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stderr is not None
        assert "step 1/" in running.stderr.readline()
        os.killpg(running.pid, signal.SIGTERM)
        said = running.stderr.read()
    assert running.returncode == 143
    assert "--resume" in said and "Traceback" not in said
    assert load_newest(run / "checkpoints")[0].facts.step >= 1


def test_a_broken_newest_checkpoint_falls_back_and_ends_in_the_same_bytes(
    tmp_path: Path, pictures: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(tmp_path / "run", 7, signal.SIGTERM, pictures)
    newest, before = list_checkpoints(tmp_path / "run" / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:1000])
    train.resume(tmp_path / "run", machine=machine(pictures))
    said = capsys.readouterr().err
    assert newest.name in said and before.name in said
    assert same(tmp_path / "run", whole)


def test_another_recipe_is_refused_and_a_named_change_is_taken(tmp_path: Path, pictures: Path) -> None:
    run = tmp_path / "run"
    stopped_after(run, 4, signal.SIGTERM, pictures)
    with pytest.raises(InputError, match=r"optimizer.rate was 0.001 and is now 0.002"):
        train.resume(run, toy(optimizer__rate=2e-3), machine=machine(pictures))
    train.resume(run, TOY, {"optimizer.rate": 2e-3}, machine(pictures))
    rates = [json.loads(line).get("rate") for line in (run / "log.jsonl").read_text().splitlines()]
    assert max(rate for rate in rates if rate) > 1e-3


def test_other_data_and_other_networks_are_refused(tmp_path: Path, pictures: Path) -> None:
    run = tmp_path / "run"
    stopped_after(run, 2, signal.SIGTERM, pictures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cricavpr.datasets.places.PlaceDataset.fingerprint", lambda self: "0" * 64)
        with pytest.raises(InputError, match="has changed since the run began"):
            train.resume(run, machine=machine(pictures))
    with pytest.raises(InputError, match=r"does not match the network .*encoder"):
        train.resume(run, changes={"network.encoder_depth": 1}, machine=machine(pictures))


def test_a_finished_run_stays_as_it_is(tmp_path: Path, pictures: Path, whole: Path) -> None:
    before = {name: (whole / name).read_bytes() for name in LEFT}
    assert train.resume(whole, machine=machine(pictures)).step == 12
    assert before == {name: (whole / name).read_bytes() for name in LEFT}


def test_a_log_that_was_cut_is_refused(tmp_path: Path, pictures: Path) -> None:
    run = tmp_path / "run"
    stopped_after(run, 4, signal.SIGTERM, pictures)
    (run / "log.jsonl").write_text("")
    with pytest.raises(InputError, match=r"must have at least .* got 0"):
        train.resume(run, machine=machine(pictures))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from cricavpr.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""


def test_a_full_disk_is_said_and_never_ends_well(tmp_path: Path, pictures: Path, whole: Path) -> None:
    run = tmp_path / "run"
    stopped_after(run, 6, signal.SIGTERM, pictures)
    verb = ["train", "--resume", str(run), "--quiet", "--workers", "0", "--pictures", str(pictures)]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "200000", *verb, "--checkpoint-every", "3"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "cannot write" in done.stderr and "Traceback" not in done.stderr
    assert load_newest(run / "checkpoints")[0].facts.step == 6
    train.resume(run, machine=machine(pictures))
    assert same(run, whole)
