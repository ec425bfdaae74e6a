"""Networks that see every image by itself: settings, sizes of all published files, random weights."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cricavpr.errors import InputError, WeightsError
from cricavpr.methods import METHODS, load_method
from cricavpr.methods.families import FAMILIES
from cricavpr.models.cosplace import CosPlace, network_of
from cricavpr.models.mixvpr import MixVPR, MixVPRConfig
from cricavpr.models.registry import KNOWN

FAMILY = {"cosplace": 2048, "eigenplaces": 2048, "gcl": 2048, "mixvpr": 4096}
RELEASED = [name for name in KNOWN if name.startswith(("cosplace_", "eigenplaces_"))]
SMALL = {  # networks that are quickly saved
    "cosplace": lambda: CosPlace("resnet18", 32),
    "eigenplaces": lambda: CosPlace("resnet18", 32),
    "mixvpr": lambda: MixVPR(MixVPRConfig(18, side=2, channels=8, rows=2, mixers=1, hidden=4)),
}


@pytest.mark.parametrize("name", FAMILY)
def test_random_weights_have_the_published_size_and_follow_the_seed(name: str) -> None:
    before = torch.random.get_rng_state()
    method = load_method(name, "random:3")
    assert torch.equal(before, torch.random.get_rng_state())
    size = method.image_size if name == "mixvpr" else (64, 96)
    assert size is not None
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).numpy()
    vectors = method.describe(images)
    assert vectors.shape == (2, FAMILY[name]) == (2, method.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(vectors[1:], method.describe(images[1:]), atol=1e-5)  # alone as in company
    assert method.weights == "random:3" and not method.correlates


def test_another_seed_gives_other_weights() -> None:
    images = torch.randn(1, 3, 320, 320, generator=torch.Generator().manual_seed(0)).numpy()
    one, again, other = (load_method("mixvpr", f"random:{seed}").describe(images) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.allclose(one, other, atol=0.01)


def test_pictures_reach_each_network_as_its_authors_had_it() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    shapes, lines = {}, {}
    for name in FAMILY:
        if name == "gcl":
            published = FAMILIES[name].settings
            assert published.image_size == (480, 640) and published.resize == "pil"  # not built: it is large
            continue
        method = load_method(name, "random:0")
        shapes[name] = tuple(pickle.loads(pickle.dumps(method.preprocess))(picture).shape)
        lines[name] = method.preprocessing
    assert shapes == {"cosplace": (3, 60, 80), "eigenplaces": (3, 60, 80), "mixvpr": (3, 320, 320)}
    assert "size native" in lines["cosplace"] and "size 320x320, resize pil" in lines["mixvpr"]


def test_settings_are_written_into_the_preprocessing() -> None:
    method = load_method("cosplace", "random:0", image_size=(64, 96), resize="tensor", dtype="float64")
    assert method.image_size == (64, 96)
    assert "size 64x96, resize tensor" in method.preprocessing and method.preprocessing.endswith("; float64")


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("cosplace", {"image_sise": (64, 64)}, r"unknown setting 'image_sise' of cosplace. Did you mean 'image_size'"),
        ("eigenplaces", {"dim": 512}, r"unknown setting 'dim' of eigenplaces. .*Known: dtype, image_size, resize"),
        ("gcl", {"dtype": "float16"}, "dtype must be 'float32' or 'float64', got 'float16'"),
        ("gcl", {"resize": "pill"}, "resize must be .* or 'pil', got 'pill'"),
        ("mixvpr", {"image_size": (640, 640)}, "unknown setting 'image_size' of mixvpr"),
    ],
)
def test_a_wrong_setting_is_answered_with_the_right_ones(name: str, overrides: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_method(name, "random:0", **overrides)


@pytest.mark.parametrize("name", FAMILY)
def test_random_weights_need_a_seed(name: str) -> None:
    with pytest.raises(InputError, match="need a seed"):
        load_method(name, "random:")


def test_mixvpr_refuses_images_of_another_size() -> None:
    with pytest.raises(InputError, match="takes images of 320 x 320 px, got 64 x 96"):
        load_method("mixvpr", "random:0").describe(np.zeros((1, 3, 64, 96), np.float32))


@pytest.mark.parametrize("name", RELEASED)
def test_every_released_trunk_and_dimension_is_read_off_its_file(name: str) -> None:
    _, trunk, dim = name.split("_")
    with torch.device("meta"):
        published = CosPlace(trunk, int(dim))
        read = network_of(published.state_dict(), "cosplace")
    assert (read.name, read.dim) == (trunk, int(dim))
    assert {n: t.shape for n, t in read.state_dict().items()} == {n: t.shape for n, t in published.state_dict().items()}
    assert KNOWN[name].about_bytes == 4 * sum(parameter.numel() for parameter in published.parameters())


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("cosplace", "projection.weight"),
        ("eigenplaces", "projection.weight"),
        ("mixvpr", "aggregator.channel_proj.weight"),
        ("mixvpr", "aggregator.row_proj.weight"),
        ("mixvpr", "aggregator.mix.0.mix.1.weight"),
    ],
)
def test_an_entry_that_tells_a_size_is_named_when_it_is_missing_or_misshapen(
    name: str, entry: str, tmp_path: Path
) -> None:
    state = SMALL[name]().state_dict()
    torch.save({key: value for key, value in state.items() if key != entry}, tmp_path / "without.pth")
    with pytest.raises(WeightsError, match=f"nothing was loaded: 1 missing: {entry}"):
        load_method(name, tmp_path / "without.pth")
    torch.save({**state, entry: torch.zeros(2, 2, 2)}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=rf"of another shape: .*{entry} \(file 2x2x2, network"):
        load_method(name, tmp_path / "odd.pth")


@pytest.mark.parametrize("name", FAMILY)
def test_a_file_of_another_method_is_refused(name: str, tmp_path: Path) -> None:
    torch.save({"encoder.pos_embed": torch.zeros(1), "head.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="Is it a file of another method"):
        load_method(name, tmp_path / "other.pth")


@pytest.mark.parametrize("name", FAMILY)
def test_the_default_weights_are_known_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path))
    default = METHODS[name].default_weights
    assert default is not None
    with pytest.raises(WeightsError) as error:
        load_method(name)
    assert str(KNOWN[default].url) in str(error.value) and KNOWN[default].filename in str(error.value)


def test_a_file_of_ours_loads_as_well_as_one_of_the_authors(tmp_path: Path) -> None:
    from cricavpr.models.weights import save_weights

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CosPlace("resnet18", 32).eval()
    save_weights(tmp_path / "ours.safetensors", model.state_dict(), {})
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        loaded = load_method("cosplace", tmp_path / "ours.safetensors")
        assert np.array_equal(loaded.describe(images.numpy()), model(images))
