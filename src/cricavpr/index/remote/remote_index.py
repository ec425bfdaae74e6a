"""RemoteIndex: the verbs of `PlaceIndex` over a collection of a server.

A photo's id is the SHA-256 of its bytes and its key on the server, so everything may be done twice, and what an
interrupted run has written is skipped by the next one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet, MadeBy, refuse_flaws
from cricavpr.errors import InputError
from cricavpr.geo import Positions
from cricavpr.index.columns import (
    LOCAL,
    Columns,
    Indices,
    make_columns,
    one_frame,
    pack_ids,
    refuse_one_name,
    stand_in_ids,
)
from cricavpr.index.engines.filters import All, Facts, Filter, flattened
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote.address import Address
from cricavpr.index.remote.entities import FIELDS, encode, frame_of, from_entities, to_entities
from cricavpr.index.remote.expressions import decided_here, expression_of, one_of
from cricavpr.index.remote.server import KINDS, MOST_RESULTS, Entity, Kind, Server, Unavailable, patiently
from cricavpr.index.search import Predictions
from cricavpr.index.vectors import Vectors
from cricavpr.index.writing import Report
from cricavpr.schema import nearest
from cricavpr.times import Times

T = TypeVar("T")

FORMAT = "cricavpr.remote.1"
BYTES_AT_ONCE = 8_000_000  # of vectors in one message; servers refuse large ones
ROWS_AT_ONCE = 1000  # photos in one message
HITS_AT_ONCE = 10_000  # photos in one answer
LOOKED_AT = 1000  # photos that the server lets through, before it is said that none fits


@dataclass(frozen=True)
class RemoteChange:
    """What a verb has done.

    Attributes:
        added, removed: photos that came and went.
        already: photos that were given and are there.
        missing: names and ids that were to be removed and are not in the index.
    """

    added: int = 0
    removed: int = 0
    already: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found, with all that the index knows of the photos found.

    Attributes:
        predictions: rows (Q, n) are rows of `photos`, -1 where fewer photos fit; best first, and of equal scores
            the lower id.
        photos: each photo once.
    """

    predictions: Predictions
    photos: Columns

    @property
    def ids(self) -> NDArray[np.uint8]:  # (M, 32)
        return self.photos.ids

    @property
    def positions(self) -> Positions:
        return self.photos.positions()

    def positions_of(self, rows: NDArray[np.int64]) -> Positions:  # (n,)
        return self.positions.take(rows)

    def name(self, row: int) -> str:
        return os.fsdecode(self.photos.names[row])

    def photo(self, row: int) -> Path:
        """Where a photo lay when it was added."""
        return Path(self.photos.roots[self.photos.codes[row]]) / self.name(row)


