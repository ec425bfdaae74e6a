"""Options that several verbs share, and how they are read."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cricavpr import methods
from cricavpr.datasets.base import Problem
from cricavpr.errors import InputError
from cricavpr.geo import LatLon
from cricavpr.index.filters import All, Box, Filter, Near, Tagged, Taken
from cricavpr.methods.base import Method
from cricavpr.terminal import printable

SOME_FAILED = 3  # exit code: the work was done, but some photos could not be used


def add_method(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method", default="cricavpr-tiny", metavar="NAME", help="see `cricavpr methods` (default: cricavpr-tiny)"
    )
    group.add_argument(
        "--weights", metavar="W", help="a weights file, a known name or random:SEED (default: the method's own)"
    )
    group.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    group.add_argument("--image-size", metavar="HxW", help="describe at another size, such as 322x322")


def add_work(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("work")
    group.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="images at once; never changes a result (default: 16)"
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes that read photos (default: as the machine allows)"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def add_grouping(parser: argparse.ArgumentParser, repeat: bool = False, default: str = "alone") -> None:
    parser.add_argument(
        "--grouping",
        action="append" if repeat else "store",
        metavar="G",
        help="which images see one another: alone, in_order:16, shuffled:16:0 or by_key "
        f"(default: {default})" + ("; may be given several times" if repeat else ""),
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search")
    group.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="auto, exact or compressed (default: auto, which says what it takes and why; a server takes no other)",
    )
    group.add_argument(
        "--near",
        metavar="LAT,LON,METRES",
        help="only photos this near a position; south of the equator write --near=-33.9,151.2,500",
    )
    group.add_argument("--box", metavar="S,W,N,E", help="only photos between these degrees of latitude and longitude")
    group.add_argument("--since", metavar="TIME", help="only photos taken from then on, such as 2026-05-01 (UTC)")
    group.add_argument("--until", metavar="TIME", help="only photos taken before, such as 2026-06-01T12:00 (UTC)")
    group.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="only photos with this tag; repeatable"
    )


def read_filter(args: argparse.Namespace) -> Filter | None:
    """What the options of `add_search` allow; None for everything."""

    filters: list[Filter] = []
    if args.near is not None:
        lat, lon, radius_m = _numbers("--near", args.near, "LAT,LON,METRES", 3)
        filters.append(Near(LatLon(lat, lon), radius_m))
    if args.box is not None:
        south, west, north, east = _numbers("--box", args.box, "S,W,N,E", 4)
        filters.append(Box(south, west, north, east))
    if args.since is not None or args.until is not None:
        filters.append(Taken(_time("--since", args.since), _time("--until", args.until)))
    filters += map(Tagged, args.tag)
    return All(tuple(filters)) if filters else None


def _numbers(option: str, text: str, form: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise InputError(f"{option} {printable(text)} is not understood. Give {form}, {count} numbers with commas.")
    return numbers


def _time(option: str, text: str | None) -> np.datetime64 | None:
    """UTC unless the text names another offset."""

    import numpy as np

    if text is None:
        return None
    try:
        time = datetime.datetime.fromisoformat(text)
        utc = time if time.tzinfo is None else time.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # an offset may lead out of the years 1 to 9999
        raise InputError(f"{option} {printable(text)} is no time. Give one such as 2026-05-01T12:00.") from None
    return np.datetime64(utc, "ms")


def load_method(args: argparse.Namespace) -> Method:
    """The method that the options name."""

    settings = {} if args.image_size is None else {"image_size": size(args.image_size)}
    return methods.load_method(args.method, args.weights, args.device, **settings)


def size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"--image-size {text!r} is not understood. Give height x width, such as 322x322.")
    return int(height), int(width)


def existing_folder(text: str) -> Path:
    """A folder that must be there; nothing, as of a variable that is not set, does not mean the one that one is in."""
    path = Path(text)
    if not text or not path.is_dir():
        raise InputError(f"there is no folder {text or repr(text)}. Give the path of a folder.")
    return path


def report(problems: Iterable[Problem]) -> int:
    """Name each unusable photo on stderr; the exit code for the verb."""
    found = list(problems)
    for problem in found:
        print(f"cannot use {printable(problem.name)}: {problem.reason} [{problem.stage}]", file=sys.stderr)
    if found:
        print(f"{len(found):,} photos could not be used; the rest is done.", file=sys.stderr)
    return SOME_FAILED if found else 0
