"""Native sizes rounded to whole patches."""

import numpy as np
import pytest
import torch

from cricavpr.images import Preprocess
from cricavpr.methods.whole_patches import WholePatches, nearest_multiple


@pytest.mark.parametrize(
    ("side", "rounded"),
    [(224, 224), (240, 238), (320, 322), (480, 476), (640, 644), (5, 14), (20, 14), (22, 28)],
)
def test_a_side_goes_to_the_nearest_multiple(side: int, rounded: int) -> None:
    assert nearest_multiple(side, 14) == rounded


def test_half_way_goes_to_the_even_multiple() -> None:
    assert [nearest_multiple(side, 14) for side in (21, 35, 49)] == [28, 28, 56]


def test_photos_keep_their_shape_and_whole_ones_their_pixels() -> None:
    draw = np.random.default_rng(6)
    broken, whole = (draw.integers(0, 256, size, dtype=np.uint8) for size in ((60, 90, 3), (56, 84, 3)))
    assert WholePatches()(broken).shape == (3, 56, 84)
    assert torch.equal(WholePatches()(whole), Preprocess(None)(whole))
    assert torch.allclose(WholePatches()(broken), Preprocess((56, 84), resize="tensor")(broken), atol=1e-6)
