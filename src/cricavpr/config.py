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

    A file may build on another: `base = "other.toml"`, relative to itself. What it says itself wins, key by key.

    Raises:
        InputError: no such file, not TOML, a base that builds on itself, or keys and values that `kind` does not have.
    """
    path = Path(path)
    return build(kind, _with_bases(path, kind, ()), str(path))


def _with_bases(path: Path, kind: type[Any], above: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file over those of its base; `above` are the files that build on it, the first one first."""
    if path.resolve() in [other.resolve() for other in above]:
        raise InputError(f"the recipe {above[-1]} builds on {path}, which builds on it. Take one `base` away.")
    values = _read_toml(path, above)
    base = values.pop("base", None)
    _refuse_unknown(kind, values, str(path))  # file by file, so that the right one is named
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: base = {base!r} is not possible. It takes the path of a .toml file.")
    return _merged(_with_bases(path.parent / base, kind, (*above, path)), values)


def _read_toml(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    needed = f", on which {above[-1]} builds" if above else ""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read the recipe {path}{needed}: {error.strerror}. Give the path of a .toml file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from None


def _merged(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Tables key by key; anything else as a whole, the upper one's."""
    both = {
        key: _merged(lower[key], upper[key])
        for key in lower.keys() & upper.keys()
        if isinstance(lower[key], dict) and isinstance(upper[key], dict)
    }
    return {**lower, **upper, **both}


def _refuse_unknown(kind: type[Any], values: dict[str, Any], where: str) -> None:
    """Make sure that all keys, in tables too, are those of `kind`.

    Raises:
        InputError: naming the key and the nearest one that exists.
    """
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            raise InputError(f"{where} has {key!r}, which is not a setting. {nearest(key, hints)}")
        if isinstance(value, dict):
            table = _table_of(hints[key], value, f"{where}: {key}")
            if table is not None:
                _refuse_unknown(table, value, f"{where}: {key}")


def build(kind: type[T], values: dict[str, Any], where: str) -> T:
    """Make the dataclass `kind` from plain values, tables included.

    Raises:
        InputError: naming the key and the nearest one that exists, or the value and the type it should have.
    """
    _refuse_unknown(kind, values, where)
    hints = typing.get_type_hints(kind)
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


def _table_of(hint: Any, values: dict[str, Any], where: str) -> type[Any] | None:
    """The dataclass that a table becomes. Where there are several, `kind` says which; the first is left unsaid."""
    kinds = [one for one in (hint, *typing.get_args(hint)) if isinstance(one, type) and dataclasses.is_dataclass(one)]
    if len(kinds) < 2 or "kind" not in values:
        return kinds[0] if kinds else None
    by_name = {name: one for one in kinds for name in typing.get_args(typing.get_type_hints(one)["kind"])}
    if values["kind"] not in by_name:
        raise InputError(f"{where}: kind = {values['kind']!r} is not possible. {nearest(str(values['kind']), by_name)}")
    return by_name[values["kind"]]


def _convert(value: Any, hint: Any, where: str) -> Any:
    table = _table_of(hint, value, where) if isinstance(value, dict) else None
    if table is not None:
        return build(table, value, where)
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
