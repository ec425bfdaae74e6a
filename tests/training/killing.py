"""Trainings that are killed and go on, in children of a process that has computed nothing, so that forking is safe.

Run as `python -m tests.training.killing steps|calls FOLDER STEPS`; prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch  # noqa: F401
import torch
import torch._dynamo  # torch imports it with the first optimizer; the children shall find it there

from cricavpr.training import checkpoints, train
from cricavpr.training.losses import make_loss
from tests.training.toy import machine, toy

CALLS = ("open", "fsync", "replace", "unlink")  # of `os`: all that a save does, but for writing the bytes
KILLED = -signal.SIGKILL


def child(work: Callable[[], Any]) -> int:
    """Do something in a child; its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_in_step(number: int) -> None:
    """Kill this process when the optimizer has moved for the n-th time, and nothing was written of it yet."""
    learn, done = train.learn, 0

    def counted(*args: Any) -> Any:
        nonlocal done
        learnt = learn(*args)
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return learnt

    train.learn = counted


def killed_after_call(number: int) -> None:
    """Kill this process after the n-th call of those that a save is made of."""
    done = 0
    for name in CALLS:

        def counted(*args: Any, call: Callable[..., Any] = getattr(os, name), **keywords: Any) -> Any:
            nonlocal done
            try:
                return call(*args, **keywords)
            finally:
                done += 1
                if done == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        setattr(os, name, counted)


def result(folder: Path) -> dict[str, str]:
    """All that a run leaves that must not depend on interruptions: hashes by name."""
    newest = checkpoints.found(folder / "checkpoints")[0]
    files = {name: checkpoints.sha256_of(folder / name) for name in ("log.jsonl", "last.safetensors", "best.safetensors")}
    return files | {"checkpoint": newest.name}


def main(kind: str, root: Path, steps: int) -> dict[str, Any]:
    make_loss("multi_similarity", 0, [])  # imported once, for all children
    arm = {"steps": killed_in_step, "calls": killed_after_call}[kind]
    recipe = toy(steps=steps)
    on = machine(root / "pictures", checkpoint_every=max(2, steps // 4))
    assert child(lambda: train.train(recipe, root / "whole", on)) == 0
    whole = result(root / "whole")
    kills, problems = 0, []
    while True:
        number, folder = kills + 1, root / f"{kind}-{kills + 1}"

        def once(number: int = number, folder: Path = folder) -> None:
            arm(number)
            train.train(recipe, folder, on)

        code = child(once)
        if code != KILLED:
            assert code == 0, code
            return {"kills": kills, "problems": problems}
        kills += 1
        files = list((folder / "checkpoints").iterdir()) if (folder / "checkpoints").exists() else []
        if len(files) > checkpoints.KEPT + 1:
            problems.append([number, "files", len(files)])
        begun = bool(checkpoints.found(folder / "checkpoints"))
        again = (lambda: train.resume(folder, machine=on)) if begun else (lambda: train.train(recipe, folder, on))
        if child(again) != 0 or result(folder) != whole:
            problems.append([number, "differs", sorted(path.name for path in files)])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
