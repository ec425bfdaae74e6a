"""An index as a Locator asks it, so that an answer does not know whether a folder or a server gave it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.geo import Positions
from cricavpr.index.columns import Indices
from cricavpr.index.engines import Filter
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import RemoteIndex
from cricavpr.index.remote.server import MOST_RESULTS
from cricavpr.index.search import Predictions
from cricavpr.index.searching import Searcher
from cricavpr.locate.calibration import Found as Calibrated
from cricavpr.locate.calibration import read_calibration


class Findings(Protocol):
    """What a search found, and what is known of the photos found. `remote.Found` is one as it is.

    Attributes:
        predictions: rows (Q, n) are rows of all the rest, -1 after the last where fewer photos were found.
    """

    @property
    def predictions(self) -> Predictions: ...

    def positions_of(self, rows: Indices) -> Positions:  # (n,)
        """Where some photos were taken."""

    def name(self, row: int) -> str:
        """What a photo is called in the index."""

    def photo(self, row: int) -> Path:
        """Where a photo lay when it was added."""


class Source(Protocol):
    """An index that is asked in one way: with one engine, and with one filter.

    Attributes:
        choice: how it is searched and why, for printing.
        notes: one line for each thing that had to be made for that.
        most_matches: no more of a photo can be asked for.
    """

    @property
    def choice(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def most_matches(self) -> int: ...

    def calibrated(self) -> Calibrated:
        """What it knows of its own doubt, or why it knows nothing."""

    def search(self, queries: DescriptorSet, top: int) -> Findings:
        """The best photos for each query. Raises: InputError: a damaged file, or a server that does not answer."""


def source_of(index: PlaceIndex | RemoteIndex, engine: str = "auto", where: Filter | None = None) -> Source:
    """The index, ready to be asked. The only place that knows of the two kinds.

    Raises:
        InputError: no photo that fits, an engine that cannot be had, or a server that does not answer.
        MissingExtraError: an engine without the extra that brings it.
    """
    if isinstance(index, PlaceIndex):
        return _Folder(index, index.searcher(engine=engine, where=where))
    if engine != "auto":
        raise InputError(
            f"the engine {engine!r} cannot be asked of {index.address}: its kind, {index.kind.type}, was chosen when "
            "the collection was made. Leave the engine out."
        )
    filters = () if where is None else (where,)
    index.require_some(filters)
    return _Server(index, filters)


@dataclass(frozen=True, eq=False)
class _FoundInFolder:
    predictions: Predictions
    index: PlaceIndex

    def positions_of(self, rows: Indices) -> Positions:
        return self.index.positions_of(rows)

    def name(self, row: int) -> str:
        return self.index.name(row)

    def photo(self, row: int) -> Path:
        return self.index.photo(row)


@dataclass(frozen=True, eq=False)
class _Folder:
    index: PlaceIndex
    searcher: Searcher
    most_matches: int = sys.maxsize

    @property
    def choice(self) -> str:
        return str(self.searcher.choice)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.searcher.notes

    def calibrated(self) -> Calibrated:
        return read_calibration(self.index)

    def search(self, queries: DescriptorSet, top: int) -> Findings:
        return _FoundInFolder(self.searcher.search(queries.vectors, top), self.index)


@dataclass(frozen=True, eq=False)
class _Server:
    index: RemoteIndex
    filters: tuple[Filter, ...]
    notes: tuple[str, ...] = ()
    most_matches: int = MOST_RESULTS

    @property
    def choice(self) -> str:
        return self.index.choice

    def calibrated(self) -> Calibrated:
        return Calibrated(
            None,
            f"{self.index.address} is not calibrated, so nothing is known of how sure an answer is. "
            "Only an index in a folder can be calibrated.",
        )

    def search(self, queries: DescriptorSet, top: int) -> Findings:
        return self.index.search(queries, top, self.filters)
