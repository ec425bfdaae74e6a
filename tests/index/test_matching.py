"""One photo is one file: what `update` takes for the same photo, and what it keeps of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cricavpr.descriptors import DescriptorSet
from cricavpr.index.columns import Photos, photo_ids
from cricavpr.index.photo_index import Change
from cricavpr.index.place_index import PlaceIndex
from tests.index.places import MADE_BY, places, vector_of

NAMES = ("june/1.jpg", "june/2.jpg", "may/1.jpg", "may/2.jpg")
TIMES = np.array(["2026-06-01", "2026-06-02", "2026-05-01", "NaT"], "datetime64[ms]")
NaT = np.datetime64("NaT", "ms")


def seen(root: Path, names: Sequence[str], **more: Any) -> Photos:
    """Photos as they lie on the disk: the descriptor follows from the bytes."""
    vectors = np.array([vector_of(int((root / name).read_text()), MADE_BY.dim) for name in names])
    ids = photo_ids(root, names)
    return Photos(DescriptorSet(tuple(names), vectors, MADE_BY), root, ids=ids, **more)


@pytest.fixture
def a(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES, 1):
        (tmp_path / "A" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "A" / name).write_text(str(number))
    return tmp_path / "A"


@pytest.fixture
def index(a: Path, tmp_path: Path) -> PlaceIndex:
    photos = seen(a, NAMES, tags=[["old"]] * 4, times=TIMES, positions=places([1, 2, 3, 4]))
    return PlaceIndex.build(photos, tmp_path / "index")


def counts(change: Change[PlaceIndex]) -> tuple[int, int, int, int]:
    return change.added, change.removed, change.already, len(change.index)


def known(index: PlaceIndex) -> dict[Path, tuple[str, tuple[str, ...], str]]:
    """Of each file: what is in it, its tags and its time."""
    numbers = {vector_of(number, MADE_BY.dim).tobytes(): str(number) for number in range(1, 30)}
    facts = index.facts
    return {
        index.photo(row): (numbers[index.vectors[row : row + 1].tobytes()], facts.tags[row], str(facts.times[row])[:10])
        for row in range(len(index))
    }


def test_a_photo_of_a_sub_folder_is_replaced_where_it_was(index: PlaceIndex, a: Path) -> None:
    before = known(index)
    (a / "june/1.jpg").write_text("11")
    change = index.update(seen(a / "june", ["1.jpg", "2.jpg"]))
    assert counts(change) == (1, 1, 1, 4) and change.moved == ()
    assert known(change.index) == {**before, a / "june/1.jpg": ("11", ("old",), "2026-06-01")}
    assert set(change.index.names) == set(NAMES)
    assert change.index.positions.known.all()
    change.index.verify()


@pytest.mark.parametrize("to", ["A", "A/june"])
def test_a_folder_reached_by_a_link_is_the_folder(index: PlaceIndex, a: Path, tmp_path: Path, to: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / to)
    (a / "june/1.jpg").write_text("11")
    names = ["june/1.jpg", "may/1.jpg"] if to == "A" else ["1.jpg", "2.jpg"]
    change = index.update(seen(tmp_path / "link", names))
    assert counts(change) == (1, 1, 1, 4) and set(change.index.names) == set(NAMES)
    assert {change.index.snapshot.photo(row)[0] for row in range(4)} == {a}


def test_a_folder_that_has_moved_is_known_again_and_that_is_told(index: PlaceIndex, a: Path, tmp_path: Path) -> None:
    b = tmp_path / "elsewhere/B"
    b.parent.mkdir()
    a.rename(b)
    (b / "june/1.jpg").write_text("11")
    change = index.update(seen(b, NAMES))
    assert counts(change) == (4, 4, 0, 4) and change.moved == ((str(a), str(b)),)
    assert known(change.index) == {
        b / "june/1.jpg": ("11", ("old",), "2026-06-01"),
        b / "june/2.jpg": ("2", ("old",), "2026-06-02"),
        b / "may/1.jpg": ("3", ("old",), "2026-05-01"),
        b / "may/2.jpg": ("4", ("old",), "NaT"),
    }
    assert counts(change.index.update(seen(b, NAMES))) == (0, 0, 4, 4)


def test_a_folder_inside_may_move_too(index: PlaceIndex, a: Path, tmp_path: Path) -> None:
    (a / "june").rename(tmp_path / "June 2026")
    (tmp_path / "June 2026/1.jpg").write_text("11")
    change = index.update(seen(tmp_path / "June 2026", ["1.jpg", "2.jpg"]))
    assert counts(change) == (2, 2, 0, 4) and change.moved == ((str(a / "june"), str(tmp_path / "June 2026")),)
    assert known(change.index)[tmp_path / "June 2026/1.jpg"] == ("11", ("old",), "2026-06-01")


def test_a_copy_of_a_folder_renames_nothing(index: PlaceIndex, a: Path, tmp_path: Path) -> None:
    before = known(index)
    b = Path(shutil.copytree(a, tmp_path / "B"))
    change = index.update(seen(b, NAMES))
    assert counts(change) == (0, 0, 4, 4) and change.moved == () and known(change.index) == before
    (b / "june/1.jpg").write_text("11")  # a photo of its own now
    change = change.index.update(seen(b, NAMES))
    assert counts(change) == (1, 0, 3, 5)
    assert known(change.index) == {**before, b / "june/1.jpg": ("11", (), "NaT")}


def test_a_file_that_was_renamed_keeps_what_is_known_of_it(index: PlaceIndex, a: Path) -> None:
    (a / "june/1.jpg").rename(a / "june/first.jpg")
    change = index.update(seen(a, ["june/first.jpg"]))
    assert counts(change) == (1, 1, 0, 4) and change.moved == ()
    assert known(change.index)[a / "june/first.jpg"] == ("1", ("old",), "2026-06-01")


def test_a_file_that_took_the_place_of_another_takes_it_in_the_index(index: PlaceIndex, a: Path) -> None:
    (a / "june/1.jpg").rename(a / "june/2.jpg")
    change = index.update(seen(a, ["june/2.jpg"]))
    assert counts(change) == (1, 2, 0, 3)
    assert known(change.index)[a / "june/2.jpg"] == ("1", ("old",), "2026-06-01")  # the time is the picture's
    change.index.verify()


def test_what_is_given_anew_takes_the_place_of_what_was_known(index: PlaceIndex, a: Path) -> None:
    times = np.array(["2031-01-01", NaT], "datetime64[ms]")
    new = seen(a, NAMES[:2], tags=[["new"], []], times=times, positions=places([7, 8]))
    change = index.update(new)
    assert counts(change) == (2, 2, 0, 4)
    assert known(change.index)[a / "june/1.jpg"] == ("1", ("new",), "2031-01-01")
    assert known(change.index)[a / "june/2.jpg"] == ("2", (), "2026-06-02")  # no time was given for it
    assert change.index.positions.metres[-2:].tolist() == places([7, 8]).metres.tolist()


def test_the_same_folder_updated_twice_changes_nothing(index: PlaceIndex, a: Path) -> None:
    before = {path.name for path in index.path.iterdir()}
    assert counts(index.update(seen(a, NAMES))) == (0, 0, 4, 4)
    assert {path.name for path in index.path.iterdir()} == before
