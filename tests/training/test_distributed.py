"""Several processes are one: the same losses, gradients and weights; one writes, and one's failure ends all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cricavpr.errors import InputError
from cricavpr.training.batch_norm import synchronise_batch_norm
from cricavpr.training.checkpoints import load_newest
from cricavpr.training.data import Steps, open_places
from cricavpr.training.distributed import ALONE, World, joined
from tests.training.toy import toy

ROOT = Path(__file__).parents[2]
CALM = {"optimizer__rate": 1e-4, "network__init": "default"}  # rounding is not blown up by Adam in 20 steps

Ended = tuple[int, str, str]  # exit code, stdout, stderr
Job = tuple[str, Path, dict[str, Any], dict[str, str]]  # see `several`


class Family:
    """Processes that cost no new import of torch; none may hang."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.training.several"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ended(self, *jobs: Job) -> list[Ended]:
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.write(json.dumps([[what, str(folder), *rest] for what, folder, *rest in jobs]) + "\n")
        self._parent.stdin.flush()
        return [(code, out, said) for code, out, said in json.loads(self._parent.stdout.readline())]

    def two(self, what: str, folder: Path, settings: dict[str, Any]) -> list[Ended]:
        port = free_port()
        return self.ended(*((what, folder, settings, launched(rank, port)) for rank in (0, 1)))

    def one(self, what: str, folder: Path, settings: dict[str, Any]) -> Ended:
        return self.ended((what, folder, settings, {}))[0]

    def leave(self) -> None:
        self._parent.kill()  # it has nothing to lose, and its children have ended
        self._parent.communicate()


@pytest.fixture(scope="module")
def family() -> Iterator[Family]:
    parent = Family()
    yield parent
    parent.leave()


