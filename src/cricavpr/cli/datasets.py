"""`cricavpr datasets`: which benchmarks are known, all about one of them, and what of it is on this disk."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from cricavpr.cli.options import SOME_FAILED, existing_folder
from cricavpr.datasets.benchmarks import BENCHMARKS, SPLITS, Benchmark, Split, find_splits
from cricavpr.datasets.benchmarks.check import CheckedSplit, check_split, state_of
from cricavpr.errors import InputError
from cricavpr.terminal import printable

NOTHING_THERE = 2  # exit code: as for a folder that is none

_UNANSWERED = {"miss": "count as misses", "skip": "are left out"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every split: counts, rule, layouts that are read")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=show_list)
    info = actions.add_parser("info", help="all that is known of a benchmark or split: source, licence, traps")
    info.add_argument("name", metavar="NAME", help="such as pitts30k or pitts30k-test")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=show_info)
    checking = actions.add_parser(
        "check",
        help="what of a benchmark is there, what is missing, and what differs",
        description="Exit code 0 if all is as expected, 3 if something differs or is missing, 2 if nothing is there.",
    )
    checking.add_argument("name", metavar="NAME", help="such as pitts30k-test, or pitts30k for all its splits")
    checking.add_argument("--root", required=True, metavar="DIR", help="the folder of the benchmark")
    checking.add_argument("--json", action="store_true", help="print JSON")
    checking.add_argument("--quiet", action="store_true", help="no progress bar")
    checking.set_defaults(run=check)


def show_list(args: argparse.Namespace) -> int:

    if args.json:
        print(json.dumps([_about(*entry) for entry in SPLITS.values()], indent=1))
        return 0
    rows: list[tuple[str, ...]] = [("split", "queries", "database", "positives", "layouts")]
    rows += [_row(split) for _, split in SPLITS.values()]
    rows += [(name, "", "", "", b.title + ": to train on") for name, b in BENCHMARKS.items() if not b.splits]
    _print_table(rows)
    return 0


def _row(split: Split) -> tuple[str, ...]:
    layouts = "; ".join(layout.name for layout in split.layouts)
    return split.name, _number(split.queries), _number(split.database), split.rule, layouts


def _number(count: int | None) -> str:
    return "not published" if count is None else f"{count:,}"


def show_info(args: argparse.Namespace) -> int:

    benchmark, splits = find_splits(args.name)
    if args.json:
        print(json.dumps([_about(benchmark, split) for split in splits], indent=1))
        return 0
    print(f"{benchmark.title} ({benchmark.key})\n")
    _print_where(benchmark)
    for split in splits:
        print(f"\n{split.name}")
        for label, value in _facts(split):
            print(f"  {label:<16}{value}")
        for layout in split.layouts:
            print(f"  reads           {layout.name}: {', '.join(layout.needs)}")
        for note in split.notes:
            print(f"  - {note}")
    return 0


def _facts(split: Split) -> list[tuple[str, str]]:
    facts = [
        ("queries", _number(split.queries)),
        ("database", _number(split.database)),
        ("positives", split.rule),
        ("unanswered", f"queries without positives {_UNANSWERED[split.unanswered]}, as published"),
        (
            "paper's groups",
            f"{split.paper_grouping} (CricaVPR's authors; `evaluate` also prints alone and shuffled)",
        ),
    ]
    if split.without_positives is not None:
        facts.insert(3, ("without any", _number(split.without_positives)))
    if split.per_panorama is not None:
        facts.append(("per panorama", f"{split.per_panorama} cut-outs; one hit of each may be counted"))
    return facts


def _about(benchmark: Benchmark, split: Split) -> dict[str, Any]:
    return {
        "split": split.name,
        "benchmark": benchmark.key,
        "title": benchmark.title,
        "queries": split.queries,
        "database": split.database,
        "without_positives": split.without_positives,
        "rule": split.rule,
        "paper_grouping": split.paper_grouping,
        "unanswered": split.unanswered,
        "per_panorama": split.per_panorama,
        "layouts": [{"name": layout.name, "needs": list(layout.needs)} for layout in split.layouts],
        "notes": list(split.notes),
        "source": benchmark.source,
        "registration": benchmark.registration,
        "licence": benchmark.licence,
    }


def check(args: argparse.Namespace) -> int:

    benchmark, splits = find_splits(args.name)
    if not splits:
        raise InputError(f"{args.name} is to train on and has no split. Use `cricavpr places check {args.root}`.")
    root = existing_folder(args.root)
    with tqdm(unit=" files", delay=0.5, leave=False, disable=args.quiet) as bar:

        def on_file(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        checked = [check_split(split, root, on_file) for split in splits]
    state = state_of(checked)
    if args.json:
        where = {key: getattr(benchmark, key) for key in ("source", "registration", "licence")}
        found = {"name": args.name, "root": str(root), "state": state, "splits": [split.to_dict() for split in checked]}
        print(json.dumps(found | where, indent=1))
    else:
        _print_checked(checked)
        print(f"\n{printable(str(root))}: {args.name} is {_SAID[state]}")
        _print_where(benchmark)
    return {"as expected": 0, "differs": SOME_FAILED, "nothing there": NOTHING_THERE}[state]


_SAID = {"as expected": "as expected", "differs": "not all as expected", "nothing there": "not there"}


def _print_checked(checked: Sequence[CheckedSplit]) -> None:
    rows: list[tuple[str, ...]] = [("split", "what", "expected", "", "found")]
    for split in checked:
        for finding in split.findings:
            wrong = finding.verdict in ("differs", "missing")
            verdict = finding.verdict.upper() if wrong else finding.verdict
            rows.append((split.name, finding.what, finding.expected, verdict, printable(finding.found)))
    _print_table(rows)


def _print_where(benchmark: Benchmark) -> None:
    print(f"to be had:     {benchmark.source}")
    print(f"registration:  {benchmark.registration}")
    print(f"licence:       {benchmark.licence}")


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns side by side; the last is as long as it is."""
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    for *cells, last in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last]).rstrip())
