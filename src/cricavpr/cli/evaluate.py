"""`cricavpr evaluate`: recall of a method on a dataset, with everything that decides it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from cricavpr.cli.options import add_grouping, add_method, add_work, existing_folder, load_method, report

if TYPE_CHECKING:
    from cricavpr.cli import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure recall on a dataset",
        description="Recall@N under one or several groupings. DATA is an @UTM@ tree, or a folder with database/ and "
        "queries/ of photos.",
    )
    parser.add_argument("data", metavar="DATA", help="the dataset's folder")
    add_grouping(parser, repeat=True)
    parser.add_argument(
        "--radius-m", type=float, default=25.0, metavar="M", help="a match this near is right (default: 25)"
    )
    parser.add_argument("--positions", metavar="FILE", help="a CSV or GeoJSON with the positions of the photos")
    parser.add_argument("--recall-at", type=_numbers, default=(1, 5, 10), metavar="N,N", help="default: 1,5,10")
    parser.add_argument(
        "--rerank",
        type=int,
        metavar="N",
        help="compare the first N of each query again by local features (transvpr and the patch_netvlad methods)",
    )
    parser.add_argument("--cache", metavar="DIR", help="keep descriptors here for the next run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_method(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not understood. Give whole numbers, such as 1,5,10.") from error


def run(args: argparse.Namespace) -> int:
    from cricavpr.datasets import open_dataset
    from cricavpr.evaluation.evaluate import evaluate, format_table
    from cricavpr.grouping import Grouping

    groupings = [Grouping.parse(text) for text in args.grouping or ["alone"]]
    method = load_method(args)
    positions = Path(args.positions) if args.positions else None
    dataset, unusable = open_dataset(existing_folder(args.data), args.radius_m, positions)
    results = [
        evaluate(
            method,
            dataset,
            grouping,
            recall_ns=args.recall_at,
            batch_size=args.batch_size,
            workers=args.workers,
            progress=not args.quiet,
            cache=Path(args.cache) if args.cache else None,
            rerank=args.rerank,
        )
        for grouping in groupings
    ]
    print(json.dumps([result.to_dict() for result in results], indent=1) if args.json else format_table(results))
    failed = (p for r in results for p in (*r.failed_database, *r.failed_queries, *r.failed_rerank))
    return report(dict.fromkeys((*unusable, *failed)))  # each once, though every grouping meets it again
