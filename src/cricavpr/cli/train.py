"""`cricavpr train`: train a network by a recipe, or resume an interrupted run, which gives the same weights."""

from __future__ import annotations

import argparse
import shlex
import signal
from pathlib import Path
from typing import Any

from cricavpr.cli.options import SOME_FAILED
from cricavpr.errors import InputError
from cricavpr.schema import read_recipe
from cricavpr.terminal import printable
from cricavpr.training.checkpoints import list_checkpoints
from cricavpr.training.distributed import OthersFailed, World, joined
from cricavpr.training.log import warn
from cricavpr.training.recipe import Recipe, changed, read_settings
from cricavpr.training.signals import Interrupted, stop_requests
from cricavpr.training.train import Machine, Outcome, resume, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a network by a recipe. Ctrl-C and SIGTERM write a checkpoint before the program ends. --resume "
        "continues the run, and gives the same weights as an uninterrupted run."
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE.toml", help="file of the recipe; optional with --resume")
    parser.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/RECIPE)")
    parser.add_argument("--resume", metavar="RUN", help="continue the run in this folder")
    add_training(parser, "a setting of the recipe, such as optimizer.rate=2e-4", "RUN/pictures")
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        default=200,
        metavar="N",
        help="number of steps between checkpoints (default: 200)",
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write event files to RUN/tensorboard (needs cricavpr[tensorboard])"
    )
    parser.set_defaults(run=run)


def add_training(parser: argparse.ArgumentParser, settings: str, pictures: str) -> None:
    """Add the options that `train` and `ablate` share.

    Args:
        parser: the parser of the command.
        settings: what --set changes, as text for the help of --set.
        pictures: default of --pictures, as text for its help.
    """
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help=f"change {settings}; repeatable"
    )
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps (default: cpu)")
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="number of processes that read pictures (default: 2)"
    )
    parser.add_argument(
        "--pictures", metavar="DIR", help=f"folder for pictures of computer-drawn towns (default: {pictures})"
    )
    parser.add_argument("--quiet", action="store_true", help="print no progress lines")


def run(args: argparse.Namespace) -> int:
    folder = Path(args.resume or args.out or Path("runs") / Path(args.recipe or "").stem)
    try:
        with stop_requests(), joined(args.device) as world:
            return _run(args, folder, world)
    except OthersFailed:  # the process that failed has printed the reason
        return 2
    except KeyboardInterrupt as error:
        begun = list_checkpoints(folder / "checkpoints")
        warn(f"cricavpr: interrupted. {_go_on(folder) if begun else 'Run the same command again.'}")
        return 128 + (error.signal if isinstance(error, Interrupted) else signal.SIGINT)


def _run(args: argparse.Namespace, folder: Path, world: World) -> int:
    with world.together():
        machine, recipe, changes = _read(args)
    if args.resume:
        return _report(resume(folder, recipe, changes, machine, world), folder, world)
    assert recipe is not None
    return _report(train(recipe, folder, machine, world), folder, world)


def _read(args: argparse.Namespace) -> tuple[Machine, Recipe | None, dict[str, Any]]:
    if args.resume and args.out:
        raise InputError("--resume takes no --out, because the run stays in its folder. Remove --out.")
    if not (args.recipe or args.resume):
        raise InputError("expected a recipe, got no recipe. Give a .toml file, or --resume and the folder of a run.")
    pictures = Path(args.pictures) if args.pictures else None
    machine = Machine(args.device, args.workers, args.checkpoint_every, pictures, args.quiet, args.tensorboard)
    recipe, changes = read_recipe(Path(args.recipe), Recipe) if args.recipe else None, read_settings(args.set)
    if recipe is not None and not args.resume:  # `resume` needs the changes separately
        recipe = changed(recipe, changes)
    return machine, recipe, changes


def _report(outcome: Outcome, folder: Path, world: World) -> int:
    if outcome.stopped_by is not None:
        if world.first:
            warn(f"stopped after step {outcome.step:,}. {_go_on(folder)}")
        return 128 + outcome.stopped_by
    if not world.first:
        return 0
    best = "" if outcome.best is None else f", best recall {100 * outcome.best:.1f} %"
    print(f"{printable(str(folder))}: {outcome.step:,} of {outcome.steps:,} steps{best}")
    return report_replaced(len(outcome.problems))


def report_replaced(count: int) -> int:
    """Print how many photos could not be used; return the exit code. (Each photo was reported before.)"""
    if count:
        warn(f"{count:,} photo{'s' * (count != 1)} could not be used; other photos were used instead.")
    return SOME_FAILED if count else 0


def _go_on(folder: Path) -> str:
    return f"Continue with: cricavpr train --resume {shlex.quote(str(folder))}"
