"""PlaceIndex: what is built comes back, damage is named, a build that fails leaves the old index alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import InputError, MadeByError
from cricavpr.geo import Positions
from cricavpr.index.columns import Photos, photo_ids
from cricavpr.index.filters import Tagged
from cricavpr.index.place_index import PlaceIndex
from tests.index.places import bytes_of, files_of

MADE_BY = MadeBy("mean_colour", "none", (2, 2), "plain", "none", None, 4)


def described(count: int, seed: int = 0, made_by: MadeBy = MADE_BY) -> DescriptorSet:
    vectors = np.random.default_rng(seed).normal(size=(count, made_by.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return DescriptorSet(tuple(f"{index}.jpg" for index in range(count)), vectors, made_by)


def somewhere(count: int) -> Positions:
    metres = np.random.default_rng(1).uniform(400_000, 600_000, (count, 2))
    metres[0] = np.nan
    return Positions(metres, ("", *("33N",) * (count - 1)))


@pytest.fixture
def index(tmp_path: Path) -> PlaceIndex:
    return PlaceIndex.build(Photos(described(20), tmp_path / "photos", somewhere(20)), tmp_path / "index")


# --- what is built comes back


def test_what_is_built_comes_back(index: PlaceIndex, tmp_path: Path) -> None:
    again = PlaceIndex.open(tmp_path / "index")
    want = described(20)
    assert len(again) == 20
    assert again.names == want.names and again.made_by == want.made_by
    assert np.array_equal(again.descriptors.vectors, want.vectors)
    assert np.array_equal(again.positions.metres, somewhere(20).metres, equal_nan=True)
    assert again.positions.zones == somewhere(20).zones
    assert again.root == tmp_path / "photos" and again.photo(3) == tmp_path / "photos/3.jpg"
    again.verify()


def test_the_vectors_are_mapped_and_not_read(index: PlaceIndex) -> None:
    assert not index.vectors[:].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        index.descriptors.vectors[0, 0] = 1.0


def test_positions_may_be_unknown_or_of_a_local_frame(tmp_path: Path) -> None:
    index = PlaceIndex.build(Photos(described(3), tmp_path), tmp_path / "a")
    assert not index.positions.known.any()
    local = Positions(np.arange(6.0).reshape(3, 2))
    index = PlaceIndex.build(Photos(described(3), tmp_path, local), tmp_path / "b")
    assert index.positions.zones is None and np.array_equal(index.positions.metres, local.metres)


def test_odd_names_come_back(tmp_path: Path) -> None:
    names = ("a b\n.jpg", "ü/é.png", os.fsdecode(b"\xff\xfe.jpg"))
    index = PlaceIndex.build(Photos(replace(described(3), names=names), tmp_path), tmp_path / "index")
    assert PlaceIndex.open(index.path).names == names


def test_info_says_what_is_there(index: PlaceIndex) -> None:
    info = json.loads(json.dumps(index.info()))
    assert (info["photos"], info["with_position"], info["vectors_bytes"]) == (20, 19, 320)
    assert info["made_by"]["method"] == "mean_colour" and info["root"].endswith("photos")


def test_a_search_finds_each_photo_itself(index: PlaceIndex) -> None:
    found = index.search(described(20), top=3)
    assert found.indices[:, 0].tolist() == list(range(20))
    np.testing.assert_allclose(found.scores[:, 0], 1.0, atol=1e-6)
    assert index.search(described(20), top=100).indices.shape == (20, 20)


def test_reading_writes_nothing(index: PlaceIndex) -> None:
    before = bytes_of(index.path)
    for path in (index.path, *index.path.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    opened: list[int] = []

    def watch(event: str, details: tuple[object, ...]) -> None:
        if event == "open" and watching and isinstance(details[2], int):
            opened.append(details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))

    sys.addaudithook(watch)
    watching = True
    PlaceIndex.open(index.path).search(described(2))
    PlaceIndex.open(index.path).verify()
    watching = False
    index.path.chmod(0o755)
    assert opened and not any(opened)
    assert bytes_of(index.path) == before


def test_an_index_of_many_photos_opens_at_once(tmp_path: Path) -> None:
    small = replace(MADE_BY, dim=2)
    vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (300_000, 1))
    names = tuple(f"{index:06d}.jpg" for index in range(len(vectors)))
    many = Positions(np.zeros((len(vectors), 2)), ("33N",) * len(vectors))
    PlaceIndex.build(Photos(DescriptorSet(names, vectors, small), tmp_path, many), tmp_path / "index")
    started = time.perf_counter()
    PlaceIndex.open(tmp_path / "index")
    assert time.perf_counter() - started < 2.0


@pytest.mark.skipif(os.geteuid() != 0, reason="only the super-user can mount")
def test_an_index_on_a_read_only_mount_is_searched_and_not_written(index: PlaceIndex) -> None:
    code = """
