"""`cricavpr describe`: photos in, a file of descriptors out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cricavpr.cli.options import add_grouping, add_method, add_work, existing_folder, load_method, report

if TYPE_CHECKING:
    from cricavpr.cli import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "describe",
        help="turn photos into descriptors",
        description="Describe a folder of photos. Interrupted, the same command goes on where it stopped.",
    )
    parser.add_argument("photos", metavar="PHOTOS", help="a folder of photos, searched through")
    parser.add_argument("--out", required=True, metavar="FILE", help="the descriptor file to write (safetensors)")
    add_grouping(parser)
    add_method(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from cricavpr.datasets import open_photos
    from cricavpr.describing import describe
    from cricavpr.descriptors import refuse_other_files
    from cricavpr.grouping import Grouping

    grouping = Grouping.parse("alone" if args.grouping is None else args.grouping)
    refuse_other_files(Path(args.out))
    method = load_method(args)
    photos, unusable = open_photos(existing_folder(args.photos))
    described = describe(
        method,
        photos,
        grouping,
        batch_size=args.batch_size,
        workers=args.workers,
        out=Path(args.out),
        progress=not args.quiet,
    )
    vectors, made = described.descriptors, described.descriptors.made_by
    print(
        f"{args.out}: {len(vectors):,} descriptors of {made.dim} values, method {made.method}, grouping {made.grouping}"
    )
    return report((*unusable, *described.problems))
