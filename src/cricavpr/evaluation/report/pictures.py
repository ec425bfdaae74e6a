"""Pictures of queries and matches, found below the dataset's folder by the names that the answers hold."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cricavpr.datasets.benchmarks import SPLITS, open_split
from cricavpr.datasets.utm_names import find_sides
from cricavpr.errors import ImageError, InputError
from cricavpr.images import decode

THUMBNAIL = 150  # pixels of the longer side
QUALITY = 60


@dataclass(frozen=True)
class Pictures:
    """Where the two sides lie. Names come from files of others: none leaves its folder."""

    database: Path
    queries: Path

    @classmethod
    def below(cls, data: Path, dataset: str = "") -> Pictures:
        """Look at the folder: a split of a benchmark by its reader, a tree with database and queries, or one whose
        names begin at the folder itself.

        Args:
            dataset: the name that the evaluation gave it; one of a benchmark's splits says how to read the folder.

        Raises:
            InputError: no such folder.
        """
        if not data.is_dir():
            raise InputError(f"there is no folder {data}. Give the dataset's folder with --data.")
        try:
            if dataset in SPLITS:
                split = open_split(dataset, data)
                return cls(split.database.root, split.queries.root)
            return cls(*find_sides(data))
        except InputError:
            return cls(data, data)

    def holds(self, query: str) -> bool:
        """Whether there is a file for a query, readable or not."""
        path = PurePosixPath(query)
        return not path.is_absolute() and ".." not in path.parts and (self.queries / query).is_file()

    def query(self, name: str) -> NDArray[np.uint8] | None:  # (H, W, 3)
        """None where the picture is not there or cannot be read."""
        return _read(self.queries, name)

    def match(self, name: str) -> NDArray[np.uint8] | None:  # (H, W, 3)
        return _read(self.database, name)


@lru_cache(maxsize=64)
def _read(folder: Path, name: str) -> NDArray[np.uint8] | None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return None
    try:
        return decode(folder / name)
    except ImageError:
        return None


def thumbnail(picture: NDArray[np.uint8]) -> bytes:  # (H, W, 3)
    """A small JPEG."""
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()
