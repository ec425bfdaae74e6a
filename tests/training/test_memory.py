"""Gradient caching: micro-batches computed twice give the gradients of the whole step; and what frozen weights keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cricavpr.errors import InputError
from cricavpr.training.batch_norm import partial_update
from cricavpr.training.data import StepData, Steps, open_places
from cricavpr.training.learning import Learner, make_learner
from cricavpr.training.memory import Part, checkpoint_blocks, parts_of
from cricavpr.training.network import build_network
from cricavpr.training.sampling import normalised
from tests.training.toy import as_trained, learn, regions_of, toy

EXACT: dict[str, Any] = {"network__adapter": "bottleneck", "network__dropout": 0.1}  # no batch norm; dropout is drawn


@pytest.fixture(scope="module")
def data(pictures: Path) -> StepData:
    return next(Steps(toy(), open_places(toy(), pictures, 1)).read(0, 0))


def one_step(pictures: Path, data: StepData, **settings: Any) -> tuple[float, dict[str, Tensor], Learner]:
    recipe = toy(optimizer__clip=0.0, **settings)
    learner = make_learner(recipe, open_places(recipe, pictures, 1), torch.device("cpu"))
    torch.manual_seed(5)
    loss = learn(learner, data).loss.item()
    return loss, {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}, learner


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"step__self_distillation": 0.5},
        {"step__activation_checkpointing": True},
        {"step__images_at_once": 8, "network__tuning": "adapter"},
        {"loss__name": "cosface"},
    ],
    ids=lambda settings: next(iter(settings), "plain"),
)
def test_micro_batches_give_the_gradients_of_the_whole_step(
    settings: dict[str, Any], micro_batch: int, pictures: Path, data: StepData
) -> None:
    loss, plain, _ = one_step(pictures, data, **EXACT, **settings)
    again, cached, _ = one_step(pictures, data, **EXACT, **settings, step__micro_batch=micro_batch)
    assert again == pytest.approx(loss, abs=1e-6)
    assert plain.keys() == cached.keys() and any("backbone" in name for name in plain)
    for name, gradient in plain.items():
        assert (cached[name] - gradient).norm() <= 1e-6 * max(1.0, gradient.norm()), name


def test_micro_batches_keep_groups_that_reach_over_them(pictures: Path, data: StepData) -> None:
    """The group of all eight images is one, whatever the micro-batch: another group gives another loss."""
    together, alone = data._replace(group_size=0), data._replace(group_size=1)
    whole = one_step(pictures, together, **EXACT)[0]
    assert one_step(pictures, together, **EXACT, step__micro_batch=2)[0] == pytest.approx(whole, abs=1e-6)
    assert one_step(pictures, alone, **EXACT, step__micro_batch=2)[0] != pytest.approx(whole, abs=1e-3)


def test_micro_batches_in_bf16_are_near_the_whole_step_in_bf16(pictures: Path, data: StepData) -> None:
    bf16 = EXACT | {"step__precision": "bf16"}
    loss, plain, _ = one_step(pictures, data, **bf16)
    again, cached, _ = one_step(pictures, data, **bf16, step__micro_batch=3)
    assert again == pytest.approx(loss, rel=0.02)
    cosine = torch.cosine_similarity(*(torch.cat([g[n].flatten() for n in plain]) for g in (plain, cached)), dim=0)
    assert cosine > 0.99


def test_a_network_whose_backbone_learns_nothing_takes_micro_batches_too(pictures: Path, data: StepData) -> None:
    frozen = {"network__tuning": "frozen", "network__aggregator": "class_token", "network__dropout": 0.0}
    _, plain, _ = one_step(pictures, data, **frozen)
    _, cached, _ = one_step(pictures, data, **frozen, step__micro_batch=4)
    assert plain.keys() == cached.keys() and all(name.startswith("model.encoder") for name in plain)


def test_micro_batches_hold_less_memory_at_a_time(pictures: Path, data: StepData) -> None:
    recipe = toy()
    network = as_trained(build_network(recipe.network, 0))

    def kept(micro_batch: int) -> int:
        """Numbers kept for the way back of one part."""
        count = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            regions = regions_of(network, normalised(data.images), toy(step__micro_batch=micro_batch).step)
            if micro_batch:
                assert count == 0
                regions.compute(regions.parts[0].rows)
        return count

    assert kept(2) < 0.6 * kept(0)


# ---- batch norm


def test_running_statistics_move_once_by_the_mean_over_micro_batches() -> None:
    norm = torch.nn.BatchNorm2d(2)
    maps = torch.randn(10, 2, 4, 4) * torch.arange(1.0, 11.0)[:, None, None, None]
    before = torch.tensor([3.0, -5.0])
    norm.running_mean = before.clone()
    for part in parts_of(10, 0, 4):  # 4, 4 and 2 images
        with partial_update(norm, part.share, part.later, part.counted):
            norm(maps[part.rows])
    spread = sum(
        n / 10 * maps[rows].var(dim=(0, 2, 3)) for n, rows in [(4, slice(4)), (4, slice(4, 8)), (2, slice(8, 10))]
    )
    torch.testing.assert_close(norm.running_mean, 0.9 * before + 0.1 * maps.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.9 * torch.ones(2) + 0.1 * spread)
    assert norm.num_batches_tracked == 1 and norm.momentum == 0.1


def test_a_step_of_micro_batches_counts_once(pictures: Path, data: StepData) -> None:
    _, _, learner = one_step(pictures, data, step__micro_batch=3, step__activation_checkpointing=True)
    counts = {int(v) for name, v in learner.model.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {1}


def test_micro_batches_change_what_batch_norm_sees(pictures: Path, data: StepData) -> None:
    """Which is why they are exact without it alone."""
    plain = {"network__init": "default", "network__dropout": 0.0}
    _, whole, _ = one_step(pictures, data, **plain)
    _, parts, _ = one_step(pictures, data, **plain, step__micro_batch=2)
    _, one, _ = one_step(pictures, data, **plain, step__micro_batch=8)
    name = "model.backbone.blocks.0.adapter.up.weight"
    assert not torch.allclose(whole[name], parts[name], rtol=1e-2)
    torch.testing.assert_close(whole[name], one[name])


def test_the_first_pass_alone_moves_the_statistics_in_parts() -> None:
    assert parts_of(8, 0, 0) == [Part(slice(0, 8), 1.0, 0.0, True)]
    assert parts_of(8, 4, 3) == [
        Part(slice(0, 3), 0.75, 0.25, True),
        Part(slice(3, 4), 0.25, 0.0, False),
        Part(slice(4, 7), 0.0, 0.0, False),
        Part(slice(7, 8), 0.0, 0.0, False),
    ]


# ---- frozen weights, compiling


def test_a_frozen_backbone_keeps_nothing_for_the_way_back(data: StepData) -> None:
    def kept(tuning: str) -> int:
        model = build_network(toy(network__tuning=tuning).network, 0)
        count = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.backbone(normalised(data.images))
        return count

    assert kept("frozen") == 0
    assert kept("adapter") < kept("full")


def test_activation_checkpointing_of_another_trunk_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs a vision transformer, got a Linear.*step.micro_batch"):
        checkpoint_blocks(torch.nn.Linear(2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"step__micro_batch": 4}], ids=["plain", "micro_batch"])
def test_a_compiled_backbone_learns_what_it_learns_uncompiled(
    settings: dict[str, Any], pictures: Path, data: StepData
) -> None:
    settings = settings | {"network__init": "default", "network__dropout": 0.0}
    loss, plain, _ = one_step(pictures, data, **settings)
    again, compiled, _ = one_step(pictures, data, **settings, step__compile=True)
    assert again == pytest.approx(loss, abs=1e-4)
    for name, gradient in plain.items():
        assert (compiled[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-4, name
