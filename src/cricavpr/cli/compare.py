"""Verb `cricavpr compare`: compares evaluations, with a table of their cards and paired tests."""

from __future__ import annotations

import argparse

from cricavpr.evaluation.compare import TABLE, compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the recalls of evaluations with 95 % confidence intervals, and test every evaluation against the first, "
        "query by query (McNemar's exact test). Evaluations with different images, rules for positives or values of N "
        "are refused, because their recalls cannot be compared."
    )
    parser.add_argument("cards", nargs="+", metavar="CARD", help="a card.json, its folder, or a folder of such folders")
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="also print evaluations that cannot be compared, marked and without a significance test",
    )
    parser.add_argument(
        "--with-published", action="store_true", help="add published recalls for the split of the first evaluation"
    )
    parser.add_argument(
        "--published",
        default=TABLE,
        metavar="FILE",
        help="CSV file of published recalls (default: the one in this package)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    found = compare(args.cards, anyway=args.anyway, with_published=args.with_published, published=args.published)
    print(found)
    if args.with_published and not found.published:
        print(f"no published recalls are known for the split {found.runs[0].card.dataset}.")
    return 0
