"""SPED: four pairs of the same number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets.benchmarks import find_split, open_split
from tests.datasets.benchmarks.faults import Fault, cut, refused

Folder = Callable[[str], Path]


@pytest.mark.parametrize("form", ["sped-raw", "sped-tree"])
def test_photos_of_one_number_belong_together_and_no_position_is_kept(miniature: Folder, form: str) -> None:
    dataset = open_split("sped", miniature(form))
    assert [found.tolist() for found in dataset.positives] == [[0], [1], [2], [3]]
    assert dataset.database.positions is None and dataset.queries.positions is None
    assert dataset.rule == "the photo of the same number"


def test_references_answer_in_the_order_of_their_numbers(miniature: Folder) -> None:
    dataset = open_split("sped", miniature("sped-raw"))
    assert dataset.database.names == tuple(f"000000{number}.jpg" for number in range(4))
    assert dataset.database.root.name == "ref" and dataset.queries.root.name == "query"


def test_numbers_of_six_digits_in_a_tree_are_not_sorted_as_text(copy_of: Folder) -> None:
    root = copy_of("sped-tree")
    for side in ("database", "queries"):
        last = max((root / "images/test" / side).iterdir())
        last.rename(last.with_name("@0@120000.0@@@@@0000120@@@@@@@@.jpg"))
        first = min((root / "images/test" / side).iterdir())
        first.rename(first.with_name("@0@99000.0@@@@@0000099@@@@@@@@.jpg"))  # as text it comes after 120000.0
    frames = open_split("sped", root).database.frames
    assert frames is not None and frames.tolist() == [1, 2, 99, 120]


def test_the_list_of_the_download_is_not_needed(copy_of: Folder) -> None:
    root = copy_of("sped-raw")
    before = open_split("sped", root).split_hash()
    (root / "ground_truth_new.npy").unlink()
    assert open_split("sped", root).split_hash() == before


def test_the_published_counts_are_recorded() -> None:
    _, split = find_split("sped")
    assert (split.queries, split.database) == (607, 607)


def other_answers(root: Path) -> None:
    rows = np.empty((4, 2), object)
    for query in range(4):
        rows[query] = query, [query + 1]
    np.save(root / "ground_truth_new.npy", rows)


def fewer_answers(root: Path) -> None:
    rows = np.empty((3, 2), object)
    for query in range(3):
        rows[query] = query, [query]
    np.save(root / "ground_truth_new.npy", rows)


FAULTS = [
    Fault("other answers", "sped-raw", "sped", other_answers, r"gives query 0 the positives \[1\]"),
    Fault("fewer answers", "sped-raw", "sped", fewer_answers, "gives query 3 the positives nothing"),
    Fault(
        "list cut short",
        "sped-raw",
        "sped",
        lambda r: cut(r / "ground_truth_new.npy", 0.8),
        "ground_truth_new.npy is not rows",
    ),
    Fault(
        "a reference is missing",
        "sped-raw",
        "sped",
        lambda r: (r / "ref/0000003.jpg").unlink(),
        "number 3 is missing in the database",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_damage_is_one_clear_line(fault: Fault, copy_of: Folder) -> None:
    refused(fault, copy_of(fault.miniature))
