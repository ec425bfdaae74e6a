"""Lists of indices come out of .npy files without anything in them being run."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cricavpr.datasets.numpy_lists import (
    read_index_lists,
    read_integers,
    read_names,
    read_numbered_lists,
    read_plain_arrays,
)
from cricavpr.errors import InputError


def objects(*rows: Any) -> np.ndarray[Any, Any]:
    array = np.empty(len(rows), object)
    for place, row in enumerate(rows):
        array[place] = row
    return array


def save(path: Path, array: np.ndarray[Any, Any], pickled: Any = None, protocol: int = 4) -> Path:
    """As np.save, with another pickle or protocol."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array if pickled is None else pickled, file, protocol=protocol)
    return path


def lists(path: Path) -> list[list[int]]:
    return [row.tolist() for row in read_index_lists(path)]


ROWS = objects(np.array([5, 7]), np.array([], np.int64), np.array([300], np.int32), [1, 70_000], (2,), np.int64(9))
MEANT = [[5, 7], [], [300], [1, 70_000], [2], [9]]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_lists_that_numpy_saved_are_read_whatever_the_protocol(tmp_path: Path, protocol: int) -> None:
    assert lists(save(tmp_path / "a.npy", ROWS, protocol=protocol)) == MEANT


def test_what_np_save_writes_today_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    assert lists(tmp_path / "a.npy") == MEANT


def test_numbers_of_a_big_endian_machine_and_in_fortran_order_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", objects(np.array([1, 2], ">i4"), [3]))
    assert lists(tmp_path / "a.npy") == [[1, 2], [3]]
    rows = np.empty((2, 2), object, order="F")
    rows[:] = [[0, [4, 5]], [1, [6]]]
    np.save(tmp_path / "b.npy", rows)
    assert {query: found.tolist() for query, found in read_numbered_lists(tmp_path / "b.npy").items()} == {
        0: [4, 5],
        1: [6],
    }


def test_a_plain_array_is_a_list_for_each_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1, 2], [3, 4]], np.int32))
    assert lists(tmp_path / "a.npy") == [[1, 2], [3, 4]]
    np.save(tmp_path / "a.npy", np.array([4, 9]))
    assert lists(tmp_path / "a.npy") == [[4], [9]]
    assert read_integers(tmp_path / "a.npy").tolist() == [4, 9]


def test_names_are_read_as_texts_or_as_objects(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(["a/b.jpg", "cö.jpg"]))
    np.save(tmp_path / "b.npy", objects("a/b.jpg", "cö.jpg"))
    assert read_names(tmp_path / "a.npy") == read_names(tmp_path / "b.npy") == ("a/b.jpg", "cö.jpg")
    np.save(tmp_path / "c.npy", np.array("abc"))  # no row of names, and not three names either
    with pytest.raises(InputError, match="one-dimensional array of texts"):
        read_names(tmp_path / "c.npy")


class Wicked:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("inside", [True, False])
def test_a_program_in_the_file_is_refused_by_name_and_not_run(tmp_path: Path, protocol: int, inside: bool) -> None:
    trap, target = Wicked(tmp_path / "touched"), tmp_path / "touched"
    rows = objects([1], trap) if inside else objects([1])
    file = save(tmp_path / "a.npy", rows, rows if inside else trap, protocol)
    with pytest.raises(InputError) as refused:
        read_index_lists(file)
    assert not target.exists()
    if protocol >= 2:
        assert "asks to run posix.system" in str(refused.value) or "asks to run nt.system" in str(refused.value)
    np.load(file, allow_pickle=True)  # the trap is a real one
    assert target.exists()


@pytest.mark.parametrize(
    "rows",
    [
        objects(1.5),
        objects("text"),
        objects(None),
        objects([1, [2]]),
        objects({1: 2}),
        objects([True]),
        objects(np.array([0.5])),
        objects(np.array(["a"])),
        objects(2**70),
        np.array([0.5]),
        np.zeros((2, 2, 2), int),
    ],
    ids=str,
)
def test_anything_but_whole_numbers_is_refused(tmp_path: Path, rows: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "a.npy", rows)
    with pytest.raises(InputError, match=r"a\.npy is not a list of indices for each query: "):
        read_index_lists(tmp_path / "a.npy")


