"""Photos in their own sizes: rounded where the network needs whole patches, refused where they are too small."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cricavpr.datasets.base import ImageSet
from cricavpr.describing import describe
from cricavpr.errors import ImageError, InputError
from cricavpr.images import Preprocess
from cricavpr.methods import load_method
from cricavpr.methods.families import NativeSize
from cricavpr.models.cosplace import CosPlace
from cricavpr.models.fitting import ImageNeeds
from tests.mean_colour import NativeMeanColour, colours, photos

from .small_files import small_file

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
    with pytest.raises(
        ImageError, match="at least 65 patches of 14 x 14 px, but an image of 98 x 98 px has only 49"
    ) as caught:
        NativeSize(needs=ImageNeeds(14, 65, whole=True))(small)
    assert caught.value.stage == "size"
    with pytest.raises(ImageError, match="shorter side must be at least 16 px, got 15 x 100"):
        NativeSize(needs=ImageNeeds(16))(small[:15])
    assert NativeSize(needs=ImageNeeds(16))(small[:16]).shape == (3, 16, 100)


class Picky(NativeMeanColour):
    """Needs nine patches of 16 pixels."""

    preprocess = staticmethod(NativeSize(needs=ImageNeeds(16, 9)))  # type: ignore[assignment]


def test_a_small_photo_is_a_problem_of_its_own_and_the_others_go_on(tmp_path: Path) -> None:
    photos(tmp_path, colours(2), size=(64, 48))
    photos(tmp_path / "small", colours(1), size=(40, 40))
    described = describe(Picky(), ImageSet(tmp_path, ("0000.png", "small/0000.png", "0001.png")))
    (problem,) = described.problems
    assert (problem.name, problem.stage) == ("small/0000.png", "size")
    assert "at least 9 patches of 16 x 16 px, but an image of 40 x 40 px has only 4" in problem.reason
    assert described.descriptors.names == ("0000.png", "0001.png")


def test_each_network_says_what_it_needs(tmp_path: Path) -> None:
    torch.save(CosPlace("vgg16", 8).state_dict(), tmp_path / "vgg.pth")
    torch.save(CosPlace("resnet18", 8).state_dict(), tmp_path / "resnet.pth")
    draw = np.random.default_rng(0)
    for method, smallest, says in (
        (load_method("cosplace", tmp_path / "vgg.pth", device="cpu"), 16, "at least 16 px, got 15 x 15"),
        (load_method("megaloc", small_file("megaloc", tmp_path), device="cpu"), 21, "at least 4 patches of 14 x 14 px"),
    ):
        sides = (smallest, smallest - 1)
        whole, small = (draw.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in sides)
        assert np.isfinite(method.embed([whole])).all()
        with pytest.raises(ImageError, match=says):
            method.embed([whole, small])
    one = load_method("cosplace", tmp_path / "resnet.pth", device="cpu")
    assert np.isfinite(one.embed([np.full((1, 1, 3), 9, np.uint8)])).all()


def test_an_image_size_that_is_too_small_is_refused_when_the_method_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"salad does not take the image size \(14, 14\): it needs at least 4 patches"):
        load_method("salad", small_file("salad", tmp_path), device="cpu", image_size=(14, 14))
