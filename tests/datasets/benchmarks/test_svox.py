"""SVOX. Gallery: places 0, 1, 2; queries of each weather: places 1 and 3, by night place 0 as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cricavpr.datasets.benchmarks import SPLITS, open_split

Folder = Callable[[str], Path]

WEATHERS = ["night", "overcast", "rain", "snow", "sun"]


@pytest.mark.parametrize(("split", "queries"), [("base", 2), ("night", 3), *((weather, 2) for weather in WEATHERS[1:])])
def test_each_split_has_its_own_queries_and_the_one_gallery(miniature: Folder, split: str, queries: int) -> None:
    dataset = open_split(f"svox-{split}", miniature("svox"))
    assert dataset.database.root.name == "gallery" and len(dataset.database) == 3
    assert dataset.queries.root.name == ("queries" if split == "base" else f"queries_{split}")
    assert len(dataset.queries) == queries
    assert dataset.queries.conditions == (None if split == "base" else (split,) * queries)
    assert [indices.tolist() for indices in dataset.positives][-2:] == [[1], []]


def test_svox_alone_is_ambiguous_so_the_pooled_weathers_have_a_name_of_their_own(miniature: Folder) -> None:
    pooled = open_split("svox-all", miniature("svox"))
    assert len(pooled.queries) == 3 + 4 * 2
    assert list(dict.fromkeys(pooled.queries.conditions or ())) == WEATHERS
    assert all(pooled.queries.path(row).is_file() for row in range(11))
    first = 0
    for weather in WEATHERS:
        alone = open_split(f"svox-{weather}", miniature("svox"))
        rows = range(first, first + len(alone.queries))
        assert [pooled.positives[row].tolist() for row in rows] == [indices.tolist() for indices in alone.positives]
        first = rows.stop
    assert SPLITS["svox-all"][1].queries == 4_356 == sum(SPLITS[f"svox-{w}"][1].queries or 0 for w in WEATHERS)
    assert SPLITS["svox-base"][1].queries == 14_278


def test_every_split_is_scored_against_the_17166_images_of_the_gallery() -> None:
    assert {SPLITS[f"svox-{split}"][1].database for split in ("base", "all", *WEATHERS)} == {17_166}
