"""`cricavpr town`: draw a synthetic town, so that all commands can be tried without downloading data."""

from __future__ import annotations

import argparse
import os

from cricavpr.cli.options import image_size
from cricavpr.town.write import LAYOUTS, make_town


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    making = actions.add_parser(
        "make",
        help="write pictures of a synthetic town in the layout of a dataset",
        description="The same seed gives the same town on every machine. If interrupted, run the same command again.",
    )
    making.add_argument("folder", metavar="DIR")
    making.add_argument("--seed", type=int, default=0, metavar="N", help="seed that determines the town (default: 0)")
    making.add_argument(
        "--places", type=int, default=200, metavar="N", help="number of places in the town (default: 200)"
    )
    making.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="photos",
        help="photos: positions in EXIF; utm: positions in file names; gsv: the layout of GSV-Cities (default: photos)",
    )
    making.add_argument(
        "--image-size",
        type=image_size,
        default=(224, 224),
        metavar="HxW",
        help="height and width of the pictures in pixels (default: 224x224)",
    )
    making.add_argument(
        "--workers", type=int, metavar="N", help="number of processes that draw pictures (default: one per CPU core)"
    )
    making.add_argument("--quiet", action="store_true", help="no progress bar")
    making.set_defaults(run=make)


def make(args: argparse.Namespace) -> int:
    written = make_town(
        args.folder,
        args.seed,
        args.places,
        args.layout,
        image_size=args.image_size,
        workers=args.workers if args.workers is not None else os.cpu_count() or 1,
        progress=not args.quiet,
    )
    print(f"{written.folder}: {written.pictures:,} pictures of town {args.seed}, layout {written.layout}")
    return 0
