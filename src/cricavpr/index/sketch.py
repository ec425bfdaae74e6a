"""Which photos a calibration was made for, in a few numbers: enough to see that it has aged, and wiped as photos are.

The calibration itself is not of the index: it lies in the same folder and is known here by its name and by the two
entries that stand for photos.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cricavpr.files import write_text
from cricavpr.geo import Metres
from cricavpr.index.columns import Bytes, Indices
from cricavpr.index.durable import read_whole
from cricavpr.index.sealed import is_sealed, sealed, unsealed

CALIBRATION = "calibration.json"
MOST_BYTES = 4_000_000
SKETCH = 256  # photos that stand for all of an index
MANY = 4 * SKETCH  # so that among them there are as many that differ, nearly always

Sketch = tuple[int, ...]
Photos = Iterable[tuple[Bytes, Metres]]  # ids (n, 32) and positions (n, 2), part by part


def sketch_of(photos: Photos) -> Sketch:
    """The lowest 256 of the numbers that stand for photos: from two sketches follows how much two sets share.

    Broder, "On the resemblance and containment of documents" (1997). A number is 32 bits of a photo's id and its
    position to a metre, so a photo that was moved is another, and whoever has a photo and its place can tell whether
    it is one of these: `wipe` takes out those of photos that were removed.
    """
    lowest = np.empty(0, np.int64)
    for ids, metres in photos:
        lowest = np.unique(np.append(lowest, _lowest(_numbers(ids, metres))))[:SKETCH]
    return tuple(lowest.tolist())


def _lowest(numbers: Indices) -> Indices:  # (N,) -> (n,), among them the lowest 256 that differ
    few = np.partition(numbers, MANY)[:MANY] if len(numbers) > MANY else numbers
    return few if len(np.unique(few)) >= SKETCH else numbers


def likeness(one: Sequence[int], other: Sequence[int], wiped: int = 0) -> float:
    """Photos in both sets, as a share of those in either; `wiped` more were in one of them and are in neither now."""
    lowest = sorted({*one, *other})[: SKETCH - wiped]
    count = len(lowest) + wiped
    return len({*one} & {*other} & {*lowest}) / count if count else 1.0


def left_of(sketch: Sequence[int], photos: Photos) -> Sketch:
    """What is left of a sketch when only these photos are there."""
    wanted = np.array(sketch, np.int64)
    there = np.zeros(len(wanted), np.bool_)
    for ids, metres in photos:
        there |= np.isin(wanted, _numbers(ids, metres))
    return tuple(wanted[there].tolist())


def wipe(folder: Path, photos: Photos) -> None:
    """Take out of the calibration of an index what stands for photos that are not in it, and count them instead.

    One that is damaged or of an earlier release is wiped too, as far as it can be read, and stays what it is.

    Raises:
        OSError, InputError: it cannot be written.
    """
    path = folder / CALIBRATION
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        content = read_whole(path, MOST_BYTES)
        sound = is_sealed(content)
        values = unsealed(content) if sound else json.loads(content)
        sketch = tuple(map(int, values["sketch"]))
        left = left_of(sketch, photos)
        if left != sketch:
            counted = int(values.get("wiped", 0)) + len(sketch) - len(left)
            wiped = {**values, "sketch": left, "wiped": counted}
            write_text(path, (sealed(wiped) if sound else json.dumps(wiped)) + "\n")


def _numbers(ids: Bytes, metres: Metres) -> Indices:  # (N, 32), (N, 2) -> (N,)
    low = np.ascontiguousarray(ids[:, :4]).view("<u4")[:, 0]
    east, north = np.round(np.nan_to_num(metres)).astype(np.int64).T.astype(np.uint32)
    numbers: Indices = (low ^ (east * np.uint32(0x9E3779B1)) ^ (north * np.uint32(0x85EBCA77))).astype(np.int64)
    return numbers
