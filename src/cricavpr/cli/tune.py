"""`cricavpr index tune`: make the codes of a large index, and measure what searching by them finds."""

from __future__ import annotations

import argparse
import json
import sys

from cricavpr.index.codes.tuning import SHORTLISTS, check_measurable
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote.address import folder_named
from cricavpr.progress import Progress
from cricavpr.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make codes if there are none, use some photos of the index as queries, compare several shortlists with exact "
        "search, and keep the shortest one that finds 99 % of what exact search finds. Large indexes are searched with "
        "it from then on."
    )
    parser.add_argument("index", metavar="INDEX", help="the folder of the index")
    parser.add_argument("--sample", type=int, default=100, metavar="N", help="photos used as queries (default: 100)")
    parser.add_argument(
        "--shortlist", type=int, nargs="+", metavar="N", help="shortlists to measure (default: 110 200 400 800 1600)"
    )
    parser.add_argument("--learn", action="store_true", help="make the codes again, learnt on the photos of now")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="wait for another writer (default: not at all)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    index, shortlists = PlaceIndex.open(folder_named(args.index, "tune")), args.shortlist or SHORTLISTS
    check_measurable(len(index), args.sample, shortlists)
    with Progress(not args.quiet, len(index)) as progress:
        progress.start(0)
        note = index.prepare(learn=args.learn, progress=progress.reach, wait_s=args.wait)
    if note:
        print(printable(note), file=sys.stderr)
    with Progress(not args.quiet, len(index)) as progress:
        progress.start(0)
        found = index.newest().tune(args.sample, shortlists, progress=progress.reach, wait_s=args.wait)
    print(json.dumps(found.to_dict(), indent=1) if args.json else found)
    print(printable(str(PlaceIndex.open(index.path).searcher().choice)), file=sys.stderr)
    return 0
