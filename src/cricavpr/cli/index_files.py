"""The actions of `cricavpr index` that need no method."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cricavpr.cli.index import add_wait
from cricavpr.errors import InputError
from cricavpr.files import read_lines
from cricavpr.index import open_index
from cricavpr.index.auditing import damages
from cricavpr.index.codes.tuning import SHORTLISTS, check_measurable
from cricavpr.index.photo_index import PhotoIndex
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import Address, RemoteIndex, folder_named, is_remote
from cricavpr.progress import Progress
from cricavpr.terminal import printable

SOME_MISSING = 3  # exit code: the work was done, but some names are not in the index


OPTIONS: dict[str, dict[str, Any]] = {
    "--json": {"action": "store_true", "help": "print JSON"},
    "--quiet": {"action": "store_true", "help": "no progress bar"},
    "--kind": {"metavar": "KIND", "help": "how a new collection of a server searches: flat, ivf or hnsw"},
}


def add_remove(parser: argparse.ArgumentParser) -> None:
    parser.description = "Remove photos by name or id. No search finds them from now on; `compact` wipes their bytes."
    _add(parser, remove)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names as `export` prints them")
    parser.add_argument("--id", action="append", default=[], metavar="SHA256", help="the SHA-256 of a photo's bytes")
    parser.add_argument("--from", dest="list", metavar="FILE", help="a file with a name on each line, - for stdin")
    add_wait(parser)


def add_merge(parser: argparse.ArgumentParser) -> None:
    _add(parser, merge, "--kind", "--quiet")
    parser.add_argument("other", metavar="OTHER", help="the folder of the index to take the photos from")
    add_wait(parser)


def add_compact(parser: argparse.ArgumentParser) -> None:
    parser.description = "Merge small segments, and wipe removed photos from all files. Needs disk space for a copy."
    _add(parser, compact, "--quiet")
    add_wait(parser)


def add_info(parser: argparse.ArgumentParser) -> None:
    _add(parser, info, "--json")


def add_verify(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read every byte, and name each damaged file and the place in it. Exit code 2 if there is one."
    _add(parser, verify, "--json", "--quiet")


def add_diff(parser: argparse.ArgumentParser) -> None:
    _add(parser, diff, "--json")
    parser.add_argument("other", metavar="OTHER", help="the folder of the index to compare with")


def add_export(parser: argparse.ArgumentParser) -> None:
    _add(parser, export)
    parser.add_argument("--out", required=True, metavar="FILE", help="a .csv, .geojson or .parquet file")


def add_tune(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make codes if there are none, search for some photos of the index with several shortlists and exactly, and "
        "keep the shortest one with 99 % of the recall of exact search. Large indexes use it from then on."
    )
    _add(parser, tune, "--json", "--quiet")
    parser.add_argument("--sample", type=int, default=100, metavar="N", help="photos used as queries (default: 100)")
    parser.add_argument(
        "--shortlist", type=int, nargs="+", metavar="N", help="shortlists to measure (default: 110 200 400 800 1600)"
    )
    parser.add_argument("--learn", action="store_true", help="make the codes again, learnt on the current photos")
    add_wait(parser)


def _add(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], *options: str) -> None:
    parser.add_argument("index", metavar="INDEX", help="the folder of the index")
    for option in options:
        parser.add_argument(option, **OPTIONS[option])
    parser.set_defaults(run=run)


@contextlib.contextmanager
def _bar(args: argparse.Namespace, total: int = 0) -> Iterator[Progress]:
    with Progress(not args.quiet, total) as progress:
        progress.start(0)
        yield progress


def _say(text: str) -> None:
    print(printable(text))


def _note(text: str) -> None:
    print(printable(text), file=sys.stderr)


# --- changing


def remove(args: argparse.Namespace) -> int:
    listed = read_lines(sys.stdin.buffer.read() if args.list == "-" else Path(args.list)) if args.list else []
    names = [*args.names, *listed]
    if not (names or args.id):
        raise InputError("nothing to remove. Give names, --id or --from FILE.")
    change = open_index(args.index).remove(names, ids=[_id(text) for text in args.id], wait_s=args.wait)
    _say(f"{args.index}: {change.removed:,} removed, {len(change.index):,} photos")
    for name in change.missing:
        _note(f"not in the index: {name}")
    return SOME_MISSING if change.missing else 0


def _id(text: str) -> bytes:
    try:
        one = bytes.fromhex(text)
    except ValueError:
        one = b""
    if len(one) != 32:
        raise InputError(f"--id must be 64 hexadecimal digits, as `export` prints, got {printable(text)}.")
    return one


def merge(args: argparse.Namespace) -> int:
    other = PlaceIndex.open(folder_named(args.other, "merge"))
    index: PhotoIndex
    if is_remote(args.index):  # a missing collection is made
        index = RemoteIndex.create_or_open(Address.parse(args.index), other.made_by, args.kind)
    elif args.kind is not None:
        raise InputError(f"--kind {args.kind} is for the collection of a server. Leave it out for a folder.")
    else:
        index, args.quiet = PlaceIndex.open(Path(args.index)), True  # a folder is merged in one step
    with _bar(args, len(other)) as progress:
        change = index.merge(other, wait_s=args.wait, progress=progress.reach)
    added = f"{change.added:,} added, {change.already:,} already there"
    _say(f"{change.index.path}: {added}, {len(change.index):,} photos")
    return 0


def compact(args: argparse.Namespace) -> int:
    index = PlaceIndex.open(folder_named(args.index, "compact"))
    with _bar(args, len(index)) as progress:
        index = index.compact(progress.reach, wait_s=args.wait)
    _say(f"{args.index}: {len(index):,} photos in {len(index.snapshot.segments):,} segments")
    return 0


# --- asking


def info(args: argparse.Namespace) -> int:
    facts = open_index(args.index).info()
    if args.json:
        print(json.dumps(facts, indent=1))
        return 0
    for key, value in {**facts, **facts["made_by"]}.items():
        if key != "made_by":
            _say(f"{key:<21} {value}")
    return 0


def verify(args: argparse.Namespace) -> int:
    path = folder_named(args.index, "verify")
    with _bar(args) as progress:
        found = list(damages(path, progress.reach))
    if args.json:
        listed = [{"file": str(one.file), "offset": one.offset, "why": one.why} for one in found]
        print(json.dumps({"sound": not found, "damages": listed}, indent=1))
    elif not found:
        _say(f"{path}: sound, {len(PlaceIndex.open(path)):,} photos")
    for damage in found:
        _note(f"cricavpr: {damage}")
    return 2 if found else 0


def diff(args: argparse.Namespace) -> int:
    first, second = (PlaceIndex.open(folder_named(one, "diff")) for one in (args.index, args.other))
    found = first.diff(second)
    if args.json:
        print(json.dumps(found.to_dict(), indent=1))
        return 0
    for mark, lines in (("!", found.made_by), ("<", found.only_first), (">", found.only_second), ("~", found.changed)):
        for line in lines:
            _say(f"{mark} {line}")
    sides = f"{len(found.only_first):,} only in the first, {len(found.only_second):,} only in the second"
    print(f"{sides}, {len(found.changed):,} changed, {found.same:,} the same")
    return 0


def export(args: argparse.Namespace) -> int:
    index = PlaceIndex.open(folder_named(args.index, "export"))
    index.export(Path(args.out))
    _note(f"{args.out}: {len(index):,} photos")
    return 0


def tune(args: argparse.Namespace) -> int:
    index, shortlists = PlaceIndex.open(folder_named(args.index, "tune")), args.shortlist or SHORTLISTS
    check_measurable(len(index), args.sample, shortlists)
    with _bar(args, len(index)) as progress:
        note = index.prepare(learn=args.learn, progress=progress.reach, wait_s=args.wait)
    if note:
        _note(note)
    with _bar(args, len(index)) as progress:
        found = index.newest().tune(args.sample, shortlists, progress=progress.reach, wait_s=args.wait)
    print(json.dumps(found.to_dict(), indent=1) if args.json else found)
    _note(str(PlaceIndex.open(index.path).searcher().choice))
    return 0
