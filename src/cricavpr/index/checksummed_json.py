"""JSON with a checksum, which detects damage: a flipped bit can turn a number into another valid number."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def seal(values: dict[str, Any], indent: int | None = None) -> str:
    """Return values as JSON text that contains their checksum.

    Args:
        indent: spaces of indentation for each level; None writes compact JSON on one line.

    Raises:
        ValueError: a number is not finite, so JSON cannot store it.

    Example:
        >>> unseal(seal({"a": 1}).encode())
        {'a': 1}
    """
    separators = (",", ":") if indent is None else None
    whole = {**values, "checksum": _checksum(values)}
    return json.dumps(whole, separators=separators, indent=indent, allow_nan=False)


def unseal(content: bytes) -> dict[str, Any]:
    """Return the values that were given to `seal`.

    Args:
        content: the JSON text that `seal` returned, as bytes.

    Raises:
        ValueError: the JSON is invalid, or its checksum is missing or wrong. The message is the end of a sentence that
            begins with the file name, such as "has no checksum".
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
