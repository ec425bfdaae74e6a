"""Table of parameter counts (Supplementary Table 1)."""

from __future__ import annotations

import torch

from cricavpr.methods.cricavpr import default_settings
from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig, parameter_counts


def parameter_table() -> str:
    """Return the table as Markdown, in millions of parameters; no memory is allocated for weights."""
    lines = [
        "| parameters (M)               | total | backbone | adapter | others | tunable |",
        "|------------------------------|------:|---------:|--------:|-------:|--------:|",
    ]
    for label, config in _networks().items():
        with torch.device("meta"):
            millions = {part: count / 1e6 for part, count in parameter_counts(CricaVPR(config)).items()}
        lines.append(
            f"| {label:<28} | {millions['total']:5.1f} | {millions['backbone']:8.1f} | {millions['adapter']:7.1f} "
            f"| {millions['others']:6.1f} | {millions['tunable']:7.1f} |"
        )
    return "\n".join(lines)


def _networks() -> dict[str, CricaVPRConfig]:
    return {
        "CricaVPR (paper: Ours)": CricaVPRConfig(),
        "full tuning, no adapter": CricaVPRConfig(adapter="none", tuning="full"),
        "cricavpr-tiny": default_settings("cricavpr-tiny").config,
    }
