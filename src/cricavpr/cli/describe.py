"""`cricavpr describe`: compute the descriptors of a folder of photos, and write them to a file."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

from cricavpr.cli.options import add_grouping, add_method, add_work, existing_folder, load_method, report
from cricavpr.cluster import Address, MethodSpec, describe_on
from cricavpr.datasets import open_photos
from cricavpr.describing import Described, describe
from cricavpr.descriptors import refuse_other_files
from cricavpr.errors import InputError
from cricavpr.grouping import Grouping
from cricavpr.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compute the descriptors of a folder of photos. If the command is interrupted, run it again to resume."
    )
    parser.add_argument("photos", metavar="PHOTOS", help="folder of photos, including its subfolders")
    parser.add_argument("--out", required=True, metavar="FILE", help="file for the descriptors (safetensors)")
    add_grouping(parser)
    add_method(parser)
    add_work(parser)
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="spread the work over the machines of a Ray cluster: ray://HOST:PORT, or ray://local to try it on this "
        "machine; every machine must find PHOTOS under the same path (see docs/cluster.md)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    grouping = Grouping.parse("alone" if args.grouping is None else args.grouping)
    refuse_other_files(Path(args.out))
    if args.cluster is None:
        describe_photos: Callable[..., Described] = functools.partial(describe, load_method(args), workers=args.workers)
    elif args.workers is not None:
        raise InputError(
            "--workers cannot be used with --cluster, where each task reads its own photos. Remove --workers."
        )
    else:
        spec = MethodSpec(args.method, args.weights, args.device, args.image_size)
        describe_photos = functools.partial(describe_on, Address.parse(args.cluster), spec)
    photos, unusable = open_photos(existing_folder(args.photos), with_positions=False)
    described = describe_photos(
        photos, grouping, batch_size=args.batch_size, out=Path(args.out), progress=not args.quiet
    )
    count, made = len(described.descriptors), described.descriptors.made_by
    print(
        f"{printable(args.out)}: {count:,} descriptors of {made.dim} values, method {made.method}, "
        f"grouping {made.grouping}"
    )
    return report((*unusable, *described.problems))
