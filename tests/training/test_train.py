"""The loop that made cricavpr-tiny, at the size of a toy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cricavpr.config import read_recipe
from cricavpr.images import Preprocess
from cricavpr.methods import load_method
from cricavpr.training.pictures import TownPictures, render_towns
from cricavpr.training.train import Network, Recipe, rate_at, steps_of, to_tensor, train

TOY = Recipe(
    pictures=TownPictures(seeds=(11, 12), places=8, views=4, image_size=(42, 42)),
    validation_seed=13,
    validation_places=10,
    network=Network("nano", encoder_heads=4, encoder_ffn=64, dropout=0.0),
    steps=6,
    places_per_step=8,
    pictures_per_place=2,
    group_sizes=(1, 4),
    learning_rate=1e-3,
    warmup_steps=2,
    weight_decay=0.05,
    mirror=True,
    precision="fp32",
    seed=0,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(TOY, out, workers=1, every=3)
    return out


def test_the_recipe_that_ships_can_be_read() -> None:
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "cricavpr_tiny_town.toml", Recipe)
    assert (recipe.network.backbone, recipe.pictures.image_size) == ("tiny", (112, 112))


def test_a_run_leaves_weights_that_load_and_describe(run: Path) -> None:
    method = load_method("cricavpr-tiny", run / "weights.safetensors")
    assert method.image_size == (42, 42)
    assert method.describe(torch.zeros(2, 3, 42, 42)).shape == (2, method.dim)


def test_a_run_leaves_a_log_of_losses_and_recalls(run: Path) -> None:
    lines = (run / "log.jsonl").read_text().splitlines()
    assert '"loss"' in lines[0]
    assert [line for line in lines if '"r1_1"' in line and '"r1_16"' in line]


def test_the_same_recipe_gives_the_same_weights(run: Path, tmp_path: Path) -> None:
    train(TOY, tmp_path, workers=1, every=3)
    assert (tmp_path / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()


def test_pictures_are_drawn_once(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run / "pictures").iterdir()}
    render_towns(TOY.pictures, run / "pictures", 1)
    assert before == {path: path.stat().st_mtime_ns for path in (run / "pictures").iterdir()}


def test_a_step_shows_whole_places_in_groups_that_cut_across_them(run: Path) -> None:
    towns = render_towns(TOY.pictures, run / "pictures", 1)
    steps = steps_of(TOY, towns)
    sizes = set()
    for _ in range(12):
        images, places, groups = next(steps)
        assert images.shape == (16, 3, 42, 42)
        assert sorted(places.tolist()) == sorted([*range(8)] * 2)
        assert sum(groups) == 16
        sizes.add(groups[0])
    assert sizes == {1, 4}


def test_all_pictures_of_a_place_are_mirrored_together(run: Path) -> None:
    towns = render_towns(TOY.pictures, run / "pictures", 1)
    shown = {image.tobytes() for town in towns for image in town.reshape(-1, 42, 42, 3)}
    images, places, _ = next(steps_of(TOY, towns))
    plain = to_tensor(np.stack(list(towns)).reshape(-1, 42, 42, 3))
    as_drawn = torch.tensor([bool((plain == image).flatten(1).all(dim=1).any()) for image in images])
    for place in range(8):
        assert len(set(as_drawn[places == place].tolist())) == 1
    assert len(set(as_drawn.tolist())) == 2 and shown


def test_training_and_describing_prepare_a_picture_alike() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (42, 42, 3), np.uint8)
    assert torch.equal(to_tensor(picture[None])[0], Preprocess((42, 42))(picture))


def test_the_rate_warms_up_and_comes_down() -> None:
    recipe = replace(TOY, steps=100, warmup_steps=10)
    rates = [rate_at(step, recipe) for step in range(100)]
    assert rates[9] == max(rates) == recipe.learning_rate
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] < recipe.learning_rate / 100
