"""What the verbs of `cricavpr index` are given, for a folder or a server: photos to describe, names to remove."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from cricavpr import describing
from cricavpr.cli.options import existing_folder
from cricavpr.datasets import open_photos
from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing import Described
from cricavpr.errors import InputError
from cricavpr.methods.base import Method
from cricavpr.terminal import printable


def photos(args: argparse.Namespace) -> tuple[ImageSet, tuple[Problem, ...]]:
    """The photos of a folder that have a position, and those that cannot be used."""

    if "" in args.tag:  # before hours of describing
        raise InputError("--tag '' is no word. Give one, or leave it out.")
    positions_file = Path(args.positions) if args.positions else None
    return open_photos(existing_folder(args.photos), positions_file, need_positions=True, need_times=True)


def describe(args: argparse.Namespace, method: Method, images: ImageSet, to: Path) -> Described:
    """Each photo by itself; what is done is kept beside the index until the index has it."""

    work = {"batch_size": args.batch_size, "workers": args.workers}
    return describing.describe(method, images, out=unfinished(to), progress=not args.quiet, **work)


def unfinished(to: Path) -> Path:
    """Where the descriptors grow until the index has them: hidden beside it, so that no file of the user's is met."""
    whole = Path(os.path.abspath(to))  # noqa: PTH100  # "." has a name too; resolve() would follow links
    return whole.with_name(f".{whole.name}.descriptors")


def tags(args: argparse.Namespace, images: ImageSet) -> list[list[str]]:
    return [args.tag] * len(images)


def chosen(args: argparse.Namespace) -> tuple[list[str], list[bytes]]:
    """Names and ids of the photos that are to go."""

    names = [*args.names, *(_listed(args.list) if args.list else ())]
    if not (names or args.id):
        raise InputError("nothing is named that could be removed. Give names, --id or --from FILE.")
    return names, [_id(text) for text in args.id]


def _listed(file: str) -> Iterable[str]:

    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror or error}. Give a file with a name on each line."
        ) from error
    return (os.fsdecode(line) for line in content.split(b"\n") if line)


def _id(text: str) -> bytes:

    try:
        one = bytes.fromhex(text)
    except ValueError:
        one = b""
    if len(one) != 32:
        raise InputError(f"--id {printable(text)} is not a SHA-256. Give 64 hexadecimal digits, as `export` prints.")
    return one
