"""`cricavpr compare-methods`: several methods on one dataset, and what each costs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from cricavpr.cli.options import add_work, existing_folder
from cricavpr.datasets import open_dataset
from cricavpr.errors import InputError, WeightsError
from cricavpr.evaluation.costs import format_costs, measure_cost
from cricavpr.evaluation.evaluate import evaluate, format_table
from cricavpr.methods import METHODS, load_method
from cricavpr.methods.base import Method
from cricavpr.models.registry import KNOWN
from cricavpr.schema import nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Recall of several methods, every photo alone, and the table of their cost on this machine. "
        "Methods whose weights are not here are named and left out."
    )
    parser.add_argument(
        "--on", required=True, metavar="DATA", help="an @UTM@ tree, or a folder with database/ and queries/"
    )
    parser.add_argument("--methods", default="all", metavar="A,B", help="names from `cricavpr methods` (default: all)")
    parser.add_argument(
        "--radius-m", type=float, default=25.0, metavar="M", help="a match this near is right (default: 25)"
    )
    parser.add_argument("--random-weights", action="store_true", help="untrained networks where weights are not here")
    parser.add_argument("--cache", metavar="DIR", help="keep descriptors here for the next run")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    add_work(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    chosen = list(_chosen(args.methods))
    dataset, _ = open_dataset(existing_folder(args.on), args.radius_m)
    results, costs = [], []
    for method, licence in _loaded(chosen, args.device, args.random_weights):
        result = evaluate(
            method,
            dataset,
            batch_size=args.batch_size,
            workers=args.workers,
            progress=not args.quiet,
            cache=Path(args.cache) if args.cache else None,
        )
        results.append(result)
        costs.append(measure_cost(method, licence))
    if not results:
        raise InputError(
            "none of these methods has its weights here. See `cricavpr weights list`, or --random-weights."
        )
    print(format_table(results))
    print(format_costs(costs), end="")
    return 0


def _chosen(text: str) -> Iterator[str]:

    for name in METHODS if text == "all" else text.split(","):
        if name not in METHODS:
            raise InputError(f"there is no method {name!r}. {nearest(name, METHODS)}")
        yield name


def _loaded(names: list[str], device: str, random_weights: bool) -> Iterator[tuple[Method, str]]:
    """Methods one at a time, so that one network is in memory; those without weights are said on stderr."""

    for name in names:
        weights = METHODS[name].default_weights
        try:
            yield load_method(name, device=device), KNOWN[weights].licence if weights else "none needed"
        except WeightsError as error:
            if not random_weights:
                print(f"left out {name}: {error}", file=sys.stderr)
                continue
            yield load_method(name, "random:0", device=device), "random weights"
