"""describe: what comes out, what is left out, and what a crash may cost. Mean colours, checked by eye."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing import describe, describe_one, flow, reading, work
from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import ImageError, InputError
from cricavpr.grouping import ALONE, Grouping
from tests.mean_colour import GroupColour, MeanColour, NativeMeanColour, colours, expected, photos

ROOT = Path(__file__).parents[1]
SEARCHED = f"{ROOT / 'src'}{os.pathsep}{ROOT}"  # by the processes that a test starts


class Sick(MeanColour):
    """Gives NaN for what is nearly pure red, and stops at pure blue."""

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        if image[0, 0].tolist() == [0, 0, 255]:
            raise RuntimeError("blue\nis too much")
        return super().preprocess(image)

    def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
        vectors = super().describe(images)
        vectors[vectors[:, 0] > 0.99] = np.nan
        return vectors


class Interrupted(GroupColour):
    """Ctrl-C at the n-th batch."""

    def __init__(self, at: int) -> None:
        self.left = at

    def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().describe(images, groups)  # type: ignore[arg-type]


# --- results


def test_a_descriptor_is_the_mean_colour_and_stands_in_the_order_of_the_set(tmp_path: Path) -> None:
    of = colours(7)
    described = describe(MeanColour(), photos(tmp_path, of), batch_size=3)
    assert described.problems == ()
    assert described.descriptors.names == tuple(f"{index:04d}.png" for index in range(7))
    np.testing.assert_allclose(described.descriptors.vectors, expected(of), atol=1e-6)
    assert described.descriptors.made_by.grouping == "none"


GROUPINGS = ["alone", "in_order:4", "in_order:16", "shuffled:4:0", "shuffled:3:7", "by_key"]


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_batch_size_and_workers_never_change_a_result(grouping: str, tmp_path: Path) -> None:
    keys = tuple("abcab"[index % 5] for index in range(21))
    images = photos(tmp_path, colours(21), keys=keys)
    one, *others = (
        describe(GroupColour(), images, Grouping.parse(grouping), batch_size=size, workers=0).descriptors
        for size in (1, 5, 16, 100)
    )
    for other in others:
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-6)
        assert one.names == other.names and one.made_by == other.made_by
    assert one.made_by.grouping == grouping


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_each_image_sees_its_group_and_nobody_else(grouping: str, tmp_path: Path) -> None:
    of, keys = colours(10), tuple("xxyyzzzzyx")
    images = photos(tmp_path, of, keys=keys)
    chosen = Grouping.parse(grouping)
    vectors = describe(GroupColour(), images, chosen).descriptors.vectors
    for group in chosen.groups(10, keys):
        own = of[group].astype(np.float64)
        want = own + own.mean(axis=0)
        want /= np.linalg.norm(want, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors[group], want, atol=1e-6)


def test_the_order_within_a_group_is_nothing_to_a_method_without_order(tmp_path: Path) -> None:
    images = photos(tmp_path, colours(8))
    order = np.random.default_rng(1).permutation(8)
    straight = describe(GroupColour(), images, Grouping("in_order", 8)).descriptors
    turned = describe(GroupColour(), images.take(order), Grouping("in_order", 8)).descriptors
    np.testing.assert_allclose(turned.vectors, straight.vectors[order], atol=1e-6)
    assert turned.names == tuple(straight.names[index] for index in order)


def test_a_method_that_does_not_correlate_gives_the_same_under_every_grouping(tmp_path: Path) -> None:
    images = photos(tmp_path, colours(9))
    alone = describe(MeanColour(), images, ALONE).descriptors
    shuffled = describe(MeanColour(), images, Grouping("shuffled", 4, 1)).descriptors
    assert np.array_equal(alone.vectors, shuffled.vectors)
    assert alone.made_by == shuffled.made_by
    describe(MeanColour(), images, Grouping("by_key"))  # and so it needs no keys


def test_worker_processes_give_the_same(tmp_path: Path) -> None:
    images = photos(tmp_path, colours(30))
    (tmp_path / "0011.png").write_bytes(b"no picture")
    here = describe(GroupColour(), images, Grouping("shuffled", 4, 0), workers=0)
    state = torch.get_rng_state()
    there = describe(GroupColour(), images, Grouping("shuffled", 4, 0), workers=2)
    assert np.array_equal(here.descriptors.vectors, there.descriptors.vectors)
    assert here.problems == there.problems and len(here.problems) == 1
    assert torch.equal(state, torch.get_rng_state())  # the caller's random numbers are left alone


def test_what_is_sent_to_a_worker_can_be_sent(tmp_path: Path) -> None:
    images = photos(tmp_path, colours(3))
    items = reading._Batches(GroupColour(), images, [[np.array([2, 0])], [np.array([1])]])
    assert pickle.loads(pickle.dumps(items))[0].parts[0].indices.tolist() == [2, 0]


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="the patch reaches forks alone")
def test_a_worker_that_dies_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = photos(tmp_path, colours(4))
    monkeypatch.setattr(reading, "decode", lambda path: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(InputError, match="a process that reads photos died") as caught:
        describe(MeanColour(), images, workers=1)
    assert "\n" not in str(caught.value)


def test_one_photo_is_described_alone(tmp_path: Path) -> None:
    image = np.full((40, 50, 3), (200, 100, 0), np.uint8)
    vector = describe_one(GroupColour(), image)
    assert vector.shape == (3,) and vector.dtype == np.float32
    np.testing.assert_allclose(vector, np.array([2, 1, 0]) / np.sqrt(5), atol=1e-6)
    with pytest.raises(ImageError, match="length 0") as caught:
        describe_one(GroupColour(), np.zeros((40, 50, 3), np.uint8))
    assert caught.value.stage == "describe"


# --- photos that give no descriptor


def test_photos_that_cannot_be_read_are_listed_and_left_out_of_their_group(tmp_path: Path) -> None:
    of = colours(8)
    images = photos(tmp_path, of)
    (tmp_path / "0001.png").write_bytes(b"no picture")
    (tmp_path / "0006.png").unlink()
    described = describe(GroupColour(), images, Grouping("in_order", 4))
    assert [(problem.name, problem.stage) for problem in described.problems] == [
        ("0001.png", "open"),
        ("0006.png", "find"),
    ]
    assert described.kept.tolist() == [0, 2, 3, 4, 5, 7]
    assert described.descriptors.names == images.take(described.kept).names
    without = describe(GroupColour(), images.take([0, 2, 3]), Grouping("in_order", 4)).descriptors
    np.testing.assert_allclose(described.descriptors.vectors[:3], without.vectors, atol=1e-6)


@pytest.mark.parametrize("out", [None, "out.safetensors"])
def test_what_is_no_descriptor_is_never_stored(out: str | None, tmp_path: Path) -> None:
    of = np.array([[255, 0, 0], [0, 200, 0], [0, 0, 255], [0, 0, 0], [9, 9, 9]], np.uint8)
    described = describe(Sick(), photos(tmp_path, of), out=None if out is None else tmp_path / out)
    assert described.problems == (
        Problem("0000.png", "describe", "its descriptor is not finite"),
        Problem("0002.png", "describe", "RuntimeError: blue is too much"),
        Problem("0003.png", "describe", "its descriptor has length 0 instead of 1"),
    )
    np.testing.assert_allclose(described.descriptors.vectors, expected(of[[1, 4]]), atol=1e-6)


@pytest.mark.parametrize("out", [None, "out.safetensors"])
def test_when_all_photos_fail_one_line_says_so(out: str | None, tmp_path: Path) -> None:
    images = ImageSet(tmp_path, ("a.jpg", "b.jpg"))
    with pytest.raises(InputError, match=r"none of the 2 photos in .* The first problem: a.jpg: find: ") as caught:
        describe(MeanColour(), images, out=None if out is None else tmp_path / out)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_photos_and_impossible_batches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        describe(MeanColour(), ImageSet(tmp_path, ()))
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        describe(MeanColour(), photos(tmp_path, colours(1)), batch_size=0)
    with pytest.raises(InputError, match="key"):
        describe(GroupColour(), photos(tmp_path, colours(1)), Grouping("by_key"))


def test_a_method_that_gives_another_dimension_than_it_says_is_refused(tmp_path: Path) -> None:
    method = MeanColour()
    method.dim = 4
    with pytest.raises(InputError, match=r"got \(2, 3\)"):
        describe(method, photos(tmp_path, colours(2)))


# --- native sizes


class NativeGroupColour(NativeMeanColour, GroupColour):
    name, correlates = "native_group_colour", True


def test_photos_of_different_sizes_run_separately_when_they_do_not_see_one_another(tmp_path: Path) -> None:
    of = colours(6)
    photos(tmp_path, of[:3], size=(48, 32))
    small = photos(tmp_path / "b", of[3:], size=(32, 40))
    names = ("0000.png", "b/0000.png", "0001.png", "b/0001.png", "b/0002.png", "0002.png")
    assert len(small) == 3
    for size in (1, 4, 16):
        vectors = describe(NativeMeanColour(), ImageSet(tmp_path, names), batch_size=size).descriptors.vectors
        np.testing.assert_allclose(vectors, expected(of[[0, 3, 1, 4, 5, 2]]), atol=1e-6)


@pytest.mark.parametrize("workers", [0, 1])
def test_different_sizes_in_one_group_are_refused_and_in_two_groups_are_fine(tmp_path: Path, workers: int) -> None:
    photos(tmp_path, colours(2), size=(48, 32))
    photos(tmp_path / "b", colours(2), size=(32, 40))
    apart = ImageSet(tmp_path, ("0000.png", "0001.png", "b/0000.png", "b/0001.png"))
    assert len(describe(NativeGroupColour(), apart, Grouping("in_order", 2)).descriptors) == 4
    with pytest.raises(InputError, match=r"^0001.png \(48 x 32\) and b/0000.png \(32 x 40\)") as caught:
        describe(NativeGroupColour(), apart.take([0, 1, 2]), Grouping("in_order", 3), workers=workers)
    assert "\n" not in str(caught.value)


# --- progress


def test_progress_is_told_and_drawn_on_stderr_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = photos(tmp_path, colours(5))
    told: list[tuple[int, int]] = []
    describe(MeanColour(), images, batch_size=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert capfd.readouterr() == ("", "")
    describe(MeanColour(), images, batch_size=2, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "5/5" in err and "images/s" in err


# --- files and interruptions


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".png")}


def test_the_file_is_what_is_returned_and_nothing_else_is_left(tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", colours(9))
    out = tmp_path / "new" / "out.safetensors"
    described = describe(GroupColour(), images, Grouping("shuffled", 4, 0), out=out)
    loaded = DescriptorSet.load(out)
    plain = describe(GroupColour(), images, Grouping("shuffled", 4, 0)).descriptors
    for one in (described.descriptors, loaded):
        assert np.array_equal(one.vectors, plain.vectors)
        assert one.names == plain.names and one.made_by == plain.made_by
    assert contents(out.parent) == {"out.safetensors"}


@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(at: int, tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", colours(17))
    (tmp_path / "photos/0001.png").write_bytes(b"no picture")
    grouping, out, whole = Grouping("shuffled", 3, 5), tmp_path / "out", tmp_path / "whole"
    describe(GroupColour(), images, grouping, batch_size=4, out=whole)
    with pytest.raises(KeyboardInterrupt):
        describe(Interrupted(at), images, grouping, batch_size=4, out=out)
    assert contents(tmp_path) == {"photos", "whole", ".out.partial"}
    told: list[int] = []
    again = describe(GroupColour(), images, grouping, batch_size=4, out=out, progress=lambda done, _: told.append(done))
    assert told[0] == 3 * at and told[-1] == 17  # batches of one group of 3: nothing is done twice
    assert out.read_bytes() == whole.read_bytes()
    assert [problem.name for problem in again.problems] == ["0001.png"]
    assert contents(tmp_path) == {"photos", "whole", "out"}


def interrupt(images: ImageSet, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        describe(Interrupted(3), images, Grouping("in_order", 2), batch_size=2, out=out)


@pytest.mark.parametrize("change", ["photo", "batch size", "grouping", "method", "names"])
def test_unfinished_work_for_something_else_is_thrown_away_with_a_note(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = photos(tmp_path / "photos", colours(12)), tmp_path / "out"
    interrupt(images, out)
    method, grouping, size = GroupColour(), Grouping("in_order", 2), 2
    if change == "photo":
        photos(tmp_path / "photos", colours(1, seed=5), size=(50, 50))
    elif change == "names":
        images = images.take(np.arange(11, -1, -1))
    elif change == "method":
        method.weights = "others"
    elif change == "grouping":
        grouping = Grouping("in_order", 3)
    else:
        size = 4
    told: list[int] = []
    described = describe(method, images, grouping, batch_size=size, out=out, progress=lambda done, _: told.append(done))
    assert told[0] in (2, 3, 4)  # from the beginning
    assert "starting again" in capsys.readouterr().err
    plain = describe(method, images, grouping, batch_size=size).descriptors
    assert np.array_equal(described.descriptors.vectors, plain.vectors)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"mark": 1}', "null"])
def test_a_damaged_state_means_starting_afresh(damage: str, tmp_path: Path) -> None:
    images, out = photos(tmp_path / "photos", colours(12)), tmp_path / "out"
    interrupt(images, out)
    (tmp_path / ".out.partial/state.json").write_text(damage)
    assert len(describe(GroupColour(), images, Grouping("in_order", 2), batch_size=2, out=out).descriptors) == 12


def test_rows_that_were_cut_off_mean_starting_afresh(tmp_path: Path) -> None:
    images, out = photos(tmp_path / "photos", colours(12)), tmp_path / "out"
    interrupt(images, out)
    os.truncate(tmp_path / ".out.partial/vectors.f32", 30)
    described = describe(GroupColour(), images, Grouping("in_order", 2), batch_size=2, out=out).descriptors
    plain = describe(GroupColour(), images, Grouping("in_order", 2), batch_size=2).descriptors
    assert np.array_equal(described.vectors, plain.vectors)


def test_a_place_that_cannot_be_written_is_one_line_before_any_work(tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", colours(2))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", tmp_path / "photos", tmp_path / ("n" * 250)):
        with pytest.raises(InputError) as caught:
            describe(Interrupted(1), images, out=out)
        assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(tmp_path: Path) -> None:
    images, out = photos(tmp_path / "photos", colours(12)), tmp_path / "out"

    class Full(work.OnDisk):
        def put(self, indices: np.ndarray, vectors: np.ndarray) -> None:
            with work.growing(self.folder):
                if 7 in indices:
                    raise OSError(28, "No space left on device")
            super().put(indices, vectors)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="No space left") as caught:
        patch.setattr(flow, "OnDisk", Full)
        describe(MeanColour(), images, batch_size=2, out=out)
    assert "\n" not in str(caught.value)
    told: list[int] = []
    describe(MeanColour(), images, batch_size=2, out=out, progress=lambda done, _: told.append(done))
    assert told[0] == 8


def test_rows_are_on_the_disk_before_the_state_that_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine between the two may lose work, and never leaves a row that is counted but not there."""
    images, out = photos(tmp_path / "photos", colours(9)), tmp_path / "out"
    rows, events = tmp_path / ".out.partial" / "vectors.f32", []
    fsync, write_text = os.fsync, work.write_text

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        if rows.exists() and os.path.samestat(os.fstat(descriptor), rows.stat()):
            on_disk = np.fromfile(rows, "<f4").reshape(9, 3)
            events.append(int(on_disk.any(axis=1).sum()))  # rows that have left the buffers of this process

    def counted(path: Path, text: str) -> None:
        state = json.loads(text)
        events.append(f"{3 * state['batches_done']} counted")
        write_text(path, text)

    monkeypatch.setattr(work, "STATE_EVERY_S", 0.0)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(work, "write_text", counted)
    describe(MeanColour(), images, batch_size=3, out=out)
    assert events == [0, "0 counted", 3, "3 counted", 6, "6 counted", 9, "9 counted", 9, "9 counted"]


