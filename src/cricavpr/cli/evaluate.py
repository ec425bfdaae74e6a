"""Verb `cricavpr evaluate`: measures the recall of a method on a dataset."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from cricavpr.cli.dataset import add_dataset, open_asked
from cricavpr.cli.options import add_grouping, add_method, add_work, load_method, report, say
from cricavpr.evaluation.evaluate import evaluate_protocol, format_table, small_print
from cricavpr.evaluation.protocols import protocol
from cricavpr.grouping import Grouping


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure recall@N of a method on a dataset. Each result is also written to a folder: a card with result and "
        "settings, and the matches of each query. `cricavpr compare` and `cricavpr report` read these folders. To "
        "continue an interrupted evaluation, run the same command again."
    )
    add_dataset(parser)
    parser.add_argument(
        "--protocol",
        default="honest",
        metavar="P",
        help="honest: evaluate photos alone, in groups in file order, and in shuffled groups; paper: evaluate as the "
        "paper's authors did (default: honest)",
    )
    add_grouping(parser, repeat=True, default="the protocol's")
    parser.add_argument(
        "--recall-at",
        type=_numbers,
        metavar="N,N",
        help="values of N for recall@N, separated by commas (default: 1,5,10; with --protocol paper 1,5,10,100)",
    )
    parser.add_argument(
        "--unanswered",
        choices=("miss", "skip"),
        help="count queries without positives as misses, or skip them (default: the rule of the dataset)",
    )
    parser.add_argument(
        "--one-hit-per-panorama", action="store_true", help="count only the best image of each panorama"
    )
    parser.add_argument(
        "--rerank",
        type=int,
        metavar="N",
        help="re-rank the first N matches of each query by local features (transvpr and the patch_netvlad methods)",
    )
    parser.add_argument("--pca", metavar="FILE", help="reduce descriptors by a PCA from `cricavpr pca fit`")
    parser.add_argument("--pca-dim", type=int, metavar="D", help="keep only D dimensions of the PCA (default: all)")
    parser.add_argument(
        "--whiten-on-database",
        action="store_true",
        help="whiten all descriptors by a PCA fitted on the database; this adapts them to this database, so do not "
        "use it to compare methods",
    )
    parser.add_argument(
        "--autocast", choices=("bf16", "fp16"), help="run the network in half precision (default: float32)"
    )
    parser.add_argument(
        "--out",
        default="evaluations",
        metavar="DIR",
        help="folder to write cards and answers into (default: evaluations)",
    )
    parser.add_argument("--cache", metavar="DIR", help="keep descriptors in this folder, to reuse them in later runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_method(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected whole numbers such as 1,5,10, got {text!r}") from error


def run(args: argparse.Namespace) -> int:
    groupings = [Grouping.parse(text) for text in args.grouping or ()]
    protocol(args.protocol)  # here too, to report a wrong name before loading a network
    method = load_method(args)
    dataset, unusable = open_asked(args)
    chosen = protocol(
        args.protocol,
        dataset,
        unanswered=args.unanswered,
        one_hit_per_panorama=args.one_hit_per_panorama,
        precision=args.autocast or "fp32",
    )
    results = evaluate_protocol(
        method,
        dataset,
        chosen,
        groupings,
        out=args.out,
        cache=args.cache,
        talk=say,
        recall_ns=args.recall_at,
        rerank=args.rerank,
        pca=args.pca,
        pca_dim=args.pca_dim,
        whiten_on_database=args.whiten_on_database,
        batch_size=args.batch_size,
        workers=args.workers,
        progress=not args.quiet,
        command=_command(args.typed),
    )
    if args.json:
        print(json.dumps([result.to_dict() for result in results], indent=1))
    else:
        print("\n".join([format_table(results), *small_print(results)]))
    problems = (problem for result in results for problem in result.problems)
    return report(dict.fromkeys((*unusable, *problems)))  # each problem once, not once per grouping


def _command(typed: list[str]) -> str:
    """Return the command line for the card. Absolute paths lose their folders, because cards may be shared."""
    return shlex.join(["cricavpr", *(Path(word).name if Path(word).is_absolute() else word for word in typed)])
