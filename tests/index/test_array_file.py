"""Files of arrays with checksums: what comes back, what is damaged, and rows that are read without the map."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cricavpr.index import array_file
from cricavpr.index.array_file import ArrayFile, Column, write_arrays
from cricavpr.index.storage import CodesError, DamagedError, FileError, UnreadableError

ROWS = (np.arange(1000) % 256).astype(np.uint8).reshape(100, 10)
BLOCK, START = 128, 128  # the rows begin with the second block


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_file, "BLOCK_BYTES", BLOCK)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_arrays(tmp_path / "file", {}, {"rows": Column.of(ROWS)})
    return tmp_path / "file"


def changed(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# --- what is written comes back


def test_arrays_come_back_and_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    arrays = {"b": np.arange(12, dtype=np.float32).reshape(3, 4), "a": np.arange(5, dtype=np.uint8)}
    arrays["empty"] = np.empty((0, 4), np.uint8)
    for name in ("one", "two"):
        write_arrays(tmp_path / name, {"what": "a test"}, {key: Column.of(array) for key, array in arrays.items()})
    back = ArrayFile(tmp_path / "one")
    assert back.about == {"what": "a test"}
    assert all(np.array_equal(back.read(name), array) for name, array in arrays.items())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129, 5000])
def test_a_file_of_any_size_is_read(tmp_path: Path, size: int) -> None:
    length, checksum = write_arrays(tmp_path / "file", {}, {"a": Column.of(np.ones(size, np.uint8))})
    file = ArrayFile(tmp_path / "file", length, checksum)
    assert file.read("a").sum() == size and list(file.damages()) == []


# --- damage


def test_every_flipped_byte_and_every_cut_is_found(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedError):
            raise next(ArrayFile(path).damages())
        path.write_bytes(whole[:place])
        with pytest.raises(DamagedError):
            ArrayFile(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(DamagedError):
        ArrayFile(path)
    with pytest.raises(DamagedError, match="bytes, expected"):
        ArrayFile(path, len(whole))


def test_damage_is_named_with_its_place_and_by_the_error_that_was_asked_for(path: Path) -> None:
    changed(path, START + 3 * BLOCK + 5)
    for read in (lambda file: file.read("rows"), lambda file: file.read_rows("rows", np.array([39]))):
        with pytest.raises(CodesError, match=f"{path} does not match its checksum at byte {START + 3 * BLOCK}"):
            read(ArrayFile(path, error=CodesError))
    assert ArrayFile(path).read("rows", 0, 38).tobytes() == ROWS[:38].tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": {"a": {"start": 128, "type": "|O", "shape": [1]}}},
        {"arrays": {"a": {"start": 128, "type": "<f4", "shape": [-1]}}},
        {"arrays": {"a": {"start": 128, "type": "<f4", "shape": [99999999999999]}}},
        {"arrays": {"a": {"start": 128, "type": "<f4", "shape": [float("inf")]}}},
        {"arrays": {"a": {"start": 128, "type": "<f4", "shape": [0, 10**20]}}},
        {"arrays": {"a": {"start": 128, "type": "<f4", "shape": []}}},
        {"arrays": {"a": {"start": 129, "type": "|u1", "shape": [1]}}},
        {"arrays": {"a": {"start": -128, "type": "|u1", "shape": [1]}}},
        {"arrays": {"a": {"start": "128", "type": "|u1", "shape": [1]}}},
        {"arrays": {"a": {"start": 128}}},
        {"arrays": 7},
        {"bytes": 7},
        {"about": 7},
    ],
    ids=str,
)
def test_a_footer_that_promises_the_impossible_is_refused(path: Path, change: dict[str, object]) -> None:
    """With a sound checksum, as a stranger would write it."""
    whole = path.read_bytes()
    end, length = len(whole) - 40, int.from_bytes(whole[-40:-32], "little")
    data = START + ROWS.size
    values = json.loads(whole[data : data + length])
    text = json.dumps({**values, **change}).encode()
    footer = text + whole[data + length : end] + len(text).to_bytes(8, "little")
    path.write_bytes(whole[:data] + footer + hashlib.sha256(footer).digest())
    with pytest.raises(DamagedError, match=r"footer|checksum") as caught:
        ArrayFile(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [2**63, 10**6, 0, 1])
def test_a_length_that_the_file_has_not_is_refused_before_anything_is_read(path: Path, length: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-40] + length.to_bytes(8, "little") + content[-32:])
    with pytest.raises(DamagedError):
        ArrayFile(path)


@pytest.mark.parametrize("what", ["fifo", "link", "folder", "device"])
def test_only_a_regular_file_is_opened_and_nothing_waits(path: Path, what: str) -> None:
    other = path.with_name("other")
    path.rename(other)
    make: dict[str, Callable[[], object]] = {
        "fifo": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(other),
        "folder": path.mkdir,
        "device": lambda: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)),
    }
    try:
        make[what]()
    except PermissionError:
        pytest.skip("this user cannot make devices")
    with pytest.raises(DamagedError, match=f"{path} is not a regular file"):
        ArrayFile(path)


def test_what_may_not_be_read_is_not_called_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(UnreadableError, match=r"is unreadable \(Permission denied\)\. Check"):
        ArrayFile(path)


def test_errors_of_files_travel_between_processes(path: Path) -> None:
    for error in (DamagedError(path, "is gone", 3), CodesError(path, "is gone"), UnreadableError(path, "is shut")):
        back: FileError = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), back.offset) == (type(error), str(error), error.offset)


# --- rows that are read without the map


@pytest.mark.parametrize("most", [1, 7, 1 << 24])
def test_rows_come_in_the_order_they_are_asked_for(path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_file, "READ_BYTES", most)
    asked = np.array([99, 0, 1, 2, 3, 12, 13, 98, 2])
    assert np.array_equal(ArrayFile(path).read_rows("rows", asked), ROWS[asked])


def test_no_rows_are_none(path: Path) -> None:
    assert ArrayFile(path).read_rows("rows", np.empty(0, np.int64)).shape == (0, 10)


def test_damage_that_comes_after_the_first_reading_is_found(path: Path) -> None:
    file = ArrayFile(path)
    file.read_rows("rows", np.array([0]))
    changed(path, START)
    with pytest.raises(DamagedError, match=f"at byte {START}"):
        file.read_rows("rows", np.array([0]))


def test_a_file_that_shrinks_or_cannot_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ArrayFile(path)
    os.truncate(path, START + 950)
    with pytest.raises(DamagedError, match=f"was truncated while it was open at byte {START + 950}"):
        file.read_rows("rows", np.array([94]))

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    for asked in ([0], [0, 50]):
        with pytest.raises(UnreadableError, match=r"is unreadable \(Input/output error\)"):
            file.read_rows("rows", np.array(asked))


def test_rows_end_to_end_are_read_together_up_to_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts, pread = [], os.pread

    def counted(descriptor: int, length: int, start: int) -> bytes:
        starts.append(start)
        return pread(descriptor, length, start)

    file = ArrayFile(path)
    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(array_file, "READ_BYTES", 300)
    assert np.array_equal(file.read_rows("rows", np.arange(80)), ROWS[:80])
    assert len(starts) == 3  # 300, 300 and 200 bytes


def test_what_is_read_in_several_pieces_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, pread = ArrayFile(path), os.pread
    monkeypatch.setattr(os, "pread", lambda number, length, start: pread(number, min(length, 70), start))
    asked = np.array([*range(25), *range(41, 66)])
    assert np.array_equal(file.read_rows("rows", asked), ROWS[asked])


def test_rows_are_read_where_the_system_takes_no_announcements(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    asked = np.array([5, 90])
    assert np.array_equal(ArrayFile(path).read_rows("rows", asked), ROWS[asked])
    changed(path, START)
    with pytest.raises(DamagedError, match=f"at byte {START}"):
        ArrayFile(path).read_rows("rows", asked)


def test_rows_are_announced_together_before_the_first_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, done, pread = ArrayFile(path), list[str](), os.pread
    monkeypatch.setattr(os, "pread", lambda *given: (done.append("read"), pread(*given))[1])
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: done.append("ask"), raising=False)
    asked = np.array([0, 50, 51, 81])
    assert np.array_equal(file.read_rows("rows", asked), ROWS[asked])
    assert done == ["ask"] * 3 + ["read"] * 3
