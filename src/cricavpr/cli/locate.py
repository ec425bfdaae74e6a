"""`cricavpr locate`: photos in, places out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from cricavpr.cli.options import add_method, add_work, load_method, printable, report

if TYPE_CHECKING:
    from cricavpr.cli import Subparsers
    from cricavpr.datasets.base import Problem
    from cricavpr.locate import LocationEstimate


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "locate",
        help="find where photos were taken",
        description="Find where photos were taken. Each is described alone: no photo changes another's answer.",
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="photos, or folders of them")
    parser.add_argument("--index", required=True, metavar="INDEX", help="an index from `cricavpr index build`")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="matches to name for each photo (default: 5)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, one object for each photo")
    form.add_argument("--geojson", action="store_true", help="print GeoJSON for a map")
    add_method(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from cricavpr.geo import feature_collection
    from cricavpr.index.place_index import PlaceIndex
    from cricavpr.locate import Locator

    index = PlaceIndex.open(Path(args.index))
    locator = Locator(index, load_method(args))
    paths, unusable = _paths(args.photos)
    located = locator.locate_many(paths, args.top, batch_size=args.batch_size, workers=args.workers)
    if args.json:
        print(json.dumps([estimate.to_dict() for estimate in located.estimates], indent=1))
    elif args.geojson:
        print(json.dumps(feature_collection([estimate.to_feature() for estimate in located.estimates]), indent=1))
    else:
        print("\n".join(map(_text, located.estimates)))
    return report((*unusable, *located.problems))


def _paths(given: list[str]) -> tuple[list[Path], list[Problem]]:
    """The photos that were given, those of folders too, and what of a folder is none."""
    from cricavpr.datasets.base import Problem
    from cricavpr.datasets.photos import read_photos

    paths: list[Path] = []
    unusable: list[Problem] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            photos, problems = read_photos(path)
            paths += [photos.path(i) for i in range(len(photos))]
            unusable += [Problem(str(path / problem.name), problem.stage, problem.reason) for problem in problems]
        else:
            paths.append(path)  # one that is not there is named with the others that cannot be used
    return paths, unusable


def _text(estimate: LocationEstimate) -> str:
    lines = [f"{printable(estimate.photo)}: {_place(estimate)} (confidence: {estimate.confidence})"]
    lines += [f"  {match.score:.3f}  {printable(match.name)}" for match in estimate.matches]
    return "\n".join(lines)


def _place(estimate: LocationEstimate) -> str:
    where = estimate.where
    if where.position is not None:
        return f"{where.position.lat_deg:.6f}, {where.position.lon_deg:.6f}"
    if where.easting_m is not None:
        return f"{where.easting_m:.2f} m east, {where.northing_m:.2f} m north"
    return "the best match has no position"