@dataclass(frozen=True, eq=False)
class RemoteIndex:
    """A collection of a server. It is no version, as a `PlaceIndex` is: it answers from what is there at the time."""

    address: Address
    made_by: MadeBy
    kind: Kind
    server: Server = field(repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    # --- making one

    @classmethod
    def create(cls, address: Address, made_by: MadeBy, kind: str = "flat", server: Server | None = None) -> Self:
        """An index without photos. `kind` is flat (exact), ivf or hnsw.

        Raises:
            InputError: the collection is there, the kind is not known, or the server does not answer.
            MissingExtraError: no client for servers is installed.
        """
        if kind not in KINDS:
            raise InputError(f"{kind!r} is no kind of remote index. {nearest(kind, KINDS)}")
        server = _connected(address, server)
        if patiently(lambda: server.describe(address.collection), address) is not None:
            raise InputError(f"{address} is there already. Add to it, or choose another collection.")
        description = json.dumps({"format": FORMAT, "made_by": made_by.to_dict(), "kind": kind})
        patiently(lambda: server.create(address.collection, description, made_by.dim, KINDS[kind]), address)
        return cls(address, made_by, KINDS[kind], server)

    @classmethod
    def open(cls, address: Address, server: Server | None = None) -> Self:
        """The index at an address.

        Raises:
            InputError: no such collection, one that is no index, or a server that does not answer.
            MissingExtraError: no client for servers is installed.
        """
        server = _connected(address, server)
        description = patiently(lambda: server.describe(address.collection), address)
        if description is None:
            raise InputError(f"there is no {address}. Build it first: cricavpr index build PHOTOS --out {address}")
        made_by, kind = _read_description(description, address)
        patiently(lambda: server.load(address.collection), address)
        return cls(address, made_by, kind, server)

    @classmethod
    def create_or_open(
        cls, address: Address, made_by: MadeBy, kind: str = "flat", server: Server | None = None
    ) -> Self:
        """What an interrupted build has begun, or a new index.

        Raises:
            InputError: as for `create` and `open`, or it is of another kind.
            MadeByError: it holds photos that were described in another way.
        """
        server = _connected(address, server)
        if patiently(lambda: server.describe(address.collection), address) is None:
            return cls.create(address, made_by, kind, server)
        index = cls.open(address, server)
        index.require(made_by)
        if index.kind is not KINDS.get(kind):
            raise InputError(f"{address} is of the kind {index.kind.type}. Ask for that, or choose another collection.")
        return index

    # --- what is in it

    def __len__(self) -> int:
        return self._ask(lambda: self.server.count(self.address.collection))

    @property
    def path(self) -> Address:
        """What an index on disk calls its folder."""
        return self.address

    @property
    def choice(self) -> str:
        """How it is searched and why, for printing."""
        if self.kind.exact:
            return f"exact search: {self.address} is of the kind {self.kind.type}, which reads every descriptor"
        return f"approximate search: {self.address} is of the kind {self.kind.type}, which may miss photos"

    def require(self, made_by: MadeBy) -> None:
        """Refuse descriptors that were made in another way.

        Raises:
            MadeByError: naming what differs.
        """
        self.made_by.require_same(made_by, f"the photos of {self.address} and these")

    def there(self, ids: Sequence[bytes]) -> NDArray[np.bool_]:  # (M,)
        """Which photos are in the index, by the SHA-256 of their bytes."""
        texts = [one.hex() for one in ids]
        found = {entity["id"] for some in _batches(texts) for entity in self._with("id", some)}
        return np.fromiter((text in found for text in texts), np.bool_, len(texts))

    def info(self) -> dict[str, Any]:
        """What the index holds, for people and for JSON."""
        return {
            "path": str(self.address),
            "format": FORMAT,
            "photos": len(self),
            "kind": self.kind.type,
            "exact": self.kind.exact,
            "frame": self._frame(),
            "vectors_bytes": len(self) * self.made_by.dim * 4,
            "made_by": self.made_by.to_dict(),
        }

    def search(self, queries: DescriptorSet, top: int = 5, filters: Sequence[Filter] = ()) -> Found:
        """The `top` best photos for each query among those that fit every filter.

        A kind that is not exact may find fewer than fit, and none for some queries.

        Raises:
            MadeByError: the queries were described in another way.
            InputError: `top` out of range, a query that is no descriptor, no photo that fits, or a server that does
                not answer.
        """
        self.require(queries.made_by)
        if not 1 <= top <= MOST_RESULTS:
            raise InputError(f"{top} matches of a photo cannot be asked for. Ask for 1 to {MOST_RESULTS:,}.")
        refuse_flaws(queries)
        step = max(1, min(self._rows_at_once, HITS_AT_ONCE // top))
        answers: list[list[_Hit]] = []
        filters = flattened(filters)
        for start in range(0, len(queries), step):
            answers += self._best(queries.vectors[start : start + step], top, filters)
        if filters and len(queries) and not any(answers) and (self.kind.exact or not self._may_fit(filters)):
            self._explain_nothing(filters)
        return _found(answers, top)

    def require_some(self, filters: Sequence[Filter]) -> None:
        """Say it before any work is done, where no photo fits every filter.

        Raises:
            InputError: none fits, or a server that does not answer.
        """
        filters = flattened(filters)
        if filters and not self._may_fit(filters):
            self._explain_nothing(filters)

    # --- changing it

    def add(
        self,
        descriptors: DescriptorSet,
        positions: Positions | None,  # one row for each descriptor
        root: Path,
        *,
        ids: Sequence[bytes] | None = None,
        times: Times | None = None,
        tags: Sequence[Sequence[str]] | None = None,
        progress: Report | None = None,
    ) -> RemoteChange:
        """Add photos; those that are there already change nothing. Arguments as for `PlaceIndex.add`.

        When it returns the server has acknowledged all of them. An interrupted call is finished by the same call.

        Raises:
            MadeByError: the photos were described in another way.
            InputError: rows that do not fit, vectors that are no descriptors, positions of another frame, or a
                server that does not answer.
        """
        self.require(descriptors.made_by)
        refuse_flaws(descriptors)
        if ids is None:
            ids = stand_in_ids(descriptors.names, root, descriptors.vectors)
        columns = make_columns(descriptors.names, root, ids, positions, times, tags)
        return self._send(columns, descriptors.vectors, progress)

    def merge(self, other: PlaceIndex, progress: Report | None = None) -> RemoteChange:
        """Add all photos of an index on disk that are not here yet. Raises as `add` does."""
        self.require(other.made_by)
        return self._send(other.snapshot.columns, other.vectors, progress)

    def remove(self, names: Sequence[str] = (), *, ids: Sequence[bytes] = ()) -> RemoteChange:
        """Take out the photos with these names, whatever their root, and those with these ids.

        Doing it twice changes nothing.

        Raises:
            InputError: one name in place of a list, something that is no id, or a server that does not answer.
        """
        refuse_one_name(names)
        pack_ids(ids)
        wanted = {encode(os.fsencode(name)): name for name in names} | {one.hex(): one.hex() for one in ids}
        gone, seen = 0, set[str]()
        for field_name, keys in (
            ("name", [encode(os.fsencode(name)) for name in names]),
            ("id", [i.hex() for i in ids]),
        ):
            for some in _batches(list(dict.fromkeys(keys))):
                while found := self._with(field_name, some):  # more than one answer holds, where names repeat
                    self._delete([entity["id"] for entity in found])
                    gone += len(found)
                    seen.update(entity[field_name] for entity in found)
        self._settle(gone)
        return RemoteChange(removed=gone, missing=tuple(sorted(wanted[key] for key in wanted.keys() - seen)))

    # --- below the verbs

    @property
    def _rows_at_once(self) -> int:
        return max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // (4 * self.made_by.dim)))

    def _ask(self, ask: Callable[[], T]) -> T:
        return patiently(ask, self.address, sleep=self.sleep)

    def _send(self, columns: Columns, vectors: NDArray[np.float32] | Vectors, progress: Report | None) -> RemoteChange:
        one_frame([columns.frame, self._frame()])
        fresh, done = 0, 0
        sent: set[bytes] = set()
        for rows in _stretches(len(columns), self._rows_at_once):
            ids = [columns.ids[row].tobytes() for row in rows.tolist()]
            new = [row for row, one, old in zip(rows.tolist(), ids, self.there(ids), strict=True) if not old]
            new = [row for row in new if not _seen(columns.ids[row].tobytes(), sent)]
            if new:
                chosen = np.array(new)
                self._upsert(list(to_entities(columns.take(chosen), vectors[chosen])))
            fresh, done = fresh + len(new), done + len(rows)
            if progress is not None:
                progress(done, len(columns))
        self._settle(fresh)
        return RemoteChange(added=fresh, already=len(columns) - fresh)

    def _upsert(self, entities: list[Entity]) -> None:
        self._ask(lambda: self.server.upsert(self.address.collection, entities))

    def _delete(self, ids: list[str]) -> None:
        self._ask(lambda: self.server.delete(self.address.collection, ids))

    def _settle(self, changed: int) -> None:
        if changed:
            self._ask(lambda: self.server.settle(self.address.collection))

    def _with(self, field_name: str, texts: Sequence[str]) -> list[Entity]:
        fields = list(dict.fromkeys(["id", field_name]))
        expression = one_of(field_name, texts)
        return self._ask(lambda: self.server.query(self.address.collection, expression, fields, MOST_RESULTS))

    def _frame(self) -> str:
        """Of the positions that are there: none, local or utm."""
        some = self._ask(lambda: self.server.query(self.address.collection, 'zone != ""', ["zone"], 1))
        return one_frame([frame_of(entity["zone"]) for entity in some])

    def _best(self, vectors: NDArray[np.float32], top: int, filters: Sequence[Filter]) -> list[list[_Hit]]:
        """For each query its best photos; more are asked for until enough of them fit what is decided here."""
        here, limit = decided_here(filters), top
        best: dict[int, list[_Hit]] = {}
        waiting = list(range(len(vectors)))
        while waiting:
            hits = self._hits(vectors[waiting], limit, filters)
            fitting = _fitting(hits, here)
            for query, raw, fit in zip(waiting, hits, fitting, strict=True):
                if len(fit) >= top or len(raw) < limit:
                    best[query] = fit[:top]
            waiting = [query for query in waiting if query not in best]
            if waiting and limit == MOST_RESULTS:
                raise InputError(
                    f"more than {limit:,} photos lie just beyond those {here[0]}. Ask for a little more room."
                )
            limit = min(2 * limit, MOST_RESULTS)
        return [best[query] for query in range(len(vectors))]

    def _hits(self, vectors: NDArray[np.float32], limit: int, filters: Sequence[Filter]) -> list[list[_Hit]]:
        found = self._ask(
            lambda: self.server.search(
                self.address.collection, vectors, expression_of(filters), limit, FIELDS, self.kind.settings(limit)
            )
        )
        return [sorted((_Hit(entity, score) for entity, score in one), key=_Hit.rank) for one in found]

    def _may_fit(self, filters: Sequence[Filter]) -> bool:
        """Whether a photo fits every filter, or so many come near it that only a search can tell."""
        expression, here = expression_of(filters), decided_here(filters)
        limit = LOOKED_AT if here else 1
        near = self._ask(lambda: self.server.query(self.address.collection, expression, FIELDS, limit))
        return len(near) == limit or any(_fitting([[_Hit(one, 0.0) for one in near]], here))

    def _explain_nothing(self, filters: Sequence[Filter]) -> None:
        if decided_here(filters) and self._frame() == LOCAL:
            raise InputError(
                f"{self.address} has positions in metres without a UTM zone: they are in no box or circle."
            )
        raise InputError(f"no photo of {self.address} fits the filter: {All(tuple(filters))}. Ask for more.")


@dataclass(frozen=True)
class _Hit:
    entity: Entity
    score: float

    @property
    def id(self) -> str:
        return str(self.entity["id"])

    def rank(self) -> tuple[float, str]:
        return -self.score, self.id


def _connected(address: Address, server: Server | None) -> Server:
    if server is not None:
        return server
    from cricavpr.index.remote.milvus import connect

    try:
        return connect(address)
    except Unavailable as error:  # the client has tried for seconds by itself
        raise InputError(
            f"no Milvus server answers at {address.host}:{address.port} ({error}). Check the address of {address}."
        ) from error


def _read_description(description: str, address: Address) -> tuple[MadeBy, Kind]:
    try:
        values = json.loads(description)
        if values["format"] != FORMAT:
            raise InputError(f"{address} is of another version ({values['format']}, not {FORMAT}). Build it again.")
        return MadeBy.from_dict(values["made_by"]), KINDS[values["kind"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{address} was not made by cricavpr. Choose another collection.") from error


def _stretches(count: int, step: int) -> Iterator[Indices]:
    return (np.arange(start, min(start + step, count)) for start in range(0, count, step))


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + ROWS_AT_ONCE] for start in range(0, len(texts), ROWS_AT_ONCE))


def _seen(one: bytes, before: set[bytes]) -> bool:
    """Whether a photo came before in this very call; from now on it has."""
    known = one in before
    before.add(one)
    return known


def _fitting(hits: list[list[_Hit]], filters: Sequence[Filter]) -> list[list[_Hit]]:
    """Those that fit the filters that are decided here."""
    if not filters or not any(hits):
        return hits
    photos = {hit.id: hit.entity for one in hits for hit in one}
    facts = Facts(len(photos), from_entities(list(photos.values())).positions())
    masks = [one.mask(facts) for one in filters]
    fits = dict(zip(photos, np.logical_and.reduce(masks).tolist(), strict=True))
    return [[hit for hit in one if fits[hit.id]] for one in hits]


def _found(answers: list[list[_Hit]], top: int) -> Found:
    photos: dict[str, tuple[int, Entity]] = {}
    width = min(top, max(map(len, answers), default=0))
    rows, scores = np.full((len(answers), width), -1, np.int64), np.full((len(answers), width), -np.inf, np.float32)
    for query, hits in enumerate(answers):
        for place, hit in enumerate(hits):
            rows[query, place] = photos.setdefault(hit.id, (len(photos), hit.entity))[0]
            scores[query, place] = hit.score
    return Found(Predictions(rows, scores), from_entities([entity for _, entity in photos.values()]))
