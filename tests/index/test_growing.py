"""An index that grows and shrinks: what is added, removed, replaced, merged and compacted."""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError, MadeByError
from cricavpr.geo import Positions
from cricavpr.index import writing
from cricavpr.index.columns import Photos
from cricavpr.index.manifest import Piece
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.segments import Segment
from cricavpr.index.storage import DamagedError
from tests.index.places import MADE_BY, WIDE, added, built, bytes_of, files_of, ids, numbers_of, photos, places
from tests.index.places import same_answers as same


@pytest.fixture
def index(tmp_path: Path) -> PlaceIndex:
    return built(tmp_path / "index", range(20))


# --- adding


def test_what_is_added_stands_at_the_end_and_the_reader_keeps_the_version_it_opened(index: PlaceIndex) -> None:
    change = added(index, [30, 31])
    assert (change.added, change.already) == (2, 0)
    assert numbers_of(change.index) == [*range(20), 30, 31] == numbers_of(PlaceIndex.open(index.path))
    assert numbers_of(index) == [*range(20)]
    assert change.index.version == index.version + 1


def test_a_photo_that_is_there_is_not_added_again_and_no_byte_changes(index: PlaceIndex) -> None:
    before = bytes_of(index.path)
    assert added(index, [3, 4]).already == 2
    assert bytes_of(index.path).keys() == before.keys()
    change = added(index, [3, 77, 77, 4])
    assert (change.added, change.already) == (1, 3)
    assert numbers_of(change.index) == [*range(20), 77]


def test_ids_are_known_again_among_many_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FOLD_BYTES", 0)
    index = built(tmp_path / "index", range(50))
    for start in (50, 60, 70):
        index = added(index, range(start, start + 10)).index
    assert index.find(ids(range(80))).tolist() == [*range(80)]
    assert (index.find(ids(range(80, 200))) == -1).all()
    assert index.find([]).tolist() == []


def test_ids_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    alike = [b"same key" + bytes([number]) * 24 for number in range(9)]
    index = PlaceIndex.build(Photos(photos(range(9)), tmp_path, ids=alike), tmp_path / "index")
    assert index.find(alike).tolist() == [*range(9)]
    assert index.find([b"same key" + b"z" * 24]).tolist() == [-1]
    index.verify()


SPLITS = 50


