"""Mapillary Street-Level Sequences in miniature: the csv files of every city, both packagings of the lists, the tree.

Each city has one query that is a panorama, one that nothing answers, and one outside the subtask `all`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cricavpr.datasets.benchmarks.base import Area
from cricavpr.town.views import Split, Town
from tests.miniatures.album import Album
from tests.miniatures.pictures import Shot, utm_name

CITIES = {
    "cph": Area("Copenhagen", 55.68, 12.57),
    "sf": Area("San Francisco", 37.76, -122.44),
    "london": Area("London", 51.51, 0.0),  # on the border of two zones
    "miami": Area("Miami", 25.77, -80.2),
    "athens": Area("Athens", 37.98, 23.73),
    "buenosaires": Area("Buenos Aires", -34.6, -58.4),
    "stockholm": Area("Stockholm", 59.33, 18.06),
    "bengaluru": Area("Bengaluru", 12.97, 77.59),
    "kampala": Area("Kampala", 0.31, 32.58),
}
TEST_CITIES = ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala")
SUBTASKS = ("all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d")


@dataclass(frozen=True)
class Row:
    """One image of the tables."""

    key: str
    place: int
    shot: Shot
    panorama: bool
    in_all: bool
    night: bool


# place, panorama, in the subtask `all`, night
_DATABASE = ((0, False, True, False), (1, False, True, False), (2, False, True, True), (0, True, True, False))
_QUERIES = (
    (1, False, True, False),
    (0, True, True, False),
    (3, False, True, False),  # no database image near
    (0, False, False, True),
    (2, False, True, False),
)


def rows_of(town: Town, city: str, side: str) -> list[Row]:
    """The images of one side of one city."""
    rows = []
    for number, (place, panorama, in_all, night) in enumerate(_DATABASE if side == "database" else _QUERIES):
        split: Split = "database" if side == "database" else "query"
        shot = Shot(town.view(place, 0, split, "night" if night else None), CITIES[city])
        rows.append(Row(f"{city}_{side[0]}{number}".ljust(22, "-"), place, shot, panorama, in_all, night))
    return rows


def write_raw(folder: Path, town: Town, cities: Sequence[str] = ("cph", "sf"), subtasks: bool = True) -> None:
    """`train_val/<city>/{query,database}/` with `images/<key>.jpg` and the four csv files."""
    album = Album(town)
    for city in cities:
        for side in ("database", "query"):
            base, rows = folder / "train_val" / city / side, rows_of(town, city, side)
            _put(album, base / "images", rows)
            _sequences(base, city, rows)
            _answers(base, rows)
            if subtasks:
                _subtasks(base, rows)


def write_test(folder: Path, town: Town, answers: Sequence[str] = ()) -> None:
    """`test/<city>/{query,database}/` of all six cities; the tables with positions for the cities of `answers`."""
    album = Album(town)
    for city in TEST_CITIES:
        for side in ("database", "query"):
            base, rows = folder / "test" / city / side, rows_of(town, city, side)
            _put(album, base / "images", rows)
            _sequences(base, city, rows)
            _subtasks(base, rows)
            if city in answers:
                _answers(base, rows)


def write_lists(folder: Path, town: Town, *, all_in_one: bool = False) -> None:
    """`msls_val_{dbImages,qImages,qIdx,pIdx}.npy` of GSV-Cities, or OpenVPRLab's `{dbImages,qImages,gt_25m}`."""
    album, above = Album(town), "" if all_in_one else "train_val/"
    names: dict[str, list[str]] = {"database": [], "query": []}
    places: dict[str, list[tuple[str, int]]] = {"database": [], "query": []}
    for city in ("cph", "sf"):
        for side in ("database", "query"):
            rows = [row for row in rows_of(town, city, side) if row.in_all and not row.panorama]
            _put(album, folder / f"{above}{city}/{side}/images", rows)
            names[side] += [f"{above}{city}/{side}/images/{row.key}.jpg" for row in rows]
            places[side] += [(city, row.place) for row in rows]
    found = [np.flatnonzero([where == asked for where in places["database"]]) for asked in places["query"]]
    used = [query for query, answers in enumerate(found) if answers.size]
    asked = [names["query"][query] for query in used] if all_in_one else names["query"]
    np.save(folder / "msls_val_dbImages.npy", np.array(names["database"]))
    np.save(folder / "msls_val_qImages.npy", np.array(asked))
    answers = np.empty(len(used), object)
    for row, query in enumerate(used):
        answers[row] = found[query]
    np.save(folder / ("msls_val_gt_25m.npy" if all_in_one else "msls_val_pIdx.npy"), answers)
    if not all_in_one:
        np.save(folder / "msls_val_qIdx.npy", np.array(used))


def write_tree(folder: Path, town: Town) -> None:
    """`val/{database,queries}/@...@<key>@...@.jpg` without panoramas, as the downloader writes below `msls/`."""
    album = Album(town)
    for side, name in (("database", "database"), ("query", "queries")):
        for city in ("cph", "sf"):
            for row in rows_of(town, city, side):
                if not row.panorama:
                    split: Split = "database" if side == "database" else "query"
                    album.put(folder / "val" / name / utm_name(row.shot, row.key), row.place, split)


def _put(album: Album, images: Path, rows: Sequence[Row]) -> None:
    for row in rows:
        album.put(images / f"{row.key}.jpg", row.place, "query", "night" if row.night else None)


def _sequences(base: Path, city: str, rows: Sequence[Row]) -> None:
    body = [(row.key, f"{city}-{base.name}-sequence{k // 2}", k % 2) for k, row in enumerate(rows)]
    _table(base / "seq_info.csv", ("key", "sequence_key", "frame_number"), body)


def _subtasks(base: Path, rows: Sequence[Row]) -> None:
    body = [(row.key, row.in_all, *(False,) * 6) for row in rows]
    _table(base / "subtask_index.csv", ("key", *SUBTASKS), body)


def _answers(base: Path, rows: Sequence[Row]) -> None:
    """raw.csv and postprocessed.csv: degrees, and metres with columns of clusters between and behind them."""
    degrees = [
        (row.key, f"{row.shot.latlon[1]:.8f}", f"{row.shot.latlon[0]:.8f}", 90.5, "2019-05-07", row.panorama)
        for row in rows
    ]
    _table(base / "raw.csv", ("key", "lon", "lat", "ca", "captured_at", "pano"), degrees)
    columns = ("key", "easting", "northing", "unique_cluster", "control_panel", "night", "view_direction")
    metres = [(row.key, *row.shot.metres, k, False, row.night, "Forward") for k, row in enumerate(rows)]
    _table(base / "postprocessed.csv", columns, metres)


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """With a first column of row numbers that has no name."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *header])
        writer.writerows([number, *row] for number, row in enumerate(rows))
