"""The interface that an index in a folder (`PlaceIndex`) and on a server (`RemoteIndex`) share, and its results."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.geo import Positions
from cricavpr.index.columns import Indices, Photos, frame_of, one_frame
from cricavpr.index.filters import Filter, Mask
from cricavpr.index.search import Predictions
from cricavpr.progress import Report

I_co = TypeVar("I_co", covariant=True)


class KnownPhotos(Protocol):
    """Photos whose names, paths and positions can be looked up by row."""

    def name(self, row: int) -> str:
        """Return the name of a photo."""

    def photo(self, row: int) -> Path:
        """Return the path that the file of the photo had when the photo was added."""

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of the photos in these rows."""


@dataclass(frozen=True, eq=False, repr=False)
class Found(Predictions):
    """The result of a search: for each query, the best photos and their scores, best first.

    The indices are rows of `photos`.

    Attributes:
        photos: the photos that the rows refer to.
    """

    photos: KnownPhotos


@dataclass(frozen=True)
class Change(Generic[I_co]):
    """The result of a method that changes an index, such as `add` or `remove`.

    Attributes:
        index: the index after the change.
        added, removed: the number of photos that were added and removed; a replaced photo counts in both.
        already: how many of the given photos were in the index before.
        missing: names and ids that could not be removed, because the index does not have them.
        moved: the old and new path of each folder of photos that has moved since the photos were added.
    """

    index: I_co
    added: int = 0
    removed: int = 0
    already: int = 0
    missing: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()


class Searcher(Protocol):
    """An index with a fixed search engine and filter, prepared for many searches.

    Attributes:
        choice: the search engine and the reason for it, as text for printing.
        notes: messages for the user, such as a line for each damaged file that was made again.
        most_matches: the largest value of `top` that `search` allows.
    """

    @property
    def choice(self) -> object: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def most_matches(self) -> int: ...

    def search(self, queries: DescriptorSet, top: int = 5) -> Found:
        """Return the `top` photos with the highest scores for each query."""


class PhotoIndex(Protocol):
    """A database of photos that is searched by descriptor.

    Attributes:
        path: the folder or the server address of the index.
        made_by: the method, weights and settings that made the descriptors.
        frame: coordinate frame of the positions: "none", "local" or "utm".
    """

    @property
    def path(self) -> object: ...

    @property
    def made_by(self) -> MadeBy: ...

    @property
    def frame(self) -> str: ...

    def __len__(self) -> int: ...

    def newest(self) -> PhotoIndex:
        """Return the newest version of the index."""

    def info(self) -> dict[str, Any]:
        """Return facts about the index, such as the number of photos, as values for JSON."""

    def contains(self, ids: Sequence[bytes]) -> Mask:  # (M,)
        """Return, for each id, whether the index has this photo. The id of a photo is the SHA-256 of its bytes."""

    def searcher(self, *, engine: str = "auto", where: Filter | None = None) -> Searcher:
        """Return a `Searcher` for many searches with the same engine and filter.

        Raises:
            InputError: no photo matches the filter `where`.
        """

    def search(
        self, queries: DescriptorSet, top: int = 5, *, engine: str = "auto", where: Filter | None = None
    ) -> Found:
        """Return the `top` photos with the highest scores for each query."""

    def add(self, photos: Photos, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[PhotoIndex]:
        """Add photos. Photos that are in the index already are ignored."""

    def merge(self, other: Any, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[PhotoIndex]:
        """Add all photos of `other`, an index in a folder."""

    def remove(
        self, names: Sequence[str] = (), *, ids: Sequence[bytes] = (), wait_s: float = 0.0
    ) -> Change[PhotoIndex]:
        """Remove photos by name and by id. A name matches the photos with this name in every root folder."""


def check_fits(index: PhotoIndex, made_by: MadeBy, positions: Positions | None = None) -> None:
    """Raise if photos cannot be added to an index. Call this before the photos are described, to fail early.

    Args:
        made_by: the method, weights and settings that will make the descriptors.
        positions: the positions of the photos, if known already.

    Raises:
        MadeByError: the descriptors of the index were made with another method, weights or settings.
        InputError: the positions have another coordinate frame than those of the index.
    """
    index.made_by.require_same(made_by, f"the photos of {index.path} and the photos to add")
    one_frame([index.frame, frame_of(positions)])


def html_table(facts: dict[str, Any]) -> str:
    """Return the facts that `info` returns as a small HTML table, for notebooks."""
    flat = {**facts, **facts["made_by"]}
    rows = (
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in flat.items() if k != "made_by"
    )
    return f"<table>{''.join(rows)}</table>"
