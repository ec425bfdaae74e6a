"""`cricavpr audit`: how much a method's descriptors depend on the company in which they are made."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cricavpr.cli.asked import open_asked
from cricavpr.cli.options import report
from cricavpr.evaluation.audit import audit_table, verdicts, write_audit
from cricavpr.methods import load_method
from cricavpr.methods.base import Method


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Describe a dataset alone, in groups of every size, shuffled, among strangers, in other batches "
        "and precisions; print what changes, and write one page with a verdict in plain words."
    )
    parser.add_argument("method", metavar="METHOD", help="see `cricavpr methods`")
    parser.add_argument(
        "--on",
        required=True,
        metavar="DATASET",
        help="an @UTM@ tree, a folder with database/ and queries/, or with --root a split such as pitts30k-test",
    )
    parser.add_argument("--root", metavar="DIR", help="where the benchmark lies that the split is of")
    parser.add_argument("--out", default="audit", metavar="DIR", help="where to write (default: audit)")
    parser.add_argument("--weights", metavar="W", help="a weights file, a known name or random:SEED")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument(
        "--radius-m", type=float, metavar="M", help="a match this near is right (default: 25, or the split's rule)"
    )
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="shuffled orders to draw (default: 10)")
    parser.add_argument(
        "--group-size", type=int, default=16, metavar="N", help="of shuffled groups and strangers (default: 16)"
    )
    parser.add_argument("--cache", metavar="DIR", help="keep the descriptors of every company here")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that read photos (default: as the machine allows)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    dataset, unusable = open_asked(args.on, args.root, args.radius_m)
    method = load_method(args.method, args.weights, args.device)
    audit = write_audit(
        method,
        dataset,
        Path(args.out),
        cache=Path(args.cache) if args.cache else None,
        seeds=args.seeds,
        group_size=args.group_size,
        elsewhere=_elsewhere(args),
        workers=args.workers,
        progress=not args.quiet,
        talk=(lambda _: None) if args.quiet else _talk,
    )
    print(audit_table(audit))
    for verdict in verdicts(audit):
        print(verdict.says)
    print(f"\n{Path(args.out) / 'audit.html'}")
    return report(unusable)


def _elsewhere(args: argparse.Namespace) -> Method | None:
    """The same method on the other device of this machine, where there is one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return load_method(args.method, args.weights, "cpu" if args.device != "cpu" else "cuda")


def _talk(stage: str) -> None:
    print(f"describing: {stage}", file=sys.stderr, flush=True)