def test_a_list_that_holds_itself_or_is_shared_too_often_is_refused(tmp_path: Path) -> None:
    itself: list[Any] = [1]
    itself.append(itself)
    np.save(tmp_path / "a.npy", objects(itself))
    with pytest.raises(InputError, match="row 0 is not a list of whole numbers"):
        read_index_lists(tmp_path / "a.npy")
    shared = list(range(30_000))
    np.save(tmp_path / "b.npy", objects(*[shared] * 1000))
    assert (tmp_path / "b.npy").stat().st_size < 200_000
    with pytest.raises(InputError, match="more than 20,000,000 indices"):
        read_index_lists(tmp_path / "b.npy")


class OnDisk:
    """Hands out bytes as if they were those of a file, since writing thousands of files takes long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.raw = b""
        monkeypatch.setattr(Path, "read_bytes", lambda _: self.raw)


def test_every_truncation_of_a_file_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = save(tmp_path / "a.npy", ROWS).read_bytes()
    disk = OnDisk(monkeypatch)
    for end in range(len(whole) - 1):
        disk.raw = whole[:end]
        with pytest.raises(InputError) as refused:
            read_index_lists(tmp_path / "a.npy")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["objects", "names", "numbers"])
def test_damaged_bits_give_lists_or_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    arrays = {"objects": ROWS, "names": np.array(["a/b.jpg", "c.jpg"]), "numbers": np.arange(9).reshape(3, 3)}
    np.save(tmp_path / "a.npy", arrays[kind])
    whole = (tmp_path / "a.npy").read_bytes()
    disk = OnDisk(monkeypatch)
    draw, refused = random.Random(4), 0
    for _ in range(700):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(whole)) if draw.random() < 0.5 else draw.randrange(len(whole) - 200, len(whole))
            damaged[place % len(whole)] ^= 1 << draw.randrange(8)
        disk.raw = bytes(damaged)
        for read in (read_index_lists, read_names, read_numbered_lists):
            try:
                read(tmp_path / "a.npy")
            except InputError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 700  # wrong readers, and damage that shows


def test_a_header_that_promises_too_much_reserves_nothing(tmp_path: Path) -> None:
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match=r"truncated: expected 8,000,000,000,000 bytes of data, got 0"):
        read_index_lists(tmp_path / "a.npy")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.npy is missing"):
        read_index_lists(tmp_path / "gone.npy")
    with pytest.raises(InputError, match="is not a list of names"):
        read_names(tmp_path)


def test_arrays_come_out_of_an_npz_and_nothing_else_does(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, one=np.arange(3), two=np.array(10))
    one, two = read_plain_arrays(file, ("one", "two"))
    assert one.tolist() == [0, 1, 2] and int(two) == 10
    with pytest.raises(InputError, match="it has no array 'three', only one, two"):
        read_plain_arrays(file, ("one", "three"))
    np.savez(file, one=objects(Wicked(tmp_path / "touched")))
    with pytest.raises(InputError, match="asks to run"):
        read_plain_arrays(file, ("one",))
    np.savez(file, one=ROWS)
    with pytest.raises(InputError, match="expected numbers, got Python objects"):
        read_plain_arrays(file, ("one",))
    file.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"a\.npz is not the arrays one"):
        read_plain_arrays(file, ("one",))


def test_an_npz_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cricavpr.datasets.numpy_lists.LARGEST_BYTES", 100_000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.npy", bytes(1_000_000))
    assert (tmp_path / "a.npz").stat().st_size < 10_000
    with pytest.raises(InputError, match="unpacks to more than 100,000 bytes"):
        read_plain_arrays(tmp_path / "a.npz", ("one",))
    (tmp_path / "b.npy").write_bytes(bytes(200_000))
    with pytest.raises(InputError, match="more than 100,000 bytes"):
        read_index_lists(tmp_path / "b.npy")
