"""Tokyo 24/7 in miniature: 12 cut-outs of each panorama, and each place asked by day, at sunset and by night."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cricavpr.datasets.benchmarks.tokyo import AREA
from cricavpr.town.views import Town
from tests.miniatures.db_struct import write_db_struct
from tests.miniatures.pictures import Shot, draw, metres, shoot, utm_name

CUT_OUTS = 12
SCENES = {"day": "day", "sunset": "dusk", "night": "night"}  # the benchmark's conditions, and the town's
DATABASE, QUERIES = (2, 0, 1), (1, 3)  # places; place 3 is in no database


def write_raw(folder: Path, town: Town, database: Sequence[int] = DATABASE, queries: Sequence[int] = QUERIES) -> None:
    """`tokyo247/038../*.png`, `247query_subset_v2/*.{jpg,csv}`, and `datasets/tokyo247.mat` that says .jpg."""
    shots, asked = _database(town, database), _queries(town, queries)
    draw(town, folder / "tokyo247", shots)
    draw(town, folder / "247query_subset_v2", asked, (40, 32))  # phones were held upright too
    for name, shot in asked.items():
        lat, lon = shot.latlon
        line = f"{name},{lat:.7f},{lon:.7f},0.0\n"
        (folder / "247query_subset_v2" / name).with_suffix(".csv").write_text(line, encoding="utf-8")
    listed = [name.replace(".png", ".jpg") for name in shots]
    sides = listed, metres(shots.values()), list(asked), metres(asked.values())
    write_db_struct(folder / "datasets" / "tokyo247.mat", *sides)


def write_tree(folder: Path, town: Town, database: Sequence[int] = DATABASE, queries: Sequence[int] = QUERIES) -> None:
    """`images/test/{database,queries}/@...@.jpg`: every photo .jpg, and a query's number where the panorama stands."""
    base = folder / "images" / "test"
    shots, asked = _database(town, database), _queries(town, queries)
    draw(town, base / "database", {_utm(name, shot): shot for name, shot in shots.items()})
    draw(town, base / "queries", {utm_name(shot, name.removesuffix(".jpg")): shot for name, shot in asked.items()})


def _database(town: Town, places: Sequence[int]) -> dict[str, Shot]:
    shots = {}
    for place in places:
        middle = shoot(town, AREA, place, "database")
        for angle in range(0, 360, 360 // CUT_OUTS):
            shots[f"{3814 + place:05d}/{_panorama(place)}_012_{angle}.png"] = middle.turned(angle)
    return shots


def _queries(town: Town, places: Sequence[int]) -> dict[str, Shot]:
    visits = [(place, scene) for place in places for scene in SCENES.values()]
    return {
        f"{number:05d}.jpg": shoot(town, AREA, place, "query", number, scene)
        for number, (place, scene) in enumerate(visits, start=1)
    }


def _panorama(place: int) -> str:
    """22 letters, an underscore among them as in real ones."""
    return f"Town_{place:02d}-abcdefghijklmn"


def _utm(name: str, shot: Shot) -> str:
    panorama, _, angle = name.rpartition("/")[2].removesuffix(".png").rpartition("_012_")
    return utm_name(shot, panorama, f"{int(angle) // 30:02d}", f"{int(angle):03d}")
