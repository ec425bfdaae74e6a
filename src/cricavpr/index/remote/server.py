"""Servers that hold an index: their addresses, their interface, and photos as they store them.

Each kind of server is one module that implements `Server`. Names, folders and tags are bytes on the disk and text on
the server, so they are percent-encoded. The result has no quote and no backslash, so it is safe in an expression.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.index.columns import (
    LOCAL,
    NONE,
    UTM,
    Columns,
    Ragged,
    decode_zone,
    encode_zone,
    one_frame,
    unpack_tags,
)
from cricavpr.index.filters import Filter

T = TypeVar("T")
Entity = dict[str, Any]  # one photo as the server stores it

PORTS = {"milvus": 19530}  # by scheme, which is also the name of the module here that has its `connect(address)`
TOKEN = "CRICAVPR_{}_TOKEN"  # the environment variable with user:password, or a token
WAITS_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # between one try and the next

FIELDS = ("id", "name", "root", "tags", "easting_m", "northing_m", "zone", "lat_deg", "lon_deg", "time_ms")
VECTOR = "vector"
MOST_TAGS = 64  # of one photo
LONGEST = 16_384  # characters of an encoded name, folder or tag
NO_TIME = int(np.iinfo(np.int64).min)  # as numpy stores it
NOWHERE_DEG = 1000.0  # latitude and longitude of an unknown position: in no box

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")  # letters that every server accepts
_PLAIN = "/ @,+:;=()[]!#&"  # not encoded, like letters, digits and _.-~


# --- addresses


def is_remote(where: str | Path) -> bool:
    """Return whether this is the address of a server rather than a folder.

    Example:
        >>> is_remote("milvus://host/town"), is_remote("town.index")
        (True, False)
    """
    return isinstance(where, str) and "://" in where and where.partition("://")[0] in PORTS


def folder_named(text: str, verb: str) -> Path:
    """Return the folder of an index. Raises InputError, which names the verb, for the address of a server."""
    if is_remote(text):
        raise InputError(
            f"`index {verb}` needs an index in a folder, and {Address.parse(text)} is on a server. Give a folder."
        )
    return Path(text)


@dataclass(frozen=True)
class Address:
    """One collection of one server; `str` gives the address as users write it.

    Example:
        >>> print(Address.parse("milvus://10.0.0.7/town"))
        milvus://10.0.0.7:19530/town
    """

    host: str
    port: int
    collection: str
    scheme: str = "milvus"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address.

        Raises:
            InputError: not of the form SCHEME://host:port/collection, or with a password in it.
        """
        form = f"Write {' or '.join(PORTS)}://host:port/collection."
        try:
            parts = urlsplit(text)
            host, port, collection = parts.hostname, parts.port, parts.path.removeprefix("/")
        except ValueError as error:
            raise InputError(f"invalid address {text!r} ({error}). {form}") from error
        if "@" in parts.netloc:  # it would be printed with every error
            variable = TOKEN.format(parts.scheme.upper())
            raise InputError(f"an address must not contain a password. Set the variable {variable} to user:password.")
        if not is_remote(text) or not host or parts.query or parts.fragment:
            raise InputError(f"invalid address {text!r}. {form}")
        if not _COLLECTION.fullmatch(collection):
            raise InputError(
                f"invalid collection {collection!r} in {text!r}. Use letters, digits and underscores, and a letter "
                "first."
            )
        return cls(host, port or PORTS[parts.scheme], collection, parts.scheme)

    @property
    def netloc(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}/{self.collection}"


# --- the interface


class Unavailable(Exception):
    """The server did not answer, but may answer the next time, for example when it has started."""


class Server(Protocol):
    """One collection of a server, which may not exist yet. Every call may be repeated without harm.

    Photos are entities with `FIELDS` and a vector. The server must match times and tags exactly; for a place it may
    also return photos a little outside.

    Attributes:
        kinds: for each kind of search, whether it is exact; the first one is the default.
        most_results: the largest number of results for one query.

    All methods raise:
        Unavailable: the call failed and may succeed later.
        InputError: the call failed and would fail again.
    """

    kinds: Mapping[str, bool]
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
        """Store photos; each replaces the photo with the same id."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove photos; missing ones are ignored."""

    def having(self, field: str, texts: Sequence[str], fields: Sequence[str]) -> list[Entity]:
        """Return `fields` of the photos whose `field` is one of these texts."""

    def matching(self, filters: Sequence[Filter], fields: Sequence[str], limit: int) -> list[Entity]:
        """Return `fields` of at most `limit` photos that match all filters."""

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
        """Write all photos to files and index them."""


