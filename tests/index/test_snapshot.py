"""Versions of one index that are open at the same time, and files that say what cannot be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.index import segments
from cricavpr.index.auditing import damages
from cricavpr.index.columns import Columns
from cricavpr.index.manifest import Manifest
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.storage import DamagedError
from tests.index.places import MADE_BY, added, built, numbers_of


@pytest.fixture
def two_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlaceIndex:
    monkeypatch.setattr("cricavpr.index.writing.FOLD_BYTES", 0)  # segments stay apart
    return added(built(tmp_path / "index", range(5)), range(5, 8)).index


def test_what_two_versions_share_is_open_once(two_segments: PlaceIndex) -> None:
    three = added(two_segments, [8]).index
    assert three.snapshot.segments[:2] == two_segments.snapshot.segments
    assert two_segments.newest().snapshot.segments[:2] == two_segments.snapshot.segments
    less = three.remove(["6.jpg"]).index
    assert less.snapshot.segments[0] is three.snapshot.segments[0]
    assert less.snapshot.segments[1] is not three.snapshot.segments[1]
    assert numbers_of(less) == [0, 1, 2, 3, 4, 5, 7, 8] and numbers_of(two_segments) == [*range(8)]


def test_some_photos_have_the_positions_that_they_have_among_all(two_segments: PlaceIndex) -> None:
    less = two_segments.remove(["1.jpg", "6.jpg"]).index  # 0, 2, 3, 4 and 5, 7 are left
    for index, rows in ((two_segments, [7, 0, 5, 5]), (less, [5, 0, 1, 4]), (less, [])):
        found, want = index.positions_of(np.array(rows, np.int64)), index.positions.take(rows)
        assert np.array_equal(found.metres, want.metres, equal_nan=True) and found.zones == want.zones
    assert less.positions_of(np.array([5])).metres.tolist() == [[400_007.0, 6_000_070.0]]


def test_positions_are_asked_for_as_numpy_counts(two_segments: PlaceIndex) -> None:
    less = two_segments.remove(["1.jpg"]).index
    for index in (two_segments, less):
        assert np.array_equal(index.positions_of(np.array([-1, 2])).metres, index.positions.metres[[-1, 2]])
        for row in (len(index), -len(index) - 1):
            with pytest.raises(IndexError, match=f"there are {len(index)} rows"):
                index.positions_of(np.array([row]))


def test_of_removed_photos_neither_ids_nor_metres_are_told(two_segments: PlaceIndex) -> None:
    less = two_segments.remove(["1.jpg", "6.jpg"]).index
    for index in (two_segments, less):
        ids_there, metres = (np.concatenate(side) for side in zip(*index.snapshot.ids_and_metres(), strict=True))
        assert np.array_equal(ids_there, index.facts.ids)
        assert np.array_equal(metres, index.positions.metres, equal_nan=True)


def test_positions_are_checked_before_they_are_believed(two_segments: PlaceIndex) -> None:
    segment = two_segments.snapshot.segments[1]
    content = bytearray(segment.file.path.read_bytes())
    content[segment.file.arrays["metres"].start + 8] ^= 1
    segment.file.path.write_bytes(content)
    again = PlaceIndex.open(two_segments.path)
    assert again.positions_of(np.array([4])).metres.tolist() == [[400_004.0, 6_000_040.0]]
    with pytest.raises(DamagedError, match=segment.piece.file):
        again.positions_of(np.array([4, 5]))


def test_an_index_in_the_place_of_another_is_opened_anew(two_segments: PlaceIndex) -> None:
    built(two_segments.path, [1, 2])
    assert numbers_of(two_segments.newest()) == [1, 2] and numbers_of(two_segments) == [*range(8)]


@pytest.mark.parametrize("how", ["gone", "cut", "another"])
def test_nothing_is_added_to_an_index_that_lost_a_file_which_is_still_open(two_segments: PlaceIndex, how: str) -> None:
    file = two_segments.snapshot.segments[0].file.path
    content = file.read_bytes()
    file.unlink()
    if how != "gone":
        file.write_bytes(content[:-1] if how == "cut" else bytes(len(content)))
    with pytest.raises(DamagedError, match=str(file)):
        added(two_segments, [8])


def test_too_many_open_files_are_no_damage(two_segments: PlaceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr("cricavpr.index.array_file.open_regular", refuse)
    monkeypatch.setattr("cricavpr.index.manifest.read_whole", Path.read_bytes)
    with pytest.raises(InputError, match=r"too many open files.*ulimit -n.*index compact") as caught:
        PlaceIndex.open(two_segments.path)
    assert not isinstance(caught.value, DamagedError)


Change = Callable[[Columns], Columns]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda columns: replace(columns, zones=np.full(5, 61, np.int8)), "invalid UTM zone"),
        (lambda columns: replace(columns, zones=np.full(5, -61, np.int8)), "invalid UTM zone"),
        (lambda columns: replace(columns, codes=np.full(5, 1, np.uint32)), "invalid root"),
        (lambda columns: replace(columns, frame="of mind"), "frame"),
    ],
)
def test_a_segment_that_was_written_wrongly_is_named(tmp_path: Path, change: Change, why: str) -> None:
    index = built(tmp_path, range(5))
    piece = segments.write_segment(tmp_path, MADE_BY, change(index.snapshot.columns), [index.vectors[:]])
    wrong = Manifest(2, MADE_BY, (piece,))
    (tmp_path / wrong.name).write_bytes(wrong.encode())
    with pytest.raises(DamagedError, match=f"{piece.file}.*{why}"):
        PlaceIndex.open(tmp_path).info()
    if "zone" in why:
        with pytest.raises(DamagedError, match=f"{piece.file}.*{why}"):
            PlaceIndex.open(tmp_path).positions_of(np.array([3]))
    (damage,) = damages(tmp_path)
    assert piece.file in str(damage) and why in str(damage)
