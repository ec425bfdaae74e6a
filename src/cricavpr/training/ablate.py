"""Train several recipes with several seeds, in one folder. Finished runs stay; unfinished ones are resumed.

    DIR/<recipe>/seed-<S>/            a run like any other, see `train`
    DIR/<recipe>/seed-<S>/diverged    the reason, if the run diverged
    DIR/pictures/                     drawn towns, which all runs share
    DIR/table.md, .csv, .tex          see `ablation_table`

Recipes that differ only in their names, such as the last rows of several of the paper's tables, share their runs.
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
_DIVERGED = "diverged"  # the file that says so
_FINISHED = "last.safetensors"  # written when a run has ended


@dataclass(frozen=True)
class Variant:
    """A recipe of an ablation, the name of its file, and its title in the table: from a first line `# Row: TITLE`."""

    name: str
    title: str
    recipe: Recipe


class PlannedRun(NamedTuple):
    """One recipe with one seed, and the folder of its run."""

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
    """The result of a run."""

    variant: Variant
    seed: int
    state: RunState
    recalls: Mapping[str, float]  # of the last validation, by the names in the log ("R@1 alone")
    steps: int
    tunable: int  # parameters of the network that learn
    minutes: float


def read_variants(paths: Sequence[Path], changes: Mapping[str, Any]) -> list[Variant]:
    """Read recipes, and make the same changes to each.

    Raises:
        InputError: a recipe is invalid, has no validation, or shares its name with another.
    """
    variants: dict[str, Variant] = {}
    for path in paths:
        recipe = changed(read_recipe(path, Recipe), changes)
        if path.stem in variants:
            raise InputError(f"two recipes are named {path.stem!r}; their runs would share a folder. Rename {path}.")
        if recipe.validation is None:
            raise InputError(f"{path} has no [validation], so there is nothing to compare. Add one.")
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        title = first.removeprefix(_TITLE).strip() if first.startswith(_TITLE) else path.stem
        variants[path.stem] = Variant(path.stem, printable(title), recipe)
    return list(variants.values())


def plan(variants: Sequence[Variant], seeds: Sequence[int], out: Path) -> list[PlannedRun]:
    """Plan a run for each variant and seed, in its own folder, or in that of a variant with the same recipe."""
    runs = []
    for variant, seed in itertools.product(variants, seeds):
        same = [other for other in variants if other.recipe == variant.recipe]
        folders = [out / other.name / f"seed-{seed}" for other in (variant, *same)]
        begun = [folder for folder in folders if list_checkpoints(folder / "checkpoints")]
        runs.append(PlannedRun(variant, seed, replace(variant.recipe, seed=seed), (begun or folders[1:])[0]))
    return runs


def ablate(runs: Sequence[PlannedRun], machine: Machine) -> tuple[int | None, set[Problem]]:
    """Train the runs that are not finished.

    A run that diverges is marked as such, and the next one begins.

    Returns:
        The signal that stopped it early, or None; and the photos that could not be used.

    Raises:
        InputError: a run began with another recipe, or a folder or data cannot be used.
    """
    once = {run.folder: run for run in reversed(runs)}  # the first of those that share a folder
    todo = [once[folder] for folder in dict.fromkeys(run.folder for run in runs)]
    for run in todo:  # before hours are spent
        if list_checkpoints(run.folder / "checkpoints"):
            checkpoint, source, _ = load_newest(run.folder / "checkpoints")
            if what := differences(build(Recipe, checkpoint.facts.recipe, str(source)), run.recipe):
                raise InputError(
                    f"{run.folder} began with another recipe: {what}. Give another --out, or remove that folder."
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
    """Read the results of runs from their folders."""
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
    """Start or resume a run; return None if it diverged."""
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
