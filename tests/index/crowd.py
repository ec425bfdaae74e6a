"""Many processes at one index. Run as `python -m tests.index.crowd readers|writers FOLDER COUNT SECONDS`."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cricavpr.index.place_index import PlaceIndex
from tests.index.places import added, built, numbers_of, photos, scored

QUERIES = photos(range(1000, 1008))


def answer(path: Path) -> tuple[int, list[int]]:
    """Open, search, compare with brute force over what the version holds; which version and what it holds."""
    index = PlaceIndex.open(path)
    found = index.search(QUERIES, 5)
    numbers = numbers_of(index)
    rows, scores = scored(photos(numbers).vectors, QUERIES.vectors, 5)
    assert found.indices.tobytes() == rows.tobytes() and found.scores.tobytes() == scores.tobytes()
    return index.version, numbers


def reading(path: Path, out: Path, until: float) -> None:
    kept = PlaceIndex.open(path)
    before = numbers_of(kept)
    with out.open("w") as file:
        while time.time() < until:
            file.write(json.dumps(answer(path)) + "\n")
    again = PlaceIndex(kept.snapshot)  # who opened an index long ago still has every byte of it
    assert again.descriptors.vectors.tobytes() == photos(before).vectors.tobytes()


def writing(path: Path, out: Path, until: float, seed: int) -> None:
    chance = random.Random(seed)
    index = PlaceIndex.open(path)
    with out.open("w") as file:
        file.write(json.dumps((index.version, numbers_of(index))) + "\n")
        while time.time() < until:
            there, what = numbers_of(index), chance.random()
            if what < 0.5 or len(there) < 5:
                index = added(index, chance.sample(range(200), 5)).index
            elif what < 0.85:
                index = index.remove([f"{number}.jpg" for number in chance.sample(there, 2)]).index
            else:
                index = index.compact()
            file.write(json.dumps((index.version, numbers_of(index))) + "\n")


def in_children(works: list[Callable[[], Any]]) -> list[int]:
    pids = []
    for work in works:
        pid = os.fork()
        if pid == 0:
            work()
            os._exit(0)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def readers(root: Path, count: int, seconds: float) -> dict[str, Any]:
    path, until = root / "index", time.time() + seconds
    built(path, range(20))
    logs = [root / f"reader-{number}" for number in range(count)]
    works: list[Callable[[], Any]] = [lambda log=log: reading(path, log, until) for log in logs]  # type: ignore[misc]
    codes = in_children([*works, lambda: writing(path, root / "writer", until, 1)])
    committed = dict(map(tuple, lines(root / "writer")))
    answers = [one for log in logs for one in lines(log)]
    wrong = [one for one in answers if committed.get(one[0]) != one[1]]
    seen = len({version for version, _ in answers})
    return {"codes": codes, "answers": len(answers), "versions": len(committed), "seen": seen, "wrong": wrong[:3]}


def one_by_one(path: Path, numbers: range) -> None:
    for number in numbers:
        added(PlaceIndex.open(path), [number], wait_s=60)


def writers(root: Path, count: int, each: int) -> dict[str, Any]:
    path = root / "index"
    PlaceIndex.create(path, photos([0]).made_by)
    shares = [range(number * each, (number + 1) * each) for number in range(count)]
    codes = in_children([lambda share=share: one_by_one(path, share) for share in shares])  # type: ignore[misc]
    index = PlaceIndex.open(path)
    index.verify()
    there = numbers_of(index)
    missing = sorted(set(itertools.chain(*shares)) - set(there))
    return {"codes": codes, "photos": len(there), "missing": missing, "version": index.version}


if __name__ == "__main__":
    os.fsync = lambda _: None
    kind, folder, count, amount = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    print(json.dumps(readers(folder, count, amount) if kind == "readers" else writers(folder, count, int(amount))))
