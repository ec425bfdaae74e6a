"""AmsterTime: four pairs, `new/0000.png` to `new/0003.png` and their partners in `old/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cricavpr.datasets.benchmarks import find_split, open_split
from cricavpr.images import decode
from tests.datasets.benchmarks.faults import Fault, refused

Folder = Callable[[str], Path]
TREE = "images/test/queries"


def test_street_views_answer_and_only_the_partner_counts(miniature: Folder) -> None:
    dataset = open_split("amstertime", miniature("amstertime-raw"))
    assert dataset.database.names == ("0000.png", "0001.png", "0002.png", "0003.png")
    assert dataset.queries.names == ("0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg")
    assert dataset.database.root.name == "new" and dataset.queries.root.name == "old"
    assert [found.tolist() for found in dataset.positives] == [[0], [1], [2], [3]]


def test_positions_made_up_by_the_tree_are_not_kept_and_the_rule_says_number(miniature: Folder) -> None:
    for form in ("amstertime-raw", "amstertime-tree"):
        dataset = open_split("amstertime", miniature(form))
        assert dataset.database.positions is None and dataset.queries.positions is None
        assert dataset.rule == "the partner of the same number"
        assert [found.tolist() for found in dataset.positives] == [[0], [1], [2], [3]]
        frames = dataset.queries.frames
        assert frames is not None and frames.tolist() == [0, 1, 2, 3]


def test_greyscale_queries_are_read_in_three_colours(miniature: Folder) -> None:
    queries = open_split("amstertime", miniature("amstertime-raw")).queries
    with Image.open(queries.path(0)) as image:
        assert image.mode == "L"
    assert decode(queries.path(0)).shape[2] == 3


def test_the_published_counts_are_recorded() -> None:
    _, split = find_split("amstertime")
    assert (split.queries, split.database, split.without_positives) == (1231, 1231, 0)


def rename(path: str, name: str) -> Callable[[Path], object]:
    return lambda root: (root / path).rename((root / path).with_name(name))


def first_of_tree(old: str, new: str) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        first = sorted((root / TREE).iterdir())[1]
        first.rename(first.with_name(first.name.replace(old, new)))

    return damage


FAULTS = [
    Fault(
        "a query is missing",
        "amstertime-raw",
        "amstertime",
        lambda r: (r / "old/0001.jpg").unlink(),
        "number 1 is missing in the queries",
    ),
    Fault(
        "a view is missing",
        "amstertime-raw",
        "amstertime",
        lambda r: (r / "new/0002.png").unlink(),
        "number 2 is missing in the database",
    ),
    Fault("a folder is missing", "amstertime-raw", "amstertime", rename("old", "alt"), r"old is not a folder"),
    Fault(
        "no number",
        "amstertime-raw",
        "amstertime",
        rename("old/0001.jpg", "one.jpg"),
        "one.jpg has a name that is not a number",
    ),
    Fault(
        "a number twice", "amstertime-raw", "amstertime", rename("old/0001.jpg", "00.jpg"), "queries .* number 0 twice"
    ),
    Fault(
        "not a whole kilometre",
        "amstertime-tree",
        "amstertime",
        first_of_tree("01000.0", "01400.0"),
        "a multiple of 1000 m",
    ),
    Fault(
        "number and place differ",
        "amstertime-tree",
        "amstertime",
        first_of_tree("@0001@", "@0003@"),
        "has number 3, but the position of number 1",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_damage_is_one_clear_line(fault: Fault, copy_of: Folder) -> None:
    refused(fault, copy_of(fault.miniature))
