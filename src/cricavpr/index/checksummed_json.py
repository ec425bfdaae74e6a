"""JSON with a checksum, because a flipped bit can turn a number into another valid number."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def seal(values: dict[str, Any], indent: int | None = None) -> str:
    """Return the values as JSON with their checksum, compact unless `indent` is given.

    Raises:
        ValueError: a number is not finite.

    Example:
        >>> unseal(seal({"a": 1}).encode())
        {'a': 1}
    """
    separators = (",", ":") if indent is None else None
    whole = {**values, "checksum": _checksum(values)}
    return json.dumps(whole, separators=separators, indent=indent, allow_nan=False)


def unseal(content: bytes) -> dict[str, Any]:
    """Return the values that were given to `seal`.

    Raises:
        ValueError: the JSON is invalid, or its checksum is missing or wrong. The message continues a sentence that
            begins with the name of the file.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("is truncated or invalid JSON") from error
    if not isinstance(values, dict):
        raise ValueError("is not a JSON object")
    found = values.pop("checksum", None)
    if found is None:
        raise ValueError("has no checksum")
    if found != _checksum(values):
        raise ValueError("does not match its checksum")
    return values


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
