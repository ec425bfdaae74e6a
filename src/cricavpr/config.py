"""Recipes: TOML files read into the frozen dataclass that the caller names. Unknown keys are refused by name."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from cricavpr.errors import InputError

T = TypeVar("T")


def read_recipe(path: Path, kind: type[T]) -> T:
    """Read a TOML file into the dataclass `kind`; tables become the dataclasses of its fields.

    Raises:
        InputError: no such file, not TOML, or keys and values that `kind` does not have.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the recipe {path}: {error.strerror}. Give the path of a .toml file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from None
    return build(kind, values, str(path))


def build(kind: type[T], values: dict[str, Any], where: str) -> T:
    """Make the dataclass `kind` from plain values, tables included.

    Raises:
        InputError: naming the key and the nearest one that exists, or the value and the type it should have.
    """
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise InputError(f"{where} has {key!r}, which is not a setting. {nearest(key, hints)}")
    made = {key: _convert(value, hints[key], f"{where}: {key}") for key, value in values.items()}
    try:
        return kind(**made)
    except TypeError as error:
        raise InputError(f"{where} is incomplete: {error}.") from None


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """What to answer to a wrong name: the nearest known one, and all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names)}."


def _convert(value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return build(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(item, arguments[0], where) for item in value)
    if origin is typing.Literal and value in arguments:
        return value
    if origin is types.UnionType:
        return value if value is None else _convert(value, arguments[0], where)
    if hint is float and type(value) in (int, float):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    takes = " or ".join(map(repr, arguments)) if origin is typing.Literal else getattr(hint, "__name__", hint)
    raise InputError(f"{where} = {value!r} is not possible. It takes {takes}.")
