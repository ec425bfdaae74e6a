"""Several processes that train a toy together, as torchrun would start them; or one that does the same alone.

Run as `python -m tests.training.several`: a line of JSON in, a list of [WHAT, FOLDER, SETTINGS, VARIABLES]; a child
for each, all at once; a line of JSON out, a list of [exit code, stdout, stderr]. The children come from a process that
has computed nothing, so that forking is safe and torch is imported once.

`learn` takes 20 steps and leaves losses and weights; `train` is the whole flow; `fail` fails at the last rank.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch  # noqa: F401
import torch
import torch._dynamo  # torch imports it with the first optimizer; the children shall find it there
from numpy.typing import NDArray

from cricavpr.cli import main as door
from cricavpr.errors import InputError
from cricavpr.training.data import StepData, Steps, open_places
from cricavpr.training.distributed import World, joined
from cricavpr.training.learning import Described, Learner, make_learner
from cricavpr.training.log import Monitor
from cricavpr.training.losses import make_loss
from tests.training.toy import learn, toy

STEPS = 20
LIMIT_S = 240.0


class AsTwo(Steps):
    """One process that shuffles as two would, each within its own images."""

    def company(self, step: int) -> tuple[NDArray[np.int64], int]:
        wanted = self.recipe.step
        two = Steps(
            replace(self.recipe, step=replace(wanted, group_scope="rank", micro_batch=0)), self.places, World(0, 2)
        )
        return two.company(step)


def learnt(folder: Path, settings: dict[str, Any], world: World) -> dict[str, Any]:
    """Losses of 20 steps, and where they lead."""
    as_two = settings.pop("as_two", False)
    recipe = toy(steps=STEPS, optimizer__clip=0.0, **settings)
    places = world.in_turn(lambda: open_places(recipe, folder / "pictures", 0))
    steps = (AsTwo if as_two else Steps)(recipe, places, world)
    learner = make_learner(recipe, places, torch.device("cpu"), world)
    losses = []
    for number, data in enumerate(steps.read(0, 0)):
        torch.manual_seed(number)
        losses.append(learn(learner, data, recipe.optimizer.rate).loss.item())
        if number == 0:
            gradients = of(learner)
    return {"losses": losses, "gradients": gradients, "state": learner.model.state_dict()}


def of(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def trained(folder: Path, settings: dict[str, Any], failing: bool) -> int:
    """The verb, on `recipe.toml` in the folder."""
    rank = int(os.environ.get("RANK", 0))
    last = rank == int(os.environ.get("WORLD_SIZE", 1)) - 1
    describe, done = Learner.describe, 0

    def watched(self: Learner, data: StepData) -> Described:
        nonlocal done
        done += 1
        if last and done == settings.get("signal_in_step"):
            os.kill(os.getpid(), signal.SIGTERM)
        if last and done == settings.get("killed_in_step"):
            os.kill(os.getpid(), signal.SIGKILL)
        return describe(self, data)

    Learner.describe = watched  # type: ignore[method-assign]
    if failing:
        load = Steps.load

        def broken(self: Steps, step: int) -> StepData:
            if last and step == 2:
                raise InputError("the last one's data is broken.")
            return load(self, step)

        Steps.load = broken  # type: ignore[method-assign]
    verb = settings.get("verb") or [str(folder / "recipe.toml"), "--out", str(folder / "run")]
    return door(["train", *verb, "--workers", "0", "--pictures", str(folder / "pictures"), "--quiet"])


def work(what: str, folder: Path, settings: dict[str, Any]) -> int:
    torch.set_num_threads(1)
    if what != "learn":
        return trained(folder, settings, what == "fail")
    with joined("cpu") as world:
        name = "alone" if world.alone else f"rank{world.rank}"
        torch.save(learnt(folder, settings, world), folder / f"{name}.pt")
    return 0


def child(said: list[Any], what: str, folder: str, settings: dict[str, Any], variables: dict[str, str]) -> int:
    """The id of a process that works and writes to the two files of `said`."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number, file in enumerate(said, 1):
            os.dup2(file.fileno(), number)
        os.environ.update(variables)
        code = work(what, Path(folder), settings)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def all_at_once(jobs: list[list[Any]]) -> list[list[Any]]:
    said = [[tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")] for _ in jobs]  # noqa: SIM115
    running = [child(files, *job) for files, job in zip(said, jobs, strict=True)]
    codes = [within(LIMIT_S, pid) for pid in running]
    for files in said:
        for file in files:
            file.seek(0)
    return [[code, *(file.read() for file in files)] for code, files in zip(codes, said, strict=True)]


def within(limit_s: float, pid: int) -> int:
    """The exit code of a child; one that hangs is killed."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    make_loss("multi_similarity", 0, [])  # imported once, for all children
    Monitor.draw = lambda _: None  # type: ignore[method-assign]  # curves take longer than the steps
    for line in sys.stdin:
        print(json.dumps(all_at_once(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
