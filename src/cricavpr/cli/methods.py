"""`cricavpr methods`: list the methods, or print the table of CricaVPR's parameter counts."""

from __future__ import annotations

import argparse

from cricavpr.methods import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parameters",
        action="store_true",
        help="print only CricaVPR's parameter counts (Supplementary Table 1 of the paper)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.parameters:
        from cricavpr.methods.cricavpr import parameter_table  # imports torch

        print(parameter_table())
        return 0
    width = max(map(len, METHODS))
    for name, entry in METHODS.items():
        print(f"{name:<{width}}  {entry.summary}")
    return 0
