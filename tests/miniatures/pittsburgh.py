"""Pitts30k in miniature: 24 cut-outs of each panorama, as published and as a tree of @ names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cricavpr.datasets.benchmarks.pittsburgh import AREA
from cricavpr.town.views import Split, Town
from tests.miniatures.db_struct import write_db_struct
from tests.miniatures.pictures import Shot, draw, metres, shoot, utm_name

PITCHES, YAWS = 2, 12
FIRST_PANORAMA = 829  # of the town's place 0, so that numbers are seen to be no indices

DATABASE, QUERIES = (2, 0, 1), (1, 0, 3)  # places, not in the order of their eastings; place 3 is in no database


def write_raw(
    folder: Path,
    town: Town,
    stem: str = "pitts30k_test",
    database: Sequence[int] = DATABASE,
    queries: Sequence[int] = QUERIES,
) -> None:
    """`000/*.jpg`, `queries_real/000/*.jpg` and `datasets/<stem>.mat`."""
    shots, asked = _panoramas(town, database, "database"), _panoramas(town, queries, "query")
    draw(town, folder, shots)
    draw(town, folder / "queries_real", asked)
    sides = list(shots), metres(shots.values()), list(asked), metres(asked.values())
    write_db_struct(folder / "datasets" / f"{stem}.mat", *sides, stem.rpartition("_")[2])


def write_npy(folder: Path, stem: str = "pitts30k_test") -> None:
    """The lists of gsv-cities beside what `write_raw` wrote with its own places."""
    database = [name for place in DATABASE for name in _names(place)]
    queries = [f"queries_real/{name}" for place in QUERIES for name in _names(place)]
    found = np.empty(len(queries), object)
    for row, place in enumerate(np.repeat(QUERIES, PITCHES * YAWS).tolist()):
        first = 24 * DATABASE.index(place) if place in DATABASE else None
        found[row] = np.empty(0, np.int64) if first is None else np.arange(first, first + 24)
    for part, array in (("dbImages", np.array(database)), ("qImages", np.array(queries)), ("gt", found)):
        np.save(folder / f"{stem}_{part}.npy", array)


def write_tree(
    folder: Path,
    town: Town,
    split: str = "test",
    database: Sequence[int] = DATABASE,
    queries: Sequence[int] = QUERIES,
) -> None:
    """`images/<split>/{database,queries}/@...@.jpg`."""
    for side, places, visit in (("database", database, "database"), ("queries", queries, "query")):
        shots = _panoramas(town, places, "database" if visit == "database" else "query")
        draw(town, folder / "images" / split / side, {_utm(name, shot): shot for name, shot in shots.items()})


def _panoramas(town: Town, places: Sequence[int], split: Split) -> dict[str, Shot]:
    """Cut-outs by name, panorama by panorama."""
    shots = {}
    for place in places:
        middle = shoot(town, AREA, place, split)
        for number, name in enumerate(_names(place)):
            pitch, yaw = divmod(number, YAWS)
            shots[name] = middle.turned(30.0 * yaw, 6.0 + 20.0 * pitch)
    return shots


def _names(place: int) -> list[str]:
    panorama = FIRST_PANORAMA + place
    stem = f"{panorama // 1000:03d}/{panorama:06d}"
    return [f"{stem}_pitch{p}_yaw{y}.jpg" for p in range(1, PITCHES + 1) for y in range(1, YAWS + 1)]


def _utm(name: str, shot: Shot) -> str:
    panorama, pitch, yaw = name.rpartition("/")[2].removesuffix(".jpg").split("_")
    tile = (int(pitch.removeprefix("pitch")) - 1) * 24 + int(yaw.removeprefix("yaw")) - 1
    return utm_name(shot, panorama, f"{tile:02d}", note=f"{pitch}_{yaw}")
