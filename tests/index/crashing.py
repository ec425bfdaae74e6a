"""Indexes whose writer is killed, or whose disk fails, at a chosen call. Children are forked by a small process.

Run as `python -m tests.index.crashing add|remove|compact|random FOLDER [KILLS SEED]`; prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cricavpr.index.place_index import PlaceIndex
from tests.forked import forked
from tests.index.places import added, built, files_of, numbers_of, photos, same_answers

CALLS = ("open", "write", "fsync", "link", "unlink", "replace", "close", "ftruncate", "pwrite", "mkdir", "rmdir")
KILLED = -signal.SIGKILL
HUNDRED = range(100, 200)


class Counting:
    """Calls of `os` counted, and one of them followed by something else than its return."""

    def __init__(self, at: int, then: Callable[[], None], before: bool = False) -> None:
        self.at, self.then, self.before, self.done = at, then, before, 0
        self.log: list[tuple[str, Any]] = []

    def __call__(self, name: str, call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        self.done += 1
        self.log.append((name, args[0] if args else None))
        before = self.before and name != "close"  # which lets go of the file even where it fails
        if before and self.done == self.at:
            self.then()
        try:
            return call(*args, **keywords)
        finally:  # also after a call that fails, such as the making of a folder that is there
            if not before and self.done == self.at:
                self.then()


@contextlib.contextmanager
def counted(counting: Counting) -> Iterator[None]:
    originals = {name: getattr(os, name) for name in CALLS}
    for name, call in originals.items():
        setattr(os, name, partial(counting, name, call))
    try:
        yield
    finally:
        for name, call in originals.items():
            setattr(os, name, call)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


VERBS: dict[str, Callable[[PlaceIndex], Any]] = {
    "add": lambda index: added(index, HUNDRED),
    "remove": lambda index: index.remove(["1.jpg", "3.jpg"]),
    "compact": lambda index: index.compact(),
}
AFTER = {"add": [0, 1, 2, 3, 4, *HUNDRED], "remove": [0, 2, 4], "compact": [0, 1, 2, 3, 4]}


def dying(path: Path, verb: str, at: int) -> None:
    index = PlaceIndex.open(path)
    with counted(Counting(at, die)):
        VERBS[verb](index)


def before_compacting(path: Path) -> None:
    """Two segments, one with a removed photo."""
    index = added(built(path, [0, 9, 1, 2]), [3, 4]).index
    index.remove(["9.jpg"])


def after_every_call(root: Path, verb: str) -> dict[str, Any]:
    """Kill a writer after its first call, after its second, and so on until it gets through."""
    problems: list[Any] = []
    before_compacting(root / "before")
    for at in itertools.count(1):
        path = root / str(at)
        shutil.copytree(root / "before", path)
        code = forked(partial(dying, path, verb, at))
        try:
            there = numbers_of(PlaceIndex.open(path))
            if there not in ([0, 1, 2, 3, 4], AFTER[verb]):
                problems.append([at, "half", there])
            VERBS[verb](PlaceIndex.open(path))
            index = PlaceIndex.open(path)
            index.verify()
            if numbers_of(index) != AFTER[verb] or set(index.compact().snapshot.manifest.files()) != set(
                files_of(path)
            ):
                problems.append([at, "cannot go on", files_of(path)])
        except Exception as error:
            problems.append([at, repr(error)])
        if code != KILLED:
            assert code == 0, code
            return {"kills": at - 1, "problems": problems}
    raise AssertionError


# --- kills at random times


def busy(path: Path, out: int, seed: int) -> None:
    """Change an index for ever, and say on a pipe what is begun and what is done: `+ 3 4 5`, `- 4`, `c`, then `ok`."""
    chance = random.Random(seed)
    while True:
        there = numbers_of(PlaceIndex.open(path).newest())
        what = chance.random()
        if what < 0.55 or len(there) < 3:
            some = sorted(chance.sample(range(60), chance.randint(1, 6)))
            os.write(out, f"+ {' '.join(map(str, some))}\n".encode())
            added(PlaceIndex.open(path), some)
        elif what < 0.85:
            some = chance.sample(there, chance.randint(1, 2))
            os.write(out, f"- {' '.join(map(str, some))}\n".encode())
            PlaceIndex.open(path).remove([f"{number}.jpg" for number in some])
        else:
            os.write(out, b"c\n")
            PlaceIndex.open(path).compact()
        os.write(out, b"ok\n")


def applied(there: list[int], line: str) -> list[int]:
    """What a line of the pipe makes of the photos of an index."""
    numbers = [int(word) for word in line[1:].split()]
    if line.startswith("+"):
        return there + [number for number in numbers if number not in there]
    return [number for number in there if number not in numbers]


def killed_once(path: Path, before: list[int], chance: random.Random) -> tuple[list[list[int]], int]:
    """Let a writer work, kill it; the states in which the index may be, and how many verbs were done."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            busy(path, write, chance.getrandbits(32))
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    os.close(write)
    said = _until(read, chance.randint(0, 3))
    time.sleep(chance.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == KILLED
    with os.fdopen(read, "rb") as file:
        lines = (said + file.read()).decode().splitlines()
    state, done = before, 0
    for line, answer in itertools.zip_longest(lines[::2], lines[1::2]):
        if answer is None:
            return [state, applied(state, line)], done
        state, done = applied(state, line), done + 1
    return [state], done


def _until(read: int, verbs: int) -> bytes:
    """What a writer says until it has begun, and done so many verbs: a slow machine is killed no earlier."""
    said = b""
    while b"\n" not in said or said.count(b"ok\n") < verbs:
        more = os.read(read, 1000)
        assert more, "the writer has failed"
        said += more
    return said


def at_random(root: Path, kills: int, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)
    path, problems, verbs = root / "index", [], 0
    state = numbers_of(built(path, range(5)))
    for kill in range(kills):
        allowed, done = killed_once(path, state, chance)
        verbs += done
        try:
            index = PlaceIndex.open(path)
            index.verify()
            state = numbers_of(index)
            fresh = built(root / "fresh", state) if state else index
            if state not in allowed or not same_answers(index, fresh, photos(range(60, 64))):
                problems.append([seed, kill, state, allowed])
        except Exception as error:
            problems.append([seed, kill, repr(error)])
            break
    return {"kills": kills, "acknowledged": verbs, "problems": problems}


if __name__ == "__main__":
    os.fsync = lambda fd: None  # what a killed process wrote is kept by the system: syncing would only take time
    kind, folder = sys.argv[1], Path(sys.argv[2])
    print(
        json.dumps(at_random(folder, *map(int, sys.argv[3:])) if kind == "random" else after_every_call(folder, kind))
    )
