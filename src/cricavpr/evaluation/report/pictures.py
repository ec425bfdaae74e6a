"""Access to the photos of queries and matches. They are found in the dataset's folder by their names in the answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.benchmarks import SPLITS, open_split
from cricavpr.datasets.utm_names import find_sides
from cricavpr.errors import ImageError, InputError
from cricavpr.images import decode


@dataclass(frozen=True)
class Pictures:
    """Folders with the photos of the database and of the queries.

    Photos outside these folders are never read, because names in answers may come from untrusted files.
    """

    database: Path
    queries: Path

    @classmethod
    def below(cls, data: Path, dataset: str = "") -> Pictures:
        """Find the folders of database and queries in the folder of a dataset.

        If the two folders are not found, names of photos are relative to `data` itself.

        Args:
            data: folder of the dataset.
            dataset: name of the dataset in the card. For a benchmark, its reader finds the two folders; otherwise they
                are found by their names.

        Raises:
            InputError: the folder `data` does not exist.
        """
        if not data.is_dir():
            raise InputError(f"the folder {data} does not exist. Give the folder of the evaluated dataset with --data.")
        try:
            if dataset in SPLITS:
                split = open_split(dataset, data)
                return cls(split.database.root, split.queries.root)
            return cls(*find_sides(data))
        except InputError:
            return cls(data, data)

    def holds(self, query: str) -> bool:
        """Return whether the photo of a query exists. The photo may still be unreadable."""
        return _is_inside(query) and (self.queries / query).is_file()

    def query(self, name: str) -> NDArray[np.uint8] | None:  # (H, W, 3)
        """Return the photo of a query, or None if it cannot be read."""
        return _read(self.queries, name)

    def match(self, name: str) -> NDArray[np.uint8] | None:  # (H, W, 3)
        """Return a database photo, or None if it cannot be read."""
        return _read(self.database, name)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


@lru_cache(maxsize=64)
def _read(folder: Path, name: str) -> NDArray[np.uint8] | None:
    try:
        return decode(folder / name) if _is_inside(name) else None
    except ImageError:
        return None
