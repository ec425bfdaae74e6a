"""Recipes: what is wrong in one is named."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from cricavpr.errors import InputError
from cricavpr.schema import build, parse_json, read_recipe, to_plain


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
        (GOOD.replace("minutes", "minuets"), "unknown key 'minuets'. Did you mean 'minutes'"),
        (GOOD.replace("heat", "heath"), "Did you mean 'heat'"),
        (GOOD.replace("40", '"long"'), "minutes must be int, got 'long'"),
        (GOOD.replace("white", "green"), "icing must be 'white' or 'none', got 'green'."),
        (GOOD.replace("minutes = 40\n", ""), "missing key 'minutes'"),
        (GOOD.replace("= 40", "40"), "is not valid TOML"),
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
    assert "cake.toml, the base of" in missing and "top.toml: No such file" in missing
    recipe(tmp_path, GOOD.replace("heat", "heath"))
    assert f"{tmp_path / 'cake.toml'}: oven: unknown key 'heath'" in says(top)  # not top.toml, where it does not stand
    recipe(tmp_path, 'base = "top.toml"\n' + GOOD)
    assert "in a circle" in says(top) and "in a circle" in says(tmp_path / "cake.toml")
    top.write_text("base = 3\n")
    assert "base must be the path of a .toml file, got 3" in says(top)
    top.write_text('base = "top.toml"\n')
    assert "in a circle" in says(top)


# ---- values of JSON


@dataclass(frozen=True)
class Party:
    cakes: tuple[Cake, ...]
    sizes: tuple[int, float]
    guests: dict[int, str]
    host: str | None = None

    def __post_init__(self) -> None:
        if not self.cakes:
            raise ValueError("a party needs a cake")


PARTY = Party((Cake(Oven(180.0, (1,)), 40),), (3, 0.5), {1: "Ada", 2: "Bo"})


def test_build_and_to_plain_are_inverse_through_json() -> None:
    assert build(Party, parse_json(json.dumps(to_plain(PARTY)), "party.json"), "party.json") == PARTY


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("cakes", [], "party.json: a party needs a cake."),
        ("cakes", 3, "party.json: cakes must be tuple"),
        ("sizes", [1], "sizes must have 2 values, got 1"),
        ("sizes", [True, 0.5], "sizes must be int, got True"),
        ("sizes", [1, float("nan")], "sizes must be float, got nan"),
        ("guests", {"one": "Ada"}, "guests must be int, got 'one'"),
        ("guests", {"1": None}, "guests must be str, got None"),
        ("host", 5, "host must be str, got 5"),
        ("hosts", "Ada", "unknown key 'hosts'. Did you mean 'host'?"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(key: str, value: Any, wrong: str) -> None:
    with pytest.raises(InputError) as error:
        build(Party, {**to_plain(PARTY), key: value}, "party.json")
    assert wrong in str(error.value)


def test_what_is_no_table_or_no_json_is_refused() -> None:
    with pytest.raises(InputError, match="must be a table with keys and values"):
        build(Party, [1], "party.json")
    for text in ("{", "[" * 100_000):
        with pytest.raises(InputError, match=r"party\.json is not valid JSON"):
            parse_json(text, "party.json")
