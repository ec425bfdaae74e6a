"""JSON that carries its own checksum: a bit that flips makes another number of a number, and nobody would see it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def sealed(values: dict[str, Any], indent: int | None = None) -> str:
    """The values as JSON with their checksum; without `indent` as short as can be.

    Raises:
        ValueError: a number that is not finite, which JSON does not know.
    """
    separators = (",", ":") if indent is None else None
    whole = {**values, "checksum": _checksum(values)}
    return json.dumps(whole, separators=separators, indent=indent, allow_nan=False)


def unsealed(content: bytes) -> dict[str, Any]:
    """What `sealed` was given.

    Raises:
        ValueError: what is wrong with it, as it follows on the name of a file.
    """
    values, found = _parsed(content)
    if found is None:
        raise ValueError("has no checksum")
    if found != _checksum(values):
        raise ValueError("does not have the checksum that it was written with")
    return values


def is_sealed(content: bytes) -> bool:
    """Whether `unsealed` takes it."""
    try:
        unsealed(content)
    except ValueError:
        return False
    return True


def _parsed(content: bytes) -> tuple[dict[str, Any], object]:
    try:
        values: dict[str, Any] = json.loads(content)
        return values, values.pop("checksum", None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError("is cut off or garbled") from error


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
