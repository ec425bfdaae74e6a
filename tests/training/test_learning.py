"""One step: groups, forward passes, self-distillation, precision, and blocks computed twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cricavpr.errors import WeightsError
from cricavpr.models.cricavpr import CricaVPR
from cricavpr.models.weights import save_weights
from cricavpr.training.batch_norm import frozen_statistics
from cricavpr.training.data import StepData, Steps, open_places
from cricavpr.training.learning import Learner, distance_to_company, group_sizes, make_learner
from cricavpr.training.memory import checkpoint_blocks
from cricavpr.training.network import build_network
from cricavpr.training.recipe import Network, Recipe
from tests.training.toy import as_trained, describe, learn, toy


@pytest.fixture(scope="module")
def data(pictures: Path) -> StepData:
    return next(Steps(toy(), open_places(toy(), pictures, 1)).read(0, 0))


@pytest.fixture
def images(data: StepData) -> Tensor:
    return torch.rand(8, 3, 42, 42, generator=torch.Generator().manual_seed(3))


def learner_of(recipe: Recipe, pictures: Path) -> Learner:
    return make_learner(recipe, open_places(recipe, pictures, 1), torch.device("cpu"))


def gradients(learner: Learner) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def statistics(model: CricaVPR) -> dict[str, Tensor]:
    return {
        name: value.clone() for name, value in model.state_dict().items() if ".bn." in name and "weight" not in name
    }


@pytest.mark.parametrize("tuning", ["full", "adapter"])
def test_blocks_computed_twice_give_the_same_gradients_and_statistics(
    tuning: str, pictures: Path, data: StepData
) -> None:
    found = []
    for checkpointing in (False, True):
        recipe = toy(step__activation_checkpointing=checkpointing, network__tuning=tuning, network__dropout=0.0)
        learner = learner_of(recipe, pictures)
        loss = learn(learner, data).loss.item()
        found.append((loss, gradients(learner), statistics(learner.model)))
    (loss, plain, once), (same_loss, twice, held) = found
    assert loss == same_loss
    assert plain.keys() == twice.keys()
    assert all(torch.equal(plain[name], twice[name]) for name in plain)
    assert any("running_mean" in name for name in once)
    assert all(torch.equal(once[name], held[name]) for name in once)
    assert {int(value) for name, value in held.items() if "num_batches" in name} == {1}


def test_blocks_computed_twice_hold_less_memory(images: Tensor) -> None:
    def held(checkpointing: bool) -> int:
        recipe = toy(step__activation_checkpointing=checkpointing)
        model = build_network(recipe.network, 0)
        if checkpointing:
            checkpoint_blocks(model.backbone)
        kept = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.backbone(images)
        return kept

    assert held(True) < held(False) / 5


def test_held_statistics_do_not_move_and_the_output_is_the_same(images: Tensor) -> None:
    model = build_network(toy(network__dropout=0.0).network, 0)
    before = statistics(model)
    with frozen_statistics(model):
        held = model(images)
    assert all(torch.equal(value, before[name]) for name, value in statistics(model).items())
    assert torch.equal(held, model(images))
    assert any(not torch.equal(value, before[name]) for name, value in statistics(model).items())


def test_frozen_parameters_get_neither_gradient_nor_moments(pictures: Path, data: StepData) -> None:
    recipe = toy(network__tuning="adapter")
    learner = learner_of(recipe, pictures)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learn(learner, data)
    for name, parameter in learner.model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None and parameter not in learner.optimizer.state
            assert torch.equal(parameter, before[name])


def test_groups_of_a_step() -> None:
    assert group_sizes(8, 0) == [8]
    assert group_sizes(8, 4) == [4, 4]
    assert group_sizes(8, 3) == [3, 3, 2]
    assert group_sizes(8, 1) == [1] * 8


def test_the_group_size_changes_descriptors_and_the_groups_are_those_of_the_network(images: Tensor) -> None:
    recipe = toy(network__dropout=0.0)
    model = build_network(recipe.network, 0)
    with torch.no_grad():
        alone, fours = (describe(as_trained(model), images, size, recipe.step)[0] for size in (1, 4))
        assert not torch.allclose(alone, fours, atol=1e-4)
        torch.testing.assert_close(fours, model(images, [4, 4]))


def test_passes_see_their_own_images_alone_and_the_first_moves_the_statistics(images: Tensor) -> None:
    recipe = toy(network__dropout=0.0, step__images_at_once=4)
    model, other = (build_network(recipe.network, 0) for _ in range(2))
    with torch.no_grad():
        both, _ = describe(as_trained(model), images, 0, recipe.step)
        torch.testing.assert_close(both[:4], other(images[:4], [4]))
        first = statistics(other)
        torch.testing.assert_close(both[4:], other(images[4:], [4]))
    assert all(torch.equal(value, first[name]) for name, value in statistics(model).items())


def test_self_distillation_pulls_the_image_alone_and_leaves_the_company(images: Tensor) -> None:
    recipe = toy(network__dropout=0.0, step__self_distillation=1.0)
    model = build_network(recipe.network, 0)
    together, alone = describe(as_trained(model), images, 4, recipe.step)
    assert alone is not None
    plain = build_network(recipe.network, 0)
    with torch.no_grad():
        torch.testing.assert_close(together, plain(images, [4, 4]))
        torch.testing.assert_close(alone, plain(images))
    assert describe(as_trained(plain), images, 4, toy().step)[1] is None


def test_in_self_distillation_only_the_image_alone_moves() -> None:
    alone, together = (torch.nn.functional.normalize(torch.randn(4, 6), dim=1).requires_grad_() for _ in range(2))
    apart = distance_to_company(alone, together)
    assert apart.item() == pytest.approx(1 - torch.cosine_similarity(alone, together).mean().item(), abs=1e-6)
    apart.backward()
    assert together.grad is None and alone.grad is not None


def test_self_distillation_brings_the_two_together(pictures: Path, data: StepData) -> None:
    def apart(weight: float) -> float:
        recipe = toy(step__self_distillation=weight, step__group_sizes=[4], network__dropout=0.0)
        learner, fixed = learner_of(recipe, pictures), data._replace(group_size=4)
        for _ in range(8):
            loss = learn(learner, fixed)
        assert loss.distillation is not None
        return loss.distillation.item()

    assert apart(20.0) < 0.5 * apart(1e-9)


def test_bf16_is_near_fp32_and_not_the_same(pictures: Path, data: StepData) -> None:
    found = []
    for precision in ("fp32", "bf16"):
        recipe = toy(step__precision=precision, network__dropout=0.0)
        found.append(learn(learner_of(recipe, pictures), data).loss.item())
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.05)


def test_the_gradient_is_cut_to_its_greatest_length(pictures: Path, data: StepData) -> None:
    learner = learner_of(toy(optimizer__clip=1e-3), pictures)
    learn(learner, data)
    length = torch.stack([gradient.norm() for gradient in gradients(learner).values()]).norm()
    assert length.item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("loss", ["triplet", "cosface", "generalized_contrastive"])
def test_other_losses_learn_too(loss: str, pictures: Path, data: StepData) -> None:
    learner = learner_of(toy(loss__name=loss), pictures)
    learn(learner, data)
    moved = {name.split(".")[0] for name, p in learner.named_parameters() if p in learner.optimizer.state}
    assert moved == ({"model", "criterion"} if loss == "cosface" else {"model"})


# --- where the weights come from


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[tuple[Path, CricaVPR]]:
    trained = build_network(Network("nano", encoder_heads=4, encoder_ffn=64, tuning="full"), seed=5)
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_weights(tmp_path / "trained.safetensors", trained.state_dict(), {})
    yield tmp_path / "trained.safetensors", trained


def test_a_backbone_comes_out_of_a_whole_network_without_its_adapters(weights: tuple[Path, CricaVPR]) -> None:
    path, trained = weights
    network = Network("nano", encoder_heads=4, encoder_ffn=64, adapter="conv3x3", backbone_weights=str(path))
    model = build_network(network, seed=6)
    assert torch.equal(model.backbone.pos_embed, trained.backbone.pos_embed)
    assert all((p == 0).all() for name, p in model.named_parameters() if ".adapter.up." in name)


def test_a_whole_network_goes_on_from_its_weights(weights: tuple[Path, CricaVPR]) -> None:
    path, trained = weights
    model = build_network(Network("nano", encoder_heads=4, encoder_ffn=64, weights=str(path)), seed=6)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), trained.state_dict().values(), strict=True)
    )
    with pytest.raises(WeightsError, match="does not fit"):
        build_network(Network("nano", encoder_heads=4, encoder_ffn=32, weights=str(path)), seed=6)
