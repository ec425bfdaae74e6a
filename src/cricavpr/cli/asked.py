"""The dataset that a verb was asked for: a folder, or a split of a benchmark with `--root`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cricavpr.cli.options import existing_folder
from cricavpr.datasets import open_dataset
from cricavpr.datasets.base import EvalDataset, Problem
from cricavpr.datasets.benchmarks import SPLITS, find_split, open_split
from cricavpr.errors import InputError

RADIUS_M = 25.0


def open_asked(
    data: str,
    root: str | None,
    radius_m: float | None,
    positions: str | None = None,
    *,
    queries: str | None = None,
    database: str | None = None,
) -> tuple[EvalDataset, tuple[Problem, ...]]:
    """Open it; a radius replaces the rule of a split. `queries` and `database` are names of folders in a folder.

    Raises:
        InputError: it is not there, or the options do not go together.
    """

    if root is not None:
        if positions:
            raise InputError("a split of a benchmark has its own positions. Leave --positions out, or --root.")
        if queries or database:
            raise InputError(
                "a split of a benchmark has its own folders. Leave --queries and --database out, or --root."
            )
        return _open_split(data, existing_folder(root), radius_m), ()
    _hint_at_root(data)
    radius_m = RADIUS_M if radius_m is None else radius_m
    table = Path(positions) if positions else None
    return open_dataset(existing_folder(data), radius_m, table, queries=queries, database=database)


def _open_split(name: str, root: Path, radius_m: float | None) -> EvalDataset:

    split = open_split(name, root)
    if radius_m is not None:
        again = EvalDataset.within_radius(split.name, split.database, split.queries, radius_m)
        split = replace(split, positives=again.positives, rule=again.rule)
    if find_split(name)[1].unanswered == "skip" and not any(len(found) for found in split.positives):
        raise InputError(
            f"no query of {name} has an answer in {root}, so nothing can be scored ({split.rule}). "
            "For the MSLS challenge write the file to hand in: cricavpr challenge write."
        )
    return split


def _hint_at_root(data: str) -> None:
    if Path(data).exists():
        return

    if data in SPLITS:
        raise InputError(f"{data} is a split of a benchmark. Say where that lies: --root DIR.")
