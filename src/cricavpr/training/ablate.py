"""Several recipes, each with several seeds, in one folder: what is finished stays, what is not goes on.

    DIR/<recipe>/seed-<S>/            a run like any other, see `train`
    DIR/<recipe>/seed-<S>/diverged    why it came to nothing, where it did
    DIR/pictures/                     drawn towns, which all runs share
    DIR/table.md, .csv, .tex          see `ablation_table`

Recipes that say the same under two names, as the last rows of several of the paper's tables do, share their runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cricavpr.errors import CricaVPRError, InputError
from cricavpr.files import write_text
from cricavpr.schema import build, read_recipe
from cricavpr.training import checkpoints
from cricavpr.training.changes import changed, differences
from cricavpr.training.curves import read_log
from cricavpr.training.learning import Diverged
from cricavpr.training.log import elapsed_s
from cricavpr.training.network import tunable_parameters
from cricavpr.training.recipe import Recipe
from cricavpr.training.train import Machine, Outcome, resume, train

State = Literal["finished", "diverged", "unfinished"]
_TITLE = "# Row: "
_DIVERGED = "diverged"  # the file that says so
_FINISHED = "last.safetensors"  # written when a run has ended


@dataclass(frozen=True)
class Row:
    """A recipe, the name of its file, and what the table calls it: the rest of a first line of `# Row: `."""

    name: str
    title: str
    recipe: Recipe


@dataclass(frozen=True)
class Result:
    """What one recipe came to with one seed.

    Attributes:
        run: its folder below DIR.
        recalls: of the last measurement, as fractions, by the names in the log ("R@1 alone").
        tunable: parameters of the network that learn.
    """

    row: Row
    seed: int
    run: str
    state: State
    recalls: Mapping[str, float]
    steps: int
    tunable: int
    minutes: float


def read_rows(paths: Sequence[Path], changes: Mapping[str, Any]) -> list[Row]:
    """Recipes, with the same changes to each.

    Raises:
        InputError: one that cannot be used, has nothing to be measured on, or shares its name with another.
    """
    rows: dict[str, Row] = {}
    for path in paths:
        row = Row(path.stem, title_of(path), changed(read_recipe(path, Recipe), changes))
        if row.name in rows:
            raise InputError(f"two recipes are called {row.name!r}, and so would be their runs. Rename {path}.")
        if row.recipe.validation is None:
            raise InputError(f"{path} has no [validation], so there is nothing to compare. Add one.")
        rows[row.name] = row
    return list(rows.values())


def title_of(path: Path) -> str:
    """What the first line calls the row, or the name of the file."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix(_TITLE).strip() if first.startswith(_TITLE) else path.stem


def ablate(
    rows: Sequence[Row], seeds: Sequence[int], out: Path, machine: Machine, say: Callable[[str], None]
) -> int | None:
    """Run what is not finished; the signal that ended it before its time.

    A run that diverges is marked as such, and the next one begins.

    Raises:
        InputError: a run in `out` began with another recipe, or a place or data cannot be used.
    """
    machine = replace(machine, pictures=machine.pictures or out / "pictures")
    planned = list(_planned(rows, seeds, out))
    for recipe, folder in planned:  # before hours are spent
        _refuse_another(recipe, folder)
    for number, (recipe, folder) in enumerate(planned, 1):
        if state_of(folder) == "unfinished":
            say(f"[{number}/{len(planned)}] {folder}")
            outcome = _run(recipe, folder, machine, say)
            if outcome is not None and outcome.stopped_by is not None:
                return outcome.stopped_by
    return None


def results(rows: Sequence[Row], seeds: Sequence[int], out: Path) -> list[Result]:
    """What stands in the folder, row by row and seed by seed."""
    found = []
    folders = dict(zip(((row.name, seed) for row in rows for seed in seeds), _folders(rows, seeds, out), strict=True))
    for row in rows:
        tunable = tunable_parameters(row.recipe)
        for seed in seeds:
            folder = folders[row.name, seed]
            found.append(_result(row, seed, folder, str(folder.relative_to(out)), tunable))
    return found


def state_of(folder: Path) -> State:
    """How far a run is."""
    if (folder / _DIVERGED).exists():
        return "diverged"
    return "finished" if (folder / _FINISHED).exists() else "unfinished"


def _result(row: Row, seed: int, folder: Path, run: str, tunable: int) -> Result:
    state = state_of(folder)
    log = read_log(folder / "log.jsonl") if state == "finished" else []
    measured = [line["measured"] for line in log if "measured" in line]
    steps = max((int(line["step"]) for line in log), default=0)
    return Result(row, seed, run, state, measured[-1] if measured else {}, steps, tunable, elapsed_s(folder) / 60)


def _run(recipe: Recipe, folder: Path, machine: Machine, say: Callable[[str], None]) -> Outcome | None:
    """Begin or go on; None where it diverged."""
    try:
        if checkpoints.found(folder / "checkpoints"):
            return resume(folder, recipe, machine=machine)
        return train(recipe, folder, machine)
    except CricaVPRError as error:
        if not isinstance(error.__cause__, Diverged):
            raise
        write_text(folder / _DIVERGED, f"{error}\n")
        say(f"{folder} diverged: {error.__cause__}")
        return None


def _planned(rows: Sequence[Row], seeds: Sequence[int], out: Path) -> Iterator[tuple[Recipe, Path]]:
    """Each run once, with the recipe that it must have."""
    recipes = [replace(row.recipe, seed=seed) for row in rows for seed in seeds]
    once: dict[Path, Recipe] = {}
    for recipe, folder in zip(recipes, _folders(rows, seeds, out), strict=True):
        once.setdefault(folder, recipe)
    for folder, recipe in once.items():
        yield recipe, folder


def _folders(rows: Sequence[Row], seeds: Sequence[int], out: Path) -> Iterable[Path]:
    """The folder of each row and seed: its own, unless there is none yet and another row says the same."""
    for row in rows:
        for seed in seeds:
            same = [other for other in rows if other.recipe == row.recipe]
            places = [out / other.name / f"seed-{seed}" for other in (row, *same)]
            begun = [place for place in places if checkpoints.found(place / "checkpoints")]
            yield (begun or places[1:])[0]


def _refuse_another(recipe: Recipe, folder: Path) -> None:
    if not checkpoints.found(folder / "checkpoints"):
        return
    checkpoint, source, _ = checkpoints.load_newest(folder / "checkpoints")
    differing = differences(build(Recipe, checkpoint.facts["recipe"], str(source)), recipe)
    if differing:
        what = ", ".join(differing.values())
        raise InputError(f"{folder} began with another recipe: {what}. Give another --out, or remove that folder.")
