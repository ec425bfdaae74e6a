"""The interface between an index and a server, and its retries. One module for each kind of server implements it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.filters import Filter

T = TypeVar("T")
Entity = dict[str, Any]  # one photo as the server keeps it

WAITS_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # between one try and the next


class Unavailable(Exception):
    """The server did not answer, but may answer the next time: it is starting, busy, or not reached."""


@dataclass(frozen=True)
class Kind:
    """Settings of a search for the nearest vectors.

    Attributes:
        exact: whether it compares a query with every vector.
        build: settings of the index, fixed when the collection is made.
        search: settings of every search.
        breadth: name of the setting that must be at least the number of results, or "".
    """

    exact: bool
    build: Mapping[str, int]
    search: Mapping[str, int]
    breadth: str = ""

    def settings(self, limit: int) -> dict[str, int]:
        """Return the settings of a search for `limit` results."""
        widened = {self.breadth: max(self.search[self.breadth], 2 * limit)} if self.breadth else {}
        return {**self.search, **widened}


class Server(Protocol):
    """One collection of a server, which may not exist yet. Every call may be repeated without harm.

    Photos are entities with the fields of `entities.FIELDS` and a vector. Filters are those of `index.filters`. The
    server must match times and tags exactly; for a place it may also return photos a little outside.

    Attributes:
        kinds: by name; the first one is the default.
        most_results: of one query.

    All methods raise:
        Unavailable: the call may succeed later.
        InputError: it will not.
    """

    kinds: Mapping[str, Kind]
    most_results: int

    def describe(self) -> str | None:
        """Return the description that the collection was made with, or None if there is no collection."""

    def create(self, description: str, dim: int, kind: str) -> None:
        """Make an empty collection, ready to be searched."""

    def load(self) -> None:
        """Load the collection into memory for searching."""

    def count(self) -> int:
        """Return the number of photos."""

    def upsert(self, entities: Sequence[Entity]) -> None:
        """Put photos in, each in place of the one with its id."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove photos; a missing one is no error."""

    def having(self, field: str, texts: Sequence[str], fields: Sequence[str]) -> list[Entity]:
        """Return photos with one of some texts in a field, with the fields that are asked for."""

    def matching(self, filters: Sequence[Filter], fields: Sequence[str], limit: int) -> list[Entity]:
        """Return at most `limit` photos that match all filters."""

    def any_zone(self) -> str:
        """Return the zone of some photo with a known position, or ""."""

    def search(
        self,
        vectors: NDArray[np.float32],  # (Q, D)
        filters: Sequence[Filter],
        limit: int,
        fields: Sequence[str],
        kind: str,
    ) -> list[list[tuple[Entity, float]]]:
        """Return for each query the matching photos with the largest inner products, and the products."""

    def flush(self) -> None:
        """Write everything so far to files and index it."""


def with_retries(where: object, ask: Callable[..., T], *arguments: Any) -> T:
    """Call a server until it answers, waiting longer each time. Raises InputError after the last wait."""
    for wait_s in (*WAITS_S, None):
        try:
            return ask(*arguments)
        except Unavailable as error:
            if wait_s is None:
                raise InputError(
                    f"{where} does not answer ({error}) after {len(WAITS_S) + 1} tries. "
                    "What was written is kept: run the same command again when the server is back."
                ) from error
            time.sleep(wait_s)
    raise AssertionError
