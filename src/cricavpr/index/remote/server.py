"""The few things that a server is asked for, and how patiently."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError

T = TypeVar("T")
Entity = dict[str, Any]  # one photo as the server keeps it

WAITS_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # between one try and the next
MOST_RESULTS = 16_384  # of one query: Milvus gives no more


class Unavailable(Exception):
    """The server did not do it this time, and may the next: starting, busy, or not reached."""


@dataclass(frozen=True)
class Kind:
    """How a collection finds the nearest vectors.

    Attributes:
        type: what Milvus calls it.
        exact: whether it compares a query with every vector.
        build: settings of the index, fixed when the collection is made.
        search: settings of every search.
        breadth: the name of the setting that must be at least the number of results, or "".
    """

    type: str
    exact: bool
    build: Mapping[str, int]
    search: Mapping[str, int]
    breadth: str = ""

    def settings(self, limit: int) -> dict[str, int]:
        """Those of a search for `limit` results."""
        widened = {self.breadth: max(self.search[self.breadth], 2 * limit)} if self.breadth else {}
        return {**self.search, **widened}


# Breadths for descriptors without clusters: of the exact ten best of 20,000 they find 99 % and all. Narrower ones lose
# much (docs/results/2026-11-22-milvus.md).
KINDS = {
    "flat": Kind("FLAT", True, {}, {}),
    "ivf": Kind("IVF_FLAT", False, {"nlist": 1024}, {"nprobe": 512}),
    "hnsw": Kind("HNSW", False, {"M": 32, "efConstruction": 256}, {"ef": 512}, "ef"),
}


class Server(Protocol):
    """What an index needs of a server. Every call may be repeated: doing a thing twice changes nothing.

    Expressions are boolean expressions of Milvus over the fields of `entities.FIELDS`.

    All raise:
        Unavailable: worth another try.
        InputError: not worth one.
    """

    def describe(self, collection: str) -> str | None:
        """The description that a collection was made with; None where there is no collection."""

    def create(self, collection: str, description: str, dim: int, kind: Kind) -> None:
        """Make an empty collection with the fields of `entities`, ready to be searched."""

    def load(self, collection: str) -> None:
        """Bring a collection into the memory of the servers that search."""

    def count(self, collection: str) -> int:
        """Photos in it now."""

    def upsert(self, collection: str, entities: Sequence[Entity]) -> None:
        """Put photos in, each in place of the one with its id."""

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Take photos out; one that is not there is no error."""

    def query(self, collection: str, expression: str, fields: Sequence[str], limit: int) -> list[Entity]:
        """At most `limit` photos that fit an expression, with some fields."""

    def search(
        self,
        collection: str,
        vectors: NDArray[np.float32],  # (Q, D)
        expression: str,
        limit: int,
        fields: Sequence[str],
        settings: Mapping[str, int],
    ) -> list[list[tuple[Entity, float]]]:
        """For each query the photos with the largest inner products among those that fit, and these."""

    def settle(self, collection: str) -> None:
        """Have what was written so far put into files and indexed."""


def patiently(
    ask: Callable[[], T],
    where: object,
    *,
    waits_s: Sequence[float] = WAITS_S,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Ask until there is an answer, waiting longer each time.

    Raises:
        InputError: no answer after the last wait; it says where.
    """
    for wait_s in waits_s:
        try:
            return ask()
        except Unavailable:
            sleep(wait_s)
    try:
        return ask()
    except Unavailable as error:
        raise InputError(
            f"{where} does not answer ({error}) after {len(waits_s) + 1} tries. "
            "What was written is kept: run the same again when the server is back."
        ) from error
