"""Options by which a command opens its dataset: a folder, or with `--root` a split of a benchmark."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from cricavpr.cli.options import existing_folder
from cricavpr.datasets import open_dataset
from cricavpr.datasets.base import EvalDataset, Problem
from cricavpr.datasets.benchmarks import SPLITS, open_split
from cricavpr.errors import InputError

RADIUS_M = 25.0


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the argument DATASET, and the options for how to read the dataset."""
    parser.add_argument(
        "data",
        metavar="DATASET",
        help="a folder that contains database/ and queries/, with positions in EXIF, in a table, or in the file names "
        "(@easting@northing@...). If --root is given: the name of a split, such as pitts30k-test",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of the benchmark; DATASET is then the name of a split")
    parser.add_argument(
        "--queries", metavar="NAME", help="name of the query folder, such as queries_night, if there are several"
    )
    parser.add_argument("--database", metavar="NAME", help="name of the database folder (default: database or gallery)")
    parser.add_argument("--positions", metavar="FILE", help="a CSV or GeoJSON with the positions of the photos")
    parser.add_argument(
        "--radius-m",
        type=float,
        metavar="M",
        help="largest distance in metres of a correct match (default: 25; with --root the rule of the split)",
    )


def open_asked(args: argparse.Namespace) -> tuple[EvalDataset, tuple[Problem, ...]]:
    """Open the dataset that is given by the options of `add_dataset`.

    If --radius-m is given, it replaces the rule of a split for positives.

    Raises:
        InputError: the dataset cannot be opened, or two options cannot be combined.
    """
    if args.root is not None:
        if args.positions:
            raise InputError("with --root, positions come from the benchmark. Leave out --positions or --root.")
        if args.queries or args.database:
            raise InputError(
                "with --root, the benchmark decides the folders. Leave out --queries and --database, or --root."
            )
        return _open_split(args.data, existing_folder(args.root), args.radius_m), ()
    if args.data in SPLITS and not Path(args.data).exists():
        raise InputError(f"{args.data} is a split of a benchmark. Give the folder of the benchmark: --root DIR.")
    radius_m = RADIUS_M if args.radius_m is None else args.radius_m
    table = Path(args.positions) if args.positions else None
    return open_dataset(existing_folder(args.data), radius_m, table, queries=args.queries, database=args.database)


def _open_split(name: str, root: Path, radius_m: float | None) -> EvalDataset:
    split = open_split(name, root)
    if radius_m is not None:
        again = EvalDataset.within_radius(split.name, split.database, split.queries, radius_m)
        split = replace(split, positives=again.positives, rule=again.rule)
    if split.unanswered == "skip" and not any(len(found) for found in split.positives):
        raise InputError(
            f"no query of {name} in {root} has a positive ({split.rule}), so there is nothing to score. "
            "For the MSLS challenge write the submission file: cricavpr challenge write."
        )
    return split
