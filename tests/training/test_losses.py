"""Losses by name, and what they say of batches that hold nothing to learn. Their values are held in tests/golden."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cricavpr.errors import InputError
from cricavpr.training.losses import LOSSES, GeneralizedContrastive, Triplet, make_loss

PLACES = torch.arange(6).repeat_interleave(4)


def descriptors(seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(24, 16, generator=random), dim=1).requires_grad_()


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_down_the_gradient_lowers_the_loss(name: str) -> None:
    torch.manual_seed(0)
    criterion, given = make_loss(name, 16, range(6)), descriptors()
    loss, taking_part = criterion(given, PLACES)
    loss.backward()
    assert given.grad is not None and 0 < taking_part <= 1
    lower, _ = criterion((given - 0.01 * given.grad / given.grad.norm()).detach(), PLACES)
    assert lower < loss


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    torch.manual_seed(0)
    criterion, given, order = make_loss(name, 16, range(6)), descriptors(), torch.randperm(24)
    assert criterion(given[order], PLACES[order])[0].item() == pytest.approx(criterion(given, PLACES)[0].item(), 1e-5)


@pytest.mark.parametrize("name", ["multi_similarity", "triplet", "generalized_contrastive"])
def test_places_told_apart_already_cost_nothing_and_have_a_gradient_of_zero(name: str) -> None:
    given = F.one_hot(PLACES, 16).float().requires_grad_()
    loss, _ = make_loss(name, 16, range(6))(given, PLACES)
    assert loss.item() == pytest.approx(0, abs=1e-9)
    loss.backward()
    assert given.grad is None or torch.isfinite(given.grad).all()


def test_a_query_has_its_nearest_positive_and_the_nearest_violating_negatives() -> None:
    angles = torch.tensor([0.0, 0.5, 0.1, 0.7, 0.3, 3.0])
    given = torch.stack([angles.cos(), angles.sin()], dim=1)
    query, positive, negative = Triplet(negatives=2).mine(given, torch.tensor([0, 0, 0, 1, 2, 3]))
    triplets = set(zip(query.tolist(), positive.tolist(), negative.tolist(), strict=True))
    assert triplets == {(0, 2, 4), (2, 0, 4), (1, 2, 4), (1, 2, 3)}  # 3, 4 and 5 are alone in their places


def test_batches_of_one_place_and_of_lonely_images_are_no_error() -> None:
    for places in (torch.zeros(24, dtype=torch.long), torch.arange(24)):
        for criterion in (Triplet(), GeneralizedContrastive()):
            loss, _ = criterion(descriptors(), places)
            assert torch.isfinite(loss)
            loss.backward()
    loss, taking_part = GeneralizedContrastive()(descriptors()[:1], torch.zeros(1, dtype=torch.long))
    assert (loss.item(), taking_part) == (0.0, 0.0)


def test_identical_images_have_a_finite_gradient() -> None:
    given = torch.ones(8, 16).div(4).requires_grad_()
    for name in LOSSES:
        given.grad = None
        loss, _ = make_loss(name, 16, range(2))(given, torch.arange(2).repeat(4))
        loss.backward()
        assert given.grad is None or torch.isfinite(given.grad).all(), name


def test_cosface_knows_only_its_places() -> None:
    criterion = make_loss("cosface", 16, [30, 10, 20])
    assert [p.shape for p in criterion.parameters()] == [(3, 16)]
    for stranger in (15, 40):
        with pytest.raises(InputError, match=f"place {stranger} is not one"):
            criterion(descriptors()[:2], torch.tensor([10, stranger]))


def test_a_wrong_name_or_setting_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="Did you mean 'multi_similarity'"):
        make_loss("multisimilarity", 16, [0])
    with pytest.raises(InputError, match=r"triplet does not take .*'scale'"):
        make_loss("triplet", 16, [0], scale=3)
    with pytest.raises(InputError, match="margin of at least 0"):
        make_loss("triplet", 16, [0], margin=-1)
    assert make_loss("cosface", 16, [0], scale=100.0).scale == 100.0
