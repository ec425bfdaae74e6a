"""Action `cricavpr index calibrate`: fits a calibration, so that answers have a confidence and a radius."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cricavpr.cli.options import add_method, add_work, existing_folder, load_method, report, say
from cricavpr.datasets import open_photos
from cricavpr.datasets.base import Problem
from cricavpr.describing import describe
from cricavpr.grouping import ALONE
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import folder_named
from cricavpr.locate.calibration import draw, precision_table
from cricavpr.locate.cases import Cases, cases_of_index, cases_of_queries
from cricavpr.locate.consensus import Rule
from cricavpr.locate.fitting import check_share, fit
from cricavpr.methods.base import made_by
from cricavpr.plotting import require_drawing, save_figure
from cricavpr.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure with photos of known position how often answers are correct. Afterwards `cricavpr locate` gives each "
        "answer a confidence and a radius. Without --queries, photos of the index itself are the queries. Then "
        "confidence and radius are right only for photos that are taken in the same way as those of the index. See "
        "docs/calibration.md."
    )
    parser.add_argument("index", metavar="INDEX", help="the folder of the index")
    parser.add_argument(
        "--queries", metavar="FOLDER", help="folder of photos with known positions, taken like the photos to locate"
    )
    parser.add_argument("--positions", metavar="FILE", help="CSV or GeoJSON file with the positions of the queries")
    parser.add_argument(
        "--radius-m",
        type=float,
        default=25.0,
        metavar="M",
        help="distance in metres within which an answer is correct (default: 25)",
    )
    parser.add_argument(
        "--share-in-map",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="expected share of future photos whose place is in the index (default: 0.5)",
    )
    parser.add_argument(
        "--max-photos",
        type=int,
        default=2000,
        metavar="N",
        help="maximum number of photos of the index to use as queries (default: 2000)",
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="write a plot of the reliability into an .svg, .png or .pdf file"
    )
    parser.add_argument("--json", action="store_true", help="print the whole calibration as JSON")
    add_method(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    check_share(args.share_in_map)  # before the photos are described
    plot = Path(args.plot) if args.plot else None
    if plot:
        require_drawing(_formats(plot))
    index, rule = PlaceIndex.open(folder_named(args.index, "calibrate")), Rule()
    cases, problems = _of_queries(args, index, rule) if args.queries else (_of_index(args, index, rule), ())
    calibration = fit(index, cases, rule, args.share_in_map)
    path = calibration.save(index)
    if plot:
        for written in save_figure(draw(calibration), plot, _formats(plot)):
            say(written)
    if args.json:
        print(json.dumps(calibration.to_dict(), indent=1))
    else:
        source = calibration.source
        print(
            f"{path}: {source.cases}, {source.answerable:,} cases with their place in the map and {source.absent:,} "
            f"without; an answer within {source.right_m:g} m is correct; {100 * source.share_in_map:g} % of future "
            "photos are expected to be in the map\n"
            f"{precision_table(calibration)}"
        )
    return report(problems)


def _of_index(args: argparse.Namespace, index: PlaceIndex, rule: Rule) -> Cases:
    say(
        "the queries are photos of the index itself, so confidence and radius are right only for photos taken like "
        "the photos of the index"
    )
    with Progress(not args.quiet, min(args.max_photos, len(index))) as progress:
        progress.start(0)
        return cases_of_index(index, args.radius_m, rule, args.max_photos, progress.reach)


def _of_queries(args: argparse.Namespace, index: PlaceIndex, rule: Rule) -> tuple[Cases, tuple[Problem, ...]]:
    method = load_method(args)
    index.made_by.require_same(made_by(method, ALONE), f"the photos of {index.path} and the queries")
    positions_file = Path(args.positions) if args.positions else None
    photos, unusable = open_photos(existing_folder(args.queries), positions_file, need_positions=True)
    described = describe(method, photos, batch_size=args.batch_size, workers=args.workers, progress=not args.quiet)
    positions = photos.take(described.kept).positions
    assert positions is not None  # `open_photos` left out photos without a position
    cases = cases_of_queries(index, described.descriptors, positions, args.radius_m, rule)
    return cases, (*unusable, *described.problems)


def _formats(plot: Path) -> tuple[str, ...]:
    return (plot.suffix.removeprefix("."),) if plot.suffix else ("svg", "png")
