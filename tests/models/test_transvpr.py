"""TransVPR's parts: levels, masks and sizes."""

import pytest
import torch

from cricavpr.errors import InputError
from cricavpr.models.transvpr import TransVPR, TransVPRConfig, combined_mask

SMALL = TransVPRConfig((4, 6, 8, 10), (16, 16, 16, 16), depth=4, ffn=32, dim=12)


def test_levels_are_every_second_block_and_the_middle_one_is_for_re_ranking() -> None:
    assert TransVPRConfig().levels == (1, 3, 5) and TransVPRConfig().local_level == 3


def test_masks_add_up_to_one_over_the_patches() -> None:
    model = TransVPR(SMALL).eval()
    with torch.inference_mode():
        outputs = model.outputs(torch.rand(2, 3, 32, 48))
        masks = model.pool.masks(outputs)
    assert outputs.shape == (2, 4, 1 + 2 * 3, 64) and masks.shape == (2, 2, 6)
    assert (masks.sum(dim=2) - 1).abs().max() < 1e-6


def test_the_combined_mask_goes_from_zero_to_one() -> None:
    masks = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 4.0, 0.0]]])  # stretched: 0, 0.5, 1 and 0, 1, 0
    assert combined_mask(masks).tolist() == [[0.0, 1.0, pytest.approx(2 / 3)]]


def test_masks_without_any_difference_become_zero_and_not_nan() -> None:
    assert combined_mask(torch.full((1, 3, 4), 0.25)).tolist() == [[0.0] * 4]


def test_sides_that_do_not_divide_into_patches_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 16"):
        TransVPR(SMALL)(torch.rand(1, 3, 40, 48))
