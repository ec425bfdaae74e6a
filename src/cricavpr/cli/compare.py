"""`cricavpr compare`: cards side by side, tested query by query; unequal ones are refused."""

from __future__ import annotations

import argparse
from pathlib import Path

from cricavpr.errors import InputError
from cricavpr.evaluation import compare
from cricavpr.evaluation.published import TABLE, beside, read_published


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Recall with 95 % intervals, and McNemar's exact test of every card against the first, query by "
        "query. Cards of other images, rules or N are refused by name: their figures say nothing about each other."
    )
    parser.add_argument("cards", nargs="+", metavar="CARD", help="a card, its folder, or a folder of such folders")
    parser.add_argument("--anyway", action="store_true", help="print unequal cards too, marked, and test what is equal")
    parser.add_argument(
        "--with-published", action="store_true", help="print what others published for the split of the first card"
    )
    parser.add_argument("--published", metavar="FILE", help="another table of published figures (default: our own)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    runs = compare.read_runs(map(Path, args.cards))
    if len(runs) < 2 and not args.with_published:
        raise InputError("one card has nothing to be compared with. Give two or more, or --with-published.")
    if not args.anyway:
        compare.require_comparable(runs)
    tests = compare.paired_tests(runs)
    table = Path(args.published) if args.published else TABLE
    published = beside(runs[0].card, read_published(table)) if args.with_published else []
    print(compare.table(runs, published))
    if tests:
        print(compare.paired_table(runs, tests))
    for note in compare.notes(runs, published):
        print(note)
    if args.with_published and not published:
        print(f"no figure is on record for a split called {runs[0].card.dataset}.")
    return 0
