"""`cricavpr methods`: what can describe a photo, and how many parameters it has."""

from __future__ import annotations

import argparse

from cricavpr.methods import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parameters", action="store_true", help="the table of parameters (Supplementary Table 1), counted"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.parameters:
        from cricavpr.methods.parameters import parameter_table  # brings in torch

        print(parameter_table())
        return 0

    width = max(map(len, METHODS))
    for name, entry in METHODS.items():
        print(f"{name:<{width}}  {entry.summary}")
    return 0
