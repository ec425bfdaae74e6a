"""Conversion of values from TOML or JSON into dataclasses (`build`), and back (`to_plain`).

The conversion is strict: unknown keys, missing keys and values of a wrong type raise errors that name the key.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cricavpr.errors import InputError

T = TypeVar("T")


def read_recipe(path: Path, kind: type[T]) -> T:
    """Read a TOML file into the dataclass `kind`, with nested dataclasses for its tables.

    A file may extend another file by `base = "other.toml"`, a path relative to itself. Its keys then override those of
    the base.

    Raises:
        InputError: the file cannot be read or is not valid TOML, files extend each other in a circle, or a key or value
            does not fit the fields of `kind`.
    """
    path = Path(path)
    return build(kind, _with_bases(path, kind, ()), str(path))


def build(kind: type[T], values: Any, where: str) -> T:
    """Create the dataclass `kind` from a dictionary of plain values, with nested dataclasses.

    Fields may be dataclasses, str, int, float, bool, Literal, `X | None`, tuples, and dicts with keys of str or int.
    Floats must be finite.

    Args:
        where: source of the values, such as a path; error messages begin with it.

    Raises:
        InputError: a key is unknown or missing, a value has the wrong type, or `__post_init__` raises ValueError.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Size:
        ...     height: int
        ...     width: int = 640
        >>> build(Size, {"height": 480}, "size.toml")
        Size(height=480, width=640)
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must be a table with keys and values, got {_shown(values)}.")
    _refuse_unknown(kind, values, where)
    hints = _hints(kind)
    made = {key: _convert(value, hints[key], f"{where}: {key}") for key, value in values.items()}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.init and required and field.name not in made:
            raise InputError(f"{where}: missing key {field.name!r}.")
    try:
        return kind(**made)
    except ValueError as error:
        raise InputError(f"{where}: {str(error).rstrip('.')}.") from error


def to_plain(value: Any) -> Any:
    """Convert a value for JSON or TOML: dataclasses and mappings become dicts with text keys, tuples become lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list | tuple) else value


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse JSON from a file that may be damaged or malicious.

    Args:
        where: name of the file; error messages begin with it.

    Raises:
        InputError: the JSON is invalid or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error}).") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: the most similar known name, and all known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names)}."


# --- recipes that extend other recipes


def _with_bases(path: Path, kind: type[Any], above: tuple[Path, ...]) -> dict[str, Any]:
    """Return the values of a recipe file, merged with those of the file that it extends.

    Args:
        above: the files that extend this file, directly or through others, outermost first.
    """
    if path.resolve() in [other.resolve() for other in above]:
        raise InputError(
            f"recipes must not extend each other in a circle: {above[-1]} extends {path}, which extends {above[-1]} "
            "directly or through other files. Remove one `base`."
        )
    needed = f", the base of {above[-1]}" if above else ""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the recipe {path}{needed}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from None
    base = values.pop("base", None)
    _refuse_unknown(kind, values, str(path))  # before merging, so that the message names the file with the key
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: base must be the path of a .toml file, got {_shown(base)}.")
    return _merged(_with_bases(path.parent / base, kind, (*above, path)), values)


def _merged(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Return `lower` overridden by `upper`. Tables are merged key by key; other values are replaced."""
    both = {
        key: _merged(lower[key], upper[key])
        for key in lower.keys() & upper.keys()
        if isinstance(lower[key], dict) and isinstance(upper[key], dict)
    }
    return {**lower, **upper, **both}


# --- values


_known_hints: dict[type[Any], dict[str, Any]] = {}


def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name. They are cached, because resolving them is slow."""
    if kind not in _known_hints:
        _known_hints[kind] = typing.get_type_hints(kind)
    return _known_hints[kind]


def _refuse_unknown(kind: type[Any], values: Mapping[str, Any], where: str) -> None:
    """Raise InputError if a key, also in a nested table, is not a field of the dataclass `kind`."""
    hints = _hints(kind)
    for key, value in values.items():
        if key not in hints:
            raise InputError(f"{where}: unknown key {key!r}. {nearest(str(key), hints)}")
        if isinstance(value, dict):
            table = _table_of(hints[key], value, f"{where}: {key}")
            if table is not None:
                _refuse_unknown(table, value, f"{where}: {key}")


def _table_of(hint: Any, values: dict[str, Any], where: str) -> type[Any] | None:
    """Return the dataclass for a table, or None if its field is not a dataclass.

    If the field allows several dataclasses, the table's key `kind` selects one of them.
    """
    kinds = [one for one in (hint, *typing.get_args(hint)) if isinstance(one, type) and dataclasses.is_dataclass(one)]
    if len(kinds) < 2 or "kind" not in values:
        return kinds[0] if kinds else None  # without the key `kind`, the first dataclass
    by_name = {name: one for one in kinds for name in typing.get_args(_hints(one)["kind"])}
    if values["kind"] not in by_name:
        raise InputError(f"{where}: unknown kind {values['kind']!r}. {nearest(str(values['kind']), by_name)}")
    return by_name[values["kind"]]


def _convert(value: Any, hint: Any, where: str) -> Any:
    if hint is Any or (type(value) is hint and hint is not float):
        return value
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_choice(value, arguments, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return _convert_tuple(value, arguments, where)
    if origin is dict and isinstance(value, Mapping):
        return {_key(key, arguments[0], where): _convert(item, arguments[1], where) for key, item in value.items()}
    if origin is typing.Literal and value in arguments:
        return value
    raise _wrong(value, hint, where)


def _convert_choice(value: Any, arguments: tuple[Any, ...], where: str) -> Any:
    """Convert the value of a field that may be None, or that allows several dataclasses."""
    others = [one for one in arguments if one is not types.NoneType]
    if value is None and len(others) < len(arguments):
        return None
    table = _table_of(typing.Union[tuple(others)], value, where) if isinstance(value, dict) else None  # noqa: UP007
    return _convert(value, others[0] if table is None else table, where)


def _convert_tuple(value: Iterable[Any], arguments: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    items = list(value)
    if arguments[-1] is Ellipsis:
        return tuple(_convert(item, arguments[0], where) for item in items)
    if len(items) != len(arguments):
        raise InputError(f"{where} must have {len(arguments)} values, got {len(items)}.")
    return tuple(_convert(item, one, where) for item, one in zip(items, arguments, strict=True))


def _key(key: Any, hint: Any, where: str) -> Any:
    """Convert a key of a dict to the type `hint`. JSON has only text keys, so integers are converted from text."""
    if hint is int and isinstance(key, str) and key.isdecimal():
        return int(key)
    if type(key) is hint:
        return key
    raise _wrong(key, hint, where)


def _wrong(value: Any, hint: Any, where: str) -> InputError:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        expected = " or ".join(map(repr, arguments))
    else:
        expected = getattr(hint, "__name__", str(hint)) if not arguments else str(hint)
    return InputError(f"{where} must be {expected}, got {_shown(value)}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
