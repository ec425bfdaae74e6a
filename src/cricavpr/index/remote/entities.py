"""Convert photos to the entities that a server stores, and back without loss.

Names, folders and tags are bytes on the disk and text on the server, so they are percent-encoded. The result has no
quote and no backslash, so it is safe in an expression.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

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
from cricavpr.index.remote.server import Entity

FIELDS = ("id", "name", "root", "tags", "easting_m", "northing_m", "zone", "lat_deg", "lon_deg", "time_ms")
VECTOR = "vector"

MOST_TAGS = 64  # of one photo
LONGEST = 16_384  # characters of an encoded name, folder or tag
NO_TIME = int(np.iinfo(np.int64).min)  # as numpy stores it
NOWHERE_DEG = 1000.0  # latitude and longitude of an unknown position: in no box

_PLAIN = "/ @,+:;=()[]!#&"  # not encoded, like letters, digits and _.-~


def encode(text: bytes) -> str:
    return quote_from_bytes(text, safe=_PLAIN)


def decode(text: str) -> bytes:
    return unquote_to_bytes(text)


def to_entities(columns: Columns, vectors: NDArray[np.float32]) -> Iterator[Entity]:  # vectors: (N, D)
    """Yield photos for the server. Raises InputError for too many tags, or too long a name or tag."""
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
    """Return what `to_entities` was given, without the vectors. Raises InputError for invalid entities."""
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
        raise InputError(f"the server keeps an invalid photo ({error}). Build the collection again.") from error


def frame_of_zone(zone: str) -> str:
    """Return the frame of a position by its stored zone."""
    return NONE if not zone else LOCAL if zone == LOCAL else UTM


def _tags(packed: bytes, name: bytes) -> list[str]:
    tags = [_checked(encode(os.fsencode(tag))) for tag in unpack_tags(packed)]
    if len(tags) > MOST_TAGS:
        raise InputError(
            f"a photo on a server may have {MOST_TAGS} tags, and {os.fsdecode(name)} has {len(tags)}. Remove some."
        )
    return tags


def _checked(text: str) -> str:
    if len(text) > LONGEST:
        raise InputError(
            f"a name or tag on a server may have {LONGEST:,} characters, got {len(text):,}: {text[:40]}… Shorten it."
        )
    return text