@pytest.mark.parametrize("seed", range(SPLITS))
def test_any_split_into_appends_is_searched_like_one_build_to_the_last_bit(seed: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(seed)
    count = int(chance.integers(30, 400))
    order = chance.permutation(1000)[:count].tolist()
    cuts = sorted({0, count, *chance.integers(0, count, chance.integers(1, 6)).tolist()})
    index = PlaceIndex.create(tmp_path / "split", WIDE)
    for start, end in itertools.pairwise(cuts):
        index = added(index, order[start:end], WIDE).index
    whole = built(tmp_path / "whole", order, WIDE)
    for queries in (1, 2, 33):
        assert same(index, whole, photos(range(1000, 1000 + queries), WIDE))
    gone = chance.choice(order, count // 5, replace=False).tolist()
    index = index.remove([f"{number}.jpg" for number in gone]).index
    left = [number for number in order if number not in gone]
    whole = built(tmp_path / "left", left, WIDE)
    assert same(index, whole, photos([1], WIDE)) and same(index.compact(), whole, photos([1, 2], WIDE))
    assert numbers_of(index) == left


def test_an_index_that_is_asked_for_its_own_photos_rounds_like_any_other(tmp_path: Path) -> None:
    index = built(tmp_path / "index", range(40), WIDE)
    own, copied = index.descriptors, photos(range(40), WIDE)
    assert np.shares_memory(own.vectors, index.vectors[:])
    assert index.search(own, 7).scores.tobytes() == index.search(copied, 7).scores.tobytes()


def test_adding_one_by_one_makes_few_segments(tmp_path: Path) -> None:
    index = PlaceIndex.create(tmp_path / "index", MADE_BY)
    for number in range(70):
        index = added(index, [number]).index
    assert numbers_of(index) == [*range(70)]
    assert len(index.snapshot.segments) <= 7  # as many as 70 has binary digits
    assert len(files_of(index.path)) <= 14  # those of the version before may stay


def test_a_large_segment_is_never_written_again_by_adding(index: PlaceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FOLD_BYTES", 16 * 10)
    large = index.snapshot.manifest.pieces[0]
    for number in range(30, 50):
        index = added(index, [number]).index
    assert index.snapshot.manifest.pieces[0] == large
    assert numbers_of(index) == [*range(20), *range(30, 50)]


def test_one_photo_is_added_quickly_to_many(tmp_path: Path) -> None:
    tiny = replace(MADE_BY, dim=2)
    count = 200_000
    angle = np.linspace(0, 6, count, dtype=np.float32)
    vectors = np.stack([np.cos(angle), np.sin(angle)], 1)
    names = tuple(map(str, range(count)))
    many = replace(photos([0]), names=names, vectors=vectors, made_by=tiny)
    index = PlaceIndex.build(Photos(many, Path("/photos")), tmp_path / "index")
    one = replace(photos([0]), names=("new",), vectors=vectors[:1], made_by=tiny)
    started = time.perf_counter()
    assert index.add(Photos(one, Path("/photos"))).added == 1
    assert time.perf_counter() - started < 0.5  # milliseconds where nothing else runs


@pytest.mark.parametrize("field", ["method", "weights", "image_size", "preprocessing", "grouping", "pca"])
def test_photos_that_were_described_otherwise_are_refused(field: str, index: PlaceIndex) -> None:
    value = (8, 8) if field == "image_size" else "f" * 64
    other = replace(MADE_BY, **{field: value})
    before = bytes_of(index.path)
    with pytest.raises(MadeByError, match=f"{field}: ") as caught:
        added(index, [50], other)
    assert "\n" not in str(caught.value)
    with pytest.raises(MadeByError):
        index.merge(built(index.path.with_name("other"), [1], other))
    assert bytes_of(index.path) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 3.0, 1e-40])
def test_vectors_that_are_no_descriptors_never_come_in(value: float, index: PlaceIndex) -> None:
    before = bytes_of(index.path)
    bad = photos([50, 51])
    bad.vectors[1] = value
    for verb in (index.add, index.update):
        with pytest.raises(InputError, match=r"descriptor of 51\.jpg"):
            verb(Photos(bad, Path("/photos")))
    assert bytes_of(index.path) == before


def test_a_local_frame_does_not_mix_with_zones_but_unknown_positions_do(tmp_path: Path) -> None:
    index = built(tmp_path / "index", [1, 2])
    with pytest.raises(InputError, match="local frame"):
        index.add(Photos(photos([3]), Path("/photos"), Positions(np.zeros((1, 2)))))
    index = index.add(Photos(photos([3]), Path("/photos"), ids=ids([3]))).index
    assert index.positions.zones == ("33N", "33N", "") and index.positions.known.tolist() == [True, True, False]


def test_photos_of_several_roots_are_found_where_they_lie(tmp_path: Path) -> None:
    index = built(tmp_path / "index", [1])
    index = index.add(Photos(photos([2]), Path("/elsewhere"), places([2]), ids=ids([2]))).index
    assert [str(index.photo(row)) for row in (0, 1, -1)] == ["/photos/1.jpg", "/elsewhere/2.jpg", "/elsewhere/2.jpg"]
    assert index.root == Path("/photos")
    with pytest.raises(IndexError):
        index.photo(2)


# --- removing


def test_what_is_removed_is_not_found_and_the_others_keep_their_order(index: PlaceIndex) -> None:
    change = index.remove(["3.jpg", "7.jpg", "nowhere.jpg"], ids=ids([9, 99]))
    assert (change.removed, change.missing) == (3, tuple(sorted(["nowhere.jpg", ids([99])[0].hex()])))
    left = [number for number in range(20) if number not in (3, 7, 9)]
    assert numbers_of(change.index) == left
    assert change.index.search(photos([3]), 17).indices.max() == 16
    assert numbers_of(index) == [*range(20)]
    assert change.index.find(ids([3, 4, 9])).tolist() == [-1, 3, -1]
    change.index.verify()


def test_a_name_in_another_normalisation_is_removed_where_there_is_one_such(tmp_path: Path) -> None:
    composed, decomposed, mixed = "\xfc\xe9.jpg", "u\u0308e\u0301.jpg", "\xfce\u0301.jpg"
    both = Photos(replace(photos([1, 2]), names=(composed, "2.jpg")), Path("/photos"), ids=ids([1, 2]))
    index = PlaceIndex.build(both, tmp_path / "index")
    assert index.remove([mixed]).index.names == ("2.jpg",)
    twins = Photos(replace(photos([3, 4]), names=(composed, decomposed)), Path("/photos"), ids=ids([3, 4]))
    change = index.remove(["2.jpg", composed]).index.add(twins).index.remove([mixed])
    assert (change.removed, change.missing) == (0, (mixed,))
    assert change.index.remove([decomposed]).index.names == (composed,)


def test_removing_twice_changes_nothing(index: PlaceIndex) -> None:
    index.remove(["3.jpg"])
    before = bytes_of(index.path)
    assert index.remove(["3.jpg"]).missing == ("3.jpg",)
    assert bytes_of(index.path) == before


def test_what_is_no_id_is_refused_and_never_joined_with_its_neighbour(index: PlaceIndex) -> None:
    halves = [ids([3])[0][:16], ids([3])[0][16:]]  # which are one id when they are laid end to end
    for wrong in (halves, [b"short"], [ids([3])[0].hex()], ids([3])[0]):
        for verb in (lambda: index.find(wrong), lambda: index.remove(ids=wrong)):  # noqa: B023
            with pytest.raises(InputError, match=r"id number 0 .* is not 32 bytes"):
                verb()
    assert len(index.newest()) == 20


def test_one_name_is_not_taken_for_the_names_of_its_letters(tmp_path: Path) -> None:
    index = PlaceIndex.build(Photos(replace(photos([1, 2]), names=("a", "b")), tmp_path), tmp_path / "index")
    with pytest.raises(InputError, match="single name 'ab'"):
        index.remove("ab")
    assert len(index.newest()) == 2


def test_what_was_removed_earlier_stays_removed_when_more_of_its_segment_goes(index: PlaceIndex) -> None:
    index = index.remove(["3.jpg"]).index.remove(["9.jpg"]).index.remove(["4.jpg", "0.jpg"]).index
    assert numbers_of(index) == [number for number in range(20) if number not in (0, 3, 4, 9)]


def test_what_was_removed_can_be_added_again_at_the_end(index: PlaceIndex) -> None:
    index = added(index.remove(["3.jpg"]).index, [3]).index
    assert numbers_of(index) == [0, 1, 2, *range(4, 20), 3]
    index.verify()


def test_an_index_may_lose_all_its_photos_and_grow_again(index: PlaceIndex) -> None:
    index = index.remove(index.names).index
    assert len(index) == 0 and index.search(photos([1])).indices.shape == (1, 0)
    assert numbers_of(added(index.compact(), [5]).index) == [5]


# --- replacing


def test_an_update_takes_the_place_of_the_photo_with_its_name(index: PlaceIndex) -> None:
    moved = places([103])
    new = replace(photos([103]), names=("3.jpg",))
    change = index.update(Photos(new, Path("/photos"), moved, ids=ids([103])))
    assert (change.added, change.removed, len(change.index)) == (1, 1, 20)
    assert change.index.names[-1] == "3.jpg" and change.index.names.count("3.jpg") == 1
    assert np.array_equal(change.index.vectors[19:], new.vectors)
    assert np.array_equal(change.index.positions.metres[19:], moved.metres)


def test_an_update_of_what_is_the_same_changes_nothing_and_a_new_position_does(index: PlaceIndex) -> None:
    before = bytes_of(index.path)
    change = index.update(Photos(photos([3, 4]), Path("/photos"), places([3, 4]), ids=ids([3, 4])))
    assert (change.added, change.removed, change.already) == (0, 0, 2)
    assert bytes_of(index.path) == before
    change = index.update(Photos(photos([3, 4]), Path("/photos"), places([3, 5]), ids=ids([3, 4])))
    assert (change.added, change.removed, change.already) == (1, 1, 1)
    assert np.array_equal(change.index.positions.metres[-1:], places([5]).metres)


def test_a_photo_with_the_same_name_below_another_root_stays(index: PlaceIndex) -> None:
    change = index.update(Photos(photos([3]), Path("/elsewhere"), places([3]), ids=ids([300])))
    assert (change.added, change.removed, len(change.index)) == (1, 0, 21)


# --- merging, compacting, comparing


def test_merging_adds_what_is_new_with_all_that_is_known_of_it(index: PlaceIndex, tmp_path: Path) -> None:
    other = built(tmp_path / "other", [18, 19, 40, 41, 42]).remove(["41.jpg"]).index
    change = index.merge(other)
    assert (change.added, change.already) == (2, 2)
    assert numbers_of(change.index) == [*range(20), 40, 42]
    assert change.index.merge(change.index).added == 0


def test_compacting_leaves_one_segment_and_the_same_answers(index: PlaceIndex) -> None:
    index = added(added(index, [30]).index, range(40, 80)).index.remove(["5.jpg", "41.jpg"]).index
    told: list[tuple[int, int]] = []
    compacted = index.compact(lambda done, total: told.append((done, total)))
    assert told[-1] == (59, 59)
    assert len(compacted.snapshot.segments) == 1 and len(files_of(index.path)) == 2
    assert numbers_of(compacted) == numbers_of(index)
    assert same(index, compacted, photos(range(100, 105)))
    assert compacted.compact().version == compacted.version  # nothing is left to do


def test_a_settled_segment_is_left_alone(index: PlaceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SETTLED_BYTES", 1)
    monkeypatch.setattr(writing, "FOLD_BYTES", 0)
    index = added(added(index, [30, 32]).index, [31]).index.remove(["30.jpg"]).index
    compacted = index.compact()
    before, after = index.snapshot.manifest.pieces, compacted.snapshot.manifest.pieces
    assert (len(before), len(after)) == (3, 3) and [a == b for a, b in zip(before, after, strict=True)] == [
        True,
        False,
        True,
    ]
    assert numbers_of(compacted) == [*range(20), 32, 31]


def test_no_byte_of_a_removed_photo_is_left_after_compacting(tmp_path: Path) -> None:
    index = built(tmp_path / "index", range(20), WIDE)
    secret = replace(photos([1234], WIDE), names=("private/street 7.jpg",))
    where, tag = Positions(np.array([[412_345.678, 6_123_456.789]]), ("33N",)), "house of Ada"
    index = index.add(Photos(secret, Path("/home/ada"), where, ids=ids([1234]), tags=[[tag]])).index
    traces = [b"private/street 7.jpg", b"/home/ada", tag.encode(), ids([1234])[0], ids([1234])[0].hex().encode()]
    traces += [value.tobytes() for value in where.metres[0]] + [ids([1234])[0][:8][::-1]]
    traces += [secret.vectors.tobytes()[start : start + 16] for start in range(0, 256, 16)]
    content = b"".join(bytes_of(index.path).values())
    assert sum(trace in content for trace in traces) == len(traces) - 1  # the id's hexadecimal form never was
    index = added(index, [50], WIDE).index  # in one segment with the photo that is to go
    assert len(index.snapshot.segments) == 2
    index = added(index.remove(["private/street 7.jpg"]).index, [51], WIDE).index
    content = b"".join(bytes_of(index.compact().path).values())
    assert [trace for trace in traces if trace in content] == []


def test_an_old_file_that_cannot_be_removed_is_said(index: PlaceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    index = index.remove(["3.jpg"]).index
    unlink = os.unlink

    def refusing(path: str | Path) -> None:
        if Path(path).name.startswith("segment"):
            raise PermissionError(13, "Permission denied")
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refusing)
        with pytest.raises(InputError, match=r"cannot remove .*segment-.* run this again: cricavpr index compact"):
            index.compact()
    assert len(files_of(index.newest().compact().path)) == 2


def test_a_difference_names_each_photo(index: PlaceIndex, tmp_path: Path) -> None:
    other = built(tmp_path / "other", range(5, 25))
    assert not index.diff(index)
    moved = other.update(Photos(photos([7]), Path("/photos"), places([8]), ids=ids([7]))).index
    found = index.diff(moved)
    assert found.only_first == tuple(f"{n}.jpg" for n in range(5))
    assert found.only_second == tuple(f"{n}.jpg" for n in range(20, 25))
    assert (found.changed, found.same) == (("7.jpg",), 14)
    turned = other.update(
        Photos(replace(photos([7]), vectors=photos([8]).vectors), Path("/photos"), places([7]), ids=ids([7]))
    )
    assert index.diff(turned.index).changed == ("7.jpg",)
    elsewise = built(tmp_path / "elsewise", range(20), replace(MADE_BY, method="netvlad"))
    assert index.diff(elsewise).made_by == ("method: mean_colour here, netvlad there",)
    assert json.loads(json.dumps(found.to_dict()))["different"] is True


# --- opening


def test_the_version_before_can_be_opened_until_compacting(index: PlaceIndex) -> None:
    newer = added(index, [30]).index
    assert numbers_of(PlaceIndex.open(index.path, index.version)) == [*range(20)]
    newer = newer.remove(["30.jpg"]).index.compact()
    with pytest.raises(InputError, match=f"has no version 1, only {newer.version}. ") as said:
        PlaceIndex.open(index.path, index.version)
    assert not isinstance(said.value, DamagedError)  # nothing is damaged: that version is over
    assert numbers_of(index) == [*range(20)]  # and who has it open keeps it


def test_an_index_that_is_replaced_while_it_is_opened_is_read_anew(
    index: PlaceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cricavpr.index import snapshot

    old = index.version
    added(index, [30]).index.compact()
    newest, answers = snapshot.newest, [old]  # the first look still sees the old version, whose files are gone
    monkeypatch.setattr(snapshot, "newest", lambda path: answers.pop() if answers else newest(path))
    assert len(PlaceIndex.open(index.path)) == 21


def test_an_index_that_is_compacted_while_it_is_verified_is_not_called_damaged(
    index: PlaceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cricavpr.index import auditing

    more = added(index, [30]).index.remove(["1.jpg"]).index
    newest, answers = auditing.newest, [more.version, index.version]  # a manifest that is gone, then segments that are
    more.compact()
    monkeypatch.setattr(auditing, "newest", lambda path: answers.pop() if answers else newest(path))
    assert list(auditing.damages(index.path)) == []

    def compacted(path: Path, piece: Piece, made_by: MadeBy) -> Segment:
        monkeypatch.setattr(auditing, "Segment", Segment)
        added(PlaceIndex.open(path), [40]).index.compact()  # the segment that the manifest names is gone now
        return Segment(path, piece, made_by)

    monkeypatch.setattr(auditing, "Segment", compacted)
    assert list(auditing.damages(index.path)) == [] and len(index.newest()) == 21
