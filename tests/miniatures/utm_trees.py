"""Trees of @ names in miniature: SVOX, San Francisco XL, Eynsham and St Lucia."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cricavpr.datasets.benchmarks import utm_trees
from cricavpr.datasets.benchmarks.base import Area
from cricavpr.town.views import Split, Town
from tests.miniatures.pictures import Shot, draw, shoot, utm_name

DATABASE, QUERIES = (2, 0, 1), (1, 3)  # places; place 3 is in no database
OXFORDSHIRE, BRISBANE = Area("Eynsham", 51.78, -1.37), Area("Brisbane", -27.5, 153.0)
_SCENES = {"night": "night", "overcast": "overcast", "rain": "rain", "snow": "snow", "sun": "day"}


def write_svox(folder: Path, town: Town) -> None:
    """`images/test/gallery`, `queries`, and `queries_<weather>`; night has one query more than the others."""
    base = folder / "images" / "test"
    _write(town, base / "gallery", utm_trees.OXFORD, DATABASE, "database")
    _write(town, base / "queries", utm_trees.OXFORD, QUERIES, "query")
    for number, (weather, scene) in enumerate(_SCENES.items(), start=1):
        places = (0, *QUERIES) if weather == "night" else QUERIES
        _write(town, base / f"queries_{weather}", utm_trees.OXFORD, places, "query", number, scene)


def write_sf_xl(folder: Path, town: Town, lists: bool = True) -> None:
    """`processed/{val,test}/...` and `small/...` without a level `images`; `database_images_paths.txt` beside."""
    for size in ("processed", "small"):
        base = folder / size / "test"
        names = _write(town, base / "database", utm_trees.SAN_FRANCISCO, DATABASE, "database", below="37.7")
        if lists:
            _list(base / "database", names)
        sets = (
            ("queries_v1", "queries_v2", "queries_night", "queries_occlusion")
            if size == "processed"
            else ("queries_v1",)
        )
        for number, queries in enumerate(sets, start=1):
            condition = "night" if queries == "queries_night" else None
            _write(town, base / queries, utm_trees.SAN_FRANCISCO, QUERIES, "query", number, condition)
        _write(town, folder / size / "val" / "database", utm_trees.SAN_FRANCISCO, DATABASE, "database")
        _write(town, folder / size / "val" / "queries", utm_trees.SAN_FRANCISCO, QUERIES, "query")


def write_eynsham(folder: Path, town: Town) -> None:
    """`images/test/{database,queries}`; one position per panorama of five cameras."""
    _write(town, folder / "images" / "test" / "database", OXFORDSHIRE, DATABASE, "database", cameras=5)
    _write(town, folder / "images" / "test" / "queries", OXFORDSHIRE, QUERIES, "query", cameras=5)


def write_st_lucia(folder: Path, town: Town) -> None:
    """`images/test/{database,queries}`, south of the equator."""
    _write(town, folder / "images" / "test" / "database", BRISBANE, DATABASE, "database")
    _write(town, folder / "images" / "test" / "queries", BRISBANE, QUERIES, "query")


def _write(
    town: Town,
    folder: Path,
    area: Area,
    places: Sequence[int],
    split: Split,
    visit: int = 0,
    condition: str | None = None,
    cameras: int = 1,
    below: str = "",
) -> list[str]:
    shots: dict[str, Shot] = {}
    for place in places:
        middle = shoot(town, area, place, split, visit, condition)
        for camera in range(cameras):
            shot = middle if cameras == 1 else middle.turned(72.0 * camera)
            heading = f"{round(shot.view.camera.yaw_deg) % 360:03d}"
            name = utm_name(shot, f"pano{place}", f"{camera:02d}", heading, f"{shot.view.scene.year:04d}")
            shots[f"{below}/{name}" if below else name] = shot
    draw(town, folder, shots)
    return list(shots)


def _list(folder: Path, names: Sequence[str]) -> None:
    """One path below the folder per line, in an order of its own that readers must keep."""
    beside = folder.with_name(f"{folder.name}_images_paths.txt")
    beside.write_text("\n".join(names) + "\n", encoding="utf-8")
