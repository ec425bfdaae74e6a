"""Servers that hold an index: their addresses, their interface, and the form in which they store photos.

Each kind of server is one module that implements `Server`. Names, folders and tags are bytes on the disk but text on
the server, so they are percent-encoded. The encoded text has no quotes and no backslashes, so it is safe inside a
filter expression of the server.
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

PORTS = {"milvus": 19530}  # default port by scheme; the module of this package with the name of the scheme connects
TOKEN = "CRICAVPR_{}_TOKEN"  # name of the environment variable that holds user:password or a token; {} is the scheme
WAITS_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # how long to wait after each failed try, in seconds

FIELDS = ("id", "name", "root", "tags", "easting_m", "northing_m", "zone", "lat_deg", "lon_deg", "time_ms")
VECTOR = "vector"
MOST_TAGS = 64  # the most tags of a photo
LONGEST = 16_384  # the most characters of an encoded name, folder or tag
NO_TIME = int(np.iinfo(np.int64).min)  # an unknown time, as numpy stores NaT
NOWHERE_DEG = 1000.0  # latitude and longitude of an unknown position, which is outside of every box

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")  # names that every server accepts
_PLAIN = "/ @,+:;=()[]!#&"  # characters that are not encoded, besides letters, digits and _.-~


# --- addresses


def is_remote(where: str | Path) -> bool:
    """Return whether `where` is the address of a server, such as milvus://host/town, and not a folder.

    Example:
        >>> is_remote("milvus://host/town"), is_remote("town.index")
        (True, False)
    """
    return isinstance(where, str) and "://" in where and where.partition("://")[0] in PORTS


def folder_named(text: str, verb: str) -> Path:
    """Return the folder of an index. Raises InputError if `text` is the address of a server.

    Args:
        verb: the command that needs a folder, for the message, such as "compact".
    """
    if is_remote(text):
        raise InputError(
            f"`cricavpr index {verb}` needs an index in a folder, but {Address.parse(text)} is on a server. Give the "
            "folder of an index."
        )
    return Path(text)


@dataclass(frozen=True)
class Address:
    """The address of a collection on a server; `str` of it is the address as users write it.

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
        """Parse an address of the form SCHEME://host:port/collection, such as milvus://10.0.0.7:19530/town.

        Raises:
            InputError: the text does not have this form, or it contains a password.
        """
        form = f"Write {' or '.join(PORTS)}://host:port/collection."
        try:
            parts = urlsplit(text)
            host, port, collection = parts.hostname, parts.port, parts.path.removeprefix("/")
        except ValueError as error:
            raise InputError(f"invalid address {text!r} ({error}). {form}") from error
        if "@" in parts.netloc:  # a password, which would be printed with every error
            variable = TOKEN.format(parts.scheme.upper())
            raise InputError(
                "an address must not contain a password. Set the environment variable "
                f"{variable} to user:password instead."
            )
        if not is_remote(text) or not host or parts.query or parts.fragment:
            raise InputError(f"invalid address {text!r}. {form}")
        if not _COLLECTION.fullmatch(collection):
            raise InputError(
                f"invalid collection name {collection!r} in {text!r}. Use letters, digits and underscores; the first "
                "character must not be a digit."
            )
        return cls(host, port or PORTS[parts.scheme], collection, parts.scheme)

    @property
    def netloc(self) -> str:
        """The host and the port, as in a URL: host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}/{self.collection}"


# --- the interface


class Unavailable(Exception):
    """A server did not answer, but the next try may succeed, for example after the server has started."""


class Server(Protocol):
    """One collection of a server, which may not exist yet. Every method may be called again without harm.

    A photo is an entity: a dictionary with `FIELDS` and a vector. The server must apply filters by time and by tag
    exactly. For a filter by place, it may also return photos a little outside the place.

    Attributes:
        kinds: the kinds of search. The key is the name, the value is whether it is exact. The first kind is the
            default.
        most_results: the largest number of results for one query.

    All methods raise:
        Unavailable: the call failed and may succeed later.
        InputError: the call failed and would fail again.
    """

    kinds: Mapping[str, bool]
    most_results: int

    def describe(self) -> str | None:
        """Return the description that was given to `create`, or None if the collection does not exist."""

    def create(self, description: str, dim: int, kind: str) -> None:
        """Make an empty collection for vectors of `dim` values. `kind` is one of `kinds`."""

    def load(self) -> None:
        """Load the collection into the memory of the server, so that it can be searched."""

    def count(self) -> int:
        """Return the number of photos in the collection."""

    def upsert(self, entities: Sequence[Entity]) -> None:
        """Store photos. A stored photo replaces an earlier photo with the same id."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove the photos with these ids. Ids that the collection does not have are ignored."""

    def having(self, field: str, texts: Sequence[str], fields: Sequence[str]) -> list[Entity]:
        """Return the photos whose `field` is one of `texts`, each with the fields in `fields`.

        If many photos match, only some of them may be returned.
        """

    def matching(self, filters: Sequence[Filter], fields: Sequence[str], limit: int) -> list[Entity]:
        """Return at most `limit` photos that match all filters, each with the fields in `fields`."""

    def any_zone(self) -> str:
        """Return the UTM zone of some photo with a known position, or "" if no photo has a known position."""

    def search(
        self,
        vectors: NDArray[np.float32],  # (Q, D)
        filters: Sequence[Filter],
        limit: int,
        fields: Sequence[str],
        kind: str,
    ) -> list[list[tuple[Entity, float]]]:
        """Return, for each query, the `limit` best photos that match all filters, and their scores.

        The score of a photo is the inner product of the query and the vector of the photo.
        """

    def flush(self) -> None:
        """Make the server write all photos to its disk and index them for searching."""


