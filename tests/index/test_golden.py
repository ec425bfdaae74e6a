"""A folder that was written when its format was new is read, searched and extended as it was then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cricavpr.index.manifest import FORMAT
from cricavpr.index.place_index import PlaceIndex
from tests.index.places import added, numbers_of, photos

GOLDEN = Path(__file__).parent / "golden" / "format_3"  # a changed format needs another number and another folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "index"))


def test_it_is_sound_and_says_what_it_said(folder: Path) -> None:
    index = PlaceIndex.open(folder)
    index.verify()
    assert FORMAT.endswith(".3") and index.info()["segments"] == 2 and index.info()["removed_not_compacted"] == 1
    assert numbers_of(index) == [1, 2, 4, 5, 6, 7, 8]
    assert index.facts.tags == (("tram",), (), ("tram",), (), ("night", "tram"), (), ())
    assert index.facts.times.astype(str).tolist()[:2] == ["2026-05-01T12:00:00.000", "NaT"]


def test_it_is_searched_and_extended(folder: Path) -> None:
    index = PlaceIndex.open(folder)
    assert [index.name(row) for row in index.search(photos([5, 8]), 1).indices[:, 0]] == ["5.jpg", "8.jpg"]
    assert numbers_of(added(index, range(1, 12)).index.compact()) == [1, 2, 4, 5, 6, 7, 8, 3, 9, 10, 11]