class Refusing:
    """A file that may be opened and not be written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, content: bytes) -> int:
        raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("step", ["mkdir", "open", "write", "fsync", "unlink"])
def test_a_refusal_of_the_system_is_said_and_no_result_is_claimed(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = photos(tmp_path / "photos", colours(6)), tmp_path / "out"
    opened = Path.open

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    def open_refusing(path: Path, mode: str = "r", *rest: object, **named: object) -> object:
        if path.name != "vectors.f32" or mode == "r+b":
            return opened(path, mode, *rest, **named)  # type: ignore[arg-type]
        return refuse() if step == "open" else Refusing(opened(path, mode))  # type: ignore[arg-type]

    if step in ("open", "write"):
        monkeypatch.setattr(Path, "open", open_refusing)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", refuse)
    else:
        monkeypatch.setattr(Path, step, refuse)
    with pytest.raises(InputError, match=r"cannot write .*out\.partial.*: Permission denied") as caught:
        describe(MeanColour(), images, batch_size=2, out=out)
    assert "\n" not in str(caught.value) and not out.exists()
    monkeypatch.undo()
    assert len(describe(MeanColour(), images, batch_size=2, out=out).descriptors) == 6


@pytest.mark.parametrize(
    "state",
    [
        {"batches_done": -1, "failed": {}},
        {"batches_done": 1, "failed": {"99": ["open", "x"]}},
        {"batches_done": 1, "failed": {"-3": ["open", "x"]}},
        {"batches_done": 1, "failed": {"0": "open"}},
        {"batches_done": "1", "failed": {}},
        {"batches_done": 1, "failed": []},
    ],
)
def test_a_state_that_cannot_be_means_starting_again(
    state: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = photos(tmp_path / "photos", colours(12)), tmp_path / "out"
    interrupt(images, out)
    place = tmp_path / ".out.partial" / "state.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **state}))
    described = describe(GroupColour(), images, Grouping("in_order", 2), batch_size=2, out=out)
    assert described.problems == () and "starting again" in capsys.readouterr().err
    plain = describe(GroupColour(), images, Grouping("in_order", 2), batch_size=2).descriptors
    assert np.array_equal(described.descriptors.vectors, plain.vectors)


# One process that loads torch once, then forks a run for every moment at which to die.
KILLED_RUNS = """
    import os, signal, sys
    from pathlib import Path

    import torch
    from cricavpr.datasets.base import ImageSet
    from cricavpr.describing import describe, work
    from cricavpr.grouping import Grouping
    from tests.mean_colour import GroupColour

    folder = Path(sys.argv[1])
    images = ImageSet(folder / "photos", tuple(sorted(p.name for p in (folder / "photos").iterdir())))

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    class Dying(GroupColour):
        left = 0
        def describe(self, images, groups=None):
            self.left -= 1
            if not self.left:
                die()
            return super().describe(images, groups)

    def run(moment):
        work.STATE_EVERY_S = 0.0 if moment % 2 else 3600.0
        method = Dying()
        if moment <= 8:
            method.left = moment
        elif moment == 9:
            work.save_rows = die
        elif moment == 10:
            work.OnDisk.give_up = die
        elif moment == 11:
            work.write_text = die
        options = {"batch_size": 4, "out": folder / str(moment), "workers": 1 if moment == 5 else 0}
        describe(method, images, Grouping("shuffled", 3, 5), **options)

    for moment in range(1, 12):
        child = os.fork()
        if not child:
            run(moment)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, moment
