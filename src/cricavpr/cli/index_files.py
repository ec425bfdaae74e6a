"""The commands of `cricavpr index` that do not describe photos, such as `cricavpr index remove`."""

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
    "--quiet": {"action": "store_true", "help": "do not show a progress bar"},
    "--kind": {"metavar": "KIND", "help": "kind of search of a new index on a server: flat, ivf or hnsw"},
}


def add_remove(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Remove photos by name or id. Searches no longer find them, but their bytes stay in the files until `cricavpr "
        "index compact` wipes them. Exit code 3 if the index does not have some of the names or ids."
    )
    _add(parser, remove)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="names of photos, as `cricavpr index export` writes them"
    )
    parser.add_argument(
        "--id",
        action="append",
        default=[],
        metavar="SHA256",
        help="id of a photo: SHA-256 of its bytes; may be repeated",
    )
    parser.add_argument(
        "--from", dest="list", metavar="FILE", help="a file with one photo name on each line; - for stdin"
    )
    add_wait(parser)


def add_merge(parser: argparse.ArgumentParser) -> None:
    parser.description = "Add all photos of another index. Photos that are in both indexes are kept once."
    _add(parser, merge, "--kind", "--quiet")
    parser.add_argument("other", metavar="OTHER", help="the folder of the index whose photos are added")
    add_wait(parser)


def add_compact(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Merge the small files of an index into larger ones, and wipe removed photos from all files. Needs free disk "
        "space for a copy of the index."
    )
    _add(parser, compact, "--quiet")
    add_wait(parser)


def add_info(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print the number of photos of an index, how they were described, and how it is searched."
    _add(parser, info, "--json")


def add_verify(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read every byte of the index, and list each damaged file and where it is damaged. Exit code 2 if a file is "
        "damaged."
    )
    _add(parser, verify, "--json", "--quiet")


def add_diff(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compare two indexes. Each line begins with a mark: ! the descriptors were made differently, < a photo that "
        "only INDEX has, > a photo that only OTHER has, ~ a photo whose entry differs."
    )
    _add(parser, diff, "--json")
    parser.add_argument("other", metavar="OTHER", help="the folder of the index to compare INDEX with")


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write the names, positions, times and tags of all photos to a file for other programs."
    _add(parser, export)
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write: .csv, .geojson or .parquet")


def add_tune(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prepare compressed search, which compares short codes of the photos and reads only the descriptors of a "
        "shortlist. Codes are made if there are none. Then some photos of the index are used as queries, to compare "
        "compressed search with exact search for several lengths of the shortlist. From then on, searches of a large "
        "index use the shortest shortlist that finds 99 % of what exact search finds."
    )
    _add(parser, tune, "--json", "--quiet")
    parser.add_argument(
        "--sample", type=int, default=100, metavar="N", help="number of photos to use as queries (default: 100)"
    )
    parser.add_argument(
        "--shortlist",
        type=int,
        nargs="+",
        metavar="N",
        help="lengths of the shortlist to measure (default: 110 200 400 800 1600)",
    )
    parser.add_argument(
        "--learn", action="store_true", help="make new codes, learnt from the current photos, even if there are codes"
    )
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
        raise InputError("no photos to remove were given. Give names, --id or --from FILE.")
    change = open_index(args.index).remove(names, ids=[_id(text) for text in args.id], wait_s=args.wait)
    _say(f"{args.index}: {change.removed:,} photos removed, {len(change.index):,} photos left")
    for name in change.missing:
        _note(f"not in the index: {name}")
    return SOME_MISSING if change.missing else 0


def _id(text: str) -> bytes:
    try:
        one = bytes.fromhex(text)
    except ValueError:
        one = b""
    if len(one) != 32:
        raise InputError(
            f"--id must be 64 hexadecimal digits, as `cricavpr index export` writes them, got {printable(text)}."
        )
    return one


def merge(args: argparse.Namespace) -> int:
    other = PlaceIndex.open(folder_named(args.other, "merge"))
    index: PhotoIndex
    if is_remote(args.index):  # if the collection is missing, it is made
        index = RemoteIndex.create_or_open(Address.parse(args.index), other.made_by, args.kind)
    elif args.kind is not None:
        raise InputError(f"--kind {args.kind} is only for an index on a server. Leave it out for an index in a folder.")
    else:
        index, args.quiet = PlaceIndex.open(Path(args.index)), True  # a folder is merged in one step, without a bar
    with _bar(args, len(other)) as progress:
        change = index.merge(other, wait_s=args.wait, progress=progress.reach)
    added = f"{change.added:,} photos added, {change.already:,} in the index already"
    _say(f"{change.index.path}: {added}, {len(change.index):,} photos now")
    return 0


def compact(args: argparse.Namespace) -> int:
    index = PlaceIndex.open(folder_named(args.index, "compact"))
    with _bar(args, len(index)) as progress:
        index = index.compact(progress.reach, wait_s=args.wait)
    _say(f"{args.index}: {len(index):,} photos in {len(index.snapshot.segments):,} segment files")
    return 0


# --- reading


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
        _say(f"{path}: no damage found, {len(PlaceIndex.open(path)):,} photos")
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
