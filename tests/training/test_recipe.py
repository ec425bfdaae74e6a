"""Recipes: read, changed by name, and refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cricavpr.errors import InputError
from cricavpr.schema import build, read_recipe, to_plain
from cricavpr.training.learning import rate_at
from cricavpr.training.recipe import Recipe, Schedule, changed, differences, read_settings
from tests.training.toy import TOY, toy

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_recipes_that_ship_can_be_read_and_say_what_they_cost_and_give(path: Path) -> None:
    read_recipe(path, Recipe)
    text = path.read_text()
    if text.startswith("# Row: "):  # of an ablation: its base says it
        assert "\nbase = " in text
        return
    head = text.split("image_size")[0]
    assert "# Costs: " in head and "# Gives: " in head


@pytest.mark.parametrize("form", ["paper", "town"])
def test_every_row_of_the_paper_s_ablations_differs_from_its_base_in_what_the_row_is_about(form: str) -> None:
    folder = Path(__file__).parents[2] / "recipes" / "ablations" / form
    networks = {path.stem: read_recipe(path, Recipe).network for path in folder.glob("*.toml")}
    assert [networks[f"table3_depth{n}"].encoder_depth for n in range(4)] == [0, 1, 2, 3]
    assert [networks[f"table6_{name}"].adapter for name in ("conv1", "conv3", "conv5", "mulconv")] == [
        "conv1x1",
        "conv3x3",
        "conv5x5",
        "mulconv",
    ]
    for places in (16, 32, 64, 72):
        recipes = [read_recipe(folder / f"table4_places{places}{end}.toml", Recipe) for end in ("", "_no_encoder")]
        assert [recipe.network.encoder_depth for recipe in recipes] == [2, 0]
        for recipe in recipes:
            assert (recipe.step.places, recipe.step.images) == (places, 4 * places)
            if form == "paper":  # two GPUs
                assert recipe.step.group_sizes == (2 * places,) == (recipe.step.images_at_once,)
    for state, learns in (("frozen", False), ("adapted", True)):
        for aggregator in ("gem", "pyramid"):
            network = networks[f"table7_{state}_{aggregator}"]
            assert (network.aggregator, network.encoder_depth, network.learns) == (aggregator, 0, learns)
    whole = networks["full_tuning"]
    assert (whole.tuning, whole.adapter, whole.encoder_depth) == ("full", "none", 2)


def test_the_paper_s_recipe_is_the_paper_s() -> None:
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "cricavpr_vitb14_gsv.toml", Recipe)
    assert (recipe.step.images, recipe.step.group_sizes, recipe.step.images_at_once) == (288, (144,), 144)
    assert (recipe.epochs, recipe.optimizer.name, recipe.optimizer.rate) == (10, "adam", 1e-4)
    assert recipe.step.self_distillation == 0.0
    config = recipe.network.config()
    assert (config.dim, config.tuning, config.adapter) == (10752, "adapter", "mulconv")
    assert recipe.validation is not None and (recipe.validation.best_by, recipe.validation.patience) == (5, 10)


def test_a_recipe_survives_the_way_through_a_checkpoint() -> None:
    assert build(Recipe, to_plain(TOY), "again") == TOY


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"step.group_size": 4}, "Did you mean 'group_sizes'"),
    ({"stepz.places": 4}, "unknown key 'stepz'"),
    ({"network.backbone": "vitb16"}, "network: unknown backbone 'vitb16'"),
    ({"network.encoder_heads": 5}, "encoder_heads must be a divisor of the width, 96, got 5"),
    ({"network.adapter": "none", "network.tuning": "adapter", "network.encoder_depth": 0}, "has nothing to train"),
    ({"network.adapter": "none", "network.tuning": "frozen", "network.encoder_depth": 0, "steps": 5}, "steps = 0"),
    ({"steps": 0}, "one of [epochs, steps] must be above 0 and the other 0, got [0, 0]"),
    ({"network.weights": "a", "network.backbone_weights": "b"}, "weights must be empty if backbone_weights is"),
    ({"network.tuning": "some"}, "tuning must be"),
    ({"network.dropout": 1.0}, "network: dropout must be at least 0 and below 1, got 1.0"),
    ({"data.sampler": "shufled"}, "Did you mean 'shuffled'"),
    ({"data.augment": "rand"}, "unknown augment 'rand'"),
    ({"data.disk.path": "x"}, "data must be exactly one of data.town and data.disk, got ['town', 'disk']"),
    ({"data.town.seeds": []}, "town: seeds must be at least one town"),
    ({"data.town.views": 0}, "town: views must be at least 1, got 0"),
    ({"step.places": 1}, "step: places must be at least 2, got 1"),
    ({"step.images_per_place": 1}, "step: images_per_place must be at least 2, got 1"),
    ({"step.group_sizes": [9]}, "group_sizes must be sizes of 0 (all) to 8, got [9]"),
    ({"step.images_at_once": -1}, "images_at_once must be 0 (all) to 8, got -1"),
    ({"step.micro_batch": 9}, "micro_batch must be 0 (all) to 8, got 9"),
    ({"step.images_at_once": 4, "step.micro_batch": 5}, "micro_batch must be 0 (all) to 4, got 5"),
    ({"step.group_scope": "node"}, "group_scope must be"),
    ({"step.self_distillation": -0.5}, "self_distillation must be at least 0, got -0.5"),
    ({"step.precision": "fp8"}, "precision must be"),
    ({"loss.name": "multi"}, "unknown loss 'multi'"),
    ({"optimizer.rate": 0.0}, "optimizer: rate must be above 0, got 0.0"),
    ({"optimizer.rate": "fast"}, "rate must be float, got 'fast'"),
    ({"optimizer.betas": [0.9]}, "betas must have 2 values"),
    ({"optimizer.betas": [0.9, 1.0]}, "betas must be two numbers of at least 0 and below 1"),
    ({"schedule.halve_every_epochs": 0}, "halve_every_epochs must be at least 1, got 0"),
    ({"validation.best_by": 3}, "best_by must be 1, 5 or 10, got 3"),
    ({"validation.groupings": ["together"]}, "'together'"),
    ({"validation.dataset": "x"}, "validation must be exactly one of validation.town and validation.dataset"),
    ({"image_size": [42, 50]}, "image_size must be height and width, multiples of 14, got [42, 50]"),
    ({"epochs": 1}, "one of [epochs, steps] must be above 0 and the other 0, got [1, 12]"),
    ({"seed": -1}, "seed must be at least 0, got -1"),
    ({"steps.x": 1}, "'steps' is a single setting"),
]


@pytest.mark.parametrize(("settings", "says"), WRONG, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_what_is_impossible_is_refused_by_name(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        changed(TOY, settings)
    assert says in str(error.value)


def test_settings_are_read_as_toml_and_else_as_text() -> None:
    read = read_settings(["a.b=2e-4", "c=[1, 2]", "d=true", "e=some/path", "f='12'"])
    assert read == {"a.b": 2e-4, "c": [1, 2], "d": True, "e": "some/path", "f": "12"}
    with pytest.raises(InputError, match="key=value"):
        read_settings(["a"])


def test_a_changed_recipe_differs_unless_the_change_is_named() -> None:
    other = toy(optimizer__rate=2e-3, steps=20)
    assert differences(TOY, other) == "optimizer.rate was 0.001 and is now 0.002, steps was 12 and is now 20"
    assert differences(TOY, other, {"optimizer.rate", "step"}) == "steps was 12 and is now 20"
    assert differences(TOY, other, {"optimizer", "steps"}) == differences(TOY, replace(TOY)) == ""


def rates(schedule: Schedule, steps: int = 100, per_epoch: int = 10) -> list[float]:
    return [rate_at(step, 1e-3, schedule, steps, per_epoch) for step in range(steps)]


def test_the_cosine_warms_up_and_comes_down() -> None:
    drawn = rates(Schedule("cosine", warmup_steps=10))
    assert drawn[9] == max(drawn) == 1e-3
    assert drawn[:10] == sorted(drawn[:10])
    assert drawn[9:] == sorted(drawn[9:], reverse=True)
    assert drawn[-1] < 1e-5


def test_steps_halve_after_three_epochs_worth() -> None:
    drawn = rates(Schedule("step", halve_every_epochs=3))
    assert [drawn[step] for step in (0, 29, 30, 59, 60, 99)] == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 1.25e-4]


def test_constant_is_constant() -> None:
    assert set(rates(Schedule())) == {1e-3}
