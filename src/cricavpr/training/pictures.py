"""Training pictures of drawn towns, rendered beforehand into one array per town."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.files import written_beside
from cricavpr.town import Town, render_arrays
from cricavpr.town.views import Split

Pictures = NDArray[np.uint8]  # (places, views, H, W, 3)


@dataclass(frozen=True)
class TownPictures:
    """Which pictures to learn from: `places` places of each town, `views` pictures of each."""

    seeds: tuple[int, ...]
    places: int
    views: int
    image_size: tuple[int, int]


def render_towns(wanted: TownPictures, folder: Path, workers: int) -> list[Path]:
    """One file per town, an array (places, views, H, W, 3); those already in `folder` are not drawn again."""
    visits: list[tuple[Split, int]] = [("train", visit) for visit in range(wanted.views)]
    return [_render(seed, wanted.places, visits, wanted.image_size, folder, workers) for seed in wanted.seeds]


def render_test(seed: int, places: int, image_size: tuple[int, int], folder: Path, workers: int) -> Pictures:
    """Database and query picture of each place of a town kept for testing: (places, 2, H, W, 3)."""
    path = _render(seed, places, [("database", 0), ("query", 0)], image_size, folder, workers)
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def _render(
    seed: int,
    places: int,
    visits: list[tuple[Split, int]],
    image_size: tuple[int, int],
    folder: Path,
    workers: int,
) -> Path:
    """The file of one town; its name says what is in it."""
    key = json.dumps([seed, places, visits, image_size])
    path = folder / f"town-{seed}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        town = Town(seed, places)
        views = [town.view(place, visit, split) for place in range(places) for split, visit in visits]
        drawn = render_arrays(town, views, image_size, workers)
        with written_beside(path) as beside, beside.open("wb") as file:
            np.save(file, drawn.reshape(places, len(visits), *drawn.shape[1:]))
    return path
