"""Indexes on a Milvus server: calls to its client, the kinds of search, and filters written as Milvus expressions.

This is the only module that uses pymilvus.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.extras import extra
from cricavpr.geo import EARTH_RADIUS_M, LatLon
from cricavpr.index.filters import Box, Filter, Near, Tagged, Taken
from cricavpr.index.remote.server import (
    LONGEST,
    MOST_TAGS,
    NO_TIME,
    TOKEN,
    VECTOR,
    Address,
    Entity,
    Unavailable,
    encode,
)

T = TypeVar("T")

CONNECT_S = 10  # how long to wait for the server when connecting, in seconds
CALL_S = 60  # how long to wait for any other call; pymilvus needs whole seconds
MOST_RESULTS = 16_384  # the most results that Milvus returns for one query
METRIC = "IP"  # the inner product, which for unit vectors is the cosine similarity
TRANSIENT = {1, 2, 4, 5, 8, 101, 106, 503, 901}  # error codes: not ready, unavailable, too many requests, not loaded
CONSISTENCY = {"query": "Strong", "search": "Session"}


@dataclass(frozen=True)
class Kind:
    """The settings of one kind of search.

    Attributes:
        type: name of the index type in Milvus, such as "HNSW".
        exact: whether a search compares the query with every vector.
        build: settings of the index, which are fixed when the collection is made.
        search: settings of every search.
        breadth: name of the search setting that must be at least the number of results, such as "ef"; "" if this kind
            has no such setting.
    """

    type: str
    exact: bool
    build: Mapping[str, int]
    search: Mapping[str, int]
    breadth: str = ""

    def settings(self, limit: int) -> dict[str, int]:
        """Return the settings for a search with `limit` results for each query."""
        widened = {self.breadth: max(self.search[self.breadth], 2 * limit)} if self.breadth else {}
        return {**self.search, **widened}


# The search settings suit descriptors without clusters. Of the ten best matches among 20,000 descriptors, "ivf" finds
# 99 % and "hnsw" all. Smaller values of nprobe and ef lose many (docs/results/2026-11-22-milvus.md).
KINDS = {
    "flat": Kind("FLAT", True, {}, {}),
    "ivf": Kind("IVF_FLAT", False, {"nlist": 1024}, {"nprobe": 512}),
    "hnsw": Kind("HNSW", False, {"M": 32, "efConstruction": 256}, {"ef": 512}, "ef"),
}


def connect(address: Address) -> MilvusServer:
    """Connect to the Milvus server of a collection.

    Raises:
        MissingExtraError: pymilvus is not installed.
        Unavailable: no server answers at the address.
        InputError: the server refuses the connection.
    """
    with extra("milvus", "an index on a Milvus server"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pymilvus
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "pymilvus"]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # silence the loggers, which repeat every raised error
    url, token = f"http://{address.netloc}", os.environ.get(TOKEN.format("MILVUS"), "")
    client = _asked(lambda: pymilvus.MilvusClient(uri=url, token=token, timeout=CONNECT_S), address)
    return MilvusServer(address, client, pymilvus)


@dataclass(frozen=True, eq=False)
class MilvusServer:
    """One collection of a Milvus server; it implements `Server`.

    Attributes:
        client: a `pymilvus.MilvusClient`.
        library: the module `pymilvus`.
    """

    kinds: ClassVar[Mapping[str, bool]] = {name: kind.exact for name, kind in KINDS.items()}
    most_results: ClassVar[int] = MOST_RESULTS
    address: Address
    client: Any
    library: Any

    def describe(self) -> str | None:
        return str(self._do("describe_collection")["description"]) if self._do("has_collection") else None

    def create(self, description: str, dim: int, kind: str) -> None:
        types = self.library.DataType
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
        schema.add_field("id", types.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("name", types.VARCHAR, max_length=LONGEST)
        schema.add_field("root", types.VARCHAR, max_length=LONGEST)
        tags = {"element_type": types.VARCHAR, "max_capacity": MOST_TAGS, "max_length": LONGEST}
        schema.add_field("tags", types.ARRAY, **tags)
        schema.add_field("zone", types.VARCHAR, max_length=8)
        for name in ("easting_m", "northing_m", "lat_deg", "lon_deg"):
            schema.add_field(name, types.DOUBLE)
        schema.add_field("time_ms", types.INT64)
        schema.add_field(VECTOR, types.FLOAT_VECTOR, dim=dim)
        index = self.client.prepare_index_params()
        index.add_index(VECTOR, index_type=KINDS[kind].type, metric_type=METRIC, params=dict(KINDS[kind].build))
        self._do("create_collection", schema=schema, index_params=index, consistency_level="Strong")

    def load(self) -> None:
        self._do("load_collection")

    def count(self) -> int:
        return int(self._do("query", filter="", output_fields=["count(*)"])[0]["count(*)"])

    def upsert(self, entities: Sequence[Entity]) -> None:
        self._do("upsert", data=list(entities))

    def delete(self, ids: Sequence[str]) -> None:
        self._do("delete", filter=one_of("id", ids))

    def having(self, field: str, texts: Sequence[str], fields: Sequence[str]) -> list[Entity]:
        return self.query(one_of(field, texts), fields, MOST_RESULTS)

    def matching(self, filters: Sequence[Filter], fields: Sequence[str], limit: int) -> list[Entity]:
        return self.query(expression_of(filters), fields, limit)

    def any_zone(self) -> str:
        return next((str(one["zone"]) for one in self.query('zone != ""', ["zone"], 1)), "")

    def query(self, expression: str, fields: Sequence[str], limit: int) -> list[Entity]:
        """Return at most `limit` photos that match a Milvus expression, each with the fields in `fields`."""
        return list(self._do("query", filter=expression, output_fields=list(fields), limit=limit))

    def search(
        self,
        vectors: NDArray[np.float32],  # (Q, D)
        filters: Sequence[Filter],
        limit: int,
        fields: Sequence[str],
        kind: str,
    ) -> list[list[tuple[Entity, float]]]:
        found = self._do(
            "search",
            data=list(vectors),
            filter=expression_of(filters),
            limit=limit,
            output_fields=list(fields),
            search_params={"metric_type": METRIC, "params": KINDS[kind].settings(limit)},
        )
        return [[(hit["entity"], float(hit["distance"])) for hit in one] for one in found]

    def flush(self) -> None:
        self._do("flush")

    def drop(self) -> None:
        """Delete the collection with all its photos from the server."""
        self._do("drop_collection")

    def _do(self, call: str, **arguments: Any) -> Any:
        """Call a method of the client for this collection.

        Args:
            call: name of the method. A "query" sees everything that any process has written, because its result decides
                what is written next. A "search" sees everything that this process has written; to see the latest photos
                of other processes too, it would have to wait.
        """
        if call in CONSISTENCY:
            arguments["consistency_level"] = CONSISTENCY[call]
        ask = getattr(self.client, call)
        return _asked(lambda: ask(self.address.collection, timeout=CALL_S, **arguments), self.address)


def _asked(ask: Callable[[], T], address: Address) -> T:
    """Call `ask`, which calls the client, and return its result. Errors of the client are converted.

    Raises:
        Unavailable: the call failed and may succeed later.
        InputError: the call failed and would fail again.
    """
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        return ask()
    except grpc.RpcError as error:
        raise Unavailable(str(error.code())) from error
    except MilvusException as error:
        line = " ".join(str(error.message).split())[:200]
        if error.code in TRANSIENT or isinstance(error.code, grpc.StatusCode) or callable(error.code):
            raise Unavailable(line) from error
        raise InputError(f"the server of {address} refused the call: {line}.") from error
    except ValueError as error:  # raised by the client before it calls the server, such as for an invalid address
        raise InputError(f"cannot use {address}: {error}. Check the address.") from error


# --- filters as expressions of Milvus

MARGIN_DEG = 1e-9  # boxes are widened by a tenth of a millimetre, which is more than the rounding of degrees
MARGIN = 1.01  # a radius is multiplied by this, because distances in UTM and on a sphere differ by up to 0.8 %


def expression_of(filters: Sequence[Filter]) -> str:
    """Return a Milvus expression for the photos that match every filter; "" if there is no filter.

    For a filter by place, photos just outside the place may match the expression, too.
    """
    return " and ".join(f"({_expression(one)})" for one in filters)


def one_of(field: str, texts: Sequence[str]) -> str:
    """Return a Milvus expression for the photos whose `field` is one of these encoded texts."""
    return f"{field} in [" + ",".join(f'"{text}"' for text in texts) + "]"


def _expression(one: Filter) -> str:
    match one:
        case Box():
            return _box(one.south_deg, one.north_deg, one.west_deg, one.east_deg)
        case Near():
            return _circle(one.place, one.radius_m * MARGIN / EARTH_RADIUS_M)
        case Taken():
            return _time(one.first, one.end)
        case Tagged():
            return f'array_contains(tags, "{encode(os.fsencode(one.tag))}")'
    raise InputError(f"a server cannot apply the filter '{one}'. Use Box, Near, Taken or Tagged.")


def _box(south_deg: float, north_deg: float, west_deg: float, east_deg: float) -> str:
    south, west = (f">= {float(deg) - MARGIN_DEG!r}" for deg in (south_deg, west_deg))  # float(): also for numpy's
    north, east = (f"<= {float(deg) + MARGIN_DEG!r}" for deg in (north_deg, east_deg))
    either = "or" if west_deg > east_deg else "and"  # the box crosses the date line
    return f"lat_deg {south} and lat_deg {north} and (lon_deg {west} {either} lon_deg {east})"


def _circle(place: LatLon, angle: float) -> str:
    """Return an expression for the smallest box that holds a circle on a sphere.

    Args:
        place: centre of the circle.
        angle: radius of the circle as an angle at the centre of the sphere, in radians.
    """
    angle += math.radians(MARGIN_DEG)
    lat, half_deg = math.radians(place.lat_deg), 180.0
    if abs(lat) + angle < math.pi / 2:  # no pole is inside
        half_deg = min(half_deg, math.degrees(math.asin(math.sin(angle) / math.cos(lat))))
    south_deg, north_deg = (math.degrees(max(min(lat + side, math.pi / 2), -math.pi / 2)) for side in (-angle, angle))
    if half_deg == 180.0:
        return _box(south_deg, north_deg, -180.0, 180.0)
    return _box(south_deg, north_deg, _turned(place.lon_deg - half_deg), _turned(place.lon_deg + half_deg))


def _turned(deg: float) -> float:
    """Normalise a longitude to -180..180 degrees."""
    return deg if -180.0 <= deg <= 180.0 else (deg + 180.0) % 360.0 - 180.0


def _time(first: np.datetime64 | None, end: np.datetime64 | None) -> str:
    """Return an expression for times at or after `first` and before `end`; None sets no limit.

    Unknown times never match: they are stored as the lowest integer.
    """
    parts = [f"time_ms >= {NO_TIME + 1 if first is None else _milliseconds_up(first)}"]
    if end is not None:
        parts.append(f"time_ms < {_milliseconds_up(end)}")
    return " and ".join(parts)


def _milliseconds_up(when: np.datetime64) -> int:
    """Return a time in milliseconds since 1970, rounded up."""
    whole = when.astype("datetime64[ms]")
    return int(whole.astype(np.int64)) + int(whole < when)
