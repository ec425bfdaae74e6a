"""`cricavpr ablate`: train several recipes with the same seeds, and write a table of the results."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path

from cricavpr.cli.options import SOME_FAILED
from cricavpr.cli.train import add_training, report_replaced
from cricavpr.datasets.base import Problem
from cricavpr.errors import InputError
from cricavpr.training.ablate import RunResult, ablate, plan, read_variants, results
from cricavpr.training.ablation_table import write_tables
from cricavpr.training.log import warn
from cricavpr.training.recipe import read_settings
from cricavpr.training.signals import Interrupted, stop_requests
from cricavpr.training.train import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train each recipe with each seed, and write a table of the results as Markdown, CSV and LaTeX. After an "
        "interruption run the same command again: finished runs are kept, other runs continue. If a run diverges, its "
        "row in the table says so (exit code 3)."
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        metavar="RECIPE.toml",
        help="files of the recipes; each is a row of the table, in this order",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the runs and the table")
    parser.add_argument("--seeds", default="0", metavar="S,S", help="seeds of each recipe, such as 0,1,2 (default: 0)")
    parser.add_argument(
        "--table-only", action="store_true", help="do not train; only write the table of the finished runs"
    )
    add_training(parser, "a setting of all recipes, such as steps=20", "DIR/pictures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        with stop_requests():
            return _run(args)
    except KeyboardInterrupt as error:
        return _stopped(error.signal if isinstance(error, Interrupted) else signal.SIGINT)


def _run(args: argparse.Namespace) -> int:
    out = Path(args.out)
    runs = plan(read_variants(list(map(Path, args.recipes)), read_settings(args.set)), _seeds(args.seeds), out)
    machine = Machine(args.device, args.workers, pictures=Path(args.pictures or out / "pictures"), quiet=args.quiet)
    stopped_by, problems = (None, set[Problem]()) if args.table_only else ablate(runs, machine)
    found = results(runs)
    print(write_tables(found, out), end="")
    return _report(found, len(problems)) if stopped_by is None else _stopped(stopped_by)


def _report(found: Sequence[RunResult], unusable: int) -> int:
    states = [result.state for result in found]
    if "unfinished" in states:
        warn(f"{states.count('unfinished')} of {len(states)} runs are not finished; to finish them, omit --table-only.")
    if "diverged" in states:
        warn(f"{states.count('diverged')} of {len(states)} runs diverged; remove their folders to try again.")
    code = report_replaced(unusable)
    return SOME_FAILED if "diverged" in states else code


def _stopped(number: int) -> int:
    warn("cricavpr: stopped. Run the same command again to continue.")
    return 128 + number


def _seeds(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise InputError(f"--seeds must be different whole numbers, such as 0,1,2, got {text!r}.")
    return list(map(int, parts))
