"""Verb `cricavpr demo`: draws a synthetic town, locates photos in it, and writes a page with the results."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import webbrowser
from pathlib import Path

from cricavpr.demo import DemoResult, run_demo

MOST_WORKERS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draw a synthetic town that was not used for training, locate photos in it, and write one page with a map, the "
        "answers and the recall. Nothing is downloaded."
    )
    parser.add_argument(
        "--out", default="demo", metavar="DIR", help="folder to write into; replaces an earlier demo (default: demo)"
    )
    parser.add_argument(
        "--places",
        type=int,
        default=400,
        metavar="N",
        help="number of places in the town; half of them, at most 200, get a query (default: 400)",
    )
    parser.add_argument(
        "--seed", type=int, default=7001, metavar="N", help="seed of the town, at least 1000 (default: 7001)"
    )
    parser.add_argument(
        "--weights", metavar="W", help="non-default weights for cricavpr-tiny: a weights file or random:SEED"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--quiet", action="store_true", help="no messages about progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    result = run_demo(
        Path(args.out),
        seed=args.seed,
        places=args.places,
        weights=args.weights,
        workers=min(MOST_WORKERS, os.cpu_count() or 1),
        progress=None if args.quiet else _Talk(),
    )
    print(f"{result.page}\n\n{result.table()}\n\n{_next_steps(result, args.weights)}")
    if args.open and not webbrowser.open(result.page.absolute().as_uri()):
        print("cannot open a browser. Open the page printed above in a browser.", file=sys.stderr)
    return 0


def _next_steps(result: DemoResult, weights: str | None) -> str:
    """Return a text with commands to try on the results of the demo."""
    photo = result.photos / "queries" / result.answers[0].query
    other = [] if weights is None else ["--weights", weights]
    commands = (
        ["locate", str(photo), "--index", str(result.index), *other],
        ["evaluate", str(result.photos), "--grouping", "alone", "--grouping", "in_order:16", *other],
        ["compare", str(result.evaluations)],
        ["index", "info", str(result.index)],
    )
    lines = (shlex.join(["cricavpr", *command]) for command in commands)
    return "\n".join(
        [
            "Photos, index and evaluations of the demo are kept. To continue with them, try",
            *(f"  {line}" for line in lines),
        ]
    )


class _Talk:
    """Printer of progress on stderr: one line for each stage, which is updated in place on a terminal."""

    def __init__(self) -> None:
        self.stage = ""
        self.screen = sys.stderr.isatty()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.screen:
            end = "\n" if done == total else ""
            print(f"\r{stage}: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)
        elif stage != self.stage:
            print(f"{stage}: {total:,}", file=sys.stderr, flush=True)
        self.stage = stage
