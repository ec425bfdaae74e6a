"""A stand-in for a Milvus server, in this process: a dictionary of photos and a matrix product.

It shows what `RemoteIndex` asks for and what it does with the answers, and not how Milvus behaves; that is what
test_milvus.py asks, of a real one. It reads the few expressions that are used, which happen to be Python's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cricavpr.index.remote.entities import VECTOR
from cricavpr.index.remote.server import Entity, Kind, Unavailable


@dataclass
class Collection:
    description: str
    kind: Kind
    photos: dict[str, Entity] = field(default_factory=dict)


@dataclass
class FakeServer:
    """Attributes:
    collections: by name.
    calls: (name, how many photos or queries) in the order of asking.
    failures: how many of the next calls are refused for now.
    dies_after: calls that are done before it refuses all others; None where it lives.
    """

    collections: dict[str, Collection] = field(default_factory=dict)
    calls: list[tuple[str, int]] = field(default_factory=list)
    failures: int = 0
    dies_after: int | None = None

    def describe(self, collection: str) -> str | None:
        self._called("describe", 1)
        there = self.collections.get(collection)
        return None if there is None else there.description

    def create(self, collection: str, description: str, dim: int, kind: Kind) -> None:
        self._called("create", 1)
        self.collections[collection] = Collection(description, kind)

    def load(self, collection: str) -> None:
        self._called("load", 1)

    def count(self, collection: str) -> int:
        self._called("count", 1)
        return len(self.collections[collection].photos)

    def upsert(self, collection: str, entities: Sequence[Entity]) -> None:
        self._called("upsert", len(entities))
        self.collections[collection].photos.update({entity["id"]: entity for entity in entities})

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        self._called("delete", len(ids))
        for one in ids:
            self.collections[collection].photos.pop(one, None)

    def query(self, collection: str, expression: str, fields: Sequence[str], limit: int) -> list[Entity]:
        self._called("query", 1)
        return [{name: one[name] for name in fields} for one in self._fitting(collection, expression)[:limit]]

    def search(
        self,
        collection: str,
        vectors: np.ndarray,
        expression: str,
        limit: int,
        fields: Sequence[str],
        settings: Mapping[str, int],
    ) -> list[list[tuple[Entity, float]]]:
        self._called("search", len(vectors))
        photos = self._fitting(collection, expression)
        if not photos:
            return [[] for _ in vectors]
        scores = vectors @ np.array([one[VECTOR] for one in photos]).T
        best = np.argsort(-scores, axis=1)[:, :limit]
        return [
            [({name: photos[row][name] for name in fields}, float(scores[query, row])) for row in rows]
            for query, rows in enumerate(best.tolist())
        ]

    def settle(self, collection: str) -> None:
        self._called("settle", 1)

    def _fitting(self, collection: str, expression: str) -> list[Entity]:
        known: dict[str, Any] = {"array_contains": lambda tags, tag: tag in tags, "__builtins__": {}}
        code = compile(expression or "True", "expression", "eval")
        return [one for one in self.collections[collection].photos.values() if eval(code, known, one)]

    def _called(self, name: str, count: int) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("not now")
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise Unavailable("gone")
        self.calls.append((name, count))
