"""`cricavpr train`: a recipe in, weights out; interrupted, it goes on to the same weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cricavpr.errors import InputError
from cricavpr.schema import read_recipe
from cricavpr.training.board import require_tensorboard
from cricavpr.training.changes import changed, read_settings
from cricavpr.training.distributed import OthersFailed, World, joined
from cricavpr.training.recipe import Recipe
from cricavpr.training.train import Machine, Outcome, resume, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train by a recipe. Ctrl-C and SIGTERM write a checkpoint first; --resume goes on to the weights "
        "that an uninterrupted run would have given."
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE.toml", help="may be left out with --resume")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe, such as optimizer.rate=2e-4; may be given several times",
    )
    parser.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/ and the recipe's name)")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read pictures (default: 2)")
    parser.add_argument(
        "--checkpoint-every", type=int, default=200, metavar="N", help="steps between checkpoints (default: 200)"
    )
    parser.add_argument(
        "--pictures", metavar="DIR", help="keep drawn towns here, for several runs (default: in the run's folder)"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="event files in RUN/tensorboard; needs the extra tensorboard"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    try:
        with joined(args.device) as world:
            return _run(args, world)
    except OthersFailed:  # the process that failed says why
        return 2


def _run(args: argparse.Namespace, world: World) -> int:

    with world.together():
        machine, recipe, changes = _read(args)
    if args.resume:
        folder = Path(args.resume)
        outcome = resume(folder, recipe, changes, machine, world)
    else:
        assert recipe is not None
        folder = Path(args.out) if args.out else Path("runs") / Path(args.recipe).stem
        outcome = train(recipe, folder, machine, world)
    return _tell(outcome, folder, world)


def _read(args: argparse.Namespace) -> tuple[Machine, Recipe | None, dict[str, Any]]:
    """What was asked for. Changes are in the recipe already, but for a run that goes on, which must know them."""

    if args.resume and args.out:
        raise InputError("--resume goes on in its own folder. Leave --out away.")
    if not (args.recipe or args.resume):
        raise InputError("there is no recipe. Give a .toml file, or --resume and the folder of a run.")
    pictures = Path(args.pictures) if args.pictures else None
    if args.tensorboard:
        require_tensorboard()  # before towns are drawn
    machine = Machine(args.device, args.workers, args.checkpoint_every, pictures, args.quiet, args.tensorboard)
    recipe = read_recipe(Path(args.recipe), Recipe) if args.recipe else None
    changes = read_settings(args.set)
    return machine, recipe if recipe is None or args.resume else changed(recipe, changes), changes


def _tell(outcome: Outcome, folder: Path, world: World) -> int:

    code = 0 if outcome.stopped_by is None else 128 + outcome.stopped_by
    if not world.first:
        return code
    if outcome.stopped_by is not None:
        print(f"stopped after step {outcome.step:,}. Go on with: cricavpr train --resume {folder}", file=sys.stderr)
        return code
    best = "" if outcome.best is None else f", best recall {100 * outcome.best:.1f} %"
    print(f"{folder}: {outcome.step:,} of {outcome.steps:,} steps{best}")
    return code
