"""`cricavpr compare`: cards side by side, tested query by query."""

from __future__ import annotations

import argparse

from cricavpr.evaluation.compare import TABLE, compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print recalls with 95 % intervals, and test every card against the first, query by query (McNemar's exact "
        "test). Cards with other images, rules or N are refused: their figures cannot be compared."
    )
    parser.add_argument("cards", nargs="+", metavar="CARD", help="a card, its folder, or a folder of such folders")
    parser.add_argument("--anyway", action="store_true", help="print such cards too, with a mark and without a test")
    parser.add_argument("--with-published", action="store_true", help="add published figures of the same split")
    parser.add_argument(
        "--published", default=TABLE, metavar="FILE", help="another table of published figures (default: ours)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    found = compare(args.cards, anyway=args.anyway, with_published=args.with_published, published=args.published)
    print(found)
    if args.with_published and not found.published:
        print(f"there are no published figures for a split named {found.runs[0].card.dataset}.")
    return 0