"""


def test_a_run_that_is_killed_at_any_moment_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", colours(24))
    (tmp_path / "photos/0004.png").write_bytes(b"no picture")
    environment = {**os.environ, "PYTHONPATH": SEARCHED}
    script = [sys.executable, "-c", textwrap.dedent(KILLED_RUNS), str(tmp_path)]
    subprocess.run(script, check=True, env=environment, timeout=60)
    describe(GroupColour(), images, Grouping("shuffled", 3, 5), batch_size=4, out=tmp_path / "whole")
    for moment in range(1, 12):
        out, told = tmp_path / str(moment), []
        described = describe(
            GroupColour(),
            images,
            Grouping("shuffled", 3, 5),
            batch_size=4,
            out=out,
            progress=lambda done, _, told=told: told.append(done),
        )
        if moment in (1, 3, 5, 7):  # the state was written after every batch of 3
            assert told[0] == 3 * moment and told[-1] == 24
        assert out.read_bytes() == (tmp_path / "whole").read_bytes()
        assert [problem.name for problem in described.problems] == ["0004.png"]
    assert contents(tmp_path) == {"photos", "whole", *map(str, range(1, 12))}


def test_workers_start_where_processes_are_spawned(tmp_path: Path) -> None:
    photos(tmp_path, colours(6))
    script = """
        import multiprocessing, sys
        from pathlib import Path
        from cricavpr.datasets.base import ImageSet
        from cricavpr.describing import describe
        from tests.mean_colour import MeanColour
        if __name__ == "__main__":
            multiprocessing.set_start_method("spawn")
            images = ImageSet(Path(sys.argv[1]), tuple(f"{i:04d}.png" for i in range(6)))
            assert len(describe(MeanColour(), images, workers=1, batch_size=2).descriptors) == 6
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": SEARCHED}
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    subprocess.run(command, check=True, env=environment, timeout=60)


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    images, out = photos(tmp_path / "photos", colours(2)), tmp_path / "out"
    (tmp_path / ".out.partial").mkdir()
    script = """
        import fcntl, sys
        with open(sys.argv[1], "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            print("held", flush=True)
            input()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / ".out.partial/lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdin and other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is locked by another process"):
            describe(MeanColour(), images, out=out)
        other.stdin.write("\n")
        other.stdin.flush()
        other.wait(10)
    assert len(describe(MeanColour(), images, out=out).descriptors) == 2
