"""Our CricaVPR against outputs of the authors' implementation, loaded from a checkpoint in the authors' form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cricavpr.errors import WeightsError
from cricavpr.methods import load_method
from cricavpr.methods.cricavpr import CricaVPRMethod

from .rebuilt import arrays, described, lengths, normalised, state

DESCRIPTOR = {"float32": 1e-4, "float64": 1e-5}  # length of the difference, see the golden files' tolerances
TOKEN = {"float32": 5e-5, "float64": 2e-5}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As published: a dict with more than the weights, `module.` before each name, batch norm's counters."""
    theirs = {f"module.{key}": value.float() for key, value in state("cricavpr").items()}
    counters = {
        k.replace("running_mean", "num_batches_tracked"): torch.tensor(7) for k in theirs if "running_mean" in k
    }
    path = tmp_path_factory.mktemp("authors") / "CricaVPR.pth"
    torch.save({"epoch_num": 3, "recalls": [94.9], "model_state_dict": {**theirs, **counters}}, path)
    return path


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def method(checkpoint: Path, dtype: str) -> CricaVPRMethod:
    loaded = load_method("cricavpr", checkpoint, dtype=dtype)
    assert isinstance(loaded, CricaVPRMethod)
    if dtype == "float64":  # the file is float32: give the golden weights in full
        from cricavpr.models.cricavpr import from_authors_names
        from cricavpr.models.weights import load_strictly

        load_strictly(loaded.network, from_authors_names(state("cricavpr")), "golden")
    return loaded


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return arrays("cricavpr")


@pytest.fixture(scope="module")
def images(golden: dict[str, np.ndarray]) -> Tensor:
    return normalised(golden["images"])


def test_the_sizes_of_the_paper_are_read_off_the_checkpoint(method: CricaVPRMethod) -> None:
    assert (method.dim, method.image_size, method.correlates) == (10752, (224, 224), True)


def test_class_and_patch_tokens_are_the_authors(
    method: CricaVPRMethod, golden: dict, images: Tensor, dtype: str
) -> None:
    with torch.inference_mode():
        tokens = method.network.backbone(images.to(getattr(torch, dtype)))
    patches = tokens.patches.flatten(1, 2)[:, ::37]
    assert (tokens.class_token.double() - torch.from_numpy(golden["class_token"])).abs().max() < TOKEN[dtype]
    assert (patches.double() - torch.from_numpy(golden["patch_tokens_sample"])).abs().max() < TOKEN[dtype]


def test_descriptors_together_are_the_authors(method: CricaVPRMethod, golden: dict, images: Tensor, dtype: str) -> None:
    assert lengths(described(method, images, [5]), golden["descriptors_together"]) < DESCRIPTOR[dtype]


def test_descriptors_alone_are_the_authors(method: CricaVPRMethod, golden: dict, images: Tensor, dtype: str) -> None:
    assert lengths(described(method, images), golden["descriptors_alone"]) < DESCRIPTOR[dtype]


def test_the_first_two_are_described_without_the_rest(
    method: CricaVPRMethod, golden: dict, images: Tensor, dtype: str
) -> None:
    ours = described(method, images, [2, 3])[:2]
    assert lengths(ours, golden["descriptors_first2"]) < DESCRIPTOR[dtype]


def test_reversed_images_give_reversed_descriptors(
    method: CricaVPRMethod, golden: dict, images: Tensor, dtype: str
) -> None:
    ours = described(method, images.flip(0), [5])[:, ::7]
    assert lengths(ours, golden["descriptors_reversed"]) < DESCRIPTOR[dtype]


def test_a_descriptor_of_the_wrong_image_is_far_off(
    method: CricaVPRMethod, golden: dict, images: Tensor, dtype: str
) -> None:
    assert lengths(described(method, images).roll(1, 0), golden["descriptors_alone"]) > 0.1


@pytest.mark.parametrize("side", [168, 322])
def test_other_sizes_agree_with_the_authors_cuts(checkpoint: Path, side: int) -> None:
    golden = arrays("cricavpr_sizes")
    loaded = load_method("cricavpr", checkpoint, region_cuts="authors", image_size=(side, side))
    ours = described(loaded, normalised(golden[f"images_{side}"]), [2])
    assert lengths(ours, golden[f"descriptors_{side}_together"]) < DESCRIPTOR["float32"]


def test_other_sizes_in_float64_and_the_cuts_of_the_grid_differ(method: CricaVPRMethod, dtype: str) -> None:
    golden = arrays("cricavpr_sizes")
    images = normalised(golden["images_322"])
    authors = golden["descriptors_322_together"]
    assert lengths(described(method, images, [2]), authors) > 0.01  # our default cuts 23 patches evenly
    method.network.aggregator.cuts = "authors"
    try:
        assert lengths(described(method, images, [2]), authors) < DESCRIPTOR[dtype]
    finally:
        method.network.aggregator.cuts = "grid"


def test_waves_agree_too(method: CricaVPRMethod, dtype: str) -> None:
    golden = arrays("cricavpr_waves")
    images = normalised(golden["images"])
    assert lengths(described(method, images, [5]), golden["descriptors_together"]) < DESCRIPTOR[dtype]
    assert lengths(described(method, images), golden["descriptors_alone"]) < DESCRIPTOR[dtype]


def test_a_missing_an_extra_and_a_misshapen_entry_are_named(tmp_path: Path) -> None:
    broken = {f"module.{key}": value.float() for key, value in state("cricavpr").items()}
    del broken["module.backbone.norm.bias"]
    broken["module.surprise"] = torch.zeros(3)
    broken["module.aggregation.1.p"] = torch.zeros(2)
    path = tmp_path / "broken.pth"
    torch.save({"model_state_dict": broken}, path)
    with pytest.raises(WeightsError) as error:
        load_method("cricavpr", path)
    for name in ("backbone.norm.bias", "surprise", "gem.p"):
        assert name in str(error.value)
