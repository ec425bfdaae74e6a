"""Options that several verbs share."""

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
SOME_FAILED = 3  # exit code: the work was done, but some photos could not be used


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add the method, its weights, device and image size; see `load_method`."""
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method", default="cricavpr-tiny", metavar="NAME", help="see `cricavpr methods` (default: cricavpr-tiny)"
    )
    group.add_argument(
        "--weights", metavar="W", help="a weights file, a known name, or random:SEED (default: the method's own)"
    )
    add_device(group)
    group.add_argument("--image-size", type=image_size, metavar="HxW", help="describe at another size, such as 322x322")


def add_device(parser: Options) -> None:
    """Add --device."""
    parser.add_argument("--device", default="auto", help="cpu, cuda or mps (default: auto, the best that works here)")


def add_work(parser: argparse.ArgumentParser, *, batches: bool = True) -> None:
    """Add options about reading and describing photos that do not change a result."""
    group = parser.add_argument_group("work")
    if batches:
        group.add_argument(
            "--batch-size", type=int, default=16, metavar="N", help="images per forward pass (default: 16)"
        )
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes that read photos (default: as the machine allows)"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def add_grouping(parser: argparse.ArgumentParser, repeat: bool = False, default: str = "alone") -> None:
    """Add --grouping."""
    parser.add_argument(
        "--grouping",
        action="append" if repeat else "store",
        metavar="G",
        help="which images see one another: alone, in_order:16, shuffled:16:0 or by_key "
        f"(default: {default})" + ("; may be given several times" if repeat else ""),
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add the engine and the filters of a search; see `read_filter`."""
    group = parser.add_argument_group("search")
    group.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="auto, exact or compressed (default: auto, which prints its choice; a server takes only auto)",
    )
    group.add_argument(
        "--near",
        type=_near,
        metavar="LAT,LON,METRES",
        help="only photos this near to a position; south of the equator write --near=-33.9,151.2,500",
    )
    group.add_argument("--box", type=_box, metavar="S,W,N,E", help="only photos between these degrees")
    group.add_argument("--since", type=_time, metavar="TIME", help="only photos taken since, such as 2026-05-01 (UTC)")
    group.add_argument(
        "--until", type=_time, metavar="TIME", help="only photos taken before, such as 2026-06-01T12:00 (UTC)"
    )
    group.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="only photos with this tag; repeatable"
    )


def read_filter(args: argparse.Namespace) -> Filter | None:
    """Return the filter of the options of `add_search`, or None."""
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
    """Parse a time, in UTC unless it has another offset."""
    try:
        time = datetime.datetime.fromisoformat(text)
        utc = time if time.tzinfo is None else time.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # an offset may lead out of the years 1 to 9999
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-05-01T12:00, got {text!r}") from None
    return np.datetime64(utc, "ms")


def load_method(args: argparse.Namespace) -> Method:
    """Load the method of the options."""
    settings = {} if args.image_size is None else {"image_size": args.image_size}
    method = methods.load_method(args.method, args.weights, args.device, **settings)
    if method.device != "cpu":
        note(f"computing on {method.device}.")
    return method


def image_size(text: str) -> tuple[int, int]:
    """Parse (height, width) in pixels: `322x322`, or `322` for a square. Raises ArgumentTypeError."""
    height, _, width = text.partition("x")
    width = width if "x" in text else height
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected height x width such as 322x322, got {text!r}")
    return int(height), int(width)


def existing_folder(text: str) -> Path:
    """Return the path of a folder. An empty text, as from an unset variable, is not the current folder.

    Raises:
        InputError: the folder does not exist.
    """
    path = Path(text)
    if not text or not path.is_dir():
        raise InputError(f"there is no folder {text or repr(text)}. Give the path of a folder.")
    return path


def say(line: object) -> None:
    """Print one line on stderr; names in it are escaped."""
    print(printable(str(line)), file=sys.stderr, flush=True)


def report(problems: Iterable[Problem]) -> int:
    """Print each photo that could not be used, and notes, on stderr. Return the exit code of the verb."""
    lost = 0
    for problem in problems:
        name, reason = printable(problem.name), printable(problem.reason)
        if problem.is_note:
            print(f"note: {reason}" if name == "." else f"note: {name}: {reason}", file=sys.stderr)
        else:
            print(f"cannot use {name}: {reason} [{problem.stage}]", file=sys.stderr)
            lost += 1
    if lost:
        print(f"{lost:,} photos could not be used; the rest is done.", file=sys.stderr)
    return SOME_FAILED if lost else 0
