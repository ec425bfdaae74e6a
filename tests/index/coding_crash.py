"""A large index whose process dies while codes are made, measured or carried: before each call, or each STEPth.

Run as `python -m tests.index.coding_crash learn|compact FOLDER STEP`; prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cricavpr.index import searching
from cricavpr.index.codes.tuning import Tuned
from cricavpr.index.place_index import PlaceIndex
from tests.forked import forked
from tests.index.crashing import KILLED, Counting, counted, die
from tests.index.places import WIDE, added, built, files_of, photos, vector_of

OLD, NEW = 70, 10  # photos in the first segment, and in the second


def learn(index: PlaceIndex) -> None:
    index.prepare(learn=True)
    index.newest().tune(5, [200])


VERBS: dict[str, Callable[[PlaceIndex], Any]] = {"learn": learn, "compact": lambda index: index.compact()}


def before(path: Path) -> None:
    """Measured before it grew, coded wholly; photo 7 is removed."""
    index = built(path, range(OLD), WIDE)
    learn(index)
    index = added(index, range(OLD, OLD + NEW), WIDE).index
    index.searcher(engine="compressed")
    index.remove(["7.jpg"])


def wrong(path: Path) -> list[str]:
    """What is wrong with the answers and the files of an index, by either engine."""
    index, there = PlaceIndex.open(path), [n for n in range(OLD + NEW) if n != 7]
    index.verify()
    problems = []
    for engine in ("exact", "auto", "compressed"):
        found = index.search(photos(there, WIDE), 1, engine=engine).indices[:, 0].tolist()
        if [index.name(row) for row in found] != [f"{n}.jpg" for n in there]:
            problems.append(f"another answer by {engine}")
    return problems


def left_over(path: Path) -> list[str]:
    """What is wrong once the verb was done again and the index compacted."""
    index = PlaceIndex.open(path).compact()
    Tuned.read(path)
    codes = [name for name in files_of(path) if name.startswith("codes-")]
    wanted = {*index.snapshot.manifest.files(), *codes, "quantiser.bin", "tuned.json"}
    problems = [] if set(files_of(path)) == wanted and len(codes) <= 1 else [str(files_of(path))]
    problems += [str(one) for one in path.glob(".*partial")]
    everything = b"".join(file.read_bytes() for file in path.iterdir())
    return problems + (["a removed photo is left"] if vector_of(7, WIDE.dim).tobytes() in everything else [])


def calls(path: Path, verb: str) -> int:
    """How many calls of the system a verb makes."""
    counting, index = Counting(0, lambda: None), PlaceIndex.open(path)
    with counted(counting):
        VERBS[verb](index)
    return counting.done


def dying(path: Path, verb: str, at: int) -> None:
    index = PlaceIndex.open(path)
    with counted(Counting(at, die, before=True)):  # a call may fail, as that for a folder that is there does
        VERBS[verb](index)


def before_every_call(root: Path, verb: str, step: int) -> dict[str, Any]:
    problems: list[Any] = []
    before(root / "before")
    total, killed = calls(Path(shutil.copytree(root / "before", root / "whole")), verb), 0
    for at in range(1, total + 1, step):
        path = Path(shutil.copytree(root / "before", root / str(at)))
        killed += forked(partial(dying, path, verb, at)) == KILLED
        try:
            problems += [[at, what] for what in wrong(path)]
            VERBS[verb](PlaceIndex.open(path))
            problems += [[at, what] for what in (*wrong(path), *left_over(path))]
        except Exception as error:
            problems.append([at, repr(error)])
        shutil.rmtree(path)
    return {"calls": total, "kills": killed, "problems": problems}


if __name__ == "__main__":
    os.fsync = lambda fd: None  # what a killed process wrote is kept by the system: syncing would only take time
    searching.EXACT_VALUES = 0
    print(json.dumps(before_every_call(Path(sys.argv[2]), sys.argv[1], int(sys.argv[3]))))
