"""Command-line options that several verbs share."""

from __future__ import annotations

import argparse
import contextlib
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
from cricavpr.progress import note
from cricavpr.terminal import printable

Options = argparse.ArgumentParser | argparse._ArgumentGroup
SOME_FAILED = 3  # exit code if the work is done, but some photos could not be used


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add the options --method, --weights, --device and --image-size, which `load_method` reads."""
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method",
        default="cricavpr-tiny",
        metavar="NAME",
        help="a name from `cricavpr methods` (default: cricavpr-tiny)",
    )
    group.add_argument(
        "--weights",
        metavar="W",
        help="a weights file, a name from `cricavpr weights list`, or random:SEED for an untrained network "
        "(default: the default weights of the method)",
    )
    add_device(group)
    group.add_argument(
        "--image-size",
        type=image_size,
        metavar="HxW",
        help="resize photos to this height x width in pixels, such as 322x322",
    )


def add_device(parser: Options) -> None:
    """Add the option --device."""
    parser.add_argument("--device", default="auto", help="cpu, cuda or mps (default: auto, the fastest available)")


def add_work(parser: argparse.ArgumentParser, *, batches: bool = True) -> None:
    """Add the options --batch-size, --workers and --quiet, which do not change results.

    Args:
        batches: whether to add --batch-size.
    """
    group = parser.add_argument_group("work")
    if batches:
        group.add_argument(
            "--batch-size", type=int, default=16, metavar="N", help="number of images per forward pass (default: 16)"
        )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes that read photos (default: chosen for this machine)",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def add_grouping(parser: argparse.ArgumentParser, repeat: bool = False, default: str = "alone") -> None:
    """Add the option --grouping.

    Args:
        repeat: whether the option may be given several times.
        default: the default in the help text.
    """
    parser.add_argument(
        "--grouping",
        action="append" if repeat else "store",
        metavar="G",
        help="which photos are described together: alone, in_order:16, shuffled:16:0 or by_key "
        f"(default: {default})" + ("; may be given several times" if repeat else ""),
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add the option --engine, and the filters of a search, which `read_filter` reads."""
    group = parser.add_argument_group("search")
    group.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="search engine: auto, exact or compressed (default: auto, which prints what it chooses; an index on a "
        "server allows only auto)",
    )
    group.add_argument(
        "--near",
        type=_near,
        metavar="LAT,LON,METRES",
        help="search only photos at most METRES from a position; south of the equator write --near=-33.9,151.2,500",
    )
    group.add_argument(
        "--box",
        type=_box,
        metavar="S,W,N,E",
        help="search only photos between the south, west, north and east border, in degrees",
    )
    group.add_argument(
        "--since",
        type=_time,
        metavar="TIME",
        help="search only photos taken at or after TIME, such as 2026-05-01 (UTC)",
    )
    group.add_argument(
        "--until",
        type=_time,
        metavar="TIME",
        help="search only photos taken before TIME, such as 2026-06-01T12:00 (UTC)",
    )
    group.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="TAG",
        help="search only photos with this tag; may be given several times",
    )


def read_filter(args: argparse.Namespace) -> Filter | None:
    """Return the filter that the options of `add_search` give, or None if there is none."""
    filters: list[Filter] = [one for one in (args.near, args.box) if one is not None]
    if args.since is not None or args.until is not None:
        filters.append(Taken(args.since, args.until))
    filters += map(Tagged, args.tag)
    return All(tuple(filters)) if filters else None


def _near(text: str) -> Near:
    lat, lon, radius_m = _numbers(text, "LAT,LON,METRES")
    return Near(LatLon(lat, lon), radius_m)


def _box(text: str) -> Box:
    return Box(*_numbers(text, "S,W,N,E"))


def _numbers(text: str, form: str) -> list[float]:
    with contextlib.suppress(ValueError):
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == form.count(",") + 1:
            return numbers
    raise argparse.ArgumentTypeError(f"expected {form}, got {text!r}")


def _time(text: str) -> np.datetime64:
    """Parse a time in ISO 8601. A time without an offset is in UTC."""
    try:
        time = datetime.datetime.fromisoformat(text)
        utc = time if time.tzinfo is None else time.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # OverflowError: the UTC time is not in the years 1 to 9999
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-05-01T12:00, got {text!r}") from None
    return np.datetime64(utc, "ms")


def load_method(args: argparse.Namespace) -> Method:
    """Load the method that the options of `add_method` give."""
    settings = {} if args.image_size is None else {"image_size": args.image_size}
    method = methods.load_method(args.method, args.weights, args.device, **settings)
    if method.device != "cpu":
        note(f"computing on {method.device}.")
    return method


def image_size(text: str) -> tuple[int, int]:
    """Parse a size such as `322x322`, or `322` for a square, and return (height, width) in pixels.

    Raises:
        ArgumentTypeError: the text is not a size.
    """
    height, _, width = text.partition("x")
    width = width if "x" in text else height
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected height x width such as 322x322, got {text!r}")
    return int(height), int(width)


def existing_folder(text: str) -> Path:
    """Return the path of an existing folder.

    Raises:
        InputError: the folder does not exist, or the text is empty (as from an unset shell variable).
    """
    path = Path(text)
    if not text or not path.is_dir():
        raise InputError(f"there is no folder {text or repr(text)}. Give the path of an existing folder.")
    return path


def say(line: object) -> None:
    """Print one line on stderr, with control characters escaped."""
    print(printable(str(line)), file=sys.stderr, flush=True)


def report(problems: Iterable[Problem]) -> int:
    """Print a line on stderr for each photo that could not be used and for each note.

    Returns:
        The exit code of the verb: 3 if a photo could not be used, else 0.
    """
    lost = 0
    for problem in problems:
        name, reason = printable(problem.name), printable(problem.reason)
        if problem.is_note:
            print(f"note: {reason}" if name == "." else f"note: {name}: {reason}", file=sys.stderr)
        else:
            print(f"cannot use {name}: {reason} [{problem.stage}]", file=sys.stderr)
            lost += 1
    if lost:
        print(f"{lost:,} photos could not be used; all others are done.", file=sys.stderr)
    return SOME_FAILED if lost else 0
