"""Photos in their own sizes: rounded where the network needs whole patches, refused where they are too small."""

import numpy as np
import pytest

from cricavpr.errors import ImageError
from cricavpr.images import Preprocess
from cricavpr.methods.families import NativeSize
from cricavpr.models.needs import ImageNeeds

PATCHES = ImageNeeds(14, whole=True)


@pytest.mark.parametrize(
    ("side", "rounded"),
    [(224, 224), (240, 238), (320, 322), (480, 476), (640, 644), (5, 14), (20, 14), (22, 28)],
)
def test_a_side_goes_to_the_nearest_multiple(side: int, rounded: int) -> None:
    assert PATCHES.nearest(side) == rounded


def test_half_way_goes_to_the_even_multiple() -> None:
    assert [PATCHES.nearest(side) for side in (21, 35, 49)] == [28, 28, 56]


def test_photos_keep_their_shape_and_whole_ones_their_pixels() -> None:
    draw = np.random.default_rng(6)
    broken, whole = (draw.integers(0, 256, size, dtype=np.uint8) for size in ((60, 90, 3), (56, 84, 3)))
    native = NativeSize(needs=PATCHES)
    assert native(broken).shape == (3, 56, 84)
    assert np.array_equal(native(whole), Preprocess(None)(whole))
    assert np.allclose(native(broken), Preprocess((56, 84), resize="tensor")(broken), atol=1e-6)


def test_a_photo_that_is_too_small_is_told_what_is_needed() -> None:
    small = np.zeros((100, 100, 3), np.uint8)
    with pytest.raises(ImageError, match="at least 65 patches of 14 x 14 px, and 98 x 98 px have 49") as caught:
        NativeSize(needs=ImageNeeds(14, 65, whole=True))(small)
    assert caught.value.stage == "size"
    with pytest.raises(ImageError, match="shorter side must be at least 16 px, got 15 x 100"):
        NativeSize(needs=ImageNeeds(16))(small[:15])
    assert NativeSize(needs=ImageNeeds(16))(small[:16]).shape == (3, 16, 100)
