"""The interface of an index in a folder (`PlaceIndex`) or on a server (`RemoteIndex`), and results of its verbs."""

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
    """Names, files and positions of photos, by row."""

    def name(self, row: int) -> str:
        """Return the name of a photo."""

    def photo(self, row: int) -> Path:
        """Return the path that the photo had when it was added."""

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Return the positions of some photos."""


@dataclass(frozen=True, eq=False, repr=False)
class Found(Predictions):
    """The result of a search: for each query rows of `photos`, best first, and their scores."""

    photos: KnownPhotos


@dataclass(frozen=True)
class Change(Generic[I_co]):
    """The result of a verb that changes an index.

    Attributes:
        index: the index as it is now.
        added, removed: how many photos were added and removed; a replaced photo counts in both.
        already: how many of the given photos were in the index before.
        missing: names and ids that could not be removed, because the index does not have them.
        moved: old and new path of each folder of photos that has moved.
    """

    index: I_co
    added: int = 0
    removed: int = 0
    already: int = 0
    missing: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()


class Searcher(Protocol):
    """An index with one engine and one filter, ready to be searched many times.

    Attributes:
        choice: the engine and the reason for it, for printing.
        notes: one line for each file that was missing or damaged and was made again.
        most_matches: the largest `top` that is allowed.
    """

    @property
    def choice(self) -> object: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def most_matches(self) -> int: ...

    def search(self, queries: DescriptorSet, top: int = 5) -> Found:
        """Return the `top` best photos for each query."""


class PhotoIndex(Protocol):
    """A database of photos that is searched by descriptor.

    Attributes:
        path: folder or address of the index.
        made_by: provenance of the descriptors.
        frame: frame of the positions: none, local or utm.
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
        """Return facts about the index as values of JSON."""

    def contains(self, ids: Sequence[bytes]) -> Mask:  # (M,)
        """Return which of some photos, given by the SHA-256 of their bytes, are in the index."""

    def searcher(self, *, engine: str = "auto", where: Filter | None = None) -> Searcher:
        """Return a searcher for many searches. Raises InputError if no photo matches the filter."""

    def search(
        self, queries: DescriptorSet, top: int = 5, *, engine: str = "auto", where: Filter | None = None
    ) -> Found:
        """Return the `top` best photos for each query."""

    def add(self, photos: Photos, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[PhotoIndex]:
        """Add photos; those that the index already has are ignored."""

    def merge(self, other: Any, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[PhotoIndex]:
        """Add all photos of an index in a folder."""

    def remove(
        self, names: Sequence[str] = (), *, ids: Sequence[bytes] = (), wait_s: float = 0.0
    ) -> Change[PhotoIndex]:
        """Remove photos by name, in any root, and by id."""


def check_fits(index: PhotoIndex, made_by: MadeBy, positions: Positions | None = None) -> None:
    """Raise if photos cannot be added to an index; called before they are described.

    Raises:
        MadeByError: the descriptors would have another provenance.
        InputError: the positions have another frame.
    """
    index.made_by.require_same(made_by, f"the photos of {index.path} and those to add")
    one_frame([index.frame, frame_of(positions)])


def html_table(facts: dict[str, Any]) -> str:
    """Return the facts of `info` as a small HTML table, for notebooks."""
    flat = {**facts, **facts["made_by"]}
    rows = (
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in flat.items() if k != "made_by"
    )
    return f"<table>{''.join(rows)}</table>"
