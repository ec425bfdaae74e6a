"""Changes to a recipe by name, and the refusal of those that were not named."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from cricavpr.errors import InputError
from cricavpr.schema import build
from cricavpr.training.recipe import Recipe


def changed(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with some values set: `{"optimizer.rate": 2e-4}`.

    Raises:
        InputError: a key that is no setting, or an impossible value.
    """
    values = recipe.to_dict()
    for key, value in settings.items():
        *tables, last = key.split(".")
        table = values
        for name in tables:
            if not isinstance(table.get(name, {}) or {}, dict):
                raise InputError(f"{key!r} is not a setting: {name!r} has no settings below it.")
            table[name] = table = table.get(name) or {}
        table[last] = value
    return build(Recipe, values, "the changed recipe")


def read_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """`optimizer.rate=2e-4` and the like; the right side is TOML, or text where it is not.

    Raises:
        InputError: there is no equals sign.
    """
    settings = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise InputError(f"--set {text!r} is not understood. Write key=value, such as optimizer.rate=2e-4.")
        try:
            settings[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key.strip()] = value.strip()
    return settings


def refuse_unnamed_changes(recorded: Recipe, wanted: Recipe, named: Collection[str]) -> None:
    """A run goes on under the recipe that it began with, or with changes that were named.

    Raises:
        InputError: listing what differs and was not named.
    """
    unnamed = {
        key: what
        for key, what in differences(recorded, wanted).items()
        if not any(key == name or key.startswith(f"{name}.") for name in named)
    }
    if unnamed:
        what = ", ".join(unnamed.values())
        raise InputError(f"the run began with another recipe: {what}. To change it on purpose, name it with --set.")


def differences(recorded: Recipe, wanted: Recipe) -> dict[str, str]:
    """By the name of each setting that differs: what it was and is, in words."""
    before, after = _flat(recorded.to_dict()), _flat(wanted.to_dict())
    differing = sorted(key for key in before | after if before.get(key) != after.get(key))
    return {key: f"{key} was {before.get(key)!r} and is {after.get(key)!r}" for key in differing}


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat
