"""Ablations: several recipes trained with several seeds, in one folder. Unfinished runs are resumed.

    DIR/<recipe>/seed-<S>/            folder of one run, see `train`
    DIR/<recipe>/seed-<S>/diverged    the reason, if the run diverged
    DIR/pictures/                     pictures of computer-drawn towns, which all runs share
    DIR/table.md, .csv, .tex          see `ablation_table`

Recipe files with the same settings share their runs, because the same network may be a row in several tables of the
paper.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cricavpr.datasets.base import Problem
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.files import write_text
from cricavpr.schema import build, read_recipe
from cricavpr.terminal import printable
from cricavpr.training.checkpoints import list_checkpoints, load_newest
from cricavpr.training.curves import read_log
from cricavpr.training.learning import Diverged
from cricavpr.training.log import elapsed_s, warn
from cricavpr.training.network import tunable_parameters
from cricavpr.training.recipe import Recipe, changed, differences
from cricavpr.training.train import Machine, Outcome, resume, train

RunState = Literal["finished", "diverged", "unfinished"]
_TITLE = "# Row: "
_DIVERGED = "diverged"  # file that exists if a run diverged
_FINISHED = "last.safetensors"  # file that is written when a run is finished


@dataclass(frozen=True)
class Variant:
    """A recipe of an ablation.

    Attributes:
        name: name of the recipe's file, without .toml.
        title: title of its row in the table: TITLE if the file begins with a line `# Row: TITLE`, else `name`.
        recipe: the recipe.
    """

    name: str
    title: str
    recipe: Recipe


class PlannedRun(NamedTuple):
    """A run of an ablation: one recipe with one seed, and the folder of the run."""

    variant: Variant
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def state(self) -> RunState:
        if (self.folder / _DIVERGED).exists():
            return "diverged"
        return "finished" if (self.folder / _FINISHED).exists() else "unfinished"


@dataclass(frozen=True)
class RunResult:
    """The result of one run of an ablation."""

    variant: Variant
    seed: int
    state: RunState
    recalls: Mapping[str, float]  # recalls of the last validation as fractions, by name in the log, such as "R@1 alone"
    steps: int  # steps done
    tunable: int  # number of the network's parameters that are trained
    minutes: float  # time spent on the run


def read_variants(paths: Sequence[Path], changes: Mapping[str, Any]) -> list[Variant]:
    """Read recipe files, and change the same settings in each.

    Args:
        paths: the recipe files.
        changes: new values by setting, such as `{"optimizer.rate": 2e-4}`.

    Raises:
        InputError: a recipe is invalid or has no validation, or two recipe files have the same name.
    """
    variants: dict[str, Variant] = {}
    for path in paths:
        recipe = changed(read_recipe(path, Recipe), changes)
        if path.stem in variants:
            raise InputError(f"two recipes are named {path.stem!r}; their runs would share a folder. Rename {path}.")
        if recipe.validation is None:
            raise InputError(f"{path} has no [validation], so there is nothing to compare. Add this table.")
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        title = first.removeprefix(_TITLE).strip() if first.startswith(_TITLE) else path.stem
        variants[path.stem] = Variant(path.stem, printable(title), recipe)
    return list(variants.values())


def plan(variants: Sequence[Variant], seeds: Sequence[int], out: Path) -> list[PlannedRun]:
    """Plan a run for each variant and seed. Variants with equal recipes use the same folders of runs."""
    runs = []
    for variant, seed in itertools.product(variants, seeds):
        same = [other for other in variants if other.recipe == variant.recipe]
        folders = [out / other.name / f"seed-{seed}" for other in (variant, *same)]
        begun = [folder for folder in folders if list_checkpoints(folder / "checkpoints")]
        runs.append(PlannedRun(variant, seed, replace(variant.recipe, seed=seed), (begun or folders[1:])[0]))
    return runs


def ablate(runs: Sequence[PlannedRun], machine: Machine) -> tuple[int | None, set[Problem]]:
    """Train the runs that are not finished.

    If a run diverges, a file in its folder says so, and the next run begins.

    Returns:
        The number of the signal that stopped the training early (None if no signal did), and the photos that could not
        be used.

    Raises:
        InputError: a folder holds a run that began with another recipe, or a folder or the data cannot be used.
    """
    once = {run.folder: run for run in reversed(runs)}  # if several runs share a folder, only the first of them
    todo = [once[folder] for folder in dict.fromkeys(run.folder for run in runs)]
    for run in todo:  # check all folders before hours of training
        if list_checkpoints(run.folder / "checkpoints"):
            checkpoint, source, _ = load_newest(run.folder / "checkpoints")
            if what := differences(build(Recipe, checkpoint.facts.recipe, str(source)), run.recipe):
                raise InputError(
                    f"the run in {run.folder} began with another recipe: {what}. Give another --out, or remove that "
                    "folder."
                )
    problems: set[Problem] = set()
    for number, run in enumerate(todo, 1):
        if run.state == "unfinished":
            if not machine.quiet:
                warn(f"[{number}/{len(todo)}] {run.folder}")
            outcome = _do(run, machine)
            problems.update(outcome.problems if outcome else ())
            if outcome and outcome.stopped_by is not None:
                return outcome.stopped_by, problems
    return None, problems


def results(runs: Sequence[PlannedRun]) -> list[RunResult]:
    """Return the results of runs, read from the logs in their folders."""
    tunable = {variant: tunable_parameters(variant.recipe) for variant in dict.fromkeys(run.variant for run in runs)}
    found = []
    for run in runs:
        log = read_log(run.folder / "log.jsonl") if run.state == "finished" else []
        recalls: dict[str, float] = next((line["measured"] for line in reversed(log) if "measured" in line), {})
        steps = max((int(line["step"]) for line in log), default=0)
        minutes = elapsed_s(run.folder) / 60
        found.append(RunResult(run.variant, run.seed, run.state, recalls, steps, tunable[run.variant], minutes))
    return found


def _do(run: PlannedRun, machine: Machine) -> Outcome | None:
    """Start or resume the training of a run; return None if it diverged."""
    try:
        if list_checkpoints(run.folder / "checkpoints"):
            return resume(run.folder, run.recipe, machine=machine)
        return train(run.recipe, run.folder, machine)
    except CricaVPRError as error:
        if not isinstance(error.__cause__, Diverged):
            raise
        write_text(run.folder / _DIVERGED, f"{error}\n")
        warn(f"{run.folder} diverged: {error.__cause__}")
        return None