def launched(rank: int, port: int, count: int = 2) -> dict[str, str]:
    """What torchrun tells each of its processes."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return where | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def compared(family: Family, folder: Path, settings: dict[str, Any], alone: dict[str, Any]) -> list[dict[str, Any]]:
    """What one process and two come to: [alone, rank 0, rank 1]."""
    ends = [family.one("learn", folder, settings | alone), *family.two("learn", folder, settings)]
    for code, _, said in ends:
        assert code == 0, said
    return [torch.load(folder / f"{name}.pt", weights_only=True) for name in ("alone", "rank0", "rank1")]


@pytest.fixture
def folder(tmp_path: Path, pictures: Path) -> Path:
    """With the toy's pictures, drawn before several processes look for them."""
    open_places(toy(), pictures, 1)
    (tmp_path / "pictures").symlink_to(pictures)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "alone"),
    [
        ({"network__dropout": 0.1, "step__activation_checkpointing": True}, {}),
        ({"network__dropout": 0.0, "step__group_scope": "rank", "step__self_distillation": 0.5}, {"as_two": True}),
    ],
    ids=["world", "rank"],
)
def test_two_processes_learn_what_one_learns(
    settings: dict[str, Any], alone: dict[str, Any], folder: Path, family: Family
) -> None:
    one, first, second = compared(family, folder, CALM | settings, alone)
    assert len(one["losses"]) == 20
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=0, atol=1e-5)
    assert first["losses"] == second["losses"]
    assert all(torch.equal(first["state"][name], second["state"][name]) for name in one["state"])
    for name, gradient in one["gradients"].items():
        assert (first["gradients"][name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6, name
    for name, value in one["state"].items():
        torch.testing.assert_close(first["state"][name], value, rtol=1e-4, atol=2e-5, msg=name)
    assert int(one["state"]["backbone.blocks.0.adapter.mixer.branches.0.0.bn.num_batches_tracked"]) == 20


@pytest.mark.slow
def test_two_processes_with_micro_batches_learn_what_one_learns(folder: Path, family: Family) -> None:
    """Without batch norm it does not matter whose images share a micro-batch."""
    one, first, _ = compared(
        family, folder, CALM | {"network__adapter": "bottleneck", "step__micro_batch": 3}, {"step__micro_batch": 0}
    )
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=0, atol=1e-5)


# ---- shares


def test_shares_of_a_step_are_the_step(pictures: Path) -> None:
    recipe = toy(epochs=2, steps=0)
    places = open_places(recipe, pictures, 1)
    whole = list(Steps(recipe, places).read(1, 0))
    shares = [[Steps(recipe, places, World(rank, 2)).load(step) for step in range(1, 8)] for rank in (0, 1)]
    assert len(whole) == 7
    for step, *parts in zip(whole, *shares, strict=True):
        assert all(part.positions.tolist() == sorted(part.positions.tolist()) for part in parts)
        back = torch.cat([part.positions for part in parts]).argsort()
        assert torch.equal(torch.cat([part.images for part in parts])[back], step.images)
        assert torch.equal(torch.cat([part.places for part in parts])[back], step.places)
        assert {part.group_size for part in parts} == {step.group_size}


def test_groups_within_a_process_hold_its_places_alone(pictures: Path) -> None:
    recipe = toy(step__group_scope="rank")
    order = Steps(recipe, open_places(recipe, pictures, 1), World(1, 2)).company(3)[0]
    assert sorted(order[:4].tolist()) == [0, 1, 2, 3] and sorted(order[4:].tolist()) == [4, 5, 6, 7]
    assert order.tolist() != sorted(order.tolist())


@pytest.mark.parametrize(
    ("settings", "count", "says"),
    [
        ({}, 3, "multiple of the number of processes, got 4 places and 3 processes"),
        ({"step__images_at_once": 4}, 2, "step.images_at_once must be 0 with several processes, got 4"),
        (
            {"step__group_scope": "rank", "step__group_sizes": [1, 8]},
            2,
            "must be at most 4, the number of images in each of 2 processes, .* got 8",
        ),
    ],
)
def test_a_step_that_cannot_be_shared_is_refused(
    settings: dict[str, Any], count: int, says: str, pictures: Path
) -> None:
    recipe = toy(**settings)
    places = open_places(recipe, pictures, 1)
    Steps(recipe, places)
    with pytest.raises(InputError, match=says):
        Steps(recipe, places, World(0, count))


# ---- pieces, in a world of one that takes itself for more than one


@pytest.fixture
def itself(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """gloo with one process: everything is exchanged, with nobody."""
    for name, value in launched(0, free_port(), 1).items():
        monkeypatch.setenv(name, value)
    torch.distributed.init_process_group("gloo")
    yield World(0, 1)
    torch.distributed.destroy_process_group()


def both_norms(itself: World) -> tuple[torch.nn.BatchNorm2d, torch.nn.BatchNorm2d]:
    plain, shared = torch.nn.BatchNorm2d(3, eps=1e-3), torch.nn.BatchNorm2d(3, eps=1e-3)
    for norm in (plain, shared):
        norm.weight.data = torch.tensor([1.0, -2.0, 0.5])
        norm.bias.data = torch.tensor([0.1, 0.2, 0.3])
    synchronise_batch_norm(torch.nn.Sequential(shared), itself)
    return plain, shared


@pytest.mark.parametrize("momentum", [0.1, 0.0])
def test_the_shared_batch_norm_is_batch_norm(momentum: float, itself: World) -> None:
    norms = both_norms(itself)
    maps = torch.randn(4, 3, 5, 2) * 3 + 100  # far from zero, where squares would cancel
    wanted = torch.randn(4, 3, 5, 2)
    found: list[list[Tensor]] = []
    for norm in norms:
        norm.momentum = momentum
        given = maps.clone().requires_grad_()
        out = norm(given)
        (out * wanted).sum().backward()
        statistics = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
        found.append([out, given.grad, norm.weight.grad, norm.bias.grad, *statistics])  # type: ignore[list-item]
    for ours, torchs in zip(*reversed(found), strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)
    assert torch.equal(norms[0].eval()(maps), norms[1].eval()(maps)) or momentum


def test_batch_norm_of_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="BatchNorm1d"):
        synchronise_batch_norm(torch.nn.Sequential(torch.nn.BatchNorm1d(4)), World(0, 2))


def test_a_process_that_nobody_launched_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in launched(0, 1):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as world:
        assert world == ALONE and world.first and world.alone
        assert world.max(3, -1) == [3, -1] and world.gather_values("é") == ["é"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with joined("cpu") as world:
        assert world.alone  # half of torchrun's words are no launch


def test_several_processes_on_mps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in launched(0, 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="--device mps"), joined("mps"):
        pass


# ---- the whole flow

RECIPE = """
image_size = [42, 42]
steps = 6
data = {town = {seeds = [11, 12], places = 8, views = 4}, augment = "mirror"}
network = {backbone = "nano", tuning = "full", encoder_heads = 4, encoder_ffn = 64, init = "default"}
step = {places = 4, images_per_place = 2, group_sizes = [1, 4]}
optimizer = {rate = 1e-4}
validation = {town = {seed = 13, places = 5}, every_steps = 3, groupings = ["alone"]}
"""


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_asked_to_stop_at_any_rank_all_end_with_one_checkpoint_and_go_on_in_another_number(
    folder: Path, family: Family
) -> None:
    (folder / "recipe.toml").write_text(RECIPE)
    for code, out, said in family.two("train", folder, {"signal_in_step": 4}):  # at the last rank alone
        assert code == 143 and out == "" and "Traceback" not in said
    kept, _, complaints = load_newest(folder / "run" / "checkpoints")
    assert (kept.facts.step, complaints, kept.facts.processes) == (4, [], 2)
    verb = {"verb": ["--resume", str(folder / "run")]}
    code, out, said = family.one("train", folder, verb)
    assert code == 0 and "6 of 6 steps" in out, said
    whole = folder / "whole"
    whole.mkdir()
    (whole / "pictures").symlink_to(folder / "pictures")
    (whole / "recipe.toml").write_text(RECIPE)
    code, _, said = family.one("train", whole, {})
    assert code == 0, said
    ours, alone = log_of(folder / "run"), log_of(whole / "run")
    assert [line["step"] for line in ours] == [line["step"] for line in alone] == [1, 2, 3, 3, 4, 5, 6, 6]
    for line, other in zip(ours, alone, strict=True):
        assert line.get("loss") == pytest.approx(other.get("loss"), abs=1e-5)
        assert line.get("group_size") == other.get("group_size")


def test_an_error_at_one_rank_ends_all_with_one_line(folder: Path, family: Family) -> None:
    (folder / "recipe.toml").write_text(RECIPE)
    first, last = family.two("fail", folder, {})
    assert (first[0], last[0]) == (2, 2)
    lines = [line for line in (first[2] + last[2]).splitlines() if line.startswith("cricavpr")]
    assert lines == ["cricavpr: the last one's data is broken."]
    assert "Traceback" not in first[2] + last[2]


def test_the_same_error_at_all_ranks_is_said_once(folder: Path, family: Family) -> None:
    (folder / "recipe.toml").write_text(RECIPE.replace("places = 4", "places = 5"))
    first, last = family.two("train", folder, {})
    assert (first[0], last[0]) == (2, 2)
    assert "multiple of the number of processes" in first[2] and last[2] == ""


@pytest.mark.slow
def test_a_rank_that_is_killed_does_not_leave_the_others_waiting(folder: Path, family: Family) -> None:
    (folder / "recipe.toml").write_text(RECIPE)
    first, last = family.two("train", folder, {"killed_in_step": 3})
    assert (first[0], last[0]) == (2, -signal.SIGKILL)
    assert "one has ended" in first[2] and "--resume" in first[2] and "Traceback" not in first[2]


@pytest.mark.slow
def test_torchrun_starts_it(folder: Path, family: Family) -> None:
    (folder / "recipe.toml").write_text(RECIPE)
    verb = ["train", "recipe.toml", "--out", "run", "--workers", "1", "--pictures", "pictures"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "cricavpr", *verb, "--set", "step.group_scope=rank"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 of 6 steps") == 1
    assert done.stderr.count("each group holds images of only one of 2 processes") == 1
    assert {line["processes"] for line in log_of(folder / "run") if "loss" in line} == {2}
    resumed = [sys.executable, "-m", "cricavpr", "train", "--resume", "run", "--pictures", "pictures"]
    refused = subprocess.run(resumed, cwd=folder, capture_output=True, text=True)
    assert refused.returncode == 2 and "needs 2 processes, as before" in refused.stderr
