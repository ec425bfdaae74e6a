"""SPED in miniature, as VPR-Bench's SPEDTEST: `ref/0000000.jpg`, `query/0000000.jpg` and the list of answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cricavpr.town.views import Town
from tests.miniatures.album import Album
from tests.miniatures.amstertime import fake_name

PAIRS = 4


def write_raw(folder: Path, town: Town, pairs: int = PAIRS) -> None:
    """`ref/`, `query/` and `ground_truth_new.npy`, rows of (query, list of references)."""
    album = Album(town)
    rows = np.empty((pairs, 2), object)
    for number in range(pairs):
        album.put(folder / "ref" / f"{number:07d}.jpg", number, "database")
        album.put(folder / "query" / f"{number:07d}.jpg", number, "query")
        rows[number] = number, [number]
    np.save(folder / "ground_truth_new.npy", rows)


def write_tree(folder: Path, town: Town, pairs: int = PAIRS) -> None:
    """`images/test/{database,queries}/@0@<number x 1000>@...@.jpg`."""
    album = Album(town)
    for number in range(pairs):
        name = fake_name(number * 1000.0, f"{number:07d}")
        album.put(folder / "images/test/database" / name, number, "database")
        album.put(folder / "images/test/queries" / name, number, "query")
