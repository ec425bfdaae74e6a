"""SALAD's parts: the transport plan against a slow twin, and what the aggregator makes of patches."""

import math

import pytest
import torch
from torch import Tensor

from cricavpr.errors import InputError
from cricavpr.models.salad import SaladAggregator, SaladConfig, log_sinkhorn
from cricavpr.models.vit import Tokens, ViTConfig

CONFIG = SaladConfig(ViTConfig(64, 1, 1), clusters=3, cluster_width=4, scene_width=5, hidden=16)


def slow_sinkhorn(scores: Tensor, rows: list[float], columns: list[float], iterations: int) -> Tensor:
    """Scale rows and columns in turn, on the plain numbers, one by one."""
    plan = scores.exp()
    for _ in range(iterations):
        for r, mass in enumerate(rows):
            plan[r] *= mass / plan[r].sum()
        for c, mass in enumerate(columns):
            plan[:, c] *= mass / plan[:, c].sum()
    return plan


@pytest.mark.parametrize("iterations", [1, 3, 100])
def test_the_transport_plan_is_that_of_its_slow_twin(iterations: int) -> None:
    scores = torch.randn(2, 4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, columns = [1.0, 1.0, 1.0, 4.0], [1.0] * 7
    masses = torch.tensor(rows, dtype=torch.float64).log(), torch.tensor(columns, dtype=torch.float64).log()
    plan = log_sinkhorn(scores, *masses, iterations).exp()
    for ours, own in zip(plan, scores, strict=True):
        assert (ours - slow_sinkhorn(own.clone(), rows, columns, iterations)).abs().max() < 1e-12
    assert (plan.sum(dim=1) - 1).abs().max() < 1e-12  # every patch has given all it brought
    if iterations == 100:
        assert (plan.sum(dim=2) - torch.tensor(rows)).abs().max() < 1e-6


def test_large_scores_do_not_overflow() -> None:
    plan = log_sinkhorn(torch.full((1, 3, 5), 1e4), torch.tensor([0.0, 0.0, math.log(3)]), torch.zeros(5), 3).exp()
    assert torch.isfinite(plan).all() and (plan.sum(dim=1) - 1).abs().max() < 1e-5


def tokens(height: int, width: int) -> Tokens:
    draw = torch.Generator().manual_seed(1)
    patches = torch.randn(2, height, width, 64, generator=draw)
    nothing = torch.zeros(2, 0, 64)
    return Tokens(torch.randn(2, 64, generator=draw), nothing, patches, nothing)


def test_the_scene_comes_first_and_counts_as_much_as_one_cluster() -> None:
    with torch.inference_mode():
        out = SaladAggregator(CONFIG).eval()(tokens(3, 4))
    assert out.shape == (2, CONFIG.dim) and CONFIG.dim == 5 + 3 * 4
    assert (out.norm(dim=1) - 1).abs().max() < 1e-6
    assert (out[:, :5].norm(dim=1) - 0.5).abs().max() < 1e-6  # one of four parts of equal length
    assert (out[:, 5:].view(2, 4, 3).norm(dim=1) - 0.5).abs().max() < 1e-6


def test_where_a_patch_stands_does_not_matter() -> None:
    aggregator = SaladAggregator(CONFIG).eval()
    given = tokens(3, 4)
    turned = given._replace(patches=given.patches.flip(1).transpose(1, 2))
    with torch.inference_mode():
        assert (aggregator(given) - aggregator(turned)).abs().max() < 1e-5


def test_fewer_patches_than_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="more than 3 patches, got 3"):
        SaladAggregator(CONFIG).eval()(tokens(1, 3))
