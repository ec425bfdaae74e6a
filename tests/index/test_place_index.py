"""PlaceIndex: what is built comes back, damage is named, a build that fails leaves the old index alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import CricaVPRError, InputError, MadeByError
from cricavpr.geo import Positions
from cricavpr.index import place_index as module
from cricavpr.index.place_index import MANIFEST, PlaceIndex

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
    return PlaceIndex.build(described(20), somewhere(20), tmp_path / "photos", tmp_path / "index")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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
    assert isinstance(index.descriptors.vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        index.descriptors.vectors[0, 0] = 1.0


def test_positions_may_be_unknown_or_of_a_local_frame(tmp_path: Path) -> None:
    index = PlaceIndex.build(described(3), None, tmp_path, tmp_path / "a")
    assert not index.positions.known.any()
    local = Positions(np.arange(6.0).reshape(3, 2))
    index = PlaceIndex.build(described(3), local, tmp_path, tmp_path / "b")
    assert index.positions.zones is None and np.array_equal(index.positions.metres, local.metres)


def test_odd_names_come_back(tmp_path: Path) -> None:
    names = ("a b\n.jpg", "ü/é.png", os.fsdecode(b"\xff\xfe.jpg"))
    index = PlaceIndex.build(replace(described(3), names=names), None, tmp_path, tmp_path / "index")
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
    PlaceIndex.open(index.path).search(described(2))
    index.path.chmod(0o755)
    assert bytes_of(index.path) == before


def test_an_index_of_many_photos_opens_at_once(tmp_path: Path) -> None:
    small = replace(MADE_BY, dim=2)
    vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (300_000, 1))
    names = tuple(f"{index:06d}.jpg" for index in range(len(vectors)))
    many = Positions(np.zeros((len(vectors), 2)), ("33N",) * len(vectors))
    PlaceIndex.build(DescriptorSet(names, vectors, small), many, tmp_path, tmp_path / "index")
    started = time.perf_counter()
    PlaceIndex.open(tmp_path / "index")
    assert time.perf_counter() - started < 2.0


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
        PlaceIndex.build(bad, None, tmp_path, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_nothing_and_what_does_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to index"):
        PlaceIndex.build(described(0), None, tmp_path, tmp_path / "index")
    with pytest.raises(InputError, match="2 positions do not fit 3"):
        PlaceIndex.build(described(3), somewhere(2), tmp_path, tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/photo.jpg").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for place, reason in (
        ("holiday", "no place index"),
        ("file", "is a file"),
        ("file/index", "cannot write"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            PlaceIndex.build(described(2), None, tmp_path, tmp_path / place)
        assert "\n" not in str(caught.value)
    assert bytes_of(tmp_path / "holiday") == {"photo.jpg": b"precious"}
    assert (tmp_path / "file").read_text() == "precious"


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(InputError, match="no place index"):
            PlaceIndex.open(path)


def test_things_that_lie_about_do_no_harm(index: PlaceIndex, tmp_path: Path) -> None:
    strange = (".DS_Store", ".nfs0001", "vectors-01234567.bin", "copy of place_index.json", "vectors.bin~")
    for name in strange:
        (index.path / name).write_text("rubbish")
    (index.path / "lost+found").mkdir()
    PlaceIndex.open(index.path).verify()
    PlaceIndex.build(described(5, seed=2), None, tmp_path, index.path).verify()
    assert not (index.path / "vectors-01234567.bin").exists()  # ours, of a build that was killed
    assert (index.path / "vectors.bin~").exists()


# --- damage


def test_every_damaged_byte_of_a_small_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    index = PlaceIndex.build(described(2), somewhere(2), tmp_path, tmp_path / "index")
    for path in sorted(index.path.iterdir()):
        if path.name.startswith(("vectors-", ".")):
            continue
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x21]) + whole[place + 1 :])
            with pytest.raises(InputError, match=path.name) as caught:
                PlaceIndex.open(index.path)
            assert "\n" not in str(caught.value)
        path.write_bytes(whole)
    PlaceIndex.open(index.path)


def test_a_file_cut_off_anywhere_is_one_line_that_names_it(tmp_path: Path) -> None:
    index = PlaceIndex.build(described(2), somewhere(2), tmp_path, tmp_path / "index")
    for path in sorted(index.path.iterdir()):
        if path.name.startswith("."):
            continue
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match=path.name):
                PlaceIndex.open(index.path)
        path.write_bytes(whole + b"\0")
        with pytest.raises(InputError, match=path.name):
            PlaceIndex.open(index.path)
        path.unlink()
        with pytest.raises(InputError, match=path.name):
            PlaceIndex.open(index.path)
        path.write_bytes(whole)


def test_damaged_vectors_are_found_by_verify(index: PlaceIndex) -> None:
    path = next(index.path.glob("vectors-*"))
    content = bytearray(path.read_bytes())
    content[77] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        index.verify()


def forged(folder: Path, **changes: object) -> None:
    """A manifest with a sound checksum that says something else."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest = {**manifest, **changes}
    manifest.pop("checksum")
    text = json.dumps({**manifest, "checksum": module._checksum(manifest)})
    (folder / MANIFEST).write_text(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "cricavpr.place_index.2"},
        {"format": None},
        {"count": -1},
        {"count": 10**30},
        {"count": "many"},
        {"made_by": {}},
        {"made_by": {**MADE_BY.to_dict(), "colour": 1}},
        {"files": {}},
        {"files": {"vectors": {"file": "../../etc/passwd", "bytes": 1, "sha256": ""}}},
        {"root": 3},
    ],
)
def test_a_manifest_of_another_version_or_without_sense_is_refused(
    changes: dict[str, object], index: PlaceIndex
) -> None:
    forged(index.path, **changes)
    with pytest.raises(InputError) as caught:
        PlaceIndex.open(index.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"index"', "{}", "[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(text: str, index: PlaceIndex) -> None:
    (index.path / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="the index is damaged"):
        PlaceIndex.open(index.path)


# --- replacing


def test_a_new_build_replaces_the_old_and_leaves_no_file_of_it(index: PlaceIndex, tmp_path: Path) -> None:
    old = described(20)
    new = PlaceIndex.build(described(7, seed=5), None, tmp_path, index.path)
    assert len(new) == len(PlaceIndex.open(index.path)) == 7
    assert len([path for path in index.path.iterdir() if path.name[0] != "."]) == 5
    assert np.array_equal(index.descriptors.vectors, old.vectors)  # who has the old one open keeps it


def test_an_index_can_be_rebuilt_from_itself(index: PlaceIndex) -> None:
    again = PlaceIndex.build(index.descriptors, index.positions, index.root, index.path)
    assert np.array_equal(again.descriptors.vectors, described(20).vectors)


def test_a_build_that_fails_at_any_write_leaves_the_old_index(index: PlaceIndex, tmp_path: Path) -> None:
    before = bytes_of(index.path)
    calls = ("_write_part", "write_text", "sync")
    for call in calls:
        for at in (1, 2, 3, 4) if call == "_write_part" else (1,):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, call, failing(getattr(module, call), at))
                with pytest.raises(CricaVPRError, match="No space left") as caught:
                    PlaceIndex.build(described(7, seed=5), None, tmp_path, index.path)
                assert "\n" not in str(caught.value)
            assert bytes_of(index.path) == before
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, call, failing(getattr(module, call), at))
                with pytest.raises(CricaVPRError, match="No space left"):
                    PlaceIndex.build(described(7, seed=5), None, tmp_path, tmp_path / "fresh")
            assert not (tmp_path / "fresh").exists() or not any((tmp_path / "fresh").iterdir())


