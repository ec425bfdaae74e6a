"""The compressed engine over the segments of an index: prepared once, grown, and honest about what it finds damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from UNKNOWN.open_compressed import open_compressed
from UNKNOWN.prepare import prepare
from UNKNOWN.Segment import Segment

from cricavpr.errors import InputError, MissingExtraError
from cricavpr.index.codes import fast_scan
from cricavpr.index.codes.compressed import CompressedEngine
from cricavpr.index.codes.quantiser import Coding
from cricavpr.index.exact import ExactEngine
from tests.index.test_engines import drawn, made

pytest.importorskip("faiss")

VECTORS = drawn(400, 32)
FIRST, SECOND = Segment(VECTORS[:300], "aa" * 32), Segment(VECTORS[300:], "bb" * 32)
CODING = Coding(16, 8)


def test_codes_are_prepared_once_and_then_read(tmp_path: Path) -> None:
    prepare(tmp_path, [FIRST, SECOND], made(32), coding=CODING)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    opened = open_compressed(tmp_path, [FIRST, SECOND], made(32), shortlist=20)
    assert isinstance(opened.engine, CompressedEngine) and opened.notes == ()
    assert opened.engine.search(VECTORS[[7, 350]], 1).indices.tolist() == [[7], [350]]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_preparing_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    quantiser = prepare(tmp_path, [FIRST, SECOND], made(32), coding=CODING)
    done, missing = (segment.codes_file(tmp_path, quantiser) for segment in (FIRST, SECOND))
    before, content = done.stat().st_mtime_ns, missing.read_bytes()
    missing.unlink()
    (tmp_path / "quantiser.bin").unlink()
    seen: list[tuple[int, int]] = []
    prepare(tmp_path, [FIRST, SECOND], made(32), coding=CODING, report=lambda *both: seen.append(both))
    assert done.stat().st_mtime_ns == before
    assert missing.read_bytes() == content and (tmp_path / "quantiser.bin").exists()
    assert seen == [(400, 400)]


def test_a_new_segment_is_coded_by_the_quantiser_that_is_there(tmp_path: Path) -> None:
    quantiser = prepare(tmp_path, [FIRST], made(32), coding=CODING)
    opened = open_compressed(tmp_path, [FIRST, SECOND], made(32), shortlist=20)
    assert len(opened.notes) == 1 and str(SECOND.codes_file(tmp_path, quantiser)) in opened.notes[0]
    assert opened.engine.search(VECTORS[350:351], 1).indices.tolist() == [[350]]
    assert open_compressed(tmp_path, [FIRST, SECOND], made(32)).notes == ()


def test_codes_of_another_segment_under_the_right_name_are_not_used(tmp_path: Path) -> None:
    quantiser = prepare(tmp_path, [FIRST, SECOND], made(32), coding=CODING)
    path = SECOND.codes_file(tmp_path, quantiser)
    path.write_bytes(FIRST.codes_file(tmp_path, quantiser).read_bytes())
    opened = open_compressed(tmp_path, [FIRST, SECOND], made(32), shortlist=20, write=None)
    assert f"codes made again: {path} holds codes of another segment" in opened.notes[0]
    assert opened.engine.search(VECTORS[350:351], 1).indices.tolist() == [[350]]


def test_what_was_not_prepared_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no codes yet\. Make them with `cricavpr index tune`"):
        open_compressed(tmp_path, [FIRST], made(32))
    prepare(tmp_path, [FIRST], made(32), coding=CODING)
    other = made(32).__class__(**{**made(32).to_dict(), "weights": "others"})
    with pytest.raises(InputError, match="made differently"):
        open_compressed(tmp_path, [FIRST], other)
    (tmp_path / "quantiser.bin").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"quantiser\.bin does not begin as .*\. Make it and the codes again"):
        open_compressed(tmp_path, [FIRST], made(32))


def test_without_faiss_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, [FIRST], made(32), coding=CODING)
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"cricavpr\[faiss\]"):
        fast_scan.require_faiss()
    with pytest.raises(MissingExtraError):
        open_compressed(tmp_path, [FIRST], made(32))


def test_removed_rows_stay_away(tmp_path: Path) -> None:
    live = np.ones(400, bool)
    live[350] = False
    prepare(tmp_path, [FIRST, SECOND], made(32), live, CODING)
    opened = open_compressed(tmp_path, [FIRST, SECOND], made(32), live, shortlist=20)
    for engine in (opened.engine, ExactEngine(opened.engine.rows)):
        assert 350 not in engine.search(VECTORS[350:351], 20).indices


def test_a_worn_layout_is_made_anew_from_codes_on_disk_and_kept_where_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantiser = prepare(tmp_path, [FIRST, SECOND], made(32), coding=CODING)
    both = open_compressed(tmp_path, [FIRST, SECOND], made(32)).laid_out
    monkeypatch.setattr(fast_scan, "CUT_ROWS", 50)
    anew = open_compressed(tmp_path, [FIRST], made(32), shortlist=20, laid_out=both)
    assert [piece.beyond for piece in anew.laid_out.scan.pieces] == [0]
    assert anew.engine.search(VECTORS[[7]], 1).indices.tolist() == [[7]]
    FIRST.codes_file(tmp_path, quantiser).unlink()
    kept = open_compressed(tmp_path, [FIRST], made(32), shortlist=20, laid_out=both, write=None)
    assert [piece.beyond for piece in kept.laid_out.scan.pieces] == [100] and kept.notes == ()
    assert kept.engine.search(VECTORS[[7]], 1).indices.tolist() == [[7]]
