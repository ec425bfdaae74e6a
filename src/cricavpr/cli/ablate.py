"""`cricavpr ablate`: several recipes on the same data and seeds, and one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cricavpr.cli.options import SOME_FAILED
from cricavpr.errors import InputError
from cricavpr.training.ablate import Result, ablate, read_rows, results
from cricavpr.training.ablation_table import write_tables
from cricavpr.training.changes import read_settings
from cricavpr.training.train import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train each recipe with each seed, and write the table as Markdown, CSV and LaTeX. Run the same "
        "command again after an interruption: finished runs stay, others go on. A run that diverges is named in its "
        "row (exit code 3)."
    )
    parser.add_argument("recipes", nargs="+", metavar="RECIPE.toml", help="one row each, in this order")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the runs and the table")
    parser.add_argument("--seeds", default="0", metavar="S,S", help="seeds of each recipe, such as 0,1,2 (default: 0)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of all recipes, such as steps=20; may be given several times",
    )
    parser.add_argument("--table-only", action="store_true", help="train nothing: the table of what is finished")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read pictures (default: 2)")
    parser.add_argument("--pictures", metavar="DIR", help="keep drawn towns here (default: DIR/pictures)")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    out, seeds = Path(args.out), _seeds(args.seeds)
    rows = read_rows([Path(recipe) for recipe in args.recipes], read_settings(args.set))
    pictures = Path(args.pictures) if args.pictures else None
    machine = Machine(args.device, args.workers, pictures=pictures, quiet=args.quiet)
    stopped_by = None
    if not args.table_only:
        stopped_by = ablate(rows, seeds, out, machine, lambda text: None if args.quiet else _say(text))
    found = results(rows, seeds, out)
    print(write_tables(found, out), end="")
    if stopped_by is not None:
        _say("stopped. Run the same command again to go on.")
        return 128 + stopped_by
    return _tell(found)


def _tell(found: Sequence[Result]) -> int:
    states = [result.state for result in found]
    if "unfinished" in states:
        _say(
            f"{states.count('unfinished')} of {len(states)} runs are not finished; leave --table-only away to run them."
        )
    if "diverged" in states:
        _say(f"{states.count('diverged')} of {len(states)} runs diverged; remove their folders to try again.")
        return SOME_FAILED
    return 0


def _seeds(text: str) -> list[int]:

    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise InputError(f"--seeds {text!r} is not understood. Give different whole numbers, such as 0,1,2.")
    return list(map(int, parts))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
