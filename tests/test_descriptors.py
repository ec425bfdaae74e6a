"""DescriptorSet and MadeBy: what is saved comes back, and what was made otherwise is never compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from cricavpr.descriptors import DescriptorSet, MadeBy, flaws, save_rows
from cricavpr.errors import InputError, MadeByError

MADE_BY = MadeBy("netvlad", "a" * 64, (480, 640), "ImageNet mean", "none", None, 4)


def described(count: int = 5) -> DescriptorSet:
    vectors = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return DescriptorSet(tuple(f"{index}.jpg" for index in range(count)), vectors, MADE_BY)


@pytest.mark.parametrize("count", [0, 1, 5, 9000])
def test_what_is_saved_comes_back(count: int, tmp_path: Path) -> None:
    described(count).save(tmp_path / "file")
    loaded = DescriptorSet.load(tmp_path / "file")
    assert loaded.names == described(count).names and loaded.made_by == MADE_BY
    assert loaded.vectors.dtype == np.float32 and np.array_equal(loaded.vectors, described(count).vectors)


def test_odd_names_come_back(tmp_path: Path) -> None:
    names = ("a b\n.jpg", "ü/é.png", os.fsdecode(b"\xff\xfe.jpg"), "-rf", "%s")
    DescriptorSet(names, described().vectors, MADE_BY).save(tmp_path / "file")
    assert DescriptorSet.load(tmp_path / "file").names == names


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    described().save(tmp_path / "file")
    with safe_open(tmp_path / "file", framework="numpy") as file:
        assert np.array_equal(file.get_tensor("vectors"), described().vectors)


def test_equal_sets_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.test_descriptors import described; "
        "described().save(Path(sys.argv[1]))"
    )
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    for name in "abc":
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=True, env=root)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1


def test_a_loaded_set_is_mapped_and_outlives_its_file_being_replaced(tmp_path: Path) -> None:
    described().save(tmp_path / "file")
    loaded = DescriptorSet.load(tmp_path / "file")
    assert isinstance(loaded.vectors, np.memmap)
    save_rows(tmp_path / "file", ("x",), described().vectors, np.array([3]), MADE_BY)
    assert np.array_equal(loaded.vectors, described().vectors)
    assert np.array_equal(DescriptorSet.load(tmp_path / "file").vectors, described().vectors[3:4])


def test_a_file_that_is_cut_off_or_no_such_file_is_one_line(tmp_path: Path) -> None:
    described().save(tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut") as caught:
            DescriptorSet.load(tmp_path / "cut")
        assert "\n" not in str(caught.value)
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError):
            DescriptorSet.load(path)


def test_a_place_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        described().save(tmp_path / "file" / "below")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        described().save(tmp_path / "folder")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_names_and_vectors_must_fit() -> None:
    with pytest.raises(InputError, match="must have vectors of shape"):
        DescriptorSet(("a",), np.zeros((2, 4), np.float32), MADE_BY)
    with pytest.raises(InputError, match="must have vectors of shape"):
        DescriptorSet(("a",), np.zeros((1, 5), np.float32), MADE_BY)


def test_flaws_are_what_is_not_finite_or_not_of_unit_length() -> None:
    sound = [[1, 0], [0.6, 0.8], [0.703, 0.708]]
    flawed = [[np.nan, 0], [0, 0], [np.inf, 0], [1e30, 1e30], [0.5, 0.5], [2, 0]]
    assert flaws(np.array(sound + flawed, np.float32)).tolist() == [False] * 3 + [True] * 6


@pytest.mark.parametrize(
    "change",
    [
        {"method": "cosplace"},
        {"weights": "b" * 64},
        {"image_size": None},
        {"image_size": (640, 480)},
        {"preprocessing": "another mean"},
        {"grouping": "in_order:16"},
        {"pca": "512"},
        {"dim": 8},
    ],
)
def test_any_field_that_differs_is_refused_and_named(change: dict[str, object]) -> None:
    other = replace(MADE_BY, **change)
    MADE_BY.require_same(replace(MADE_BY), "these")
    with pytest.raises(MadeByError, match=f"{next(iter(change))}: ") as caught:
        MADE_BY.require_same(other, "these")
    assert "\n" not in str(caught.value)
    assert MadeBy.from_dict(json.loads(json.dumps(other.to_dict()))) == other


@pytest.mark.parametrize("change", [{"dim": "4"}, {"image_size": [1]}, {"colour": 1}, {"method": None}])
def test_a_file_with_another_provenance_than_there_is_is_one_line(change: dict[str, object], tmp_path: Path) -> None:
    described().save(tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["__metadata__"]["made_by"] = json.dumps({**MADE_BY.to_dict(), **change})
    text = json.dumps(header).encode()
    (tmp_path / "file").write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    with pytest.raises(InputError, match=str(next(iter(change)))) as caught:
        DescriptorSet.load(tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_descriptors_are_shown_in_one_line() -> None:
    assert repr(described(3)) == "<DescriptorSet 3 x 4, method netvlad, grouping none>"
    assert repr(MADE_BY) == "<MadeBy netvlad, weights aaaaaaaaaaaa, 480x640 px, grouping none, 4-d>"


def test_of_long_values_what_differs_is_told() -> None:
    here = MadeBy(
        "m", "a" * 64, None, "sRGB upright, size 32x64, resize tensor, std 0.229,0.224,0.225", "none", None, 2
    )
    there = replace(here, weights="b" * 64, preprocessing="sRGB upright, size 32x64, resize pil, std 0.229,0.224,0.225")
    assert here.differences(there) == [
        "weights: aaaaaaaaaaaa… here, bbbbbbbbbbbb… there",
        "preprocessing: resize tensor here, resize pil there",
    ]
    more = replace(here, preprocessing=f"{here.preprocessing}; float64")
    assert here.differences(more) == ["preprocessing: less here, float64 there"]