def failing(function: object, at: int) -> object:
    left = [at]

    def call(*args: object) -> object:
        left[0] -= 1
        if not left[0]:
            error = OSError(28, "No space left on device")
            if getattr(function, "__name__", "") == "write_text":
                raise InputError(f"cannot write: {error.strerror}")
            raise error
        return function(*args)  # type: ignore[operator]

    return call


# Forks a build for every moment at which to die: at each part, at the sync, before and after the manifest.
KILLED_BUILDS = """
    import os, signal, sys
    from pathlib import Path
    from cricavpr.index import place_index as module
    from tests.index.test_place_index import described

    def dying(function, at):
        left = [at]
        def call(*args):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args)
        return call

    def half_written(path, chunks):
        path.open("xb").write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    moments = [("_write_part", 1), ("_write_part", 3), ("sync", 1), ("write_text", 1), ("_remove_unused", 1)]
    moments += [(None, 1)]
    for number, (name, at) in enumerate(moments):
        child = os.fork()
        if not child:
            if name:
                setattr(module, name, dying(getattr(module, name), at))
            else:
                module._write_part = half_written
            module.PlaceIndex.build(described(7, 5), None, Path("/photos"), Path(sys.argv[1]) / str(number))
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, name
"""


@pytest.mark.parametrize("fresh", [False, True])
def test_a_build_that_is_killed_leaves_the_old_index_or_the_whole_new_one(fresh: bool, tmp_path: Path) -> None:
    for number in range(6):
        if not fresh:
            PlaceIndex.build(described(20), somewhere(20), tmp_path, tmp_path / str(number))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(KILLED_BUILDS), str(tmp_path)]
    if fresh:  # `sync` is then called first for the folder itself
        command[2] = command[2].replace('("sync", 1)', '("sync", 2)')
    subprocess.run(command, check=True, env=environment, timeout=60)
    for number in range(6):
        new = number == 4  # killed after the manifest was in its place
        if fresh and not new:
            with pytest.raises(InputError, match="no place index"):
                PlaceIndex.open(tmp_path / str(number))
        else:
            index = PlaceIndex.open(tmp_path / str(number))
            index.verify()
            assert len(index) == (7 if new else 20)
        PlaceIndex.build(described(4), None, tmp_path, tmp_path / str(number)).verify()
        assert len([path for path in (tmp_path / str(number)).iterdir() if path.name[0] != "."]) == 5


def test_an_index_that_is_replaced_while_it_is_opened_is_read_anew(
    index: PlaceIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = module._read_manifest
    old = read(index.path)
    PlaceIndex.build(described(7, seed=5), None, tmp_path, index.path)
    answers = [old]  # the first look still sees the old manifest, whose files are gone
    monkeypatch.setattr(module, "_read_manifest", lambda path: answers.pop() if answers else read(path))
    assert len(PlaceIndex.open(index.path)) == 7