import sys
from pathlib import Path
from cricavpr.errors import InputError
from cricavpr.index.place_index import PlaceIndex
index = PlaceIndex.open(Path(sys.argv[1]))
index.verify()
print(len(index), index.search(index.descriptors, 1).indices[:, 0].tolist() == list(range(20)))
try:
    index.compact()
except InputError as error:
    print("Read-only" in str(error))
"""
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(index.path), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ermission denied" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("no mounts in this sandbox")
    assert done.stdout.split() == ["20", "True", "True"], done.stderr


# --- what is refused


OTHERS = {
    "method": "netvlad",
    "weights": "f" * 64,
    "image_size": (4, 4),
    "preprocessing": "bicubic",
    "grouping": "in_order:16",
    "pca": "512",
}


@pytest.mark.parametrize("field", OTHERS)
def test_queries_that_were_made_otherwise_are_refused(field: str, index: PlaceIndex) -> None:
    other = replace(MADE_BY, **{field: OTHERS[field]})
    with pytest.raises(MadeByError, match=f"{field}: ") as caught:
        index.search(described(1, made_by=other))
    assert "\n" not in str(caught.value)


def test_queries_of_another_dimension_are_refused(index: PlaceIndex) -> None:
    with pytest.raises(MadeByError, match="dim: 4 here, 5 there"):
        index.search(described(1, made_by=replace(MADE_BY, dim=5)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 3.0, 1e-40])
def test_vectors_that_are_no_descriptors_are_refused(value: float, index: PlaceIndex, tmp_path: Path) -> None:
    bad = described(3)
    bad.vectors[1] = value
    with pytest.raises(InputError, match=r"descriptor of 1\.jpg"):
        index.search(bad)
    with pytest.raises(InputError, match=r"descriptor of 1\.jpg"):
        PlaceIndex.build(Photos(bad, tmp_path), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_nothing_and_what_does_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one photo, got no photos"):
        PlaceIndex.build(Photos(described(0), tmp_path), tmp_path / "index")
    with pytest.raises(InputError, match=r"expected 3 positions, .*got 2"):
        PlaceIndex.build(Photos(described(3), tmp_path, somewhere(2)), tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/photo.jpg").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for place, reason in (
        ("holiday", "not a place index"),
        ("file", "is a file"),
        ("file/index", "cannot write"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            PlaceIndex.build(Photos(described(2), tmp_path), tmp_path / place)
        assert "\n" not in str(caught.value)
    assert bytes_of(tmp_path / "holiday") == {"photo.jpg": b"precious"}
    assert (tmp_path / "file").read_text() == "precious"


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(InputError, match="not a place index"):
            PlaceIndex.open(path)


def test_things_that_lie_about_do_no_harm(index: PlaceIndex, tmp_path: Path) -> None:
    strange = (
        ".DS_Store",
        ".nfs0001",
        "segment-0123456789abcdef.bin",
        "copy of version-000000000009.json",
        "segment.bin~",
    )
    for name in strange:
        (index.path / name).write_text("rubbish")
    (index.path / "lost+found").mkdir()
    (index.path / ".version-000000000002.json.01234567.partial").write_text("rubbish")
    PlaceIndex.open(index.path).verify()
    PlaceIndex.build(Photos(described(5, seed=2), tmp_path), index.path).verify()
    assert not list(index.path.glob(".version*"))  # ours, of a writer that was killed
    assert not (index.path / "segment-0123456789abcdef.bin").exists()
    assert (index.path / "segment.bin~").exists()


# --- what a photo is


def test_ids_times_and_tags_come_back(tmp_path: Path) -> None:
    names = ("a.jpg", "b.jpg", "c.jpg")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    ids = photo_ids(tmp_path, names)
    assert ids == tuple(hashlib.sha256(name.encode()).digest() for name in names)
    times = np.array(["2026-01-02T03:04:05.678", "NaT", "1969-12-31T23:59:59"], "datetime64[ms]")
    tags = [["night", "rain"], [], ["snow ü"]]
    given = replace(described(3), names=names)
    index = PlaceIndex.build(Photos(given, tmp_path, ids=ids, times=times, tags=tags), tmp_path / "index")
    rows = PlaceIndex.open(index.path).facts
    assert [row.tobytes() for row in rows.ids] == list(ids)
    assert np.array_equal(rows.times, times, equal_nan=True)
    assert rows.tags == (("night", "rain"), (), ("snow ü",))
    assert Tagged("rain").mask(rows).tolist() == [True, False, False]
    with pytest.raises(InputError, match="no photo of this index has the tag 'rai'"):
        Tagged("rai").mask(rows)
    assert index.find([ids[2], b"\1" * 32]).tolist() == [2, -1]


def test_a_photo_that_is_given_twice_is_one_photo(tmp_path: Path) -> None:
    twice = [b"a" * 32, b"b" * 32, b"a" * 32]
    index = PlaceIndex.build(Photos(described(3), tmp_path, ids=twice), tmp_path / "index")
    assert index.names == ("0.jpg", "1.jpg")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ids": [b"short"] * 3}, "id number 0"),
        ({"ids": [b"a" * 32]}, "expected 3 ids, .*got 1"),
        ({"times": np.zeros(3)}, "datetime64"),
        ({"tags": ["rain", "snow", "night"]}, "must be a list of non-empty words"),
        ({"tags": [["a\0b"], [], []]}, "must be a list of non-empty words"),
        ({"tags": [[7], [], []]}, "must be a list of non-empty words"),
        ({"tags": [[]]}, "expected 3 rows of tags"),
    ],
)
def test_what_is_no_id_time_or_tag_is_refused(wrong: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        PlaceIndex.build(Photos(described(3), tmp_path, **wrong), tmp_path / "index")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_zones_of_both_hemispheres_and_positions_come_back_exactly(tmp_path: Path) -> None:
    metres = np.array([[0.1, -0.0], [np.nan, np.nan], [5e-324, 1e300], [400_000.25, 3.0]])
    positions = Positions(metres, ("1N", "", "60S", "9S"))
    index = PlaceIndex.build(Photos(described(4), tmp_path, positions), tmp_path / "index")
    assert index.positions.metres.tobytes() == positions.metres.tobytes()
    assert index.positions.zones == positions.zones


# --- replacing


def test_a_new_build_replaces_the_old_and_leaves_no_file_of_it(index: PlaceIndex, tmp_path: Path) -> None:
    new = PlaceIndex.build(Photos(described(7, seed=5), tmp_path), index.path)
    assert len(new) == len(PlaceIndex.open(index.path)) == len(index.newest()) == 7
    assert len(files_of(index.path)) == 2
    assert np.array_equal(index.descriptors.vectors, described(20).vectors)  # who has the old one open keeps it


def test_an_index_can_be_rebuilt_from_itself(index: PlaceIndex) -> None:
    again = PlaceIndex.build(Photos(index.descriptors, index.root, index.positions), index.path)
    assert np.array_equal(again.descriptors.vectors, described(20).vectors)


def test_a_damaged_index_can_be_built_anew(index: PlaceIndex, tmp_path: Path) -> None:
    for path in index.path.glob("version-*"):
        path.write_text("rubbish")
    PlaceIndex.build(Photos(described(5), tmp_path), index.path).verify()
    assert len(files_of(index.path)) == 2


def test_creating_over_an_index_is_refused(index: PlaceIndex) -> None:
    with pytest.raises(InputError, match="is a place index already"):
        PlaceIndex.create(index.path, MADE_BY)
    assert len(index.newest()) == 20


def test_an_empty_index_answers_nothing(tmp_path: Path) -> None:
    empty = PlaceIndex.create(tmp_path / "index", MADE_BY)
    assert len(empty) == 0 and empty.names == () and len(empty.positions) == 0
    assert empty.search(described(2)).indices.shape == (2, 0)
    empty.verify()
