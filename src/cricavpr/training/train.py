"""The training loop, visible: a recipe in, a folder with weights, log, curves and checkpoints out.

    RUN/last.safetensors, best.safetensors   weights that `load_method` reads
    RUN/log.jsonl, speed.jsonl, curves.*     see `log`
    RUN/checkpoints/                         see `checkpoints`
    RUN/pictures/                            drawn towns, where a recipe learns from them

Letters: P places, K pictures of each, B = P K images in a step, D dimension.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cricavpr.datasets.base import Problem
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.locks import exclusive
from cricavpr.schema import build
from cricavpr.training import checkpoints
from cricavpr.training.board import Board
from cricavpr.training.changes import changed, refuse_unnamed_changes
from cricavpr.training.checkpoints import Checkpoint
from cricavpr.training.data import StepData, Steps, open_places
from cricavpr.training.distributed import ALONE, World
from cricavpr.training.learning import Diverged, Learner, learn, make_learner
from cricavpr.training.log import Log, Progress
from cricavpr.training.optimisation import rate_at
from cricavpr.training.recipe import Recipe
from cricavpr.training.samples import Reported
from cricavpr.training.state import code_version, export, restore, tensors_of
from cricavpr.training.stopping import Asked, listening
from cricavpr.training.validation import HeldOut, measure, open_held_out

_RANDOM = 2  # a stream of random numbers apart from those of the data


@dataclass(frozen=True)
class Machine:
    """What decides how fast a run goes, and nothing of what comes out.

    Attributes:
        workers: processes that read pictures, for each that trains.
        checkpoint_every: steps between two checkpoints.
        pictures: where drawn towns are kept; None keeps them in the run's own folder.
        tensorboard: event files beside the log.

    Raises:
        InputError: fewer than no workers, or a checkpoint every 0 steps.
    """

    device: str = "cpu"
    workers: int = 2
    checkpoint_every: int = 200
    pictures: Path | None = None
    quiet: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InputError(
                f"{self.workers} processes cannot read pictures. Give 0, which reads in this one, or more."
            )
        if self.checkpoint_every < 1:
            raise InputError(f"a checkpoint every {self.checkpoint_every} steps is impossible. Give 1 step or more.")


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
    """One run in its folder: everything that the loop below moves. Of several processes the first alone writes."""

    def __init__(self, recipe: Recipe, folder: Path, machine: Machine, world: World = ALONE) -> None:
        self.recipe, self.folder, self.machine, self.world = recipe, folder, machine, world
        pictures = machine.pictures or folder / "pictures"
        self.places = world.in_turn(partial(open_places, recipe, pictures, machine.workers))
        with world.together():
            self.steps = Steps(recipe, self.places, world)
            self.held_out: HeldOut | None = None
            if world.first:
                self.held_out = open_held_out(recipe, pictures, machine.workers)
            self.learner: Learner = make_learner(recipe, self.places, machine.device, world)
        self.position = Position()
        self.reported = Reported()
        self.progress = Progress(folder, self.steps.count, 0, machine.quiet or not world.first)
        self._saved_step = -1

    # ---- the loop

    def go(self, asked: Asked) -> Outcome:
        """Step until the end, or until asked to stop. Raises `Diverged` when a loss is no longer a number."""
        silent = self.machine.quiet or not self.world.first
        self.progress = Progress(self.folder, self.steps.count, self.position.step, silent)
        if self.groups_depend_on_processes:
            self.progress.say(f"each group stays within one of {self.world.count} processes (step.group_scope = rank)")
        reading = self.steps.read(self.position.step, self.machine.workers)
        with contextlib.closing(reading):
            self._learn(reading, asked)
        if self.steps.count == 0 and not self.position.measured:
            self._measure()  # a network that does not learn is measured as it is
        self.save()
        with self.world.together():
            if self.world.first and self.finished:
                self._export("last")
        if self.world.first:
            self.progress.end(self.position.step)
        (number,) = self.world.greatest(asked.signal or 0)
        return Outcome(
            self.position.step, self.steps.count, self.position.best, number or None, tuple(self.reported.problems)
        )

    def _learn(self, reading: Iterator[StepData], asked: Asked) -> None:
        while self._goes_on(asked):
            began = time.monotonic()
            with self.world.together():
                data = next(reading)
            waited_s = time.monotonic() - began
            for problem in self.reported.new(self._problems_of_all(data)):
                if self.world.first:
                    self.progress.warn(f"cannot use {problem.name!r}: {problem.reason} [{problem.stage}]")

            step = self.position.step
            torch.manual_seed(self._seed_of_dropout(step))  # no state to carry over a restart
            rate = rate_at(
                step, self.recipe.optimizer.rate, self.recipe.schedule, self.steps.count, self.steps.per_epoch
            )
            with self.world.together():
                learnt = learn(self.learner, data, self.recipe.step, rate, self.recipe.optimizer.clip, self.world)
            self.position.step += 1

            images = len(data.places) * self.world.count
            line = {"step": step + 1, "loss": learnt.loss, "mined": learnt.mined, "rate": rate}
            line |= {"group_size": data.group_size or (len(data.places) if self.groups_depend_on_processes else images)}
            line |= {"processes": self.world.count} if self.groups_depend_on_processes else {}
            with self.world.together():
                if self.world.first:
                    apart = {} if learnt.distillation is None else {"distillation": learnt.distillation}
                    self.log.write(line | apart)
                    self.progress.step_done(step + 1, images, waited_s, line)
            if self._time_to_measure():
                self._measure()
                self.save()
            elif self.position.step % self.machine.checkpoint_every == 0:
                self.save()

    def _goes_on(self, asked: Asked) -> bool:
        """One answer for all processes, whichever was sent a signal. One that comes meanwhile counts next time."""
        stop, number = self.world.greatest(int(self.finished), asked.signal or 0)
        if number:
            asked.signal = number
        return not (stop or number)

    def _problems_of_all(self, data: StepData) -> tuple[Problem, ...]:
        if self.world.alone or self.world.greatest(len(data.problems)) == [0]:
            return data.problems
        texts = self.world.texts(json.dumps([astuple(problem) for problem in data.problems]))
        return tuple(Problem(*values) for text in texts for values in json.loads(text))

    def _seed_of_dropout(self, step: int) -> int:
        """The same for all processes where all compute the same groups."""
        apart = [self.world.rank] if self.groups_depend_on_processes and self.world.rank else []
        seed = np.random.SeedSequence([self.recipe.seed, step, _RANDOM, *apart])
        return int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1))

    @property
    def groups_depend_on_processes(self) -> bool:
        return self.recipe.step.group_scope == "rank" and not self.world.alone

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
        with self.world.together():
            if self.world.first:
                self._measure_here()

    def _measure_here(self) -> None:
        wanted = self.recipe.validation
        assert wanted is not None and self.held_out is not None
        at = self.position
        at.measured = measure(self.learner.network, self.held_out, wanted.groupings)
        self.log.write({"step": at.step, "measured": at.measured})
        self.progress.say(f"step {at.step:,}: " + "  ".join(f"{n} {100 * v:.1f}" for n, v in at.measured.items()))
        value = at.measured[f"R@{wanted.best_by} {wanted.groupings[0]}"]
        at.waiting += 1
        if at.best is None or value > at.best:
            at.best, at.best_step, at.waiting = value, at.step, 0
            self._export("best")

    def _export(self, name: str) -> None:
        path = self.folder / f"{name}.safetensors"
        at = self.position
        export(path, self.learner.network, self.recipe, self.places, at.step, at.measured, self.world.count)

    # ---- going on

    def begin(self) -> None:
        """Step 0 is saved at once: a place that cannot be written shows before anything was learnt."""
        with self.world.together():
            if self.world.first:
                self.log = self._open_log(0)
        self.save()

    def _open_log(self, length: int) -> Log:
        return Log(self.folder / "log.jsonl", length, Board(self.folder) if self.machine.tensorboard else None)

    def save(self) -> None:
        """Write a checkpoint of where the run stands, once."""
        if self._saved_step == self.position.step:
            return
        with self.world.together():  # and none leaves while the first still writes
            if self.world.first:
                self._save_here()
        self._saved_step = self.position.step

    def _save_here(self) -> None:
        facts = {
            "position": self.position.to_dict(),
            "log_bytes": self.log.synced_length(),
            "recipe": self.recipe.to_dict(),
            "data_fingerprint": self.places.fingerprint(),
            "code": code_version(),
            "processes": self.world.count,
        }
        tensors = tensors_of(self.learner)
        checkpoints.save(self.folder / "checkpoints", Checkpoint(self.position.step, tensors, facts))

    def go_back_to(self, checkpoint: Checkpoint, source: Path, named: Collection[str]) -> None:
        """Stand where a checkpoint stood.

        Raises:
            InputError: the data or the network is another one now, or groups would be.
        """
        facts = checkpoint.facts
        before, now = facts.get("processes", 1), self.world.count
        rank_named = any(name in ("step", "step.group_scope") for name in named)
        if self.recipe.step.group_scope == "rank" and before != now and not rank_named:
            raise InputError(
                f"the groups of {self.folder} were those of {before} processes (step.group_scope = 'rank'), and there "
                f"are {now} now. Start {before}, or name the change by --set step.group_scope=..."
            )
        data_named = any(name.split(".")[0] == "data" for name in named)
        if facts["data_fingerprint"] != self.places.fingerprint() and not data_named:
            raise InputError(
                f"the data of {self.folder} has changed since the run began. Put it back, or name the change by "
                "--set data..."
            )
        if facts["code"] != code_version() and self.world.first:
            self.progress.warn(f"the run began with {facts['code']} and goes on with {code_version()}")
        restore(self.learner, checkpoint.tensors, source)
        self.position = Position(step=checkpoint.step, **facts["position"])
        if self.world.first:
            self.log = self._open_log(facts["log_bytes"])
        self._saved_step = checkpoint.step


def train(recipe: Recipe, folder: Path, machine: Machine | None = None, world: World = ALONE) -> Outcome:
    """Train from the start in a folder of its own.

    Args:
        world: the processes that train together, from `distributed.joined`; each calls this with the same arguments.

    Raises:
        InputError: the folder holds a run already, or cannot be written, or the data is not there.
        CricaVPRError: the loss is no longer a number; the last good checkpoint stays.
    """
    with contextlib.ExitStack() as stack:
        with world.together():
            if world.first:
                if checkpoints.found(folder / "checkpoints"):
                    raise InputError(
                        f"{folder} holds a run already. Go on with --resume {folder}, or choose another --out."
                    )
                stack.enter_context(_alone(folder))
        asked = stack.enter_context(listening())
        run = Run(recipe, folder, machine or Machine(), world)
        run.begin()
        return _go(run, asked)


def resume(
    folder: Path,
    recipe: Recipe | None = None,
    changes: dict[str, Any] | None = None,
    machine: Machine | None = None,
    world: World = ALONE,
) -> Outcome:
    """Go on from the newest whole checkpoint, as if nothing had happened.

    Args:
        recipe: the one that the run began with; left out, the recorded one.
        changes: what is to be different from now on, by name.
        world: as for `train`; how many processes there are may change, and all must see the folder.

    Raises:
        InputError: there is no checkpoint, or the recipe differs in something that `changes` does not name.
        CricaVPRError: the loss is no longer a number; the last good checkpoint stays.
    """
    machine, changes = machine or Machine(), changes or {}
    with contextlib.ExitStack() as stack:
        with world.together():
            if not checkpoints.found(folder / "checkpoints"):
                raise InputError(f"{folder} holds no checkpoint. Give the folder that a run was written to.")
            if world.first:
                stack.enter_context(_alone(folder))
        asked = stack.enter_context(listening())
        with world.together():
            checkpoint, source, complaints = checkpoints.load_newest(folder / "checkpoints")
            recorded = build(Recipe, checkpoint.facts["recipe"], str(source))
            wanted = changed(recorded if recipe is None else recipe, changes)
            refuse_unnamed_changes(recorded, wanted, changes)
        run = Run(wanted, folder, machine, world)
        for complaint in complaints if world.first else []:
            run.progress.warn(f"{complaint} Going on from {source}.")
        with world.together():
            run.go_back_to(checkpoint, source, changes)
        return _go(run, asked)


def _alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}. Choose another place.") from None
    return exclusive(folder / "lock", str(folder))


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
        if run.world.first:
            run.log.close()
