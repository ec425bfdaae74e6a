"""One photo as a server keeps it, and back: nothing is lost on the way.

Numbers are doubles and 64-bit integers as they are. Names, folders and tags are bytes on the disk and text on the
server, so they are percent-encoded; what is left has no quote and no backslash, and can stand in an expression.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError
from cricavpr.geo import Degrees
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
from cricavpr.index.remote.server import Entity

FIELDS = ("id", "name", "root", "tags", "easting_m", "northing_m", "zone", "lat_deg", "lon_deg", "time_ms")
VECTOR = "vector"

MOST_TAGS = 64  # of one photo
LONGEST = 16_384  # characters of a name, a folder or a tag, encoded
NO_TIME = int(np.iinfo(np.int64).min)  # as numpy keeps it
NOWHERE_DEG = 1000.0  # latitude and longitude of what has none: in no box

_PLAIN = "/ @,+:;=()[]!#&"  # beside letters, digits and _.-~


def encode(text: bytes) -> str:
    return quote_from_bytes(text, safe=_PLAIN)


def decode(text: str) -> bytes:
    return unquote_to_bytes(text)


def to_entities(columns: Columns, vectors: NDArray[np.float32]) -> Iterator[Entity]:  # vectors: (N, D)
    """Photos for the server.

    Raises:
        InputError: more or longer tags than fit, or a name that is too long.
    """
    degrees = _degrees(columns)
    names = [_short_enough(encode(name)) for name in columns.names.all()]
    roots = [_short_enough(encode(os.fsencode(root))) for root in columns.roots]
    zones = [_zone(code, columns.frame, known) for code, known in zip(columns.zones, _known(columns), strict=True)]
    metres = np.nan_to_num(columns.metres)
    times = columns.times.astype("datetime64[ms]").astype(np.int64)
    for row, name in enumerate(names):
        yield {
            "id": columns.ids[row].tobytes().hex(),
            "name": name,
            "root": roots[columns.codes[row]],
            "tags": _tags(columns.tags[row], name),
            "easting_m": float(metres[row, 0]),
            "northing_m": float(metres[row, 1]),
            "zone": zones[row],
            "lat_deg": float(degrees[row, 0]),
            "lon_deg": float(degrees[row, 1]),
            "time_ms": int(times[row]),
            VECTOR: vectors[row],
        }


def from_entities(entities: Sequence[Entity]) -> Columns:
    """What `to_entities` was given, without the vectors.

    Raises:
        InputError: the server keeps something else.
    """
    try:
        roots = tuple(dict.fromkeys(entity["root"] for entity in entities))
        code = {root: number for number, root in enumerate(roots)}
        metres = np.array([_metres(entity) for entity in entities], np.float64).reshape(-1, 2)
        return Columns(
            np.frombuffer(b"".join(bytes.fromhex(entity["id"]) for entity in entities), np.uint8).reshape(-1, 32),
            Ragged.of([decode(entity["name"]) for entity in entities]),
            Ragged.of([b"\0".join(map(decode, entity["tags"])) for entity in entities]),
            metres,
            np.array([_zone_code(entity["zone"]) for entity in entities], np.int8),
            np.array([entity["time_ms"] for entity in entities], np.int64).astype("datetime64[ms]"),
            np.array([code[entity["root"]] for entity in entities], np.uint32),
            tuple(os.fsdecode(decode(root)) for root in roots),
            one_frame([frame_of(entity["zone"]) for entity in entities]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the server keeps a photo in another form ({error}). Build the collection again.") from error


def frame_of(zone: str) -> str:
    """The frame of a position by what is kept as its zone."""
    return NONE if not zone else LOCAL if zone == LOCAL else UTM


def _known(columns: Columns) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = ~np.isnan(columns.metres[:, 0])
    return known


def _zone(code: int, frame: str, known: bool) -> str:
    """Empty where the position is unknown."""
    return "" if not known else LOCAL if frame == LOCAL else decode_zone(int(code))


def _zone_code(zone: str) -> int:
    return encode_zone(zone) if frame_of(zone) == UTM else 0


def _metres(entity: Entity) -> tuple[float, float]:
    return (entity["easting_m"], entity["northing_m"]) if entity["zone"] else (np.nan, np.nan)


def _degrees(columns: Columns) -> Degrees:  # (N, 2)
    if columns.frame != UTM:
        return np.full((len(columns), 2), NOWHERE_DEG)
    return np.nan_to_num(columns.positions().latlon(), nan=NOWHERE_DEG)


def _tags(packed: bytes, name: str) -> list[str]:
    tags = [_short_enough(encode(os.fsencode(tag))) for tag in unpack_tags(packed)]
    if len(tags) > MOST_TAGS:
        raise InputError(f"{name} has {len(tags)} tags. A remote index takes at most {MOST_TAGS} for a photo.")
    return tags


def _short_enough(text: str) -> str:
    if len(text) > LONGEST:
        raise InputError(f"{text[:40]}… has {len(text):,} characters. A remote index takes at most {LONGEST:,}.")
    return text
