"""Nordland in miniature: its four lists, with a journey past the few places of a town, in summer and in winter."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cricavpr.town.views import Town
from tests.miniatures.album import Album
from tests.miniatures.amstertime import fake_name

FRAMES = 26  # more than the widest tolerance to both sides
SEASONS = {"summer": "day", "winter": "snow"}
FIRST_KEPT, TUNNEL = 202, 7  # the first frame of the cleaned list; how many are left out in its middle


def clean_names(frames: int = FRAMES) -> list[str]:
    """The cleaned list: it begins late and has a gap where the train is in a tunnel."""
    numbers = [FIRST_KEPT + frame + (TUNNEL if frame >= frames // 2 else 0) for frame in range(frames)]
    return [f"images-{number:05d}.png" for number in numbers]


def write_frames(folder: Path, town: Town, frames: int = FRAMES) -> None:
    """`summer/`, `winter/` with every second of the film, tunnels included, and `cleanImageNames.txt`."""
    album, names = Album(town), clean_names(frames)
    for season, condition in SEASONS.items():
        for number in range(FIRST_KEPT - 2, FIRST_KEPT + frames + TUNNEL + 2):
            album.put(folder / season / f"images-{number:05d}.png", number, "database", condition)
    (folder / "cleanImageNames.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def write_tree(folder: Path, town: Town, frames: int = FRAMES, spacing_m: float = 25 / 10.5) -> None:
    """`images/test/{database,queries}/@0@<frame x 2.381>@@@@@<frame>@...@.jpg`: summer, and winter asks."""
    album = Album(town)
    for side, season in (("database", "summer"), ("queries", "winter")):
        for frame in range(frames):
            file = folder / "images/test" / side / fake_name(frame * spacing_m, str(frame))
            album.put(file, frame, "database", SEASONS[season])


def write_patchnetvlad(folder: Path, town: Town, frames: int = FRAMES) -> None:
    """The frames, `nordland_imageNames_{index,query}.txt` that count from the parent folder, and `nordland.npz`."""
    album, names = Album(town), clean_names(frames)
    for season, file in (("summer", "index"), ("winter", "query")):
        for frame, name in enumerate(names):
            album.put(folder / season / name, frame, "database", SEASONS[season])
        lines = "".join(f"./nordland/{season}/{name}\n" for name in names)
        (folder / f"nordland_imageNames_{file}.txt").write_text(lines, encoding="utf-8")
    diagonal = np.repeat(np.arange(frames), 2).reshape(frames, 2)
    np.savez(folder / "nordland.npz", utmQ=diagonal, utmDb=diagonal, posDistThr=np.array(10))


def write_vpr_bench(folder: Path, town: Town, queries: int = 3) -> None:
    """`ref/` (winter), `query/` (summer, every tenth frame) and `ground_truth_new.npy`; and the same as three lists."""
    album = Album(town)
    references = 10 * queries - 8  # as 27,592 for 2,760: the film ends two frames after the last query
    for frame in range(references):
        album.put(folder / "ref" / f"{frame:07d}.jpg", frame, "database", SEASONS["winter"])
    rows = np.empty((queries, 2), object)
    for query in range(queries):
        album.put(folder / "query" / f"{query:07d}.jpg", 10 * query, "database", SEASONS["summer"])
        rows[query] = query, [r for r in range(10 * query - 1, 10 * query + 2) if r >= 0]
    np.save(folder / "ground_truth_new.npy", rows)
    np.save(folder / "Nordland_dbImages.npy", np.array([f"ref/{frame:07d}.jpg" for frame in range(references)]))
    np.save(folder / "Nordland_qImages.npy", np.array([f"query/{query:07d}.jpg" for query in range(queries)]))
    answers = np.empty(queries, object)
    for query in range(queries):
        answers[query] = np.array(rows[query, 1])
    np.save(folder / "Nordland_gt.npy", answers)


def write_partition(folder: Path, town: Town, sections: tuple[int, ...] = (11, 4)) -> None:
    """`test/<season>_images_test/section<n>/<number>.png`, numbers without leading zeros."""
    album = Album(town)
    for season, condition in SEASONS.items():
        for section, frames in enumerate(sections, start=1):
            for frame in range(1, frames + 1):
                file = folder / "test" / f"{season}_images_test" / f"section{section}" / f"{frame}.png"
                album.put(file, frame, "database", condition)
