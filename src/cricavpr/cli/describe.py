"""`cricavpr describe`: photos in, a file of descriptors out."""

from __future__ import annotations

import argparse
from pathlib import Path

from cricavpr.cli.options import add_grouping, add_method, add_work, existing_folder, load_method, report
from cricavpr.cluster import Address, MethodSpec, describe_on
from cricavpr.datasets import open_photos
from cricavpr.datasets.base import Problem
from cricavpr.describing import Described, describe
from cricavpr.descriptors import refuse_other_files
from cricavpr.errors import InputError
from cricavpr.grouping import Grouping


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Describe a folder of photos. Interrupted, the same command goes on where it stopped."
    parser.add_argument("photos", metavar="PHOTOS", help="a folder of photos, searched through")
    parser.add_argument("--out", required=True, metavar="FILE", help="the descriptor file to write (safetensors)")
    add_grouping(parser)
    add_method(parser)
    add_work(parser)
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="spread the work over the machines of a Ray cluster: ray://HOST:PORT, or ray://local to try it on this "
        "machine; each must see PHOTOS under the same path (see docs/cluster.md)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    grouping = Grouping.parse("alone" if args.grouping is None else args.grouping)
    refuse_other_files(Path(args.out))
    describe = _describe_here if args.cluster is None else _describe_on
    described, unusable = describe(args, grouping)
    vectors, made = described.descriptors, described.descriptors.made_by
    print(
        f"{args.out}: {len(vectors):,} descriptors of {made.dim} values, method {made.method}, grouping {made.grouping}"
    )
    return report((*unusable, *described.problems))


def _describe_here(args: argparse.Namespace, grouping: Grouping) -> tuple[Described, tuple[Problem, ...]]:

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
    return described, unusable


def _describe_on(args: argparse.Namespace, grouping: Grouping) -> tuple[Described, tuple[Problem, ...]]:

    if args.workers is not None:
        raise InputError("--workers is for one machine; on a cluster each task reads its own photos. Leave it out.")
    spec = MethodSpec(args.method, args.weights, args.device, args.image_size)
    address = Address.parse(args.cluster)
    photos, unusable = open_photos(existing_folder(args.photos))
    described = describe_on(
        address,
        spec,
        photos,
        grouping,
        batch_size=args.batch_size,
        out=Path(args.out),
        progress=not args.quiet,
    )
    return described, unusable
