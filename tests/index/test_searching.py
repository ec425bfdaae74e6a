"""An index that is searched by codes: the engines over a store that grows, shrinks, is damaged and is killed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.geo import LatLon
from cricavpr.index import searching, writing
from cricavpr.index.auditing import damages
from cricavpr.index.checksummed_json import seal, unseal
from cricavpr.index.codes import coding, compressed
from cricavpr.index.codes import tuning as tuning_module
from cricavpr.index.codes.compressed import CompressedEngine, Quantiser
from cricavpr.index.codes.tuning import Tuned
from cricavpr.index.columns import Photos
from cricavpr.index.filters import All, Box, Filter, Near, Tagged, Taken
from cricavpr.index.manifest import Piece
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.storage import CodesError, writer_of
from tests.index.places import WIDE, added, bytes_of, files_of, ids, photos, places, scored
from tests.index.test_durable import run

pytest.importorskip("faiss")

TIMES = np.array([f"2026-05-01T00:{minute:02}" for minute in range(60)], "datetime64[ms]")


def three_hundred(to: Path) -> PlaceIndex:
    """Photo n of 0 to 299 was taken n minutes (modulo 60) past midnight, and by tram if n is even."""
    some = range(300)
    tags = [["tram"] if number % 2 == 0 else [] for number in some]
    times = TIMES[np.arange(300) % 60]
    described, root = photos(some, WIDE), Path("/photos")
    return PlaceIndex.build(Photos(described, root, places(some), ids=ids(some), times=times, tags=tags), to)


@pytest.fixture(scope="module")
def coded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = three_hundred(tmp_path_factory.mktemp("coded") / "index")
    index.prepare()
    index.tune(20, [30, 100, 250])
    return index.path


@pytest.fixture
def index(coded_once: Path, tmp_path: Path) -> PlaceIndex:
    return PlaceIndex.open(Path(shutil.copytree(coded_once, tmp_path / "index")))


@pytest.fixture
def plain(tmp_path: Path) -> PlaceIndex:
    """Without codes."""
    return three_hundred(tmp_path / "plain")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every index is large, so that "auto" would compress it."""
    monkeypatch.setattr(searching, "EXACT_VALUES", 0)


def codes_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("codes-*"))


def agree(index: PlaceIndex, numbers: list[int], queries: DescriptorSet, where: Filter | None = None) -> None:
    """Compressed search finds what a sort of all scores finds, by name; `numbers` are the photos that may be found."""
    searcher = index.searcher(engine="compressed", where=where)
    assert searcher.choice.engine == "compressed" and isinstance(searcher.engine, CompressedEngine)
    found = replace(searcher, engine=searcher.engine.with_shortlist(250)).search(queries, 5)
    scores = queries.vectors.astype(np.float64) @ photos(numbers, WIDE).vectors.T.astype(np.float64)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    want = [[f"{numbers[column]}.jpg" for column in row] for row in best]
    assert [[index.name(row) for row in rows] for rows in found.indices.tolist()] == want
    assert np.allclose(found.scores, np.take_along_axis(scores, best, axis=1), atol=1e-6)


QUERIES = photos(range(1000, 1006), WIDE)

# --- choosing


def test_a_small_index_is_searched_exactly_to_the_bit_of_each_pair_alone(index: PlaceIndex) -> None:
    searcher = index.searcher()
    assert "300 descriptors of 64 values are few enough to read all of them" in str(searcher.choice)
    found, (rows, scores) = index.search(QUERIES, 5), scored(photos(range(300), WIDE).vectors, QUERIES.vectors, 5)
    assert found.scores.tobytes() == scores.tobytes() and found.indices.tobytes() == rows.tobytes()


@pytest.mark.usefixtures("large")
def test_a_large_index_is_compressed_with_the_shortlist_that_was_measured(index: PlaceIndex) -> None:
    keeps = Tuned.read(index.path).tuning.keeps
    assert keeps is not None
    searcher = index.searcher()
    assert searcher.choice.engine == "compressed" and searcher.notes == ()
    assert f"a shortlist of {keeps.shortlist}" in str(searcher.choice)
    assert isinstance(searcher.engine, CompressedEngine) and searcher.engine.shortlist == keeps.shortlist
    assert index.search(index.descriptors, 1).indices[:, 0].tolist() == [*range(300)]


