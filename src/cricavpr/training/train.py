"""Training by a recipe: the training loop, and the folder of a run.

RUN/last.safetensors, best.safetensors   weights for `load_method`
RUN/log.jsonl, speed.jsonl, curves.*     see `log`
RUN/checkpoints/                         see `checkpoints`
RUN/pictures/                            pictures of computer-drawn towns, if the recipe uses any
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cricavpr.datasets.base import Problem
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.locks import exclusive
from cricavpr.models.devices import choose_device
from cricavpr.schema import build, to_plain
from cricavpr.training import checkpoints
from cricavpr.training.checkpoints import Checkpoint, Facts, Standing, code_version
from cricavpr.training.data import StepData, Steps, open_places
from cricavpr.training.distributed import ALONE, OthersFailed, World
from cricavpr.training.learning import Diverged, StepLoss, make_learner, rate_at
from cricavpr.training.log import Log, Monitor, require_tensorboard, warn
from cricavpr.training.recipe import Recipe, changed, differences
from cricavpr.training.signals import StopRequest, stop_requests
from cricavpr.training.validation import measure, open_held_out

_RANDOM = 2  # part of the seed, so that these random numbers differ from those of the data


@dataclass(frozen=True)
class Machine:
    """Settings that decide the speed of a run, but not its result.

    Raises:
        InputError: `workers` is below 0, or `checkpoint_every` is below 1.
        MissingExtraError: `tensorboard` is true, but TensorBoard is not installed.
    """

    device: str = "cpu"  # auto, cpu, cuda or mps
    workers: int = 2  # processes that read pictures for each training process; 0 reads in the training process
    checkpoint_every: int = 200  # number of steps between checkpoints
    pictures: Path | None = None  # folder for the pictures of drawn towns; None for a folder in the run's folder
    quiet: bool = False  # whether to print no progress lines
    tensorboard: bool = False  # whether to write event files for TensorBoard

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("checkpoint_every", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if self.tensorboard:
            require_tensorboard()


@dataclass(frozen=True)
class Outcome:
    """Result of a training run."""

    step: int  # number of steps done
    steps: int  # number of steps of the whole run
    best: float | None  # highest recall@best_by under the first grouping, as a fraction; None without validation
    stopped_by: int | None  # number of the signal that stopped the run early; None if none did
    problems: tuple[Problem, ...]  # photos that could not be used


def train(recipe: Recipe, folder: Path, machine: Machine | None = None, world: World = ALONE) -> Outcome:
    """Train a network from step 0, in a new folder.

    Args:
        recipe: settings that decide the result.
        folder: folder of the run.
        machine: settings that decide the speed; None for the defaults.
        world: the processes that train together, from `distributed.joined`. Each process calls this function with the
            same arguments.

    Raises:
        InputError: the folder already holds a run or cannot be written, or the data is missing.
        CricaVPRError: the loss, its gradient or a weight is not finite; the last checkpoint is kept.

    Example:
        >>> import tempfile
        >>> network, town = {"backbone": "nano", "encoder_heads": 4}, {"seeds": [1], "places": 4, "views": 2}
        >>> step = {"places": 4, "images_per_place": 2}
        >>> values = {"image_size": [42, 42], "steps": 2, "data": {"town": town}, "network": network, "step": step}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     outcome = train(build(Recipe, values, "example"), Path(folder), Machine(workers=0, quiet=True))
        >>> outcome.step, outcome.stopped_by
        (2, None)
    """
    with world.together():
        if checkpoints.list_checkpoints(folder / "checkpoints"):
            raise InputError(f"{folder} holds a run already. Continue with --resume {folder}, or choose another --out.")
    with _locked(folder, world), stop_requests() as stop:
        run = TrainingRun(recipe, folder, machine or Machine(), world)
        run.begin()
        return run.go(stop)


def resume(
    folder: Path,
    recipe: Recipe | None = None,
    changes: dict[str, Any] | None = None,
    machine: Machine | None = None,
    world: World = ALONE,
) -> Outcome:
    """Resume a run from its newest undamaged checkpoint; the result is that of an uninterrupted run.

    Args:
        folder: folder of the run.
        recipe: recipe of the run; None takes the recipe in the checkpoint.
        changes: settings to change from now on, such as `{"steps": 2000}`.
        machine: settings that decide the speed; None for the defaults.
        world: the processes that train together, as for `train`. Their number may differ from that of the earlier run,
            and all must have access to the folder.

    Raises:
        InputError: there is no checkpoint, or the recipe differs in a setting that is not in `changes`.
        CricaVPRError: the loss, its gradient or a weight is not finite; the last checkpoint is kept.
    """
    changes = changes or {}
    with world.together():
        if not checkpoints.list_checkpoints(folder / "checkpoints"):
            raise InputError(f"{folder} holds no checkpoint. Give the folder of a run.")
    with _locked(folder, world), stop_requests() as stop:
        with world.together():
            checkpoint, source, complaints = checkpoints.load_newest(folder / "checkpoints")
            recorded = build(Recipe, checkpoint.facts.recipe, str(source))
            wanted = changed(recorded if recipe is None else recipe, changes)
            if what := differences(recorded, wanted, changes):
                raise InputError(
                    f"the run began with another recipe: {what}. To change a setting on purpose, give it with --set."
                )
        for complaint in complaints if world.first else []:
            warn(f"{complaint} Continuing from {source}.")
        run = TrainingRun(wanted, folder, machine or Machine(), world)
        run.restore(checkpoint, source, changes)
        return run.go(stop)


@contextlib.contextmanager
def _locked(folder: Path, world: World) -> Iterator[None]:
    """Make the folder unless it exists, and lock it in this block, so that no other run uses it."""

    def lock() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror}. Choose another --out.") from None
        stack.enter_context(exclusive(folder / "lock", str(folder)))

    with contextlib.ExitStack() as stack:
        world.first_only(lock)
        yield


class TrainingRun:
    """A training run and its folder. If several processes train, only the first process writes files and validates."""

    def __init__(self, recipe: Recipe, folder: Path, machine: Machine, world: World = ALONE) -> None:
        self.recipe, self.folder, self.machine, self.world = recipe, folder, machine, world
        pictures = machine.pictures or folder / "pictures"
        with world.together():
            device = torch.device(choose_device(machine.device if world.alone else world.device))
        self.places = world.in_turn(partial(open_places, recipe, pictures, machine.workers))
        with world.together():
            self.steps = Steps(recipe, self.places, world)
            self.learner = make_learner(recipe, self.places, device, world)
        opened = world.first_only(partial(open_held_out, recipe, pictures, machine.workers))
        self.held_out, problems = opened or (None, ())
        self.unusable: dict[str, Problem] = {}
        self._name_unusable([*self.learner.network.problems, *problems])
        self.step, self.standing, self._saved_step = 0, Standing(), -1

    # ---- the loop

    def go(self, stop: StopRequest) -> Outcome:
        """Train until the run is finished or `stop` has a signal; raise CricaVPRError if the run diverges."""
        stop.finish_step = True
        try:
            self._train(stop)
            if self.steps.count == 0 and not self.standing.measured:
                self.world.first_only(self._validate)  # a network with nothing to train is only validated
            self._save()
            self.world.first_only(self._end)
        except Diverged as error:
            if not self.world.first:
                raise OthersFailed("the run diverged in all processes") from None
            newest = next(iter(checkpoints.list_checkpoints(self.folder / "checkpoints")), None)
            raise CricaVPRError(
                f"step {self.step + 1:,}: {error}, so the run stops. The last good checkpoint is {newest}; continue "
                "from it with --resume and a lower learning rate, --set optimizer.rate=..."
            ) from error
        finally:
            if self.world.first:
                self.log.close()
                self.monitor.close()
        (number,) = self.world.max(stop.signal or 0)
        problems = tuple(self.unusable.values())
        return Outcome(self.step, self.steps.count, self.standing.best, number or None, problems)

    def _train(self, stop: StopRequest) -> None:
        learner, recipe, count = self.learner, self.recipe, self.steps.count
        with contextlib.closing(self.steps.read(self.step, self.machine.workers)) as steps:
            while not self._is_over(stop):
                data = next(steps)  # places sampled, pictures read and augmented
                self._seed_dropout()
                learner.optimizer.zero_grad()
                described = learner.describe(data)  # regions of each image, then descriptors within groups
                loss = learner.loss(described, data)  # mines pairs, too
                learner.backward(loss, described)
                rate = rate_at(self.step, recipe.optimizer.rate, recipe.schedule, count, self.steps.per_epoch)
                learner.update(rate)
                self.step += 1
                self.world.first_only(partial(self._record, data, loss, rate))
                if validating := self._is_time_to_validate():
                    self.world.first_only(self._validate)
                if validating or self.step % self.machine.checkpoint_every == 0:
                    self._save()

    def _is_over(self, stop: StopRequest) -> bool:
        """Return whether to stop. If one process received a signal, all processes stop."""
        over, number = self.world.max(int(self._is_finished()), stop.signal or 0)
        if number:
            stop.signal = number
        return bool(over or number)

    def _is_finished(self) -> bool:
        wanted = self.recipe.validation
        gave_up = wanted is not None and 0 < wanted.patience <= self.standing.waiting
        return gave_up or self.step >= self.steps.count

    def _is_time_to_validate(self) -> bool:
        wanted = self.recipe.validation
        if wanted is None:
            return False
        return self.step % (wanted.every_steps or self.steps.per_epoch) == 0 or self.step == self.steps.count

    def _seed_dropout(self) -> None:
        """Seed dropout by the number of the step, so that checkpoints need no state of random numbers.

        Processes that compute the same groups get the same seed.
        """
        apart = [self.world.rank] if self._groups_depend_on_processes and self.world.rank else []
        seed = np.random.SeedSequence([self.recipe.seed, self.step, _RANDOM, *apart])
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    @property
    def _groups_depend_on_processes(self) -> bool:
        return self.recipe.step.group_scope == "rank" and not self.world.alone

    # ---- what the first process writes

    def _record(self, data: StepData, loss: StepLoss, rate: float) -> None:
        self._name_unusable(data.problems)
        apart, images = self._groups_depend_on_processes, len(data.places) * self.world.count
        line = {"step": self.step, "loss": loss.loss.item(), "mined": loss.mined, "rate": rate}
        line["group_size"] = data.group_size or (len(data.places) if apart else images)
        if apart:
            line["processes"] = self.world.count
        if loss.distillation is not None:
            line["distillation"] = loss.distillation.item()
        self.log.write(line)
        self.monitor.step_done(line, images, data.waited_s)

    def _name_unusable(self, problems: Iterable[Problem]) -> None:
        """Report each photo that could not be used, only the first time; every epoch tries to read the photo again."""
        for problem in problems:
            if problem.name not in self.unusable:
                self.unusable[problem.name] = problem
                if self.world.first:
                    warn(f"cannot use {problem.name}: {problem.reason} [{problem.stage}]")

    def _validate(self) -> None:
        wanted = self.recipe.validation
        assert wanted is not None and self.held_out is not None
        measured, problems = measure(self.learner.network, self.held_out, wanted.groupings)
        self._name_unusable(problems)
        line = {"step": self.step, "measured": measured}
        self.log.write(line)
        self.monitor.show(line)
        self.monitor.say(f"step {self.step:,}: " + "  ".join(f"{n} {100 * v:.1f}" for n, v in measured.items()))
        value, before = measured[f"R@{wanted.best_by} {wanted.groupings[0]}"], self.standing
        if before.best is None or value > before.best:
            self.standing = Standing(value, self.step, 0, measured)
            self._export("best")
        else:
            self.standing = replace(before, waiting=before.waiting + 1, measured=measured)

    def _export(self, name: str) -> None:
        path, measured = self.folder / f"{name}.safetensors", self.standing.measured
        network = self.learner.network
        checkpoints.export(path, network, self.recipe, self.places, self.step, measured, self.world.count)

    def _end(self) -> None:
        if self._is_finished():
            self._export("last")
        self.monitor.end(self.step)

    # ---- checkpoints

    def begin(self) -> None:
        """Open the log, and save a checkpoint of step 0. A folder that cannot be written thus fails early."""
        self.world.first_only(partial(self._open_log, 0))
        self._save()

    def _open_log(self, length: int) -> None:
        self.log = Log(self.folder / "log.jsonl", length)
        machine = self.machine
        self.monitor = Monitor(self.folder, self.steps.count, self.step, machine.quiet, machine.tensorboard)
        if self._groups_depend_on_processes:
            self.monitor.say(
                f"each group holds images of only one of {self.world.count} processes (step.group_scope = rank)"
            )

    def _save(self) -> None:
        """Write a checkpoint of this step, unless it has been written."""
        if self._saved_step != self.step:
            self.world.first_only(self._save_here)
        self._saved_step = self.step

    def _save_here(self) -> None:
        facts = Facts(
            step=self.step,
            position=self.standing,
            log_bytes=self.log.synced_length(),
            recipe=to_plain(self.recipe),
            data_fingerprint=self.places.fingerprint(),
            code=code_version(),
            processes=self.world.count,
        )
        checkpoints.save(self.folder / "checkpoints", Checkpoint(facts, checkpoints.tensors_of(self.learner)))

    def restore(self, checkpoint: Checkpoint, source: Path, named: Collection[str]) -> None:
        """Set the run to the state of a checkpoint.

        The training data must be the same as before, unless a setting of `data` is listed in `named`. With
        step.group_scope = rank, the number of processes must be the same, too, unless step.group_scope is listed in
        `named`. The network must fit the checkpoint.

        Args:
            checkpoint: the checkpoint.
            source: path of the checkpoint, for messages.
            named: settings that the user changes on purpose, such as "data.town.seeds".

        Raises:
            InputError: data, number of processes or network do not match.
        """
        facts, now = checkpoint.facts, self.world.count
        with self.world.together():
            scope_named = bool({"step", "step.group_scope"} & set(named))
            if facts.processes != now and self.recipe.step.group_scope == "rank" and not scope_named:
                raise InputError(
                    f"{self.folder} needs {facts.processes} processes, as before (step.group_scope = rank), got {now}. "
                    f"Start {facts.processes} processes, or allow the change with --set step.group_scope=..."
                )
            data_named = any(name.split(".")[0] == "data" for name in named)
            if facts.data_fingerprint != self.places.fingerprint() and not data_named:
                raise InputError(
                    f"the training data of the run {self.folder} has changed since the run began. Restore the data, or "
                    "allow the change with --set data..."
                )
            checkpoints.restore(self.learner, checkpoint.tensors, source)
        if facts.code != code_version() and self.world.first:
            warn(f"note: the run began with the versions {facts.code}, but continues with {code_version()}")
        self.step, self.standing, self._saved_step = facts.step, facts.position, facts.step
        self.world.first_only(partial(self._open_log, facts.log_bytes))
