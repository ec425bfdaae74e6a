"""Verb `cricavpr audit`: measures how much a method's descriptors depend on the other photos of their group."""

from __future__ import annotations

import argparse
from pathlib import Path

from cricavpr.cli.dataset import add_dataset, open_asked
from cricavpr.cli.options import add_method, add_work, load_method, report, say
from cricavpr.evaluation.audit import audit_table, verdicts, write_audit
from cricavpr.methods.base import Method


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Describe a dataset in several ways: each photo alone, in groups of several sizes, in shuffled groups, in "
        "groups of unrelated photos (strangers), in batches of other sizes and in half precision. Print how recall "
        "and descriptors change, and write a page with the conclusions."
    )
    add_dataset(parser)
    parser.add_argument("--shuffles", type=int, default=10, metavar="N", help="number of shuffled orders (default: 10)")
    parser.add_argument(
        "--group-size", type=int, default=16, metavar="N", help="number of photos in a group (default: 16)"
    )
    parser.add_argument("--out", default="audit", metavar="DIR", help="folder to write into (default: audit)")
    parser.add_argument("--cache", metavar="DIR", help="keep descriptors in this folder, to reuse them in later runs")
    add_method(parser)
    add_work(parser, batches=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    dataset, unusable = open_asked(args)
    audit = write_audit(
        load_method(args),
        dataset,
        Path(args.out),
        cache=Path(args.cache) if args.cache else None,
        shuffles=args.shuffles,
        group_size=args.group_size,
        elsewhere=_elsewhere(args),
        workers=args.workers,
        progress=not args.quiet,
        talk=lambda stage: None if args.quiet else say(f"describing: {stage}"),
    )
    print(audit_table(audit))
    for verdict in verdicts(audit):
        print(verdict.says)
    print(f"\n{Path(args.out) / 'audit.html'}")
    return report((*unusable, *audit.problems))


def _elsewhere(args: argparse.Namespace) -> Method | None:
    """Return the method on the device that was not chosen, of CPU and CUDA. Return None without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return None
    return load_method(argparse.Namespace(**{**vars(args), "device": "cpu" if args.device != "cpu" else "cuda"}))
