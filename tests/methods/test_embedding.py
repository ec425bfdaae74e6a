"""embed: pictures in memory and on disk to descriptors, the same bits as describe."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cricavpr.datasets.base import ImageSet
from cricavpr.describing import describe
from cricavpr.errors import ImageError, InputError
from cricavpr.grouping import Grouping
from cricavpr.methods import load_method
from cricavpr.methods.base import Method
from cricavpr.methods.embedding import LoadedMethod
from tests.mean_colour import GroupColour, MeanColour, NativeMeanColour

from .small_files import small_file


class Colour(MeanColour, LoadedMethod):
    """A method of a user's own, with what every method has."""


class Native(NativeMeanColour, GroupColour, LoadedMethod):
    """Takes any size, and correlates."""

    correlates = True


@pytest.fixture(scope="module")
def tiny() -> LoadedMethod:
    return load_method("cricavpr-tiny", device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 256, (90 + seed, 120, 3), np.uint8) for seed in range(7)]


def saved(folder: Path, pictures: list[np.ndarray]) -> list[Path]:
    paths = [folder / f"{index}.png" for index in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return paths


@pytest.mark.parametrize("grouping", ["alone", "in_order:3", "shuffled:3:1", "in_order:7"])
@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_paths_images_and_arrays_give_the_bits_of_describe(
    grouping: str, batch_size: int, tiny: LoadedMethod, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    paths, chosen = saved(tmp_path, pictures), Grouping.parse(grouping)
    images = ImageSet(tmp_path, tuple(path.name for path in paths))
    wanted = describe(tiny, images, chosen, batch_size=batch_size).descriptors.vectors
    for given in (
        paths,
        list(map(str, paths)),
        pictures,
        [Image.open(path) for path in paths],
        [Image.fromarray(picture) for picture in pictures],
        iter(pictures),
    ):
        found = tiny.embed(given, chosen, batch_size=batch_size)
        assert found.dtype == np.float32 and found.tobytes() == wanted.tobytes()


def test_a_stack_of_images_is_a_list_of_them(tiny: LoadedMethod) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    assert np.array_equal(tiny.embed(stack), tiny.embed(list(stack)))


def test_grey_is_the_same_in_one_channel_and_in_three(tiny: LoadedMethod) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (80, 90), np.uint8)
    one, three, pil = tiny.embed([grey, np.stack([grey] * 3, axis=2), Image.fromarray(grey)], batch_size=1)
    assert np.array_equal(one, three) and np.array_equal(one, pil)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_as_its_file_is(orientation: int, tiny: LoadedMethod, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (60, 90, 3), np.uint8))
    picture.save(tmp_path / "turned.jpg", exif=exif)
    opened = Image.open(tmp_path / "turned.jpg")
    assert np.array_equal(tiny.embed([tmp_path / "turned.jpg"]), tiny.embed([opened]))
    upright = tiny.embed([np.asarray(Image.open(tmp_path / "turned.jpg"))])
    assert np.array_equal(tiny.embed([opened]), upright) == (orientation == 1)


def test_the_order_is_kept_under_a_shuffle() -> None:
    colours = [
        np.full((4, 4, 3), level, np.uint8) * np.uint8([1, 0, 0]) + np.uint8([0, 9, 0]) for level in range(40, 60)
    ]
    alone = Colour().embed(colours)
    assert (np.diff(alone[:, 0]) > 0).all()
    assert np.array_equal(Colour().embed(colours, Grouping("shuffled", 3, 0)), alone)


def test_the_network_sees_groups_and_batches_of_whole_groups(tiny: LoadedMethod, pictures: list[np.ndarray]) -> None:
    alone, company = tiny.embed(pictures), tiny.embed(pictures, Grouping("in_order", 7))
    assert np.abs(alone - company).max() > 1e-3
    np.testing.assert_allclose(tiny.embed(pictures, Grouping("in_order", 3), batch_size=3),
                               tiny.embed(pictures, Grouping("in_order", 3)), atol=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "stage", "says"),
    [
        (Path("none.jpg"), "find", r"image 1 \(none.jpg\): no such file"),
        (np.zeros((5, 5, 3)), "open", r"image 1: expected an array .* got \(5, 5, 3\) float64"),
        (np.zeros((5, 5, 4), np.uint8), "open", r"image 1: .* got \(5, 5, 4\) uint8"),
        (np.zeros((0, 5, 3), np.uint8), "open", r"image 1: "),
        (None, "open", "image 1: expected a path, the bytes of a file, a PIL image or an array, got NoneType"),
        (b"bytes", "open", "image 1: is not a picture"),
        (np.zeros((5, 5, 3), np.uint8), "describe", "image 1: its descriptor has length 0 instead of 1"),
    ],
)
def test_an_image_that_cannot_be_used_is_named_by_its_index(bad: object, stage: str, says: str) -> None:
    good = np.full((5, 5, 3), 9, np.uint8)
    with pytest.raises(ImageError, match=says) as caught:
        Colour().embed([good, bad, good])  # type: ignore[list-item]
    assert caught.value.stage == stage and "\n" not in str(caught.value)


