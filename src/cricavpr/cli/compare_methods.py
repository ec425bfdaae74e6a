"""Verb `cricavpr compare-methods`: compares the recall of several methods on one dataset, and their costs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from cricavpr.cli.dataset import add_dataset, open_asked
from cricavpr.cli.options import add_device, add_work, report, say
from cricavpr.errors import InputError, WeightsError
from cricavpr.evaluation.costs import format_costs, measure_cost
from cricavpr.evaluation.evaluate import evaluate, format_table
from cricavpr.methods import METHODS, load_method
from cricavpr.methods.base import Method
from cricavpr.models.registry import KNOWN
from cricavpr.schema import nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the recall of several methods, with every photo described alone, and the size and speed of each method "
        "on this machine. Methods whose weights are not on this machine are left out, with a message."
    )
    add_dataset(parser)
    parser.add_argument("--methods", default="all", metavar="A,B", help="names from `cricavpr methods` (default: all)")
    parser.add_argument(
        "--random-weights", action="store_true", help="use untrained networks where weights are missing"
    )
    parser.add_argument("--cache", metavar="DIR", help="keep descriptors in this folder, to reuse them in later runs")
    add_device(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    chosen = list(METHODS) if args.methods == "all" else args.methods.split(",")
    for name in chosen:
        if name not in METHODS:
            raise InputError(f"unknown method {name!r}. {nearest(name, METHODS)}")
    dataset, unusable = open_asked(args)
    results, costs = [], []
    for method, licence in _loaded(chosen, args.device, args.random_weights):
        how = {"batch_size": args.batch_size, "workers": args.workers, "progress": not args.quiet}
        results.append(evaluate(method, dataset, cache=args.cache, **how))
        costs.append(measure_cost(method, licence))
    if not results:
        raise InputError(
            "the weights of at least one chosen method must be on this machine, found none. Download weights (see "
            "`cricavpr weights list`), or use untrained networks with --random-weights."
        )
    print(format_table(results))
    print(format_costs(costs), end="")
    return report(dict.fromkeys((*unusable, *(problem for result in results for problem in result.problems))))


def _loaded(names: list[str], device: str, random_weights: bool) -> Iterator[tuple[Method, str]]:
    """Yield each method with the licence of its weights, one at a time, so that only one network is in memory.

    Methods without weights on this machine are left out, with a message on stderr, or get random weights.
    """
    for name in names:
        weights = METHODS[name].default_weights
        try:
            yield load_method(name, device=device), KNOWN[weights].licence if weights else "none needed"
        except WeightsError as error:
            if not random_weights:
                say(f"{name} is left out: {error}")
                continue
            yield load_method(name, "random:0", device=device), "random weights"
