"""Sketches of the photos of an index: a few hashes that show whether the photos have changed since calibration.

`cricavpr index calibrate` stores a sketch in the calibration, a file in the folder of the index. Hashes of removed
photos are wiped from this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cricavpr.files import write_text
from cricavpr.geo import Metres
from cricavpr.index.checksummed_json import seal, unseal
from cricavpr.index.columns import Bytes, Indices
from cricavpr.index.manifest import CALIBRATION
from cricavpr.index.storage import read_whole

MOST_BYTES = 4_000_000
SKETCH = 256  # number of hashes in a sketch

Sketch = tuple[int, ...]
PhotoKeys = Iterable[tuple[Bytes, Metres]]  # for each part of an index, ids (n, 32) and positions (n, 2)


def sketch_of(photos: PhotoKeys) -> Sketch:
    """Return the sketch of a set of photos: their lowest 256 hashes. `likeness` compares two sketches.

    The method is that of Broder, "On the resemblance and containment of documents" (1997). A hash depends on the id of
    a photo and on its position, rounded to a metre. So a photo with a new position counts as another photo.
    """
    lowest = np.empty(0, np.int64)
    for ids, metres in photos:
        lowest = np.unique(np.append(lowest, _hashes(ids, metres)))[:SKETCH]
    return tuple(lowest.tolist())


def likeness(one: Sequence[int], other: Sequence[int], wiped: int = 0) -> float:
    """Return the estimated Jaccard similarity, from 0 to 1, of two sets of photos, given their sketches.

    Args:
        wiped: number of hashes of removed photos that were wiped from one of the sketches.
    """
    lowest = sorted({*one, *other})[: SKETCH - wiped]
    count = len(lowest) + wiped
    return len({*one} & {*other} & {*lowest}) / count if count else 1.0


def left_of(sketch: Sequence[int], photos: PhotoKeys) -> Sketch:
    """Return the hashes of a sketch that belong to one of these photos."""
    wanted = np.array(sketch, np.int64)
    there = np.zeros(len(wanted), np.bool_)
    for ids, metres in photos:
        there |= np.isin(wanted, _hashes(ids, metres))
    return tuple(wanted[there].tolist())


def wipe(folder: Path, photos: PhotoKeys) -> None:
    """Wipe the hashes of removed photos from the calibration of an index. The number of wiped hashes is stored instead.

    A damaged calibration cannot be used, so its file is removed. Nothing happens if there is no calibration.

    Args:
        folder: the folder of the index.
        photos: the photos that are still in the index.

    Raises:
        OSError, InputError: the calibration cannot be read or written.
    """
    path = folder / CALIBRATION
    try:
        values = unseal(read_whole(path, MOST_BYTES))
        sketch, wiped = tuple(map(int, values["sketch"])), int(values["wiped"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        path.unlink()
        return
    left = left_of(sketch, photos)
    if left != sketch:
        write_text(path, seal({**values, "sketch": left, "wiped": wiped + len(sketch) - len(left)}) + "\n")


def _hashes(ids: Bytes, metres: Metres) -> Indices:  # (N, 32), (N, 2) -> (N,)
    low = np.ascontiguousarray(ids[:, :4]).view("<u4")[:, 0]
    east, north = np.round(np.nan_to_num(metres)).astype(np.int64).T.astype(np.uint32)
    hashes: Indices = (low ^ (east * np.uint32(0x9E3779B1)) ^ (north * np.uint32(0x85EBCA77))).astype(np.int64)
    return hashes
