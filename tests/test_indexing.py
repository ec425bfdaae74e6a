"""Photos into an index in one call, and what is refused before the first one is described."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cricavpr
from cricavpr import indexing
from cricavpr.cli import main
from cricavpr.datasets.base import ImageSet
from cricavpr.errors import InputError, MadeByError
from cricavpr.geo import Positions
from cricavpr.index.manifest import WORK
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import RemoteIndex, remote_index
from cricavpr.indexing import add_photos, build_index, update_photos
from tests.index.fake_server import FakeServer
from tests.mean_colour import GroupColour, MeanColour, colours

ROOT = Path(__file__).parents[1]
PIXELS = ["--method", "pixels", "--quiet", "--workers", "0"]


def photo(path: Path, seed: int, lat: float = 48.2, lon: float = 16.37) -> Path:
    """A picture of its own, with its position in EXIF."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (lat, 0.0, 0.0), 3: "E", 4: (lon, 0.0, 0.0)})
    seen = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(seen).resize((64, 64)).save(path, exif=exif, quality=95)
    return path


def somewhere(names: list[str]) -> Positions:
    return Positions.from_latlon([[48.2 + 0.01 * place, 16.37] for place, _ in enumerate(names)])


def image_set(folder: Path, count: int, first: int = 0) -> ImageSet:
    names = [f"{number}.png" for number in range(first, first + count)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, colour in zip(names, colours(first + count)[first:], strict=True):
        Image.new("RGB", (32, 32), tuple(colour)).save(folder / name)
    return ImageSet(folder, tuple(names), somewhere(names))


# --- in one call


def test_an_index_is_built_added_to_and_updated_by_a_python_user(tmp_path: Path) -> None:
    index, problems = cricavpr.build_index(image_set(tmp_path / "a", 3), tmp_path / "index", MeanColour(), tags=["old"])
    assert (len(index), problems) == (3, ()) and isinstance(index, PlaceIndex)
    change, _ = add_photos(index, image_set(tmp_path / "b", 2, first=3), MeanColour())
    assert (change.added, change.already, len(change.index)) == (2, 0, 5)
    change, _ = add_photos(tmp_path / "index", image_set(tmp_path / "a", 3), MeanColour())
    assert (change.added, change.already) == (0, 3)
    updated, _ = update_photos(str(tmp_path / "index"), image_set(tmp_path / "a", 3), MeanColour(), tags=["new"])
    assert (updated.added, updated.removed) == (3, 3)
    opened = cricavpr.open_index(tmp_path / "index")
    assert isinstance(opened, PlaceIndex)
    assert sorted(opened.facts.tags) == [(), (), ("new",), ("new",), ("new",)]
    assert not (tmp_path / "index" / WORK).exists()


def test_photos_that_cannot_be_used_are_named_and_the_rest_is_done(tmp_path: Path) -> None:
    images = image_set(tmp_path / "photos", 3)
    (tmp_path / "photos/1.png").write_bytes(b"no picture")
    index, (problem,) = build_index(images, tmp_path / "index", MeanColour())
    assert len(index) == 2 and problem.name == "1.png" and problem.stage in ("open", "decode")


def test_photos_see_one_another_if_that_is_wanted(tmp_path: Path) -> None:
    pairs = cricavpr.Grouping.parse("in_order:2")
    index, _ = build_index(image_set(tmp_path / "a", 4), tmp_path / "index", GroupColour(), grouping=pairs)
    assert index.made_by.grouping == "in_order:2"
    with pytest.raises(MadeByError, match="grouping: in_order:2 here, alone there"):
        add_photos(index, image_set(tmp_path / "b", 2, first=4), GroupColour())


def test_a_server_is_filled_by_the_same_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, told = FakeServer(), list[str]()
    monkeypatch.setattr(remote_index, "connected", lambda *_: server)
    monkeypatch.chdir(tmp_path)
    images, at = image_set(tmp_path / "a", 3), "milvus://localhost/town"
    index, _ = build_index(images, at, MeanColour(), note=told.append)
    assert (
        isinstance(index, RemoteIndex) and len(index) == 3 and told == ["3 photos added, 0 photos in the index already"]
    )
    change, _ = add_photos(at, image_set(tmp_path / "b", 2, first=3), MeanColour())
    assert (change.added, len(cricavpr.open_index(at))) == (2, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_an_index_prints_is_one_line_and_in_a_notebook_a_table(tmp_path: Path) -> None:
    index, _ = build_index(image_set(tmp_path / "a", 3), tmp_path / "<index>", MeanColour())
    dim = index.made_by.dim
    assert repr(index) == f"PlaceIndex('{tmp_path}/<index>', version 1, 3 photos, mean_colour, {dim} values)"
    assert isinstance(index, PlaceIndex)
    assert "<th>photos</th><td>3</td>" in index._repr_html_() and "&lt;index&gt;" in index._repr_html_()
    for one in (index.searcher(), index.search(index.descriptors), index.diff(index), add_photos(
        index, image_set(tmp_path / "a", 3), MeanColour())[0]):  # fmt: skip
        assert "\n" not in repr(one) and "array" not in repr(one)


# --- refused before the first photo is described


class Counting(MeanColour):
    described = 0

    def describe(self, *given: Any) -> Any:
        type(self).described += 1
        return super().describe(*given)


@pytest.mark.parametrize("verb", [add_photos, update_photos])
def test_positions_of_another_frame_are_refused_before_photos_are_described(
    tmp_path: Path, verb: Callable[..., Any]
) -> None:
    local = Positions(np.arange(6.0).reshape(3, 2))
    images = image_set(tmp_path / "a", 3)
    build_index(ImageSet(images.root, images.names, local), tmp_path / "index", Counting())
    Counting.described = 0
    with pytest.raises(InputError, match="positions with UTM zones and positions in a local frame"):
        verb(tmp_path / "index", image_set(tmp_path / "b", 4, first=3), Counting())
    assert Counting.described == 0


@pytest.mark.parametrize(
    ("to", "wrong", "says"),
    [
        ("index", {"dtype": "float8"}, "unknown dtype 'float8'"),
        ("index", {"kind": "hnsw"}, "kind 'hnsw' is only for an index on a server"),
        ("milvus://localhost/town", {"dtype": "float16"}, "a server stores descriptors as float32"),
        ("index", {"tags": ["old", ""]}, "tags must be non-empty words"),
        ("photos", {}, "is not a place index and holds other files"),
    ],
)
def test_what_cannot_be_done_is_said_before_photos_are_described(
    tmp_path: Path, to: str, wrong: dict[str, Any], says: str
) -> None:
    Counting.described = 0
    images = image_set(tmp_path / "photos", 3)
    with pytest.raises(InputError, match=says):
        build_index(images, to if "://" in to else tmp_path / to, Counting(), **wrong)
    assert Counting.described == 0 and not (tmp_path / "index").exists()


def test_an_index_of_another_method_is_refused_before_photos_are_looked_at(tmp_path: Path) -> None:
    build_index(image_set(tmp_path / "a", 3), tmp_path / "index", MeanColour())
    for verb in (add_photos, update_photos):
        with pytest.raises(MadeByError, match="method: mean_colour here, group_colour there"):
            verb(tmp_path / "index", tmp_path / "no such folder", GroupColour())


# --- interrupted work


def test_a_run_that_was_interrupted_goes_on_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, to = image_set(tmp_path / "a", 6), tmp_path / "index"

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PlaceIndex, "build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_index(images, to, Counting())
    assert [*to.glob(f"{WORK}/*/*")]
    Counting.described = 0
    assert len(build_index(images, to, Counting())[0]) == 6
    assert Counting.described == 0 or [*to.glob(f"{WORK}/*")] == []
    assert not (to / WORK).exists()


def test_a_run_in_which_no_photo_can_be_described_leaves_no_folder(tmp_path: Path) -> None:
    images = image_set(tmp_path / "a", 2)
    for name in images.names:
        (tmp_path / "a" / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match="could be described"):
        build_index(images, tmp_path / "index", MeanColour())
    assert not (tmp_path / "index").exists()


def test_work_that_nobody_finishes_goes_with_compact_and_work_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, _ = build_index(image_set(tmp_path / "a", 3), tmp_path / "index", MeanColour())
    assert isinstance(index, PlaceIndex)

    def full(*_: object, **__: object) -> None:
        raise InputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(PlaceIndex, "add", full)
        with pytest.raises(InputError, match="the disk is full"):
            add_photos(index, image_set(tmp_path / "b", 2, first=3), MeanColour())
    (left,) = (tmp_path / "index" / WORK).iterdir()
    with indexing.work_folder(index.path, "another job") as busy:
        (busy / "descriptors").write_bytes(b"growing")
        index.compact()
        assert not left.exists() and (busy / "descriptors").exists()
    assert not (tmp_path / "index" / WORK).exists()


# --- several processes


def started(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cricavpr", *map(str, words)]
    environment, pipe = {**os.environ, "OMP_NUM_THREADS": "1"}, subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_four_processes_that_add_at_once_and_wait_all_succeed(tmp_path: Path) -> None:
    """Three of them the very same photos, one others."""
    for number in range(6):
        photo(tmp_path / f"{'a' if number < 3 else 'b'}/{number}.jpg", number)
    photo(tmp_path / "first/first.jpg", 99)
    index = tmp_path / "index"
    assert main(["index", "build", str(tmp_path / "first"), "--out", str(index), *PIXELS]) == 0
    running = [started("index", "add", index, tmp_path / name, "--wait", "60", *PIXELS) for name in "aaab"]
    ended = [(one.communicate(timeout=240), one.returncode) for one in running]
    assert [code for _, code in ended] == [0] * 4, ended
    said = sorted(out.partition(": ")[2].partition(" already")[0] for (out, _), _ in ended)
    assert [line.split(",")[0] for line in said] == [
        "0 photos added",
        "0 photos added",
        "3 photos added",
        "3 photos added",
    ]
    assert len(PlaceIndex.open(index)) == 7
    PlaceIndex.open(index).verify()


def test_who_does_not_wait_is_told_which_process_works_on_the_same_photos(tmp_path: Path) -> None:
    index, _ = build_index(image_set(tmp_path / "a", 2), tmp_path / "index", MeanColour())
    images = image_set(tmp_path / "b", 2, first=2)
    job = indexing._Job(images, MeanColour())
    with (
        indexing.work_folder(tmp_path / "index", job.named(images)),
        pytest.raises(InputError, match=rf"describing these photos for .* is locked by process {os.getpid()} "),
    ):
        add_photos(index, images, MeanColour())


@pytest.mark.skipif(os.geteuid() != 0, reason="only the super-user can become another one")
def test_an_index_can_be_added_to_below_a_folder_that_cannot_be_written() -> None:
    import tempfile

    from tests.forked import forked

    with tempfile.TemporaryDirectory() as made:
        parent = Path(made)
        build_index(image_set(parent / "a", 3), parent / "index", MeanColour())
        more = image_set(parent / "b", 2, first=3)
        for path in ((parent / "index"), *(parent / "index").iterdir()):
            os.chown(path, 65534, 65534)
        parent.chmod(0o555)

        def add() -> None:
            os.setegid(65534)
            os.seteuid(65534)
            assert not os.access(parent, os.W_OK, effective_ids=True)
            assert add_photos(parent / "index", more, MeanColour())[0].added == 2

        assert forked(add) == 0
        parent.chmod(0o755)
        assert len(PlaceIndex.open(parent / "index")) == 5


def test_a_text_of_tags_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Give \['autumn'\]"):
        build_index(tmp_path, tmp_path / "index", "pixels", tags="autumn")


def test_photos_of_an_image_set_without_positions_are_named_and_left_out(tmp_path: Path) -> None:
    names = tuple(photo(tmp_path / f"{number}.jpg", number).name for number in range(3))
    with pytest.raises(InputError, match="none of the 3 photos has a position"):
        build_index(ImageSet(tmp_path, names), tmp_path / "index", "pixels")
    where = Positions.from_latlon([[48.20, 16.37], [np.nan, np.nan], [48.21, 16.37]])
    index, problems = build_index(ImageSet(tmp_path, names, where), tmp_path / "index", "pixels")
    assert len(index) == 2 and [one.name for one in problems] == ["1.jpg"]
