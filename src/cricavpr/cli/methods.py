"""`cricavpr methods`: what can describe a photo, and how many parameters it has."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cricavpr.cli import Subparsers
    from cricavpr.models.cricavpr import CricaVPRConfig


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("methods", help="list the methods")
    parser.add_argument(
        "--parameters", action="store_true", help="the table of parameters (Supplementary Table 1), counted"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.parameters:
        _print_parameters()
        return 0
    from cricavpr.methods import METHODS

    width = max(map(len, METHODS))
    for name, entry in METHODS.items():
        print(f"{name:<{width}}  {entry.summary}")
    return 0


def _print_parameters() -> None:
    import torch

    from cricavpr.models.cricavpr import CricaVPR, parameter_counts

    print("| parameters (M)               | total | backbone | adapter | others | tunable |")
    print("|------------------------------|------:|---------:|--------:|-------:|--------:|")
    for label, config in _networks().items():
        with torch.device("meta"):  # counted, not made
            millions = {part: count / 1e6 for part, count in parameter_counts(CricaVPR(config)).items()}
        print(
            f"| {label:<28} | {millions['total']:5.1f} | {millions['backbone']:8.1f} | {millions['adapter']:7.1f} "
            f"| {millions['others']:6.1f} | {millions['tunable']:7.1f} |"
        )


def _networks() -> dict[str, CricaVPRConfig]:
    from cricavpr.methods.cricavpr import default_settings
    from cricavpr.models.cricavpr import CricaVPRConfig

    return {
        "CricaVPR (paper: Ours)": CricaVPRConfig(),
        "full tuning, no adapter": CricaVPRConfig(adapter="none", tuning="full"),
        "cricavpr-tiny": default_settings("cricavpr-tiny").config,
    }
