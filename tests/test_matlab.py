"""Our reader of MATLAB files against scipy's, on texts, cells and structures, and on damaged files."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from cricavpr.matlab import Unreadable, read_variable
from tests.miniatures.db_struct import cells, write_db_struct


def saved(folder: Path, net: object, **more: Any) -> Path:
    path = folder / "net.mat"
    savemat(path, {"net": net}, **more)
    return path


def test_our_reader_agrees_with_scipys(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    net = {
        name: (100 * rng.normal(size=shape)).astype(kind)
        for name, kind, shape in (
            ("a", "f8", (3, 4, 5)), ("b", "f4", (2, 2)), ("c", "u1", (7, 1)), ("d", "i2", (1, 3)), ("e", "i4", (4, 2)),
            ("f", "u8", (2, 3)), ("whole", "f8", (5, 5)),
        )
    } | {"structures": np.array([(1.0, 2), (3.0, 4)], [("x", "O"), ("y", "O")]), "empty": np.empty((0, 3))}  # fmt: skip
    net["whole"] = np.rint(net["whole"])  # MATLAB stores whole numbers in fewer bytes
    path = saved(tmp_path, net)
    ours = read_variable(path, "net")
    theirs = loadmat(path, struct_as_record=False, squeeze_me=True)["net"]
    assert isinstance(ours, dict) and list(ours) == list(net)
    for name in "abcdef":
        assert np.array_equal(ours[name], getattr(theirs, name)) and ours[name].dtype == getattr(theirs, name).dtype
    assert [(one["x"].item(), one["y"].item()) for one in ours["structures"]] == [(1.0, 2), (3.0, 4)]
    assert ours["empty"].size == 0 and np.array_equal(ours["whole"], net["whole"])


def test_what_is_neither_number_nor_text_is_stepped_over(tmp_path: Path) -> None:
    from scipy.sparse import eye

    found = read_variable(saved(tmp_path, {"sparse": eye(3), "z": np.ones(2) * 1j, "n": 4.0}), "net")
    assert found == {"sparse": None, "z": None, "n": np.array(4.0)}


@pytest.mark.parametrize("compressed", [False, True])
def test_a_text_is_a_str_and_lines_of_text_are_a_list(tmp_path: Path, compressed: bool) -> None:
    net = {"a": "pitts30k_test", "b": "x", "empty": "", "lines": np.array(["one", "two"]), "far": "東京 é"}
    found = read_variable(saved(tmp_path, net, do_compression=compressed), "net")
    assert found == {**net, "lines": ["one", "two"]}


def test_cells_of_texts_keep_their_order_and_their_length(tmp_path: Path) -> None:
    names = [f"000/{number:06d}_pitch1_yaw1.jpg" for number in range(300)] + ["a", "bcde", "fghij"]
    for column in (cells(names), cells(names).T):
        assert read_variable(saved(tmp_path, {"names": column}), "net") == {"names": names}


@pytest.mark.parametrize(("kind", "letters"), [(2, b"ab\xe9"), (4, "abé".encode("utf-16-le")), (16, "abé".encode())])
def test_letters_are_read_however_wide_they_are_stored(tmp_path: Path, kind: int, letters: bytes) -> None:
    """MATLAB itself writes 16 bits a letter, scipy UTF-8."""
    assert read_variable(text_file(tmp_path, kind, letters, 3), "net") == "abé"


@pytest.mark.parametrize(
    ("kind", "letters", "width"), [(9, b"abcdefgh", 8), (16, b"\xff\xfe", 2), (16, b"abc", 2), (4, b"\0\xd8", 1)]
)
def test_letters_that_are_none_are_refused(tmp_path: Path, kind: int, letters: bytes, width: int) -> None:
    with pytest.raises(Unreadable, match="text"):
        read_variable(text_file(tmp_path, kind, letters, width), "net")


def text_file(folder: Path, kind: int, letters: bytes, width: int) -> Path:
    """A file with one text by hand: flags, sides, name, letters, each padded to eight bytes."""

    def element(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + bytes(-len(data) % 8)

    sides = (1).to_bytes(4, "little") + width.to_bytes(4, "little")
    inner = element(6, (4).to_bytes(8, "little")) + element(5, sides) + element(1, b"net") + element(kind, letters)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + (0x0100).to_bytes(2, "little") + b"IM"
    path = folder / "text.mat"
    path.write_bytes(header + element(14, inner))
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_list_is_refused_in_one_line_or_read(tmp_path: Path, compressed: bool) -> None:
    """Nothing but `Unreadable` ever comes out, whatever is cut off or changed."""
    names = [f"000/{number:06d}.jpg" for number in range(40)]
    path = tmp_path / "sound.mat"
    write_db_struct(path, names, np.ones((40, 2)), names[:5], np.ones((5, 2)), compressed=compressed)
    sound, rng = path.read_bytes(), random.Random(5)
    refused = 0
    for number in range(600):
        changed = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(128, len(sound))] = rng.randrange(256)
        path.write_bytes(changed[: rng.randrange(len(sound))] if number % 4 == 0 else changed)
        try:
            read_variable(path, "dbStruct")
        except Unreadable as error:
            refused += 1
            assert str(error).isprintable()
    assert refused >= 200


def test_the_form_that_is_hdf5_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(Unreadable, match="save it again with -v7"):
        read_variable(tmp_path / "a.mat", "dbStruct")
