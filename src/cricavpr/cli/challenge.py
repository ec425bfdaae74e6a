"""`cricavpr challenge`: write the submission file of the MSLS challenge, or score it with the released ground truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cricavpr.cli.options import add_grouping, add_method, add_work, existing_folder, load_method, report
from cricavpr.datasets.base import EvalDataset
from cricavpr.datasets.benchmarks import SPLITS, open_split
from cricavpr.evaluation.msls_challenge import predict, read_submission, score_submission, write_submission
from cricavpr.grouping import Grouping

POOLED = "msls-challenge"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The search may be over all test cities as one database, or in each city by itself (--by-city). The scores "
        "differ, so the file records which search was used."
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    write = actions.add_parser("write", help="search the database for each query, and write the file to submit")
    _add_data(write)
    write.add_argument("--out", required=True, metavar="FILE", help="a .csv to write, or a .zip with one inside")
    write.add_argument("--count", type=int, default=25, metavar="N", help="predictions for each query (default: 25)")
    add_grouping(write)
    write.add_argument("--cache", metavar="DIR", help="folder where descriptors are kept for the next run")
    add_method(write)
    add_work(write)
    write.set_defaults(run=_write)
    score = actions.add_parser("score", help="print recall and mAP of a submission (needs the ground truth)")
    score.add_argument("file", metavar="FILE", help="a file from `challenge write`")
    _add_data(score)
    score.add_argument("--json", action="store_true", help="print JSON")
    score.set_defaults(run=_score)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, metavar="DIR", help="the folder of MSLS")
    parser.add_argument("--by-city", action="store_true", help="search each city by itself (default: all in one)")


def _parts(args: argparse.Namespace) -> list[EvalDataset]:
    cities = sorted(name for name in SPLITS if name.startswith(f"{POOLED}-"))
    return [open_split(name, existing_folder(args.root)) for name in (cities if args.by_city else [POOLED])]


def _write(args: argparse.Namespace) -> int:
    parts = _parts(args)
    results = predict(
        load_method(args),
        parts,
        Grouping.parse(args.grouping or "alone"),
        count=args.count,
        batch_size=args.batch_size,
        workers=args.workers,
        progress=not args.quiet,
        cache=Path(args.cache) if args.cache else None,
    )
    write_submission(Path(args.out), [(result.dataset, result.predictions) for result in results], args.count)
    print(args.out)
    return report(problem for result in results for problem in result.problems)


def _score(args: argparse.Namespace) -> int:
    scores = score_submission(read_submission(Path(args.file)), _parts(args))
    if args.json:
        print(json.dumps({"recall_at": scores.recall_at, "map_at": scores.map_at, "queries": scores.queries}))
        return 0
    for name, values in (("R", scores.recall_at), ("mAP", scores.map_at)):
        print("  ".join(f"{name}@{n} {100 * value:.1f}" for n, value in values.items()))
    print(f"{scores.queries:,} queries, {scores.skipped:,} more without ground truth were left out; {scores.rule}")
    return 0
