"""`cricavpr locate`: photos in, places out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cricavpr.cli.options import add_method, add_search, add_work, load_method, read_filter, report
from cricavpr.datasets.base import Problem
from cricavpr.datasets.photos import read_photos
from cricavpr.errors import InputError
from cricavpr.index import open_index
from cricavpr.locate import LocationEstimate, Locator, Where
from cricavpr.locate.formats import FORMATS
from cricavpr.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Find where photos were taken. Each is described alone: no photo changes another's answer."
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="photos, or folders of them")
    parser.add_argument(
        "--index",
        required=True,
        metavar="INDEX",
        help="an index from `cricavpr index build`: its folder, or milvus://host:port/collection",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="matches to name for each photo (default: 5)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, one object for each photo")
    form.add_argument("--geojson", action="store_true", help="print GeoJSON for a map")
    form.add_argument("--kml", action="store_true", help="print KML for a globe, with the circle of each radius")
    form.add_argument("--csv", action="store_true", help="print a table with one row for each photo")
    parser.add_argument(
        "--precision",
        type=float,
        default=0.95,
        metavar="P",
        help="the share of answers that must be right; what is not sure enough is unknown (default: 0.95; "
        "needs `cricavpr index calibrate`)",
    )
    add_search(parser)
    add_method(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    where = read_filter(args)
    locator = Locator(open_index(args.index), load_method(args), args.precision, engine=args.engine, where=where)
    for line in () if args.quiet else (locator.searcher.choice, *locator.searcher.notes):
        print(line, file=sys.stderr)
    paths, unusable = _paths(args.photos)
    located = locator.locate_many(paths, args.top, batch_size=args.batch_size, workers=args.workers)
    form = next((name for name in FORMATS if getattr(args, name)), None)
    print("\n".join(map(_text, located.estimates)) if form is None else FORMATS[form](located.estimates))
    if locator.caveat:
        print(locator.caveat, file=sys.stderr)
    return report((*unusable, *located.problems))


def _paths(given: list[str]) -> tuple[list[Path], list[Problem]]:
    """The photos that were given, those of folders too, and what of a folder is none."""

    if "" in given:  # as of a variable that is not set: it does not mean the folder that one is in
        raise InputError("a photo has an empty name. Give the path of a photo, or of a folder of them.")
    paths: list[Path] = []
    unusable: list[Problem] = []
    empty: list[InputError] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            try:
                photos, problems = read_photos(path)
            except InputError as error:  # says nothing against what else was given
                unusable.append(Problem(text, "find", str(error)))
                empty.append(error)
                continue
            paths += [photos.path(i) for i in range(len(photos))]
            unusable += [Problem(str(path / problem.name), problem.stage, problem.reason) for problem in problems]
        else:
            paths.append(path)  # one that is not there is named with the others that cannot be used
    if empty and not paths:
        raise empty[0]
    return paths, unusable


def _text(estimate: LocationEstimate) -> str:
    lines = [f"{printable(estimate.photo)}: {_answer(estimate)}"]
    lines += [f"  {match.score:.3f}  {printable(match.name)}" for match in estimate.matches]
    return "\n".join(lines)


def _answer(estimate: LocationEstimate) -> str:
    doubt = estimate.doubt
    if not estimate.matches:  # an index that is not exact may find none where few photos may be found
        return "no photo was found"
    if doubt is None:
        return f"{_place(estimate.where)} (confidence: {estimate.confidence})"
    sure = f"confidence {doubt.confidence:.3f}, in the map with {doubt.probability_in_map:.3f}"
    if not doubt.answered:
        return f"unknown ({sure}: too little for a precision of {doubt.precision:g})"
    return f"{_place(estimate.where)} within {_length(doubt.radius_m)} ({sure})"


def _length(metres: float) -> str:
    return f"{metres:.1f} m" if metres < 100 else f"{metres:,.0f} m"


def _place(where: Where) -> str:
    if where.position is not None:
        return f"{where.position.lat_deg:.6f}, {where.position.lon_deg:.6f}"
    if where.easting_m is not None:
        return f"{where.easting_m:.2f} m east, {where.northing_m:.2f} m north"
    return "none of the matches has a position"
