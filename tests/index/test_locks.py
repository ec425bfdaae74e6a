"""Many processes at one index: one writer at a time, readers whenever they like."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cricavpr.errors import InputError
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.storage import LOCK, writer_of
from cricavpr.index.writing import work_folder
from tests.index.places import added, built, numbers_of
from tests.index.test_durable import ROOT, run

HOLDER = """
import sys, time
from pathlib import Path
from cricavpr.index.storage import writer_of
with writer_of(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def index(tmp_path: Path) -> PlaceIndex:
    return built(tmp_path / "index", range(5))


@pytest.fixture
def holder(index: PlaceIndex) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(index.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_loser_is_told_at_once_who_holds_the_lock_and_readers_are_not_kept(
    index: PlaceIndex, holder: subprocess.Popen[str]
) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError, match=f"locked by process {holder.pid} on {socket.gethostname()} since"):
        added(index, [7])
    assert time.perf_counter() - started < 1.0
    for verb in (index.compact, lambda: index.remove(["1.jpg"]), lambda: index.merge(index)):
        with pytest.raises(InputError, match="is locked by"):
            verb()
    assert numbers_of(PlaceIndex.open(index.path)) == [*range(5)]


@pytest.mark.parametrize("wait_s", [float("nan"), -1.0])
def test_a_time_to_wait_that_is_none_is_refused_and_not_waited_for_ever(index: PlaceIndex, wait_s: float) -> None:
    with writer_of(index.path), pytest.raises(InputError, match=f"must be at least 0 seconds, got {wait_s:g}"):
        index.remove(["1.jpg"], wait_s=wait_s)
    with pytest.raises(InputError, match=f"must be at least 0 seconds, got {wait_s:g}"):
        index.compact(wait_s=wait_s)


def test_the_lock_of_a_dead_holder_is_taken_over(index: PlaceIndex, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert numbers_of(added(index, [7]).index) == [0, 1, 2, 3, 4, 7]


def test_who_waits_gets_the_lock_when_the_holder_ends(index: PlaceIndex, holder: subprocess.Popen[str]) -> None:
    threading.Timer(0.2, holder.kill).start()
    assert len(added(index, [7], wait_s=30).index) == 6


def test_two_writers_of_one_process_keep_each_other_out(index: PlaceIndex) -> None:
    with writer_of(index.path), pytest.raises(InputError, match=f"process {os.getpid()} "):
        added(index, [7])
    assert added(index, [7]).added == 1


def test_a_child_that_was_forked_while_writing_does_not_keep_the_lock(index: PlaceIndex) -> None:
    with writer_of(index.path):
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
    try:
        assert added(index, [7]).added == 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


FORKING = """
import os, sys, time
from pathlib import Path
from cricavpr.index.storage import writer_of
with writer_of(Path(sys.argv[1])):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


def test_a_child_does_not_keep_the_lock_of_a_parent_that_was_killed(index: PlaceIndex) -> None:
    """A worker process that reads photos outlives the process that started it for a while."""
    command = [sys.executable, "-c", FORKING, str(index.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            os.kill(child, 0)  # it lives
            assert added(index, [7]).added == 1
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_file_with_rubbish_in_it_does_no_harm(index: PlaceIndex) -> None:
    (index.path / LOCK).write_bytes(b"\xff\x00\n" * 5000)
    assert added(index, [7]).added == 1


def test_a_lock_whose_file_was_removed_meanwhile_is_not_believed(tmp_path: Path) -> None:
    """A failed build removes its folder, and with it the lock that another writer waits for."""
    folder, held, go = tmp_path / "index", threading.Event(), threading.Event()
    folder.mkdir()

    def build() -> None:
        with writer_of(folder):
            held.set()
            go.wait(20)
            shutil.rmtree(folder)
            folder.mkdir()

    building = threading.Thread(target=build)
    building.start()
    assert held.wait(20)
    threading.Timer(0.3, go.set).start()
    with writer_of(folder, wait_s=20), pytest.raises(InputError, match=r"process \d+"), writer_of(folder):
        pass
    building.join()


@pytest.mark.parametrize(("count", "each"), [(2, 8), (8, 3)])
def test_all_that_several_writers_were_promised_is_there(count: int, each: int, tmp_path: Path) -> None:
    answer = run("tests.index.crowd", "writers", tmp_path, count, each)
    assert answer["codes"] == [0] * count and answer["missing"] == []
    assert answer["photos"] == count * each == answer["version"] - 1


def test_every_answer_of_many_readers_is_that_of_one_committed_version(tmp_path: Path) -> None:
    answer = run("tests.index.crowd", "readers", tmp_path, 4, 2)
    assert answer["wrong"] == [] and set(answer["codes"]) == {0}
    assert answer["answers"] > 20 and answer["versions"] > 3


@pytest.mark.slow
def test_for_a_minute_every_answer_of_8_readers_is_that_of_one_committed_version(tmp_path: Path) -> None:
    answer = run("tests.index.crowd", "readers", tmp_path, 8, 60)
    assert answer["wrong"] == [] and set(answer["codes"]) == {0}
    assert answer["answers"] > 1000 and answer["versions"] > 100


def test_a_writer_waits_unasked_for_who_only_keeps_what_a_search_has_made(tmp_path: Path) -> None:
    held = threading.Event()

    def search() -> None:
        with writer_of(tmp_path, briefly=True):
            held.set()
            time.sleep(0.2)

    searching = threading.Thread(target=search)
    searching.start()
    assert held.wait(30)
    with pytest.raises(InputError, match="for a moment"), writer_of(tmp_path, briefly=True):
        pass  # another search does not wait
    with writer_of(tmp_path):
        pass
    searching.join()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which no folder can be made")
def test_a_folder_that_can_never_be_made_is_one_error() -> None:
    with pytest.raises(InputError, match="cannot open the lock file"), work_folder(Path("/proc/cricavpr"), "job"):
        pass