@pytest.mark.usefixtures("large")
def test_a_large_index_that_was_never_measured_is_searched_exactly_and_says_what_helps(plain: PlaceIndex) -> None:
    assert "Run `cricavpr index tune` to search faster" in str(plain.searcher().choice)
    assert plain.searcher().choice.engine == "exact"
    assert "was never measured" in plain.info()["engine"]
    assert codes_in(plain.path) == []
    plain.prepare()
    assert plain.searcher().choice.engine == "exact"  # codes alone: nobody gives recall up unknowingly


@pytest.mark.usefixtures("large")
def test_a_measurement_that_found_no_shortlist_good_enough_leaves_search_exact(
    plain: PlaceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.prepare(learn=True)
    monkeypatch.setattr(tuning_module, "SHORTLIST_PER_RESULT", 1)
    monkeypatch.setattr(compressed, "SHORTLIST_PER_RESULT", 1)
    tuning = plain.tune(20, [1], target=1.0)
    assert [one.shortlist for one in tuning.settings] == [11]  # ten results and itself
    assert tuning.keeps is None and Tuned.read(plain.path).tuning == tuning
    assert "no measured shortlist finds 100%" in str(plain.searcher().choice)


@pytest.mark.usefixtures("large")
def test_codes_that_do_not_fit_the_memory_allowed_leave_search_exact(index: PlaceIndex) -> None:
    assert "10 MB are allowed" in str(index.searcher(ram_budget_mb=10).choice)


def test_an_engine_that_there_is_not_is_answered_with_those_that_there_are(index: PlaceIndex) -> None:
    with pytest.raises(InputError, match=r"unknown engine 'exakt'. Did you mean 'exact'\?"):
        index.search(QUERIES, engine="exakt")


def test_info_says_engine_codes_and_shortlist(index: PlaceIndex, plain: PlaceIndex) -> None:
    there, none = index.info(), plain.info()
    assert there["codes"] == "32 bytes a photo, 1 of 1 segments coded"
    assert there["shortlist"].startswith("110, which found 100.0% of the ten best matches of")
    assert (none["codes"], none["shortlist"]) == ("none", "not measured")
    assert there["engine"].startswith("exact search: 300 descriptors")


# --- codes on demand


def test_compressed_as_asked_for_makes_its_codes_once(plain: PlaceIndex) -> None:
    searcher = plain.searcher(engine="compressed")
    assert searcher.choice.engine == "compressed"
    assert searcher.notes[0] == "codes made for 300 photos: there were none"
    before = {path.name: path.stat().st_mtime_ns for path in plain.path.iterdir() if not path.name.startswith(".")}
    assert len(codes_in(plain.path)) == 1 and "quantiser.bin" in before
    again = PlaceIndex.open(plain.path).searcher(engine="compressed")
    assert ["default shortlist" in note for note in again.notes] == [True]
    assert before == {name: (plain.path / name).stat().st_mtime_ns for name in before}
    agree(plain, [*range(300)], QUERIES)


def test_where_nothing_can_be_written_search_is_exact_and_says_so(
    plain: PlaceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    want, open_ = plain.search(QUERIES), os.open

    def read_only(path: object, flags: int, *rest: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return open_(path, flags, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", read_only)
    searcher = plain.searcher(engine="compressed")
    assert searcher.choice.engine == "exact" and "Read-only file system" in str(searcher.choice)
    assert np.array_equal(plain.search(QUERIES, engine="compressed").indices, want.indices)


def test_while_another_writes_search_is_exact_and_names_the_writer(plain: PlaceIndex) -> None:
    with writer_of(plain.path):
        assert f"locked by process {os.getpid()}" in str(plain.searcher(engine="compressed").choice)


def test_too_few_photos_for_codes_are_an_error_where_codes_were_asked_for(tmp_path: Path) -> None:
    few = PlaceIndex.build(Photos(photos(range(20), WIDE), Path("/photos"), places(range(20))), tmp_path / "few")
    with pytest.raises(InputError, match="at least 64 photos to learn codes from, got 20"):
        few.search(QUERIES, engine="compressed")


def test_what_is_added_is_coded_when_it_is_first_searched(index: PlaceIndex) -> None:
    grown = added(index, range(300, 340), WIDE).index
    assert len(codes_in(index.path)) == 1
    (note,) = grown.searcher(engine="compressed").notes
    assert note.startswith("codes made for 40 rows: ") and len(codes_in(index.path)) == 2
    agree(grown, [*range(340)], QUERIES)
    assert PlaceIndex.open(index.path).searcher(engine="compressed").notes == ()


def test_codes_are_used_but_not_kept_while_another_writes(index: PlaceIndex) -> None:
    grown = added(index, range(300, 340), WIDE).index
    with writer_of(index.path):
        notes = grown.searcher(engine="compressed").notes
    assert "these codes could not be saved" in notes[-1] and len(codes_in(index.path)) == 1
    agree(grown, [*range(340)], QUERIES)


# --- filters


def fitting(filters: Filter) -> list[int]:
    """Photo 7 stands 7 m east and 70 m north of 400 km east, 6,000 km north in zone 33; every tenth nowhere."""
    where = places(range(300)).latlon()
    if isinstance(filters, Near):
        here = places([105]).metres[0]
        metres = places(range(300)).metres
        return [n for n in range(300) if np.hypot(*(metres[n] - here)) <= filters.radius_m]
    if isinstance(filters, Box):
        return [n for n in range(300) if where[105, 0] <= where[n, 0] <= where[115, 0]]
    if isinstance(filters, Taken):
        return [n for n in range(300) if 10 <= n % 60 < 20]
    return [n for n in range(300) if n % 2 == 0]


def each_filter() -> list[Filter]:
    where = places(range(300)).latlon()
    box = Box(float(where[105, 0]), 10.0, float(where[115, 0]), 20.0)
    near = Near(LatLon(*map(float, where[105])), 400.0)
    return [box, near, Taken(TIMES[10], TIMES[20]), Tagged("tram")]


@pytest.mark.parametrize("number", range(4), ids=["box", "near", "taken", "tagged"])
def test_filters_leave_the_photos_that_fit_whatever_the_engine(index: PlaceIndex, number: int) -> None:
    one = each_filter()[number]
    allowed = fitting(one)
    assert 5 <= len(allowed) < 300
    shrunk = index.remove([f"{allowed[0]}.jpg", "3.jpg"]).index
    allowed = [n for n in allowed[1:] if n != 3]
    exact = shrunk.search(QUERIES, 5, where=one, engine="exact")
    compressed = shrunk.search(QUERIES, 5, where=one, engine="compressed")
    assert exact.scores.tobytes() == compressed.scores.tobytes()
    assert exact.indices.tobytes() == compressed.indices.tobytes()
    agree(shrunk, allowed, QUERIES, one)


def test_several_filters_must_all_fit(index: PlaceIndex) -> None:
    both = All((Tagged("tram"), Taken(TIMES[10], TIMES[12])))
    found = index.search(QUERIES, 100, where=both)
    assert sorted(index.name(row) for row in found.indices[0]) == sorted(f"{n}.jpg" for n in range(10, 300, 60))


def test_a_filter_that_no_photo_fits_says_so(index: PlaceIndex) -> None:
    with pytest.raises(InputError, match="none of 300 photos matches"):
        index.search(QUERIES, where=Taken(end=TIMES[0]))
    with pytest.raises(InputError, match=r"no photo of this index has the tag 'tran'\. Did you mean 'tram'"):
        index.search(QUERIES, where=Tagged("tran"))


@pytest.mark.usefixtures("large")
def test_a_filter_that_leaves_few_photos_needs_no_codes(index: PlaceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "EXACT_VALUES", 64 * 150)
    assert index.searcher().choice.engine == "compressed"
    assert "150 descriptors of 64 values are few enough" in str(index.searcher(where=Tagged("tram")).choice)


# --- removed means gone


def test_codes_of_removed_photos_are_never_found_and_go_with_their_segment(index: PlaceIndex) -> None:
    old = (index.path / codes_in(index.path)[0]).read_bytes()
    quantiser = Quantiser.load(index.path / "quantiser.bin", index.made_by)
    code = quantiser.encode(photos([7], WIDE).vectors).tobytes()
    assert code in old
    shrunk = index.remove(["7.jpg", "8.jpg"]).index
    agree(shrunk, [n for n in range(300) if n not in (7, 8)], QUERIES)
    compacted = shrunk.compact()
    agree(compacted, [n for n in range(300) if n not in (7, 8)], QUERIES)
    assert len(codes_in(index.path)) == 1
    everything = b"".join(path.read_bytes() for path in index.path.iterdir())
    assert code not in everything and photos([7], WIDE).vectors.tobytes() not in everything


def test_compacting_carries_codes_and_measurement_without_coding_again(
    index: PlaceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "EXACT_VALUES", 0)
    grown = added(index, range(300, 330), WIDE).index
    grown.searcher(engine="compressed")
    monkeypatch.setattr(Quantiser, "encode", None)
    compacted = grown.remove(["7.jpg"]).index.compact()
    searcher = compacted.searcher()
    assert len(compacted.snapshot.segments) == 1
    assert searcher.choice.engine == "compressed" and searcher.notes == ()
    agree(compacted, [n for n in range(330) if n != 7], QUERIES)


def test_a_reader_of_an_old_version_never_brings_codes_of_wiped_photos_back(index: PlaceIndex) -> None:
    for name in codes_in(index.path):
        (index.path / name).unlink()
    index.remove(["7.jpg"]).index.compact()
    left = codes_in(index.path)
    agree(index, [*range(300)], QUERIES)  # the version that it opened, codes made in memory
    assert codes_in(index.path) == left == []


def test_an_index_that_is_built_anew_keeps_nothing_that_was_learnt(index: PlaceIndex) -> None:
    other = three_hundred(index.path)
    assert set(files_of(index.path)) == set(other.snapshot.manifest.files())


def test_learning_anew_leaves_no_codes_of_before(index: PlaceIndex) -> None:
    before = codes_in(index.path)
    grown = added(index, range(300, 400), WIDE).index
    grown.prepare(learn=True)
    assert not set(before) & set(codes_in(index.path)) and len(codes_in(index.path)) == 2
    agree(grown, [*range(400)], QUERIES)


# --- a measurement that does not fit any more


@pytest.mark.usefixtures("large")
def test_a_measurement_counts_until_a_fifth_of_the_index_is_another(index: PlaceIndex) -> None:
    grown = added(index, range(300, 370), WIDE).index
    assert grown.searcher().choice.engine == "compressed"
    grown = added(grown, range(370, 380), WIDE).index
    assert "300 of 380 photos are among the 300 photos measured" in str(grown.searcher().choice)
    grown.tune(10, [250])
    assert grown.searcher().choice.engine == "compressed"


@pytest.mark.usefixtures("large")
def test_photos_that_took_the_place_of_others_count_as_others_after_compacting_too(index: PlaceIndex) -> None:
    names = [f"{n}.jpg" for n in range(100)]
    changed = added(index.remove(names).index, range(400, 500), WIDE).index.compact()
    assert len(changed) == 300
    assert "200 of 300 photos are among the 300 photos measured" in str(changed.searcher().choice)


@pytest.mark.usefixtures("large")
def test_a_measurement_of_other_codes_does_not_count(index: PlaceIndex) -> None:
    added(index, range(300, 310), WIDE).index.prepare(learn=True)
    assert "the codes have changed" in str(index.newest().searcher().choice)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"format": "cricavpr.tuned.1"}', "[" * 100_000])
def test_a_measurement_that_is_damaged_is_named_and_not_believed(text: str, index: PlaceIndex) -> None:
    (index.path / "tuned.json").write_text(text)
    searcher = index.searcher()
    assert searcher.choice.engine == "exact"
    assert "tuned.json" in str(searcher.choice) and "is not used. Measure again" in str(searcher.choice)
    assert "\n" not in str(searcher.choice)


@pytest.mark.usefixtures("large")
def test_a_measurement_that_was_changed_by_hand_is_not_believed(index: PlaceIndex) -> None:
    path = index.path / "tuned.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "shortlist": 1}))
    assert "does not match its checksum" in str(index.searcher().choice)
    (damage,) = damages(index.path)
    assert str(damage).endswith(f"and is not used. Measure again: cricavpr index tune {index.path}")


@pytest.mark.usefixtures("large")
def test_a_measurement_that_only_a_stranger_would_seal_is_not_believed(index: PlaceIndex) -> None:
    """Whoever writes a file can write its checksum too."""
    path = index.path / "tuned.json"
    values = unseal(path.read_bytes())
    for segments in ([], {"one": nested(600)}):
        path.write_text(seal({**values, "segments": segments}))
        assert f"exact search: {path} is damaged" in str(index.searcher().choice)


def nested(depth: int) -> list[object]:
    whole: list[object] = []
    for _ in range(depth):
        whole = [whole]
    return whole


@pytest.mark.usefixtures("large")
def test_an_index_that_is_open_follows_what_is_measured_anew(index: PlaceIndex) -> None:
    """The choice is kept from query to query for as long as the measurement is the same file."""
    before = index.searcher()
    assert index.searcher() is before
    assert "10 MB are allowed" in str(index.searcher(ram_budget_mb=10).choice)
    index.tune(20, [299])
    assert "a shortlist of 299" in str(index.searcher().choice)
    (index.path / "tuned.json").unlink()
    assert "was never measured" in str(index.searcher().choice)


@pytest.mark.usefixtures("large")
def test_a_choice_that_another_thread_keeps_meanwhile_is_not_given_to_this_one(index: PlaceIndex) -> None:
    class Interrupted(float):
        def __eq__(self, other: object) -> bool:
            assert "of the 600 MB allowed" in str(index.searcher(ram_budget_mb=600.0).choice)
            return float(self) == other

        __hash__ = float.__hash__

    assert "of the 512 MB allowed" in str(index.searcher().choice)
    assert "of the 512 MB allowed" in str(index.searcher(ram_budget_mb=Interrupted(512.0)).choice)


@pytest.mark.usefixtures("large")
def test_what_auto_cannot_compress_is_searched_exactly_until_it_can(index: PlaceIndex) -> None:
    whole = (index.path / "quantiser.bin").read_bytes()
    flipped(index.path / "quantiser.bin", len(whole) // 2)
    assert str(index.searcher().choice).startswith(f"exact search: {index.path / 'quantiser.bin'} does not match")
    (index.path / "quantiser.bin").write_bytes(whole)
    assert index.searcher().choice.engine == "compressed"


# --- damage


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_damaged_codes_are_named_by_verify_and_made_again(index: PlaceIndex) -> None:
    index.verify()
    (name,) = codes_in(index.path)
    whole = (index.path / name).read_bytes()
    flipped(index.path / name, len(whole) - 5)
    (damage,) = damages(index.path)
    assert isinstance(damage, CodesError) and damage.file.name == name and "then make it again" in str(damage)
    with pytest.raises(InputError, match=name):
        index.verify()
    (note,) = index.searcher(engine="compressed").notes
    assert f"codes made again: {index.path / name} does not match its checksum" in note
    assert (index.path / name).read_bytes() == whole
    agree(index, [*range(300)], QUERIES)
    index.verify()


def test_a_damaged_quantiser_is_named_and_learnt_anew(index: PlaceIndex) -> None:
    whole = (index.path / "quantiser.bin").read_bytes()
    flipped(index.path / "quantiser.bin", len(whole) // 2)
    (damage,) = damages(index.path)
    assert damage.file.name == "quantiser.bin"
    assert "so it was made again" in index.searcher(engine="compressed").notes[0]
    assert (index.path / "quantiser.bin").read_bytes() == whole  # the same photos teach the same
    index.verify()


def test_vectors_are_checked_before_an_engine_believes_them(index: PlaceIndex) -> None:
    flipped(next(index.path.glob("segment-*")), 8192 + 256 * 7)
    again = PlaceIndex.open(index.path)
    for engine, where in (("compressed", None), ("compressed", Tagged("tram")), ("exact", Tagged("tram"))):
        with pytest.raises(InputError, match="does not match its checksum at byte 8192"):
            again.search(QUERIES, engine=engine, where=where)


def test_vectors_are_checked_before_they_are_coded(index: PlaceIndex) -> None:
    flipped(next(index.path.glob("segment-*")), 8192 + 256 * 7)
    (index.path / codes_in(index.path)[0]).unlink()
    with pytest.raises(InputError, match="does not match its checksum at byte 8192"):
        PlaceIndex.open(index.path).searcher(engine="compressed")
    assert codes_in(index.path) == []


def test_a_search_changes_no_file_of_an_index_whose_codes_are_whole(index: PlaceIndex) -> None:
    before = bytes_of(index.path)
    index.search(QUERIES, engine="compressed")
    assert bytes_of(index.path) == before


def test_a_later_version_lays_out_only_the_codes_of_what_is_new(
    index: PlaceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = coding.read_codes

    def counted(folder: Path, piece: Piece, quantiser: Quantiser) -> np.ndarray:
        read.append(piece.count)
        return real(folder, piece, quantiser)

    monkeypatch.setattr(coding, "read_codes", counted)
    monkeypatch.setattr(writing, "FOLD_BYTES", 256 * 12)
    index.search(QUERIES, engine="compressed")
    assert read == [300]
    for number, segments in ((300, 1), (301, 2), (302, 1), (303, 4)):  # the last ones are written together
        index = added(index, [number], WIDE).index
        read.clear()
        found = index.search(photos([number], WIDE), 1, engine="compressed")
        assert (found.indices[0, 0], read) == (number, [segments])
    index = index.remove(["7.jpg"]).index
    read.clear()
    assert index.search(photos([7], WIDE), 1, engine="compressed").indices[0, 0] != 7
    assert read == []
    assert same_as_anew(index.newest())
    compacted = index.compact()
    read.clear()
    assert same_as_anew(compacted) and read == [303, 303]  # all of it is another segment now


def test_a_later_version_with_other_codes_uses_none_of_the_old(index: PlaceIndex) -> None:
    index.search(QUERIES, engine="compressed")
    more = added(index, range(300, 340), WIDE).index
    more.prepare(learn=True)
    assert same_as_anew(more)


def same_as_anew(index: PlaceIndex) -> bool:
    anew = PlaceIndex.open(index.path)
    a, b = (one.search(QUERIES, 7, engine="compressed") for one in (index, anew))
    return a.indices.tobytes() == b.indices.tobytes() and a.scores.tobytes() == b.scores.tobytes()


def test_many_segments_are_searched_as_one(plain: PlaceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FOLD_BYTES", 0)
    index = plain
    for start in range(300, 360, 20):
        index = added(index, range(start, start + 20), WIDE).index
    index = index.remove(["305.jpg", "4.jpg"]).index
    assert len(index.snapshot.segments) == 4
    agree(index, [n for n in range(360) if n not in (305, 4)], QUERIES)


def test_an_index_without_photos_has_no_codes(tmp_path: Path) -> None:
    empty = PlaceIndex.create(tmp_path / "index", WIDE)
    with pytest.raises(InputError, match="codes are learnt from photos"):
        empty.prepare()
    assert empty.search(QUERIES).indices.shape == (6, 0)


# --- killed


@pytest.mark.parametrize("verb", ["learn", "compact"])
def test_killed_while_codes_are_made_or_carried_an_index_opens_and_searches_right(verb: str, tmp_path: Path) -> None:
    answer = run("tests.index.coding_crash", verb, tmp_path, 7)
    assert answer["problems"] == []
    assert answer["kills"] >= 8


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["learn", "compact"])
def test_killed_before_any_call_an_index_with_codes_opens_and_searches_right(verb: str, tmp_path: Path) -> None:
    answer = run("tests.index.coding_crash", verb, tmp_path, 1)
    assert answer["problems"] == []
    assert answer["kills"] > 60


def test_codes_are_laid_out_once_however_many_threads_ask(index: PlaceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, together, times = coding.read_codes, threading.Barrier(4, timeout=30), []

    def slowly(*arguments: object, **named: object) -> object:
        times.append(1)
        time.sleep(0.1)  # for the others to come
        return whole(*arguments, **named)

    def ask(_: int) -> list[list[int]]:
        together.wait()
        return index.search(QUERIES, 1, engine="compressed").indices.tolist()

    monkeypatch.setattr(coding, "read_codes", slowly)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(4)))
    assert len(times) == 1 and answers == [answers[0]] * 4
