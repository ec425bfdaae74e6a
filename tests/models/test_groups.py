"""Images see their group and nobody else."""

import pytest
import torch
from torch import Tensor

from cricavpr.errors import InputError
from cricavpr.models.cricavpr import CricaVPR, CricaVPRConfig
from cricavpr.models.vit import ViTConfig

SMALL = CricaVPRConfig(backbone=ViTConfig(64, 2, 2, grid=4), encoder_heads=4, encoder_ffn=128)


@pytest.fixture(scope="module")
def model() -> CricaVPR:
    torch.manual_seed(0)
    model = CricaVPR(SMALL).eval()
    for parameter in model.parameters():  # an untrained adapter is silent: wake everything up
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(7, 3, 56, 56, generator=torch.Generator().manual_seed(1))


def describe(model: CricaVPR, images: Tensor, groups: list[int] | None = None) -> Tensor:
    with torch.inference_mode():
        return model(images, groups)


@pytest.mark.parametrize("groups", [[1, 1, 1, 1, 1, 1, 1], [2, 2, 3], [3, 4], [1, 4, 2]])
def test_nan_in_one_image_leaves_other_groups_bit_equal(model: CricaVPR, images: Tensor, groups: list[int]) -> None:
    clean = describe(model, images, groups)
    for spoilt in range(7):
        broken = images.clone()
        broken[spoilt] = torch.nan
        dirty = describe(model, broken, groups)
        group_of = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
        others = group_of != group_of[spoilt]
        assert torch.equal(dirty[others], clean[others])
        assert dirty[spoilt].isnan().all()


def test_permuting_a_group_permutes_its_descriptors(model: CricaVPR, images: Tensor) -> None:
    order = torch.tensor([2, 0, 1, 3, 4, 6, 5])
    moved = describe(model, images[order], [3, 4])
    assert (moved - describe(model, images, [3, 4])[order]).abs().max() < 1e-6


def test_changing_one_member_changes_the_others(model: CricaVPR, images: Tensor) -> None:
    changed = images.clone()
    changed[0] = 1 - changed[0]
    difference = (describe(model, changed, [3, 4]) - describe(model, images, [3, 4])).norm(dim=1)
    assert (difference[:3] > 1e-3).all()
    assert (difference[3:] == 0).all()


def test_left_out_groups_mean_alone(model: CricaVPR, images: Tensor) -> None:
    one_by_one = torch.cat([describe(model, image[None]) for image in images])
    assert (describe(model, images) - one_by_one).abs().max() < 1e-6


def test_groups_of_unequal_size_in_any_order_equal_each_by_itself(model: CricaVPR, images: Tensor) -> None:
    together = describe(model, images, [2, 1, 2, 2])
    apart = torch.cat([describe(model, part, [len(part)]) for part in images.split([2, 1, 2, 2])])
    assert (together - apart).abs().max() < 1e-6


def test_without_layers_across_images_company_does_not_matter(images: Tensor) -> None:
    torch.manual_seed(0)
    alone = CricaVPR(CricaVPRConfig(backbone=SMALL.backbone, encoder_depth=0)).eval()
    assert torch.equal(describe(alone, images, [7]), describe(alone, images))


def test_descriptors_have_unit_length(model: CricaVPR, images: Tensor) -> None:
    assert torch.allclose(describe(model, images, [3, 4]).norm(dim=1), torch.ones(7))


@pytest.mark.parametrize("groups", [[3, 3], [8], [7, 0], []])
def test_group_sizes_that_do_not_add_up_are_refused(model: CricaVPR, images: Tensor, groups: list[int]) -> None:
    with pytest.raises(InputError, match="number of images, 7; got"):
        describe(model, images, groups)


def test_gradients_flow_through_the_whole_group(model: CricaVPR, images: Tensor) -> None:
    watched = images.clone().requires_grad_()
    model(watched, [3, 4])[0].sum().backward()
    assert watched.grad is not None
    assert (watched.grad[:3].flatten(1).norm(dim=1) > 0).all()
    assert (watched.grad[3:] == 0).all()
