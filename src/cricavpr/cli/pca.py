"""Verb `cricavpr pca`: fits a PCA on descriptors, and applies it."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cricavpr.cli.options import add_grouping, add_method, add_work, load_method, report
from cricavpr.datasets import open_photos
from cricavpr.datasets.base import Problem
from cricavpr.describing import describe
from cricavpr.descriptors import DescriptorSet, refuse_other_files
from cricavpr.errors import InputError
from cricavpr.files import refuse_all_but_files
from cricavpr.grouping import Grouping
from cricavpr.pca import Pca, fit_pca
from cricavpr.progress import Progress

SHUFFLED = "shuffled:16:0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    fitting = actions.add_parser(
        "fit",
        help="fit a PCA on descriptors or photos",
        description="Fit a PCA, that is, find the directions in which descriptors vary most. A PCA with 4096 "
        "dimensions can later also reduce descriptors to fewer, such as 2048, 1024 or 512. If SOURCE is a folder of "
        "photos, they are described first, in shuffled groups of 16, as the authors of CricaVPR did.",
    )
    fitting.add_argument("source", metavar="SOURCE", help="a file of descriptors, or a folder of photos")
    fitting.add_argument("--out", required=True, metavar="FILE", help="PCA file to write (safetensors)")
    fitting.add_argument(
        "--dim", type=int, default=4096, metavar="D", help="number of dimensions to keep (default: 4096)"
    )
    fitting.add_argument(
        "--whiten",
        action="store_true",
        help="divide each dimension by its standard deviation; CricaVPR's authors do not",
    )
    fitting.add_argument(
        "--no-renormalise",
        action="store_true",
        help="do not scale reduced descriptors to length 1; CricaVPR's authors do not either",
    )
    add_grouping(fitting, default=SHUFFLED)
    add_method(fitting)
    add_work(fitting)
    fitting.set_defaults(run=fit)
    applying = actions.add_parser("apply", help="reduce a file of descriptors")
    applying.add_argument("pca", metavar="PCA", help="a file that `cricavpr pca fit` wrote")
    applying.add_argument("descriptors", metavar="DESCRIPTORS", help="a file that `cricavpr describe` wrote")
    applying.add_argument("--out", required=True, metavar="FILE", help="file of reduced descriptors to write")
    applying.add_argument("--dim", type=int, metavar="D", help="number of dimensions to keep (default: all of the PCA)")
    applying.set_defaults(run=apply)


def fit(args: argparse.Namespace) -> int:
    out = Path(args.out)
    refuse_all_but_files(out)
    with _descriptors(args) as (descriptors, problems), Progress(not args.quiet, 2 * len(descriptors)) as bar:
        bar.start(0)
        how = {"whiten": args.whiten, "renormalise": not args.no_renormalise}
        pca = fit_pca(descriptors, args.dim, report=bar.reach, **how)
    pca.save(out)
    print(f"{out}: {pca.describe()}, from {pca.fitted_on.dim} dimensions, method {pca.fitted_on.method}")
    return report(problems)


@contextlib.contextmanager
def _descriptors(args: argparse.Namespace) -> Iterator[tuple[DescriptorSet, tuple[Problem, ...]]]:
    """Yield the descriptors to fit on, and the photos that could not be used.

    SOURCE is a file of descriptors, or a folder of photos, which are described into a temporary file.
    """
    source = Path(args.source)
    if not source.is_dir():
        if args.grouping is not None:
            raise InputError(
                f"--grouping is only for a folder of photos, but the descriptors in the file {source} already have a "
                "grouping. Leave --grouping out."
            )
        yield DescriptorSet.load(source), ()
        return
    grouping = Grouping.parse(args.grouping or SHUFFLED)
    method = load_method(args)
    photos, unusable = open_photos(source, with_positions=False)
    with tempfile.TemporaryDirectory(prefix="cricavpr-") as folder:
        described = describe(
            method,
            photos,
            grouping,
            batch_size=args.batch_size,
            workers=args.workers,
            out=Path(folder) / "descriptors.safetensors",
            progress=not args.quiet,
        )
        yield described.descriptors, (*unusable, *described.problems)


def apply(args: argparse.Namespace) -> int:
    out = Path(args.out)
    refuse_other_files(out)
    pca = Pca.load(Path(args.pca))
    pca = pca if args.dim is None else pca.truncated(args.dim)
    reduced = pca.apply(DescriptorSet.load(Path(args.descriptors)), out)
    print(f"{out}: {len(reduced):,} descriptors of {reduced.made_by.dim} dimensions, {reduced.made_by.pca}")
    return 0
