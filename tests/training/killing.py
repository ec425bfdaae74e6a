"""Trainings that are killed and go on, in children of a process that has computed nothing, so that forking is safe.

Run as `python -m tests.training.killing steps|calls FOLDER STEPS`; prints one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch  # noqa: F401
import torch
import torch._dynamo  # torch imports it with the first optimizer; the children shall find it there

from cricavpr.files import sha256_of
from cricavpr.training import train
from cricavpr.training.checkpoints import KEPT, list_checkpoints
from cricavpr.training.learning import Learner
from cricavpr.training.log import Monitor
from cricavpr.training.losses import make_loss
from cricavpr.training.recipe import Recipe
from tests.forked import forked
from tests.training.toy import machine, toy

CALLS = ("open", "fsync", "replace", "unlink")  # of `os`: all that a save does, but for writing the bytes
KILLED = -signal.SIGKILL


def child(work: Callable[[], Any]) -> int:
    """Do something in a child with one thread; its exit code, negative for a signal."""

    def with_one_thread() -> None:
        torch.set_num_threads(1)
        work()

    return forked(with_one_thread)


def killed_in_step(number: int) -> None:
    """Kill this process when the optimizer has moved for the n-th time, and nothing was written of it yet."""
    update, done = Learner.update, 0

    def counted(self: Learner, rate: float) -> None:
        nonlocal done
        update(self, rate)
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Learner.update = counted  # type: ignore[method-assign]


def killed_after_call(number: int) -> None:
    """Kill this process after the n-th call of those that a save is made of."""
    done = 0

    def counted(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        nonlocal done
        try:
            return call(*args, **keywords)
        finally:
            done += 1
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)

    for name in CALLS:
        setattr(os, name, partial(counted, getattr(os, name)))


RESULT = ("log.jsonl", "last.safetensors", "best.safetensors")


def result(folder: Path) -> dict[str, str]:
    """All that a run leaves that must not depend on interruptions: hashes by name."""
    newest = list_checkpoints(folder / "checkpoints")[0]
    return {name: sha256_of(folder / name) for name in RESULT} | {"checkpoint": newest.name}


def go_on(recipe: Recipe, folder: Path, on: train.Machine) -> None:
    """What a user does: resume where there is a checkpoint, and begin again where there is none yet."""
    if list_checkpoints(folder / "checkpoints"):
        train.resume(folder, machine=on)
    else:
        train.train(recipe, folder, on)


def main(kind: str, root: Path, steps: int) -> dict[str, Any]:
    make_loss("multi_similarity", 0, [])  # imported once, for all children
    Monitor.draw = lambda _: None  # type: ignore[method-assign]  # curves take longer than the steps
    recipe = toy(steps=steps)
    on = machine(root / "pictures", checkpoint_every=max(2, steps // 4))
    assert child(lambda: train.train(recipe, root / "whole", on)) == 0
    whole = result(root / "whole")
    problems: list[Any] = []
    for number in itertools.count(1):
        folder = root / f"{kind}-{number}"
        code = child(partial(until_killed, kind, number, recipe, folder, on))
        if code != KILLED:
            assert code == 0, code
            return {"kills": number - 1, "problems": problems}
        there = folder / "checkpoints"
        files = sorted(path.name for path in there.iterdir()) if there.exists() else []
        if len(files) > KEPT + 1:
            problems.append([number, "too many files", files])
        if child(partial(go_on, recipe, folder, on)) != 0 or result(folder) != whole:
            problems.append([number, "ends differently", files])
    raise AssertionError


def until_killed(kind: str, number: int, recipe: Recipe, folder: Path, on: train.Machine) -> None:
    {"steps": killed_in_step, "calls": killed_after_call}[kind](number)
    train.train(recipe, folder, on)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
