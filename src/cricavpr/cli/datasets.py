"""`cricavpr datasets`: list the benchmarks, explain one, and check which of its files are on this disk."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from cricavpr.cli.options import SOME_FAILED, existing_folder
from cricavpr.datasets.benchmarks import BENCHMARKS, SPLITS, Benchmark, Split, find_splits
from cricavpr.datasets.benchmarks.check import CheckedSplit, check_split, state_of
from cricavpr.errors import InputError
from cricavpr.progress import Progress
from cricavpr.terminal import printable

NOTHING_THERE = 2  # exit code, the same as for a folder that does not exist

_UNANSWERED = {"miss": "count as misses", "skip": "are left out"}
_SAID = {"as expected": "as expected", "differs": "not all as expected", "nothing there": "not found"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list all splits with their counts, rules for positives and file layouts")
    listing.set_defaults(run=show_list)
    info = actions.add_parser("info", help="explain a benchmark or split: its source, licence, rule, pitfalls")
    info.add_argument("name", metavar="NAME", help="name of a benchmark or split, such as pitts30k or pitts30k-test")
    info.set_defaults(run=show_info)
    checking = actions.add_parser(
        "check",
        help="check which files of a benchmark exist, and whether they agree with the published data",
        description="Exit code 0 if all is as expected, 3 if something differs or is missing, 2 if no file is found.",
    )
    checking.add_argument("name", metavar="NAME", help="a split such as pitts30k-test, or pitts30k for all its splits")
    checking.add_argument("--root", required=True, metavar="DIR", help="the folder of the benchmark")
    checking.add_argument("--quiet", action="store_true", help="no progress bar")
    checking.set_defaults(run=check)
    for action in (listing, info, checking):
        action.add_argument("--json", action="store_true", help="print JSON")


def show_list(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps([_about(*entry) for entry in SPLITS.values()], indent=1))
        return 0
    rows: list[tuple[str, ...]] = [("split", "queries", "database", "positives", "layouts")]
    for _, split in SPLITS.values():
        layouts = "; ".join(layout.name for layout in split.layouts)
        rows.append((split.name, _number(split.queries), _number(split.database), split.rule, layouts))
    rows += [(name, "", "", "", b.title + ": for training") for name, b in BENCHMARKS.items() if not b.splits]
    _print_table(rows)
    return 0


def _number(count: int | None) -> str:
    return "not published" if count is None else f"{count:,}"


def show_info(args: argparse.Namespace) -> int:
    benchmark, splits = find_splits(args.name)
    if args.json:
        print(json.dumps([_about(benchmark, split) for split in splits], indent=1))
        return 0
    print(f"{benchmark.title} ({benchmark.key})\n")
    _print_source(benchmark)
    for split in splits:
        print(f"\n{split.name}")
        for label, value in _facts(split):
            print(f"  {label:<16}{value}")
        for note in split.notes:
            print(f"  - {note}")
    return 0


def _facts(split: Split) -> list[tuple[str, str]]:
    facts = [("queries", _number(split.queries)), ("database", _number(split.database)), ("positives", split.rule)]
    if split.without_positives is not None:
        facts.append(("no positives", _number(split.without_positives)))
    facts += [
        ("unanswered", f"queries without positives {_UNANSWERED[split.unanswered]}, as published"),
        ("paper's groups", f"{split.paper_grouping} (CricaVPR's authors; `evaluate` also prints alone and shuffled)"),
    ]
    if split.per_panorama is not None:
        facts.append(("per panorama", f"{split.per_panorama} database images; scoring may count one hit per panorama"))
    return facts + [("layout", f"{layout.name}: {', '.join(layout.needs)}") for layout in split.layouts]


def _about(benchmark: Benchmark, split: Split) -> dict[str, Any]:
    of_split = ("queries", "database", "without_positives", "rule", "paper_grouping", "unanswered", "per_panorama")
    return {
        "split": split.name,
        "benchmark": benchmark.key,
        "title": benchmark.title,
        **{key: getattr(split, key) for key in of_split},
        "layouts": [{"name": layout.name, "needs": list(layout.needs)} for layout in split.layouts],
        "notes": list(split.notes),
        **_source(benchmark),
    }


def check(args: argparse.Namespace) -> int:
    benchmark, splits = find_splits(args.name)
    if not splits:
        raise InputError(f"{args.name} is a training set and has no splits. Use `cricavpr places check {args.root}`.")
    root = existing_folder(args.root)
    checked = []
    for split in splits:
        with Progress(not args.quiet, 0, "files") as progress:
            checked.append(check_split(split, root, progress.reach))
    state = state_of(checked)
    if args.json:
        found = {"name": args.name, "root": str(root), "state": state, "splits": [split.to_dict() for split in checked]}
        print(json.dumps(found | _source(benchmark), indent=1))
    else:
        _print_checked(checked)
        print(f"\n{printable(str(root))}: {args.name} is {_SAID[state]}")
        _print_source(benchmark)
    return {"as expected": 0, "differs": SOME_FAILED, "nothing there": NOTHING_THERE}[state]


def _print_checked(checked: Sequence[CheckedSplit]) -> None:
    rows: list[tuple[str, ...]] = [("split", "what", "expected", "", "found")]
    for split in checked:
        for finding in split.findings:
            wrong = finding.verdict in ("differs", "missing")
            verdict = finding.verdict.upper() if wrong else finding.verdict
            rows.append((split.name, finding.what, finding.expected, verdict, printable(finding.found)))
    _print_table(rows)


def _source(benchmark: Benchmark) -> dict[str, str]:
    return {key: getattr(benchmark, key) for key in ("source", "registration", "licence")}


def _print_source(benchmark: Benchmark) -> None:
    for key, value in _source(benchmark).items():
        print(f"{key + ':':<15}{value}")


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows as a table with aligned columns. The last column is not padded."""
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    for *cells, last in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last]).rstrip())
