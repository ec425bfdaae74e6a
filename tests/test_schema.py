"""Recipes: what is wrong in one is named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from cricavpr.errors import InputError
from cricavpr.schema import read_recipe


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


# ---- a recipe on another


def test_a_recipe_says_only_how_it_differs_from_its_base(tmp_path: Path) -> None:
    recipe(tmp_path, GOOD)
    (tmp_path / "hot").mkdir()
    hot, hotter = tmp_path / "hot" / "hot.toml", tmp_path / "hot" / "hotter.toml"
    hot.write_text('base = "../cake.toml"\nminutes = 20\n[oven]\nheat = 220\n')
    hotter.write_text('base = "hot.toml"\n[oven]\nheat = 250\nshelves = [3]\n')
    assert read_recipe(hot, Cake) == Cake(Oven(220.0, (1, 2)), 20, "white")
    assert read_recipe(hotter, Cake) == Cake(Oven(250.0, (3,)), 20, "white")


def says(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_recipe(path, Cake)
    return str(error.value)


def test_what_is_wrong_with_a_base_is_said_with_the_names_of_both(tmp_path: Path) -> None:
    top = tmp_path / "top.toml"
    top.write_text('base = "cake.toml"\nminutes = 20\n')
    missing = says(top)
    assert "cake.toml, on which" in missing and "top.toml builds: No such file" in missing
    recipe(tmp_path, GOOD.replace("heat", "heath"))
    assert f"{tmp_path / 'cake.toml'}: oven has 'heath'" in says(top)  # not top.toml, where it does not stand
    recipe(tmp_path, 'base = "top.toml"\n' + GOOD)
    assert "builds on it" in says(top) and "builds on it" in says(tmp_path / "cake.toml")
    top.write_text("base = 3\n")
    assert "base = 3 is not possible" in says(top)
    top.write_text('base = "top.toml"\n')
    assert "builds on it" in says(top)
