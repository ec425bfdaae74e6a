"""The training loop, visible: a recipe in, a folder with weights, log, curves and checkpoints out.

    RUN/last.safetensors, best.safetensors   weights that `load_method` reads
    RUN/log.jsonl, speed.jsonl, curves.svg   see `log`
    RUN/checkpoints/                         see `checkpoints`
    RUN/pictures/                            drawn towns, where a recipe learns from them

Letters: P places, K pictures of each, B = P K images in a step, D dimension.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cricavpr.config import build
from cricavpr.datasets.base import Problem
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.files import held_alone
from cricavpr.training import checkpoints
from cricavpr.training.changes import changed, refuse_unnamed_changes
from cricavpr.training.checkpoints import Checkpoint
from cricavpr.training.data import StepData, Steps, open_places
from cricavpr.training.learning import Diverged, Learner, learn, make_learner
from cricavpr.training.log import Log, Progress
from cricavpr.training.optimisation import rate_at
from cricavpr.training.recipe import Recipe
from cricavpr.training.samples import Reported
from cricavpr.training.state import code_version, export, restore, settings_of, tensors_of
from cricavpr.training.stopping import Asked, listening
from cricavpr.training.validation import HeldOut, measure, open_held_out

_RANDOM = 2  # a stream of random numbers apart from those of the data


@dataclass(frozen=True)
class Machine:
    """What decides how fast a run goes, and nothing of what comes out.

    Attributes:
        workers: processes that read pictures.
        checkpoint_every: steps between two checkpoints.
        pictures: where drawn towns are kept; None keeps them in the run's own folder.
    """

    device: str = "cpu"
    workers: int = 2
    checkpoint_every: int = 200
    pictures: Path | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stopped_by` is the signal that ended it before its time."""

    step: int
    steps: int
    best: float | None
    stopped_by: int | None
    problems: tuple[Problem, ...]


