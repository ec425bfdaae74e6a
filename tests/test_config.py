"""Recipes: what is wrong in one is named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from cricavpr.config import read_recipe
from cricavpr.errors import InputError


@dataclass(frozen=True)
class Oven:
    heat: float
    shelves: tuple[int, ...]


@dataclass(frozen=True)
class Cake:
    oven: Oven
    minutes: int
    icing: Literal["white", "none"] = "none"


def recipe(folder: Path, text: str) -> Path:
    path = folder / "cake.toml"
    path.write_text(text)
    return path


GOOD = 'minutes = 40\nicing = "white"\n[oven]\nheat = 180\nshelves = [1, 2]\n'


def test_a_recipe_becomes_the_dataclass_that_was_asked_for(tmp_path: Path) -> None:
    assert read_recipe(recipe(tmp_path, GOOD), Cake) == Cake(Oven(180.0, (1, 2)), 40, "white")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("minutes", "minuets"), "'minuets', which is not a setting. Did you mean 'minutes'"),
        (GOOD.replace("heat", "heath"), "Did you mean 'heat'"),
        (GOOD.replace("40", '"long"'), "minutes = 'long' is not possible. It takes int"),
        (GOOD.replace("white", "green"), "icing = 'green' is not possible. It takes 'white' or 'none'."),
        (GOOD.replace("minutes = 40\n", ""), "incomplete"),
        (GOOD.replace("= 40", "40"), "is not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        read_recipe(recipe(tmp_path, text), Cake)
    assert says in str(error.value)


def test_a_recipe_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml"):
        read_recipe(Path("nowhere.toml"), Cake)
