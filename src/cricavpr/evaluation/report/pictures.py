"""Pictures of queries and matches, found in the dataset's folder by the names in the answers."""

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
    """Folders of the database and the queries. Names may come from others, so none may lead out of its folder."""

    database: Path
    queries: Path

    @classmethod
    def below(cls, data: Path, dataset: str = "") -> Pictures:
        """Find database and queries in a folder, as the reader of a benchmark does or by their names.

        If neither finds them, names of photos are relative to the folder itself.

        Args:
            dataset: the dataset of the card; the name of a benchmark's split selects its reader.

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
        """Return whether the file of a query exists, readable or not."""
        return _is_inside(query) and (self.queries / query).is_file()

    def query(self, name: str) -> NDArray[np.uint8] | None:  # (H, W, 3)
        """Return the picture of a query, or None if it cannot be read."""
        return _read(self.queries, name)

    def match(self, name: str) -> NDArray[np.uint8] | None:  # (H, W, 3)
        """Return the picture of a database photo, or None if it cannot be read."""
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
