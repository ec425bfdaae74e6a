"""A stand-in for a collection of a Milvus server, in this process: a dictionary of photos and a matrix product.

It shows what `RemoteIndex` asks for and what it does with the answers, and not how Milvus behaves; that is what
test_milvus.py asks, of a real one. It reads the few expressions that are used, which happen to be Python's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cricavpr.index.filters import Filter
from cricavpr.index.remote.milvus import KINDS, MOST_RESULTS, expression_of, one_of
from cricavpr.index.remote.server import VECTOR, Entity, Unavailable


@dataclass
class FakeServer:
    """Attributes:
    description: of the collection; None before it is made.
    kind: of the collection.
    photos: by id.
    calls: (name, how many photos or queries) in the order of asking.
    failures: how many of the next calls are refused for now.
    dies_after: calls that are done before it refuses all others; None where it lives.
    """

    description: str | None = None
    kind: str = ""
    photos: dict[str, Entity] = field(default_factory=dict)
    calls: list[tuple[str, int]] = field(default_factory=list)
    failures: int = 0
    dies_after: int | None = None
    kinds: Mapping[str, bool] = field(default_factory=lambda: {name: kind.exact for name, kind in KINDS.items()})
    most_results: int = MOST_RESULTS

    def describe(self) -> str | None:
        self._called("describe", 1)
        return self.description

    def create(self, description: str, dim: int, kind: str) -> None:
        self._called("create", 1)
        self.description, self.kind = description, kind

    def load(self) -> None:
        self._called("load", 1)

    def count(self) -> int:
        self._called("count", 1)
        return len(self.photos)

    def upsert(self, entities: Sequence[Entity]) -> None:
        self._called("upsert", len(entities))
        self.photos.update({entity["id"]: entity for entity in entities})

    def delete(self, ids: Sequence[str]) -> None:
        self._called("delete", len(ids))
        for one in ids:
            self.photos.pop(one, None)

    def having(self, field: str, texts: Sequence[str], fields: Sequence[str]) -> list[Entity]:
        return self._query(one_of(field, texts), fields, self.most_results)

    def matching(self, filters: Sequence[Filter], fields: Sequence[str], limit: int) -> list[Entity]:
        return self._query(expression_of(filters), fields, limit)

    def any_zone(self) -> str:
        return next((str(one["zone"]) for one in self._query('zone != ""', ["zone"], 1)), "")

    def search(
        self, vectors: np.ndarray, filters: Sequence[Filter], limit: int, fields: Sequence[str], kind: str
    ) -> list[list[tuple[Entity, float]]]:
        self._called("search", len(vectors))
        photos = self._fitting(expression_of(filters))
        if not photos:
            return [[] for _ in vectors]
        scores = vectors @ np.array([one[VECTOR] for one in photos]).T
        best = np.argsort(-scores, axis=1)[:, :limit]
        return [
            [({name: photos[row][name] for name in fields}, float(scores[query, row])) for row in rows]
            for query, rows in enumerate(best.tolist())
        ]

    def flush(self) -> None:
        self._called("flush", 1)

    def _query(self, expression: str, fields: Sequence[str], limit: int) -> list[Entity]:
        self._called("query", 1)
        return [{name: one[name] for name in fields} for one in self._fitting(expression)[:limit]]

    def _fitting(self, expression: str) -> list[Entity]:
        known: dict[str, Any] = {"array_contains": lambda tags, tag: tag in tags, "__builtins__": {}}
        code = compile(expression or "True", "expression", "eval")
        return [one for one in self.photos.values() if eval(code, known, one)]

    def _called(self, name: str, count: int) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("not now")
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise Unavailable("gone")
        self.calls.append((name, count))
