"""Verb `cricavpr locate`: finds where photos were taken."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from cricavpr.cli.options import add_method, add_search, add_work, load_method, read_filter, report, say
from cricavpr.datasets.base import Problem
from cricavpr.datasets.photos import read_photos
from cricavpr.errors import InputError
from cricavpr.locate import LocationEstimate, Locator
from cricavpr.locate.formats import FORMATS, csv_head, csv_row
from cricavpr.locate.locator import PRECISION, none_located
from cricavpr.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Find where photos were taken. Each photo is described alone, so that no photo changes the answer of another. "
        "GPS positions in the photos themselves are not used."
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument(
        "--index",
        required=True,
        metavar="INDEX",
        help="an index that `cricavpr index build` made: its folder, or milvus://host:port/collection",
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="number of matches to show for each photo (default: 5)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, one object for each photo")
    form.add_argument("--geojson", action="store_true", help="print GeoJSON, for maps")
    form.add_argument("--kml", action="store_true", help="print KML, for Google Earth, with a circle for each radius")
    form.add_argument("--csv", action="store_true", help="print a CSV table with one row for each photo")
    parser.add_argument(
        "--precision",
        type=float,
        metavar="P",
        help="wanted share of correct answers; photos with a lower confidence are reported as unknown (default: 0.95; "
        "needs an index that `cricavpr index calibrate` has calibrated)",
    )
    add_search(parser)
    add_method(parser)
    add_work(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    precision = PRECISION if args.precision is None else args.precision
    locator = Locator(args.index, load_method(args), precision, engine=args.engine, where=read_filter(args))
    if args.precision is not None and locator.calibration is None:
        raise InputError(f"--precision needs a calibrated index. {locator.caveat}")
    for line in () if args.quiet else (locator.searcher.choice, *locator.searcher.notes):
        say(line)
    paths, unusable = _paths(args.photos)
    bar = not args.quiet and not sys.stdout.isatty()  # on a terminal the answers themselves show the progress
    found = locator.stream(paths, args.top, batch_size=args.batch_size, workers=args.workers, progress=bar)
    problems: list[Problem] = []
    _print(_estimates(found, problems), next((name for name in FORMATS if getattr(args, name)), None))
    if len(problems) == len(paths):
        raise InputError(none_located(problems))
    if locator.caveat:
        say(locator.caveat)
    return report((*unusable, *problems))


def _estimates(found: Iterable[LocationEstimate | Problem], problems: list[Problem]) -> Iterator[LocationEstimate]:
    """Yield the estimates in `found`, and append the problems in `found` to the list `problems`."""
    for one in found:
        if isinstance(one, Problem):
            problems.append(one)
        else:
            yield one


def _print(estimates: Iterator[LocationEstimate], form: str | None) -> None:
    """Print the estimates in a format of FORMATS, or as text if `form` is None.

    Text and CSV are printed estimate by estimate, the other formats at the end. Without estimates nothing is printed.
    """
    for first in estimates:
        if form in ("json", "geojson", "kml"):
            print(FORMATS[form]([first, *estimates]))
            return
        if form == "csv":
            print(csv_head())
        for estimate in itertools.chain([first], estimates):
            print(_text(estimate) if form is None else csv_row(estimate), flush=True)


def _paths(given: list[str]) -> tuple[list[Path], list[Problem]]:
    """Return the given photos and those in given folders, and the files in folders that cannot be used."""
    paths: list[Path] = []
    unusable: list[Problem] = []
    empty: list[InputError] = []
    for text in given:
        path = Path(text)
        if not text:  # as from an unset shell variable; it must not mean the current folder
            empty.append(InputError("expected paths of photos or folders, got an empty path. Leave it out."))
            unusable.append(Problem("''", "find", "is an empty path"))
        elif _is_folder(path):
            try:
                photos, problems = read_photos(path, with_positions=False)
            except InputError as error:  # a folder without photos; the other photos are still located
                unusable.append(Problem(text, "find", str(error)))
                empty.append(error)
                continue
            paths += [photos.path(i) for i in range(len(photos))]
            unusable += [Problem(str(path / problem.name), problem.stage, problem.reason) for problem in problems]
        else:
            paths.append(path)  # a missing file is reported later, with the photos that cannot be read
    if empty and not paths:
        raise empty[0]
    return paths, unusable


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no permission, or a name that is too long; reported with the photos that cannot be read
        return False


def _text(estimate: LocationEstimate) -> str:
    lines = [f"{printable(estimate.photo)}: {estimate}"]
    lines += [f"  {match.score:.3f}  {printable(match.name)}" for match in estimate.matches]
    return "\n".join(lines)
