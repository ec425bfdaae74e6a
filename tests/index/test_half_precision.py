"""An index that stores its descriptors in float16: half the room, the same promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.index import writing
from cricavpr.index.place_index import PlaceIndex
from tests.index.places import WIDE, added, built, given, photos, scored
from tests.index.places import same_answers as same

QUERIES = photos(range(1000, 1020), WIDE)


def half(to: Path, numbers: range) -> PlaceIndex:
    return built(to, numbers, WIDE, dtype="float16")


def rounded(numbers: range) -> np.ndarray:
    return photos(numbers, WIDE).vectors.astype(np.float16).astype(np.float32)


@pytest.fixture
def index(tmp_path: Path) -> PlaceIndex:
    return half(tmp_path / "half", range(300))


def test_each_value_is_rounded_to_half_precision_and_takes_two_bytes(index: PlaceIndex, tmp_path: Path) -> None:
    whole = built(tmp_path / "whole", range(300), WIDE)
    again = PlaceIndex.open(index.path)
    assert np.array_equal(again.vectors[:], rounded(range(300)))
    assert np.array_equal(again.vectors[[7, 3]], rounded(range(300))[[7, 3]])
    sizes = [sum(p.bytes for p in one.snapshot.manifest.pieces) for one in (whole, again)]
    assert abs(sizes[0] - sizes[1] - 300 * 64 * 2) < 100  # and a few checksums less
    assert (again.info()["stored_as"], again.info()["vectors_bytes"]) == ("float16", 300 * 64 * 2)
    again.verify()


def test_searching_is_searching_the_rounded_descriptors(index: PlaceIndex) -> None:
    found, (rows, scores) = index.search(QUERIES, 7), scored(rounded(range(300)), QUERIES.vectors, 7)
    assert found.indices.tobytes() == rows.tobytes()
    assert found.scores.tobytes() == scores.tobytes()


def test_what_grew_is_searched_like_what_was_built_at_once(
    index: PlaceIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FOLD_BYTES", 3000)
    grown = half(tmp_path / "grown", range(100))
    for start in range(100, 300, 20):
        grown = added(grown, range(start, start + 20), WIDE).index
    assert len(grown.snapshot.segments) > 1
    assert same(grown, index, QUERIES) and same(grown.compact(), index, QUERIES)
    assert grown.newest().info()["stored_as"] == "float16"


@pytest.mark.parametrize(("more", "segments"), [(10, 1), (11, 2)])
def test_small_segments_fold_by_the_bytes_that_they_have(
    tmp_path: Path, more: int, segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FOLD_BYTES", 20 * 2 * WIDE.dim)
    grown = added(half(tmp_path / "grown", range(10)), range(10, 10 + more), WIDE).index
    assert len(grown.snapshot.segments) == segments


def test_updating_with_the_same_photos_changes_nothing(index: PlaceIndex) -> None:
    some = range(5)
    change = index.update(given(some, WIDE))
    assert (change.added, change.removed, change.index.version) == (0, 0, index.version)


def test_indexes_of_both_kinds_are_merged_and_compared(index: PlaceIndex, tmp_path: Path) -> None:
    whole = built(tmp_path / "whole", range(200, 400), WIDE)
    assert not PlaceIndex.open(built(tmp_path / "one", range(300), WIDE).path).diff(index)
    assert np.array_equal(index.merge(whole).index.vectors[:], rounded(range(400)))
    joined = whole.merge(index).index.vectors[:]
    assert np.array_equal(joined[:200], photos(range(200, 400), WIDE).vectors)
    assert np.array_equal(joined[200:], rounded(range(200)))


def test_removed_photos_are_not_found_and_leave_no_bytes(index: PlaceIndex) -> None:
    left = index.remove([f"{n}.jpg" for n in range(0, 300, 2)]).index
    assert np.array_equal(left.vectors[:], rounded(range(300))[1::2])
    compacted = left.compact()
    gone = rounded(range(300))[4].astype("<f2").tobytes()
    assert same(compacted, left, QUERIES)
    assert not any(gone in path.read_bytes() for path in compacted.path.iterdir())


def test_codes_find_the_rounded_descriptors_and_score_them_exactly(index: PlaceIndex) -> None:
    pytest.importorskip("faiss")
    found = index.search(QUERIES, 7, engine="compressed")
    exact = index.search(QUERIES, 7)
    assert np.array_equal(found.indices, exact.indices)
    assert found.scores.tobytes() == exact.scores.tobytes()


def test_a_flipped_bit_of_a_vector_is_named(index: PlaceIndex, tmp_path: Path) -> None:
    shutil.copytree(index.path, tmp_path / "copy")
    path = next((tmp_path / "copy").glob("segment-*"))
    content = bytearray(path.read_bytes())
    content[8192 + 128 * 70 + 1] ^= 4  # of photo 70, in the second block of vectors
    path.write_bytes(content)
    again = PlaceIndex.open(tmp_path / "copy")
    for ask in (lambda: again.search(QUERIES), lambda: again.vectors[70:71], lambda: again.vectors[[70]]):
        with pytest.raises(InputError, match="at byte 16384"):
            ask()


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown dtype 'float61'"):
        PlaceIndex.create(tmp_path / "index", WIDE, dtype="float61")
    assert not (tmp_path / "index").exists()
