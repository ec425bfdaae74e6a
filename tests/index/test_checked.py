"""Files of known checksums: stretches that are read by themselves, without the map."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from cricavpr.index.checked import CheckedFile

from cricavpr.index import checked
from cricavpr.index.storage import DamagedError

CONTENT = bytes(range(256)) * 4  # 1,024 bytes: byte n is n modulo 256
BLOCK = 100  # so the last block has 24 bytes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


def opened(path: Path) -> CheckedFile:
    file = CheckedFile(path, len(CONTENT))
    sums = [zlib.crc32(CONTENT[start : start + BLOCK]) for start in range(0, len(CONTENT), BLOCK)]
    file.trust(len(CONTENT), np.array(sums, np.uint32), BLOCK)
    return file


@pytest.mark.parametrize("most", [1, 7, 1 << 24])
def test_stretches_come_in_the_order_they_are_asked_for(path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "READ_BYTES", most)
    starts = [990, 0, 3, 6, 9, 99, 100, 1021, 6]
    found = opened(path).rows(np.array(starts), 3)
    assert [row.tobytes() for row in found] == [CONTENT[start : start + 3] for start in starts]


def test_no_stretches_are_none(path: Path) -> None:
    assert opened(path).rows(np.empty(0, np.int64), 3).shape == (0, 3)


def test_stretches_longer_than_a_block_are_checked_in_all_their_blocks(path: Path) -> None:
    content = bytearray(CONTENT)
    content[399] ^= 1
    path.write_bytes(content)
    file = opened(path)
    assert file.rows(np.array([400, 50]), 250)[1].tobytes() == CONTENT[50:300]
    for start in (150, 399):
        with pytest.raises(DamagedError, match="at byte 300"):
            file.rows(np.array([0, start]), 250)


def test_damage_that_comes_after_the_first_reading_is_found(path: Path) -> None:
    file = opened(path)
    file.rows(np.array([0]), 3)
    path.write_bytes(b"\xff" + CONTENT[1:])
    with pytest.raises(DamagedError, match="at byte 0"):
        file.rows(np.array([0]), 3)


def test_a_file_that_shrinks_or_cannot_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(path)
    os.truncate(path, 950)
    with pytest.raises(DamagedError, match="has become shorter at byte 950"):
        file.rows(np.array([910]), 3)

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    for starts in ([0], [0, 500]):
        with pytest.raises(DamagedError, match="cannot be read"):
            file.rows(np.array(starts), 3)


def test_what_lies_end_to_end_is_read_together_up_to_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, preadv = [], os.preadv

    def counted(descriptor: int, into: list[memoryview], start: int, flags: int) -> int:
        lengths.append(len(into[0]))
        return preadv(descriptor, into, start, flags)

    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.setattr(checked, "NOW", 0)
    monkeypatch.setattr(checked, "READ_BYTES", 300)
    assert opened(path).rows(np.arange(0, 800, 100), 100).tobytes() == CONTENT[:800]
    assert lengths == [300, 300, 200]


def test_what_is_read_in_several_pieces_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv
    monkeypatch.setattr(checked, "NOW", 0)
    monkeypatch.setattr(os, "preadv", lambda file, into, *rest: preadv(file, [into[0][:70]], *rest))
    assert opened(path).rows(np.array([5, 410]), 250).tobytes() == CONTENT[5:255] + CONTENT[410:660]


def test_where_the_system_cannot_read_at_a_place_the_map_serves(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv")
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    monkeypatch.setattr(checked, "NOW", 0)
    assert opened(path).rows(np.array([5, 90]), 30).tobytes() == CONTENT[5:35] + CONTENT[90:120]
    (path.parent / "other").write_bytes(b"\xff" + CONTENT[1:])
    with pytest.raises(DamagedError, match="at byte 0"):
        opened(path.parent / "other").rows(np.array([5, 90]), 30)


@pytest.mark.skipif(not checked.NOW, reason="this system cannot be asked for what it has in memory alone")
@pytest.mark.parametrize("there", ["nothing", "half of it"])
def test_what_is_not_in_memory_is_asked_for_together_and_then_read(
    path: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, preadv = [], os.preadv

    def cold(descriptor: int, into: list[memoryview], start: int, flags: int) -> int:
        done.append("now" if flags else "read")
        if flags and start >= 300:
            if there == "nothing":
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return preadv(descriptor, [into[0][:50]], start)
        return preadv(descriptor, into, start, 0)

    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: done.append("ask"))
    found = opened(path).rows(np.array([0, 310, 350, 810]), 40)
    assert found.tobytes() == b"".join(CONTENT[start : start + 40] for start in (0, 310, 350, 810))
    assert done == ["now"] * 3 + ["ask"] * 2 + ["read"] * 2