@dataclass
class Position:
    """Where a run stands; `best` is the recall that decides, `waiting` the measurements since it rose."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    waiting: int = 0
    measured: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "waiting": self.waiting, "measured": self.measured}


class Run:
    """One run in its folder: everything that the loop below moves."""

    def __init__(self, recipe: Recipe, folder: Path, machine: Machine) -> None:
        self.recipe, self.folder, self.machine = recipe, folder, machine
        pictures = machine.pictures or folder / "pictures"
        self.places = open_places(recipe, pictures, machine.workers)
        self.steps = Steps(recipe, self.places)
        self.held_out: HeldOut | None = open_held_out(recipe, pictures, machine.workers)
        self.learner: Learner = make_learner(recipe, self.places, machine.device)
        self.position = Position()
        self.reported = Reported()
        self.progress = Progress(folder, self.steps.count, 0, machine.quiet)
        self._saved_step = -1

    # ---- the loop

    def go(self, asked: Asked) -> Outcome:
        """Step until the end, or until asked to stop. Raises `Diverged` when a loss is no longer a number."""
        self.progress = Progress(self.folder, self.steps.count, self.position.step, self.machine.quiet)
        reading = self.steps.read(self.position.step, self.machine.workers)
        with contextlib.closing(reading):
            self._learn(reading, asked)
        self.save()
        if self.finished:
            self._export("last")
        self.progress.draw()
        return Outcome(
            self.position.step, self.steps.count, self.position.best, asked.signal, tuple(self.reported.problems)
        )

    def _learn(self, reading: Iterator[StepData], asked: Asked) -> None:
        while not self.finished and asked.signal is None:
            began = time.monotonic()
            data = next(reading)
            waited_s = time.monotonic() - began
            for problem in self.reported.new(data.problems):
                self.progress.warn(f"cannot use {problem.name!r}: {problem.reason} [{problem.stage}]")

            step = self.position.step
            torch.manual_seed(_seed_of(self.recipe.seed, step))  # of dropout: no state to carry over a restart
            rate = rate_at(
                step, self.recipe.optimizer.rate, self.recipe.schedule, self.steps.count, self.steps.per_epoch
            )
            learnt = learn(self.learner, data, self.recipe.step, rate, self.recipe.optimizer.clip)
            self.position.step += 1

            line = {"step": step + 1, "loss": learnt.loss, "mined": learnt.mined, "rate": rate}
            line |= {"group_size": data.group_size or len(data.places)}
            self.log.write(line | ({} if learnt.distillation is None else {"distillation": learnt.distillation}))
            self.progress.step_done(step + 1, len(data.places), waited_s, line)
            if self._time_to_measure():
                self._measure()
                self.save()
            elif self.position.step % self.machine.checkpoint_every == 0:
                self.save()

    @property
    def finished(self) -> bool:
        wanted = self.recipe.validation
        gave_up = wanted is not None and 0 < wanted.patience <= self.position.waiting
        return gave_up or self.position.step >= self.steps.count

    # ---- measuring

    def _time_to_measure(self) -> bool:
        wanted, step = self.recipe.validation, self.position.step
        if wanted is None:
            return False
        return step % (wanted.every_steps or self.steps.per_epoch) == 0 or step == self.steps.count

    def _measure(self) -> None:
        wanted = self.recipe.validation
        assert wanted is not None and self.held_out is not None
        at = self.position
        at.measured = measure(self.learner.model, settings_of(self.recipe), self.held_out, wanted.groupings)
        self.log.write({"step": at.step, "measured": at.measured})
        self.progress.say(f"step {at.step:,}: " + "  ".join(f"{n} {100 * v:.1f}" for n, v in at.measured.items()))
        value = at.measured[f"R@{wanted.best_by} {wanted.groupings[0]}"]
        at.waiting += 1
        if at.best is None or value > at.best:
            at.best, at.best_step, at.waiting = value, at.step, 0
            self._export("best")

    def _export(self, name: str) -> None:
        path = self.folder / f"{name}.safetensors"
        export(path, self.learner.model, self.recipe, self.places, self.position.step, self.position.measured)

    # ---- going on

    def begin(self) -> None:
        """Step 0 is saved at once: a place that cannot be written shows before anything was learnt."""
        self.log = Log(self.folder / "log.jsonl")
        self.save()

    def save(self) -> None:
        """Write a checkpoint of where the run stands, once."""
        if self._saved_step == self.position.step:
            return
        facts = {
            "position": self.position.to_dict(),
            "log_bytes": self.log.synced_length(),
            "recipe": self.recipe.to_dict(),
            "data_fingerprint": self.places.fingerprint(),
            "code": code_version(),
        }
        tensors = tensors_of(self.learner)
        checkpoints.save(self.folder / "checkpoints", Checkpoint(self.position.step, tensors, facts))
        self._saved_step = self.position.step

    def go_back_to(self, checkpoint: Checkpoint, source: Path, named: Collection[str]) -> None:
        """Stand where a checkpoint stood.

        Raises:
            InputError: the data or the network is another one now.
        """
        facts = checkpoint.facts
        data_named = any(name.split(".")[0] == "data" for name in named)
        if facts["data_fingerprint"] != self.places.fingerprint() and not data_named:
            raise InputError(
                f"the data of {self.folder} has changed since the run began. Put it back, or name the change by "
                "--set data..."
            )
        if facts["code"] != code_version():
            self.progress.warn(f"the run began with {facts['code']} and goes on with {code_version()}")
        restore(self.learner, checkpoint.tensors, source)
        self.position = Position(step=checkpoint.step, **facts["position"])
        self.log = Log(self.folder / "log.jsonl", facts["log_bytes"])
        self._saved_step = checkpoint.step


def train(recipe: Recipe, folder: Path, machine: Machine | None = None) -> Outcome:
    """Train from the start in a folder of its own.

    Raises:
        InputError: the folder holds a run already, or cannot be written, or the data is not there.
        CricaVPRError: the loss is no longer a number; the last good checkpoint stays.
    """
    if checkpoints.found(folder / "checkpoints"):
        raise InputError(f"{folder} holds a run already. Go on with --resume {folder}, or choose another --out.")
    with _alone(folder), listening() as asked:
        run = Run(recipe, folder, machine or Machine())
        run.begin()
        return _go(run, asked)


def resume(
    folder: Path,
    recipe: Recipe | None = None,
    changes: dict[str, Any] | None = None,
    machine: Machine | None = None,
) -> Outcome:
    """Go on from the newest whole checkpoint, as if nothing had happened.

    Args:
        recipe: the one that the run began with; left out, the recorded one.
        changes: what is to be different from now on, by name.

    Raises:
        InputError: there is no checkpoint, or the recipe differs in something that `changes` does not name.
        CricaVPRError: the loss is no longer a number; the last good checkpoint stays.
    """
    machine, changes = machine or Machine(), changes or {}
    if not checkpoints.found(folder / "checkpoints"):
        raise InputError(f"{folder} holds no checkpoint. Give the folder that a run was written to.")
    with _alone(folder), listening() as asked:
        checkpoint, source, complaints = checkpoints.load_newest(folder / "checkpoints")
        recorded = build(Recipe, checkpoint.facts["recipe"], str(source))
        wanted = changed(recorded if recipe is None else recipe, changes)
        refuse_unnamed_changes(recorded, wanted, changes)
        run = Run(wanted, folder, machine)
        for complaint in complaints:
            run.progress.warn(f"{complaint} Going on from {source}.")
        run.go_back_to(checkpoint, source, changes)
        return _go(run, asked)


def _alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}. Choose another place.") from None
    return held_alone(folder / "lock", str(folder))


def _go(run: Run, asked: Asked) -> Outcome:
    try:
        return run.go(asked)
    except Diverged as error:
        newest = next(iter(checkpoints.found(run.folder / "checkpoints")), None)
        raise CricaVPRError(
            f"step {run.position.step + 1:,}: {error}, so the run stops. The last good state is {newest}; go on "
            "from it with --resume and, say, --set optimizer.rate=... (lower)."
        ) from error
    finally:
        run.log.close()


def _seed_of(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step, _RANDOM]).generate_state(1, np.uint64)[0] >> np.uint64(1))
