"""The compressed engine over the segments of an index: prepared once, grown, and honest about what it finds damaged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cricavpr.errors import InputError, MissingExtraError
from cricavpr.index.codes import coding, fast_scan
from cricavpr.index.codes.coding import codes_file, open_compressed, prepare, required_quantiser
from cricavpr.index.exact import ExactEngine
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.snapshot import Snapshot
from tests.index.places import WIDE, added, built, photos
from tests.index.test_engines import small_codes

pytest.importorskip("faiss")

FIRST, SECOND = range(300), range(300, 400)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlaceIndex:
    """Two segments, of 300 photos and of 100."""
    monkeypatch.setattr("cricavpr.index.writing.FOLD_BYTES", 0)
    small_codes(monkeypatch, 16, 8)
    return added(built(tmp_path / "index", FIRST, WIDE), SECOND, WIDE).index


def files(snapshot: Snapshot) -> list[Path]:
    quantiser = required_quantiser(snapshot.path, WIDE)
    return [codes_file(snapshot.path, segment.piece, quantiser) for segment in snapshot.segments]


def finds(snapshot: Snapshot, numbers: list[int], **more: object) -> tuple[list[int], tuple[str, ...]]:
    opened = open_compressed(snapshot, **more)  # type: ignore[arg-type]
    found = opened.engine.with_shortlist(150).search(photos(numbers, WIDE).vectors, 1)
    return found.indices[:, 0].tolist(), opened.notes


def test_codes_are_prepared_once_and_then_read(index: PlaceIndex) -> None:
    prepare(index.path)
    before = {path.name: path.stat().st_mtime_ns for path in index.path.iterdir()}
    assert finds(index.snapshot, [7, 350]) == ([7, 350], ())
    assert {path.name: path.stat().st_mtime_ns for path in index.path.iterdir()} == before


def test_preparing_goes_on_where_it_was_interrupted(index: PlaceIndex) -> None:
    prepare(index.path)
    done, missing = files(index.snapshot)
    before, content = done.stat().st_mtime_ns, missing.read_bytes()
    missing.unlink()
    (index.path / "quantiser.bin").unlink()
    seen: list[tuple[int, int]] = []
    prepare(index.path, progress=lambda *both: seen.append(both))
    assert done.stat().st_mtime_ns == before
    assert missing.read_bytes() == content and (index.path / "quantiser.bin").exists()
    assert seen == [(400, 400)]


def test_a_new_segment_is_coded_by_the_quantiser_that_is_there(index: PlaceIndex) -> None:
    prepare(index.path)
    newer = added(index, range(400, 450), WIDE).index.snapshot
    found, notes = finds(newer, [350, 440])
    assert found == [350, 440] and len(notes) == 1 and str(files(newer)[2]) in notes[0]
    assert finds(newer, [440]) == ([440], ())


def test_codes_of_another_segment_under_the_right_name_are_not_used(index: PlaceIndex) -> None:
    prepare(index.path)
    one, other = files(index.snapshot)
    other.write_bytes(one.read_bytes())
    found, notes = finds(index.snapshot, [350])
    assert found == [350] and f"codes made again: {other} has the segment " in notes[0]


def test_what_was_not_prepared_is_an_error(index: PlaceIndex) -> None:
    with pytest.raises(InputError, match=r"has no codes for compressed search\. Make them: cricavpr index tune"):
        open_compressed(index.snapshot)
    prepare(index.path)
    (index.path / "quantiser.bin").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"quantiser\.bin is truncated.*\. Make it and all codes again"):
        open_compressed(index.snapshot)


def test_without_faiss_the_extra_is_named(index: PlaceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(index.path)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"cricavpr\[faiss\]"):
        fast_scan.require_faiss()
    with pytest.raises(MissingExtraError):
        open_compressed(index.snapshot)


def test_removed_rows_stay_away(index: PlaceIndex) -> None:
    less = index.remove(["350.jpg"]).index
    prepare(less.path)
    engine = open_compressed(less.snapshot).engine
    for one in (engine, ExactEngine(engine.rows)):
        assert 350 not in one.search(photos([350], WIDE).vectors, 20).indices


def test_codes_in_memory_serve_a_later_version_and_no_others_are_read(
    index: PlaceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(index.path)
    known = open_compressed(index.snapshot).codes
    for path in files(index.snapshot):
        path.unlink()
    less = index.remove(["7.jpg"]).index.snapshot
    monkeypatch.setattr(coding, "read_codes", None)
    assert finds(less, [350, 8], known=known) == ([350, 8], ())
