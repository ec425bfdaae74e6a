"""The one door to a network with weights."""

from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError, WeightsError
from cricavpr.grouping import Grouping
from cricavpr.methods import METHODS, load_method
from cricavpr.methods.base import Method, made_by


@pytest.fixture(scope="module")
def tiny() -> Method:
    return load_method()


def picture(seed: int, height: int = 112, width: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_the_shipped_network_needs_nothing_but_its_name(tiny: Method) -> None:
    assert (tiny.name, tiny.dim, tiny.image_size, tiny.correlates) == ("cricavpr-tiny", 2688, (112, 112), True)
    assert len(tiny.weights) == 64


def test_the_shipped_weights_stay_small() -> None:
    from cricavpr.models.registry import find_weights

    assert find_weights("cricavpr-tiny").stat().st_size <= 12e6


def test_a_picture_of_the_networks_size_is_not_resampled(tiny: Method) -> None:
    image = picture(0)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    back = tiny.preprocess(image).transpose(1, 2, 0) * std + mean
    assert np.array_equal((back * 255).round(), image)


def test_company_changes_a_descriptor_and_is_recorded(tiny: Method) -> None:
    images = np.stack([tiny.preprocess(picture(seed)) for seed in range(4)])
    alone, together = tiny.describe(images), tiny.describe(images, [4])
    assert np.linalg.norm(alone - together, axis=1).min() > 1e-3
    assert made_by(tiny, Grouping("in_order", 4)).grouping == "in_order:4"


def test_random_weights_come_from_their_seed() -> None:
    image = load_method("cricavpr-tiny", "random:3").preprocess(picture(0))[None]
    first, again, other = (load_method("cricavpr-tiny", f"random:{seed}").describe(image) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_settings_that_leave_no_trace_in_the_weights_are_in_made_by() -> None:
    plain, departed = (
        load_method("cricavpr-tiny"),
        load_method("cricavpr-tiny", region_cuts="authors", image_size=(168, 168)),
    )
    differences = made_by(plain, Grouping()).differences(made_by(departed, Grouping()))
    assert {line.split(":")[0] for line in differences} == {"image_size", "preprocessing"}
    assert "region_cuts=authors" in departed.preprocessing


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("cricavpr-tyni",), "Did you mean 'cricavpr-tiny'"),
        (("pixels", "some.pth"), "no weights"),
        (("cricavpr-tiny", "random:x"), "random:0"),
    ],
)
def test_a_wrong_choice_is_answered_with_the_right_ones(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_method(*arguments)


def test_an_unknown_setting_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'image_size'"):
        load_method("cricavpr-tiny", imagesize=(112, 112))


def test_a_descriptor_file_is_no_weights_file(tmp_path: Path) -> None:
    from cricavpr.descriptors import DescriptorSet

    path = tmp_path / "descriptors.safetensors"
    made = MadeBy("pixels", "none", None, "", "none", None, 3)
    DescriptorSet(("a",), np.eye(1, 3, dtype=np.float32), made).save(path)
    with pytest.raises((WeightsError, InputError)):
        load_method("cricavpr", path)


def test_every_method_says_in_one_line_what_it_is() -> None:
    for entry in METHODS.values():
        assert entry.summary and "\n" not in entry.summary and len(entry.summary) < 120


@pytest.mark.parametrize(
    "name", ["cricavpr", *(n for n in METHODS if n not in ("cricavpr", "cricavpr-tiny", "pixels"))]
)
def test_weights_that_are_not_here_say_how_to_get_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"weights pull|download "):
        load_method(name)
