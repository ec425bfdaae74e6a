"""Writers that are killed, and disks that fail: nothing acknowledged is lost, nothing half is seen."""

from __future__ import annotations

import errno
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cricavpr.errors import InputError
from cricavpr.index.place_index import PlaceIndex
from tests.index.crashing import CALLS, HUNDRED, Counting, counted
from tests.index.places import added, built, files_of, given, numbers_of

ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# --- killed


@pytest.mark.parametrize("verb", ["add", "remove", "compact"])
def test_killed_after_any_call_an_index_is_the_old_or_the_new_and_can_go_on(verb: str, tmp_path: Path) -> None:
    answer = run("tests.index.crashing", verb, tmp_path)
    assert answer["problems"] == []
    assert answer["kills"] >= 30


def test_killed_at_random_times_an_index_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    assert run("tests.index.crashing", "random", tmp_path, 25, 1)["problems"] == []


@pytest.mark.slow
def test_killed_500_times_an_index_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    answer = run("tests.index.crashing", "random", tmp_path, 500, 2)
    assert answer["problems"] == [] and answer["acknowledged"] > 250


# --- a disk that fails


def failing(at: int, number: int) -> Counting:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return Counting(at, fail, before=True)


def adds_under_failures(folder: Path, numbers: tuple[int, ...], change: Callable[[PlaceIndex], Any]) -> Iterator[str]:
    """Fail the n-th call, for every n; what went wrong, and at the end how many calls there were."""
    for at in itertools.count(1):
        for number in numbers:
            path = folder / f"{at}-{number}"
            index = built(path, range(5))
            counting = failing(at, number)
            try:
                with counted(counting):
                    change(index)
            except InputError as error:
                if "\n" in str(error) or str(path) not in str(error):
                    yield f"{at}: says {error}"
                if numbers_of(PlaceIndex.open(path)) != [*range(5)]:
                    yield f"{at}: another index after {error}"
            except Exception as error:
                yield f"{at} ({counting.log[-1]}): {error!r}"
            if numbers_of(added(index.newest(), HUNDRED).index) != [*range(5), *HUNDRED]:
                yield f"{at}: cannot go on"
            index.newest().verify()
        if counting.done < at:
            assert at > 40
            return


def test_a_disk_that_fails_at_any_call_leaves_the_old_version_and_the_same_add_works_afterwards(tmp_path: Path) -> None:
    for number in (errno.ENOSPC,):
        assert list(adds_under_failures(tmp_path, (number,), lambda index: added(index, HUNDRED))) == []


@pytest.mark.slow
def test_other_failures_at_any_call_leave_the_old_version(tmp_path: Path) -> None:
    others = (errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
    assert list(adds_under_failures(tmp_path, others, lambda index: added(index, HUNDRED))) == []


def test_a_write_that_takes_only_part_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    index = built(tmp_path / "index", range(5))
    index.verify()
    assert numbers_of(index) == [*range(5)]


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refusing)
    index = added(built(tmp_path / "index", range(5)), [7]).index
    assert numbers_of(index.compact()) == [0, 1, 2, 3, 4, 7]


def test_a_manifest_never_takes_the_place_of_another(tmp_path: Path) -> None:
    index = built(tmp_path / "index", range(5))
    (index.path / "version-000000000002.json").mkdir()  # something else has the next name
    with pytest.raises(InputError):
        added(PlaceIndex.open(index.path, 1), [7])
    assert numbers_of(PlaceIndex.open(index.path, 1)) == [*range(5)]


# --- the order of things on the disk


def test_everything_is_on_the_disk_before_the_manifest_names_it_and_before_it_is_said(tmp_path: Path) -> None:
    index = built(tmp_path / "index", range(5))
    counting = Counting(0, lambda: None)
    opened: dict[int, str] = {}

    def logged(name: str, call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        answer = Counting.__call__(counting, name, call, *args, **keywords)
        if name == "open":
            opened[answer] = Path(args[0]).name
        counting.log[-1] = (name, opened.get(args[0], args[0]) if args else None)
        return answer

    with counted(logged):  # type: ignore[arg-type]
        newer = index.add(given([50])).index
    log = [(name, Path(str(what)).name) for name, what in counting.log]
    (piece,) = (p for p in newer.snapshot.manifest.pieces if p not in index.snapshot.manifest.pieces)
    partial = next(what for name, what in log if name == "link")
    steps = [("fsync", piece.file), ("fsync", partial), ("fsync", "index"), ("link", partial), ("fsync", "index")]
    assert [step for step in log if step in steps] == steps
    assert all(name in CALLS for name, _ in log)


def test_a_version_whose_last_sync_fails_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = built(tmp_path / "index", range(5))
    calls = []

    def failing_at_the_end(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 4:  # segment, manifest, folder, folder
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_at_the_end)
        with pytest.raises(InputError, match="Input/output error"):
            added(index, [7])
    assert len(calls) == 4 and numbers_of(index.newest()) == [*range(5)]
    assert numbers_of(added(index, [7]).index) == [0, 1, 2, 3, 4, 7]


def test_a_call_with_nothing_to_add_is_not_acknowledged_before_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(tmp_path / "index", range(5))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    added(index, [1])
    index.remove(["nowhere.jpg"])
    assert len(synced) == 2


def test_leftovers_of_killed_writers_go_with_the_next_commit(tmp_path: Path) -> None:
    index = built(tmp_path / "index", range(5))
    (index.path / "segment-0123456789abcdef.bin").write_bytes(b"half")
    (index.path / ".version-000000000002.json.01234567.partial").write_bytes(b"half")
    newer = added(index, [7]).index
    assert set(files_of(index.path)) == {*index.snapshot.manifest.files(), *newer.snapshot.manifest.files()}
    assert not list(index.path.glob(".*partial"))