def with_retries(where: object, ask: Callable[..., T], *arguments: Any) -> T:
    """Call a method of a server. If the server does not answer, wait and try again; each wait is longer.

    Args:
        where: the address, for the message.
        ask: the method to call with `arguments`.

    Raises:
        InputError: the server did not answer the last try.
    """
    for wait_s in (*WAITS_S, None):
        try:
            return ask(*arguments)
        except Unavailable as error:
            if wait_s is None:
                raise InputError(
                    f"the server of {where} does not answer after {len(WAITS_S) + 1} tries ({error}). Photos that were "
                    "written are kept: run the same command again when the server is running."
                ) from error
            time.sleep(wait_s)
    raise AssertionError


# --- photos


def encode(text: bytes) -> str:
    return quote_from_bytes(text, safe=_PLAIN)


def decode(text: str) -> bytes:
    return unquote_to_bytes(text)


def to_entities(columns: Columns, vectors: NDArray[np.float32]) -> Iterator[Entity]:  # vectors: (N, D)
    """Yield photos in the form in which a server stores them.

    Raises:
        InputError: a photo has too many tags, or a name, folder or tag is too long.
    """
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
    """Convert photos from the form in which a server stores them to columns; their vectors are ignored.

    Raises:
        InputError: a photo does not have this form.
    """
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
        raise InputError(
            f"the server returned a photo with invalid data ({error}). Build the index again in a new collection."
        ) from error


def frame_of_zone(zone: str) -> str:
    """Return the coordinate frame of a position, given its zone as a server stores it."""
    return NONE if not zone else LOCAL if zone == LOCAL else UTM


def _tags(packed: bytes, name: bytes) -> list[str]:
    tags = [_checked(encode(os.fsencode(tag))) for tag in unpack_tags(packed)]
    if len(tags) > MOST_TAGS:
        raise InputError(
            f"a photo on a server may have at most {MOST_TAGS} tags, but {os.fsdecode(name)} has {len(tags)}. "
            "Remove some of its tags."
        )
    return tags


def _checked(text: str) -> str:
    if len(text) > LONGEST:
        raise InputError(
            f"a name, folder or tag on a server may have at most {LONGEST:,} characters when it is percent-encoded, "
            f"got {len(text):,}: {text[:40]}… Shorten it."
        )
    return text