def with_retries(where: object, ask: Callable[..., T], *arguments: Any) -> T:
    """Call a server until it answers, waiting longer each time. Raises InputError if the last try fails."""
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


# --- photos


def encode(text: bytes) -> str:
    return quote_from_bytes(text, safe=_PLAIN)


def decode(text: str) -> bytes:
    return unquote_to_bytes(text)


def to_entities(columns: Columns, vectors: NDArray[np.float32]) -> Iterator[Entity]:  # vectors: (N, D)
    """Yield photos for the server. Raises InputError if a photo has too many tags, or a name or tag is too long."""
    roots = [_checked(encode(os.fsencode(root))) for root in columns.roots]
    known = ~np.isnan(columns.metres[:, 0])
    metres, times = np.nan_to_num(columns.metres), columns.times.astype(np.int64)
    degrees = np.full((len(columns), 2), NOWHERE_DEG)
    if columns.frame == UTM:
        degrees = np.nan_to_num(columns.positions.latlon(), nan=NOWHERE_DEG)
    for row, name in enumerate(columns.raw_names.all()):
        zone = LOCAL if columns.frame == LOCAL else decode_zone(int(columns.zones[row]))
        yield {
            "id": columns.ids[row].tobytes().hex(),
            "name": _checked(encode(name)),
            "root": roots[columns.codes[row]],
            "tags": _tags(columns.raw_tags[row], name),
            "easting_m": float(metres[row, 0]),
            "northing_m": float(metres[row, 1]),
            "zone": zone if known[row] else "",
            "lat_deg": float(degrees[row, 0]),
            "lon_deg": float(degrees[row, 1]),
            "time_ms": int(times[row]),
            VECTOR: vectors[row],
        }


def from_entities(entities: Sequence[Entity]) -> Columns:
    """Convert entities back to columns, without the vectors. Raises InputError for invalid entities."""
    try:
        roots = tuple(dict.fromkeys(entity["root"] for entity in entities))
        code = {root: number for number, root in enumerate(roots)}
        metres = [(e["easting_m"], e["northing_m"]) if e["zone"] else (np.nan, np.nan) for e in entities]
        zones = [encode_zone(e["zone"]) if frame_of_zone(e["zone"]) == UTM else 0 for e in entities]
        return Columns(
            np.frombuffer(b"".join(bytes.fromhex(entity["id"]) for entity in entities), np.uint8).reshape(-1, 32),
            Ragged.of([decode(entity["name"]) for entity in entities]),
            Ragged.of([b"\0".join(map(decode, entity["tags"])) for entity in entities]),
            np.array(metres, np.float64).reshape(-1, 2),
            np.array(zones, np.int8),
            np.array([entity["time_ms"] for entity in entities], np.int64).astype("datetime64[ms]"),
            np.array([code[entity["root"]] for entity in entities], np.uint32),
            tuple(os.fsdecode(decode(root)) for root in roots),
            one_frame([frame_of_zone(entity["zone"]) for entity in entities]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the server holds an invalid photo ({error}). Build the collection again.") from error


def frame_of_zone(zone: str) -> str:
    """Return the frame of a position by its stored zone."""
    return NONE if not zone else LOCAL if zone == LOCAL else UTM


def _tags(packed: bytes, name: bytes) -> list[str]:
    tags = [_checked(encode(os.fsencode(tag))) for tag in unpack_tags(packed)]
    if len(tags) > MOST_TAGS:
        raise InputError(
            f"a photo on a server may have at most {MOST_TAGS} tags, and {os.fsdecode(name)} has {len(tags)}. "
            "Remove some."
        )
    return tags


def _checked(text: str) -> str:
    if len(text) > LONGEST:
        raise InputError(
            f"a name or tag on a server may have at most {LONGEST:,} characters, got {len(text):,}: {text[:40]}… "
            "Shorten it."
        )
    return text
