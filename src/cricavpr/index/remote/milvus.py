"""A Milvus server, asked through its own client. The only file that knows pymilvus."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.extras import extra
from cricavpr.index.remote.address import TOKEN, Address
from cricavpr.index.remote.entities import LONGEST, MOST_TAGS, VECTOR
from cricavpr.index.remote.expressions import one_of
from cricavpr.index.remote.server import Entity, Kind, Unavailable

T = TypeVar("T")

CONNECT_S = 10  # to be answered for the first time
CALL_S = 60  # for any other answer; whole seconds, which pymilvus insists on
METRIC = "IP"  # the inner product: of unit vectors the cosine
TRANSIENT = {1, 2, 4, 5, 8, 101, 106, 503, 901}  # Milvus: not ready, unavailable, too many requests, not yet loaded
CONSISTENCY = {"query": "Strong", "search": "Session"}


def connect(address: Address) -> MilvusServer:
    """Reach a server.

    Raises:
        MissingExtraError: pymilvus is not installed.
        Unavailable: nothing answers there.
        InputError: it does not let us in.
    """
    library = _pymilvus()
    host = f"[{address.host}]" if ":" in address.host else address.host
    url, token = f"http://{host}:{address.port}", os.environ.get(TOKEN, "")
    client = _asked(lambda: library.MilvusClient(uri=url, token=token, timeout=CONNECT_S), address)
    return MilvusServer(address, client, library)


def _pymilvus() -> Any:
    with extra("milvus", "an index on a Milvus server"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pymilvus
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "pymilvus"]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they log what they raise; here that is said once
    return pymilvus


@dataclass(frozen=True, eq=False)
class MilvusServer:
    """The `Server` of an index."""

    address: Address
    client: Any
    library: Any

    def describe(self, collection: str) -> str | None:
        if not self._do("has_collection", collection):
            return None
        return str(self._do("describe_collection", collection)["description"])

    def create(self, collection: str, description: str, dim: int, kind: Kind) -> None:
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
        index.add_index(VECTOR, index_type=kind.type, metric_type=METRIC, params=dict(kind.build))
        self._do("create_collection", collection, schema=schema, index_params=index, consistency_level="Strong")

    def load(self, collection: str) -> None:
        self._do("load_collection", collection)

    def count(self, collection: str) -> int:
        return int(self._do("query", collection, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def upsert(self, collection: str, entities: Sequence[Entity]) -> None:
        self._do("upsert", collection, data=list(entities))

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        self._do("delete", collection, filter=one_of("id", ids))

    def query(self, collection: str, expression: str, fields: Sequence[str], limit: int) -> list[Entity]:
        return list(self._do("query", collection, filter=expression, output_fields=list(fields), limit=limit))

    def search(
        self,
        collection: str,
        vectors: NDArray[np.float32],  # (Q, D)
        expression: str,
        limit: int,
        fields: Sequence[str],
        settings: Mapping[str, int],
    ) -> list[list[tuple[Entity, float]]]:
        found = self._do(
            "search",
            collection,
            data=list(vectors),
            filter=expression,
            limit=limit,
            output_fields=list(fields),
            search_params={"metric_type": METRIC, "params": dict(settings)},
        )
        return [[(hit["entity"], float(hit["distance"])) for hit in one] for one in found]

    def settle(self, collection: str) -> None:
        self._do("flush", collection)

    def drop(self, collection: str) -> None:
        """Take a collection away with all its photos."""
        self._do("drop_collection", collection)

    def _do(self, call: str, collection: str, **arguments: Any) -> Any:
        """One call of the client.

        What decides about writing sees everything that was written before, by anybody. A search sees all that this
        process wrote, and what others wrote within moments: to see that at once it would wait for the server's clock.
        """
        if call in CONSISTENCY:
            arguments["consistency_level"] = CONSISTENCY[call]
        ask = getattr(self.client, call)
        return _asked(lambda: ask(collection, timeout=CALL_S, **arguments), self.address)


def _asked(ask: Callable[[], T], address: Address) -> T:
    """Every way to fail becomes one of two: worth another try, or not.

    Raises:
        Unavailable, InputError.
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
        raise InputError(f"the server of {address} refuses: {line}.") from error
    except ValueError as error:  # what the client finds wrong by itself, such as an address
        raise InputError(f"cannot ask {address}: {error}.") from error
