"""Options that several verbs share, and how they are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cricavpr.errors import InputError

if TYPE_CHECKING:
    from cricavpr.datasets.base import Problem
    from cricavpr.methods.base import Method

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


def load_method(args: argparse.Namespace) -> Method:
    """The method that the options name."""
    from cricavpr import methods

    settings = {} if args.image_size is None else {"image_size": _size(args.image_size)}
    return methods.load_method(args.method, args.weights, args.device, **settings)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"--image-size {text!r} is not understood. Give height x width, such as 322x322.")
    return int(height), int(width)


def existing_folder(text: str) -> Path:
    """A folder that must be there."""
    path = Path(text)
    if not path.is_dir():
        raise InputError(f"there is no folder {text}. Give the path of a folder.")
    return path


def report(problems: Iterable[Problem]) -> int:
    """Name each unusable photo on stderr; the exit code for the verb."""
    found = list(problems)
    for problem in found:
        print(f"cannot use {printable(problem.name)}: {problem.reason} [{problem.stage}]", file=sys.stderr)
    if found:
        print(f"{len(found):,} photos could not be used; the rest is done.", file=sys.stderr)
    return SOME_FAILED if found else 0


def printable(name: str) -> str:
    """A file name on one line: control characters and stray bytes escaped, so that no name can break a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
