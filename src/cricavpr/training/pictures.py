"""Training pictures of drawn towns, rendered beforehand into one array per town."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.town import Town, render_arrays
from cricavpr.files import written_beside

Pictures = NDArray[np.uint8]  # (places, views, H, W, 3)


@dataclass(frozen=True)
class TownPictures:
    """Which pictures to learn from: `places` places of each town, `views` pictures of each."""

    seeds: tuple[int, ...]
    places: int
    views: int
    image_size: tuple[int, int]


def render_towns(wanted: TownPictures, folder: Path, workers: int) -> list[Pictures]:
    """Memory-mapped pictures, one array per town; those already in `folder` are not drawn again."""
    return [_render_town(wanted, seed, folder, workers) for seed in wanted.seeds]


def _render_town(wanted: TownPictures, seed: int, folder: Path, workers: int) -> Pictures:
    name = hashlib.sha256(json.dumps([seed, asdict(wanted) | {"seeds": None}]).encode()).hexdigest()[:16]
    path = folder / f"town-{seed}-{name}.npy"
    if not path.exists():
        town = Town(seed, wanted.places)
        views = [town.view(place, visit, "train") for place in range(wanted.places) for visit in range(wanted.views)]
        drawn = render_arrays(town, views, wanted.image_size, workers)
        with written_beside(path) as beside, beside.open("wb") as file:
            np.save(file, drawn.reshape(wanted.places, wanted.views, *drawn.shape[1:]))
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def render_test(seed: int, places: int, image_size: tuple[int, int], workers: int) -> Pictures:
    """Database and query picture of each place of a town kept for testing: (places, 2, H, W, 3)."""
    town = Town(seed, places)
    views = [town.view(place, 0, split) for place in range(places) for split in ("database", "query")]
    drawn = render_arrays(town, views, image_size, workers)
    return drawn.reshape(places, 2, *drawn.shape[1:])
