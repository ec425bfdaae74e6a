"""RemoteIndex: an index in a collection of a server, such as Milvus.

The key of a photo on the server is the SHA-256 of its bytes. So an interrupted call can be repeated: it skips the
photos that were written before.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.descriptors import DescriptorSet, MadeBy, refuse_flaws
from cricavpr.errors import InputError
from cricavpr.index.columns import LOCAL, Columns, Photos, find_names, one_frame, pack_ids, refuse_one_name
from cricavpr.index.filters import All, Box, Filter, Mask, Near, flattened, no_match
from cricavpr.index.photo_index import Change, Found, html_table
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote.server import (
    FIELDS,
    Address,
    Entity,
    Server,
    Unavailable,
    decode,
    encode,
    frame_of_zone,
    from_entities,
    to_entities,
    with_retries,
)
from cricavpr.index.vectors import Vectors
from cricavpr.progress import Report
from cricavpr.schema import nearest

T = TypeVar("T")
Hit = tuple[Entity, float]  # a photo that a search found, and its score

FORMAT = "cricavpr.remote.1"
BYTES_AT_ONCE = 8_000_000  # bytes of vectors in one message; servers refuse large messages
ROWS_AT_ONCE = 1000  # photos in one message
HITS_AT_ONCE = 10_000  # photos in one answer of the server
LOOKED_AT = 1000  # to find out whether any photo matches a filter by place, at most this many are checked


@dataclass(frozen=True, eq=False)
class RemoteIndex:
    """An index in a collection of a server. It has no versions: each search sees the current photos.

    Attributes:
        address: host, port and collection.
        made_by: the method, weights and settings that made the descriptors.
        kind: the kind of search, such as "flat" or "hnsw"; one of `server.kinds`.
        server: the connection to the collection.
    """

    address: Address
    made_by: MadeBy
    kind: str
    server: Server = field(repr=False)

    # --- making one

    @classmethod
    def create(cls, address: Address, made_by: MadeBy, kind: str | None = None, server: Server | None = None) -> Self:
        """Make an index without photos.

        Args:
            kind: the kind of search, one of `server.kinds`; by default the first one, which is exact.
            server: the connection to use; by default a new connection to the server at `address`.

        Raises:
            InputError: the collection exists already, the kind is unknown, or the server does not answer.
            MissingExtraError: the Python client of the server (such as pymilvus) is not installed.
        """
        server = server or connected(address)
        kind = next(iter(server.kinds)) if kind is None else kind
        if kind not in server.kinds:
            raise InputError(f"unknown kind {kind!r} for {address}. {nearest(kind, server.kinds)}")
        if with_retries(address, server.describe) is not None:
            raise InputError(f"the index {address} exists already. Add photos to it, or choose another collection.")
        description = json.dumps({"format": FORMAT, "made_by": made_by.to_dict(), "kind": kind})
        with_retries(address, server.create, description, made_by.dim, kind)
        return cls(address, made_by, kind, server)

    @classmethod
    def open(cls, address: Address, server: Server | None = None) -> Self:
        """Open the index at an address.

        Args:
            server: the connection to use; by default a new connection to the server at `address`.

        Raises:
            InputError: the collection is missing or was made by another program, or the server does not answer.
            MissingExtraError: the Python client of the server (such as pymilvus) is not installed.
        """
        server = server or connected(address)
        description = with_retries(address, server.describe)
        if description is None:
            raise InputError(f"there is no index at {address}. Build it: cricavpr index build PHOTOS --out {address}")
        try:
            values = json.loads(description)
            if values["format"] != FORMAT:
                raise InputError(f"{address} has the format {values['format']}, expected {FORMAT}. Build it again.")
            made_by, kind = MadeBy.from_dict(values["made_by"]), values["kind"]
            server.kinds[kind]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{address} was not made by cricavpr. Choose another collection.") from error
        with_retries(address, server.load)
        return cls(address, made_by, kind, server)

    @classmethod
    def create_or_open(
        cls, address: Address, made_by: MadeBy, kind: str | None = None, server: Server | None = None
    ) -> Self:
        """Open the index at an address if it exists, for example after an interrupted build; otherwise make it.

        The arguments are those of `create`.

        Raises:
            InputError: as `create` and `open`, or the index exists with another kind of search.
            MadeByError: the index exists with descriptors of another method, weights or settings.
        """
        server = server or connected(address)
        if with_retries(address, server.describe) is None:
            return cls.create(address, made_by, kind, server)
        index = cls.open(address, server)
        index._check(made_by)
        if kind not in (None, index.kind):
            raise InputError(
                f"the index {address} was made with the kind {index.kind}, which cannot be changed to {kind}. Leave "
                "the kind out, or choose another collection."
            )
        return index

    # --- what is in it

    def __len__(self) -> int:
        return self._ask(self.server.count)

    def __repr__(self) -> str:
        made_by = self.made_by
        return f"RemoteIndex({str(self.address)!r}, {self.kind}, {made_by.method}, {made_by.dim} values)"

    def _repr_html_(self) -> str:
        return html_table(self.info())

    @property
    def path(self) -> Address:
        return self.address

    def newest(self) -> Self:
        """Return this index itself, because an index on a server has no versions."""
        return self

    @property
    def exact(self) -> bool:
        """Whether a search compares the query with every vector."""
        return self.server.kinds[self.kind]

    @property
    def frame(self) -> str:
        """The coordinate frame of the positions: "none", "local" or "utm"."""
        return frame_of_zone(self._ask(self.server.any_zone))

    def contains(self, ids: Sequence[bytes]) -> Mask:  # (M,)
        """Return, for each id, whether the index has this photo. The id of a photo is the SHA-256 of its bytes."""
        texts = [one.hex() for one in ids]
        found = {entity["id"] for entity in self._all_having("id", texts)}
        return np.fromiter((text in found for text in texts), np.bool_, len(texts))

    def info(self) -> dict[str, Any]:
        """Return facts about the index, such as the number of photos, as values for JSON."""
        count = len(self)
        return {
            "path": str(self.address),
            "format": FORMAT,
            "photos": count,
            "kind": self.kind,
            "exact": self.exact,
            "frame": self.frame,
            "vectors_bytes": count * self.made_by.dim * 4,
            "made_by": self.made_by.to_dict(),
        }

    # --- searching it

    def search(
        self, queries: DescriptorSet, top: int = 5, *, engine: str = "auto", where: Filter | None = None
    ) -> Found:
        """Return the `top` photos with the highest scores for each query, best first. Ties go to the lower id.

        The rows in the result refer to `Found.photos`, which holds only the photos that this search found. If the kind
        of search is not exact, it may find fewer than `top` photos although more match.

        Args:
            engine: must be "auto", because the kind of search was fixed when the collection was made.
            where: a filter; only photos that match it are found.

        Raises:
            MadeByError: the queries were made with another method, weights or settings than the index.
            InputError: `top` is out of range, a query is invalid, no photo matches the filter, or the server does not
                answer.
        """
        return self._searcher(engine, where).search(queries, top)

    def searcher(self, *, engine: str = "auto", where: Filter | None = None) -> RemoteSearcher:
        """Return a searcher for many searches with the same filter. The arguments are those of `search`.

        Raises:
            InputError: no photo matches the filter, or `engine` is not "auto".
        """
        searcher = self._searcher(engine, where)
        if searcher.filters and not searcher.may_match():
            searcher.refuse()
        return searcher

    def _searcher(self, engine: str, where: Filter | None) -> RemoteSearcher:
        if engine != "auto":
            raise InputError(
                f"the engine for {self.address} cannot be chosen: its kind of search, {self.kind}, was fixed when the "
                f"collection was made. Leave out the engine {engine!r}."
            )
        return RemoteSearcher(self, () if where is None else flattened([where]))

    # --- changing it

    def add(self, photos: Photos, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[Self]:
        """Add photos. Photos that are in the index already are ignored. Raises the errors of `PlaceIndex.add`.

        When this method returns, the server has acknowledged all photos. To finish an interrupted call, call the method
        again with the same photos. `wait_s` is ignored, because a server allows several writers.
        """
        self._check(photos.descriptors.made_by)
        return self._send(photos.columns(), photos.descriptors.vectors, progress)

    def merge(self, other: PlaceIndex, *, wait_s: float = 0.0, progress: Report | None = None) -> Change[Self]:
        """Add all photos of an index in a folder that this index does not have."""
        self._check(other.made_by)
        return self._send(other.snapshot.columns, other.vectors, progress)

    def remove(self, names: Sequence[str] = (), *, ids: Sequence[bytes] = (), wait_s: float = 0.0) -> Change[Self]:
        """Remove photos by name and by id, as `PlaceIndex.remove` does."""
        refuse_one_name(names)
        pack_ids(ids)
        known = self.contains(ids).tolist()
        by_name, seen = self._delete("name", [_encoded(name) for name in names])
        left = [name for name in names if _encoded(name) not in seen]
        forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD") for name in left}
        alike = self._all_having("name", [_encoded(form) for form in forms])
        found, missing = find_names(left, (os.fsdecode(decode(one["name"])) for one in alike))
        others, _ = self._delete("name", [_encoded(name) for name in found])
        by_id, _ = self._delete("id", [one.hex() for one in ids])
        gone = by_id + by_name + others
        if gone:
            self._ask(self.server.flush)
        missing |= {one.hex() for one, there in zip(ids, known, strict=True) if not there}
        return Change(self, removed=gone, missing=tuple(sorted(missing)))

    def _delete(self, key: str, texts: Sequence[str]) -> tuple[int, set[str]]:
        """Delete the photos whose field `key` is one of `texts`.

        Return the number of deleted photos, and the texts that matched a photo.
        """
        gone, seen = 0, set[str]()
        for some in _batches(texts):
            while found := self._having(key, some):  # repeated, because an answer may not hold all photos
                self._ask(self.server.delete, [entity["id"] for entity in found])
                gone += len(found)
                seen.update(entity[key] for entity in found)
        return gone, seen

    # --- helpers of the methods above

    @property
    def rows_at_once(self) -> int:
        return max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // (4 * self.made_by.dim)))

    def _check(self, made_by: MadeBy) -> None:
        self.made_by.require_same(made_by, f"the photos of {self.address} and the given photos")

    def _ask(self, ask: Callable[..., T], *arguments: Any) -> T:
        return with_retries(self.address, ask, *arguments)

    def _having(self, key: str, texts: Sequence[str]) -> list[Entity]:
        return self._ask(self.server.having, key, texts, list(dict.fromkeys(["id", key])))

    def _all_having(self, key: str, texts: Sequence[str]) -> Iterator[Entity]:
        return itertools.chain.from_iterable(self._having(key, some) for some in _batches(texts))

    def _send(self, columns: Columns, vectors: NDArray[np.float32] | Vectors, progress: Report | None) -> Change[Self]:
        one_frame([columns.frame, self.frame])
        fresh, sent = 0, set[bytes]()
        for start in range(0, len(columns), self.rows_at_once):
            rows = np.arange(start, min(start + self.rows_at_once, len(columns)))
            new = {columns.ids[row].tobytes(): row for row in rows[::-1].tolist()}  # the first row of each photo
            there = dict(zip(new, self.contains(list(new)).tolist(), strict=True))
            chosen = np.array(sorted(row for one, row in new.items() if not there[one] and one not in sent), np.int64)
            if len(chosen):
                self._ask(self.server.upsert, list(to_entities(columns.take(chosen), vectors[chosen])))
            sent.update(new)
            fresh += len(chosen)
            if progress is not None:
                progress(int(rows[-1]) + 1, len(columns))
        if fresh:
            self._ask(self.server.flush)
        return Change(self, added=fresh, already=len(columns) - fresh)


@dataclass(frozen=True, eq=False)
class RemoteSearcher:
    """A searcher of a collection with a fixed filter; it implements `photo_index.Searcher`.

    The server applies all filters. For a filter by place, it may also return photos a little outside the place. So
    filters by place are applied again here, exactly as for an index in a folder.
    """

    index: RemoteIndex
    filters: tuple[Filter, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Searcher({self.choice})"

    @property
    def choice(self) -> str:
        where, kind = self.index.address, self.index.kind
        if self.index.exact:
            return f"exact search: {where} is of the kind {kind}, which compares a query with every descriptor"
        return f"approximate search: {where} is of the kind {kind}, which may miss some of the best photos"

    @property
    def most_matches(self) -> int:
        return self.index.server.most_results

    @property
    def places(self) -> tuple[Filter, ...]:
        """The filters by place, which are applied to the answers of the server again."""
        return tuple(one for one in self.filters if isinstance(one, (Box, Near)))

    def search(self, queries: DescriptorSet, top: int = 5) -> Found:
        """Return the `top` photos with the highest scores for each query, as `RemoteIndex.search` does."""
        self.index._check(queries.made_by)
        if not 1 <= top <= self.most_matches:
            raise InputError(f"the number of matches must be from 1 to {self.most_matches:,}, got {top}.")
        refuse_flaws(queries)
        step = max(1, min(self.index.rows_at_once, HITS_AT_ONCE // top))
        answers: list[list[Hit]] = []
        for start in range(0, len(queries), step):
            answers += self._best(queries.vectors[start : start + step], top)
        if self.filters and len(queries) and not any(answers) and (self.index.exact or not self.may_match()):
            self.refuse()
        return _found(answers, top)

    def may_match(self) -> bool:
        """Return False if it is certain that no photo matches every filter, otherwise True.

        With a filter by place, at most `LOOKED_AT` photos near the place are compared with the filter. If the server
        finds so many, the result is True without a comparison.
        """
        limit = LOOKED_AT if self.places else 1
        near = self.index._ask(self.index.server.matching, self.filters, FIELDS, limit)
        return len(near) == limit or any(self._inside([[(one, 0.0) for one in near]]))

    def refuse(self) -> None:
        """Raise InputError because no photo matches."""
        where = self.index.address
        if self.places and self.index.frame == LOCAL:
            raise InputError(
                f"the photos of {where} have positions in metres without a UTM zone, so their latitude is not known. "
                "Leave out filters by place."
            )
        raise InputError(f"{no_match(f'the photos of {where}', All(self.filters))} Use a wider filter.")

    def _best(self, vectors: NDArray[np.float32], top: int) -> list[list[Hit]]:
        """Return the best photos for each query that match every filter.

        If too few of the returned photos match for a query, the server is asked again for twice as many photos.
        """
        best: dict[int, list[Hit]] = {}
        waiting, limit = list(range(len(vectors))), top
        while waiting:
            hits = self._hits(vectors[waiting], limit)
            for query, all_of_them, inside in zip(waiting, hits, self._inside(hits), strict=True):
                if len(inside) >= top or len(all_of_them) < limit:
                    best[query] = inside[:top]
            waiting = [query for query in waiting if query not in best]
            if waiting and limit == self.most_matches:
                raise InputError(
                    f"too few of the {limit:,} best photos of a query match the filter ({self.places[0]}). Use a wider "
                    "filter."
                )
            limit = min(2 * limit, self.most_matches)
        return [best[query] for query in range(len(vectors))]

    def _hits(self, vectors: NDArray[np.float32], limit: int) -> list[list[Hit]]:
        server, kind = self.index.server, self.index.kind
        found = self.index._ask(server.search, vectors, self.filters, limit, FIELDS, kind)
        return [sorted(one, key=lambda hit: (-hit[1], hit[0]["id"])) for one in found]

    def _inside(self, hits: list[list[Hit]]) -> list[list[Hit]]:
        """Return, for each query, the hits that match the filters by place."""
        if not self.places or not any(hits):
            return hits
        photos = {entity["id"]: entity for one in hits for entity, _ in one}
        mask = All(self.places).mask(from_entities(list(photos.values())))
        fits = dict(zip(photos, mask.tolist(), strict=True))
        return [[hit for hit in one if fits[hit[0]["id"]]] for one in hits]


def connected(address: Address) -> Server:
    """Connect to the server of an address.

    Raises:
        InputError: the server does not answer, or refuses the connection.
        MissingExtraError: the Python client of the server (such as pymilvus) is not installed.
    """
    module = importlib.import_module(f"cricavpr.index.remote.{address.scheme}")
    try:
        made: Server = module.connect(address)
        return made
    except Unavailable as error:  # not tried again: the client itself has tried for several seconds
        raise InputError(f"no server answers at {address.netloc} ({error}). Check the address {address}.") from error


def _encoded(name: str) -> str:
    return encode(os.fsencode(name))


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + ROWS_AT_ONCE] for start in range(0, len(texts), ROWS_AT_ONCE))


def _found(answers: list[list[Hit]], top: int) -> Found:
    photos: dict[str, tuple[int, Entity]] = {}
    width = min(top, max(map(len, answers), default=0))
    rows, scores = np.full((len(answers), width), -1, np.int64), np.full((len(answers), width), -np.inf, np.float32)
    for query, hits in enumerate(answers):
        for place, (entity, score) in enumerate(hits):
            rows[query, place] = photos.setdefault(entity["id"], (len(photos), entity))[0]
            scores[query, place] = score
    return Found(rows, scores, from_entities([entity for _, entity in photos.values()]))