def test_a_damaged_file_behind_a_pil_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    opened = Image.open(io.BytesIO(content[: len(content) // 2]))
    with pytest.raises(ImageError, match="image 0: ") as caught:
        Colour().embed([opened])
    assert caught.value.stage == "decode"


@pytest.mark.parametrize("one", ["a.jpg", Path("a.jpg"), Image.new("RGB", (4, 4)), np.zeros((4, 4, 3), np.uint8)])
def test_a_single_image_must_be_put_into_a_list(one: object) -> None:
    with pytest.raises(InputError, match="put it into a list"):
        Colour().embed(one)  # type: ignore[arg-type]


def test_no_image_gives_no_descriptor(tiny: LoadedMethod) -> None:
    assert tiny.embed([]).shape == (0, tiny.dim)


def test_wrong_batches_groupings_and_sizes_are_refused(tiny: LoadedMethod, pictures: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        tiny.embed(pictures, batch_size=0)
    with pytest.raises(InputError, match="key"):
        tiny.embed(pictures, Grouping("by_key"))
    with pytest.raises(InputError, match=r"image 0 \(90 x 120\) and image 1 \(91 x 120\) are in one group"):
        Native().embed(pictures, Grouping("in_order", 2))
    assert Native().embed(pictures).shape == (7, 3)


def test_progress_is_told(tiny: LoadedMethod, pictures: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    tiny.embed(pictures, batch_size=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 7), (6, 7), (7, 7)] and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["cricavpr-tiny", "salad", "transvpr", "pixels"])
def test_nan_in_one_image_leaves_the_descriptors_of_the_others_bit_equal(name: str, tmp_path: Path) -> None:
    settings = (
        {} if name in ("cricavpr-tiny", "pixels") else {"image_size": (64, 64) if name == "transvpr" else (56, 56)}
    )
    weights = small_file(name, tmp_path) if settings else None
    method = load_method(name, weights, device="cpu", **settings)
    assert method.image_size
    images = np.random.default_rng(1).normal(size=(4, 3, *method.image_size)).astype(np.float32)
    clean = method.describe(images)
    images[2, 0, 5, 5] = np.nan
    dirty = method.describe(images)
    assert np.isnan(dirty[2]).any()
    assert np.array_equal(np.delete(dirty, 2, axis=0), np.delete(clean, 2, axis=0))


def test_images_are_not_changed_and_may_be_read_only(tiny: LoadedMethod) -> None:
    images = np.random.default_rng(1).normal(size=(2, 3, 112, 112)).astype(np.float32)
    before = images.copy()
    images.setflags(write=False)
    first = tiny.describe(images)
    assert np.array_equal(images, before) and np.array_equal(tiny.describe(before[::-1])[::-1], first)


def test_a_method_shows_itself_in_one_line(tiny: LoadedMethod) -> None:
    assert repr(tiny) == f"<CricaVPRMethod cricavpr-tiny: 112 x 112 px, 2688-d, weights {tiny.weights[:12]}, cpu>"
    assert "any size" in repr(load_method("cosplace", "random:0", device="cpu"))
    assert "weights none, cpu" in repr(load_method("pixels", device="cpu"))


def test_the_method_on_the_page_about_methods_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import numpy.*?)```", page, re.DOTALL)
    names: dict[str, type[LoadedMethod]] = {}
    exec(code, names)  # type: ignore[arg-type]
    method = names["MeanColour"]()
    assert isinstance(method, Method)
    assert np.allclose(method.embed([Image.new("RGB", (50, 40), (0, 255, 255))]), [[0, 0.7071, 0.7071]], atol=1e-4)
