"""Our CosPlace and EigenPlaces against outputs of the authors' implementations, loaded from files in their form."""

import json
from pathlib import Path

import pytest
import torch

from cricavpr.methods.families import TorchMethod
from cricavpr.models.cosplace import CosPlace, from_authors_names, trainable

from .convolutional import check, check_refusals, loaded, with_counters
from .rebuilt import GOLDEN, arrays, state

COSPLACE = {
    "ResNet18_512": ("240x320", "301x227"),
    "ResNet50_2048": ("240x320", "301x227", "512x512"),
    "VGG16_512": ("240x320", "301x227", "512x512"),
}
CASES = [("cosplace", trunk, sizes) for trunk, sizes in COSPLACE.items()]
CASES += [("eigenplaces", trunk, ("240x320",)) for trunk in ("ResNet50_2048", "VGG16_512")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}_{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[str, str, tuple[str, ...]]:
    return request.param


@pytest.fixture(scope="module", params=["float32", "float64"])
def method(
    case: tuple[str, str, tuple[str, ...]], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TorchMethod:
    """As published: a flat state dict."""
    name, trunk, _ = case
    path = tmp_path_factory.mktemp("authors") / f"{trunk}_{name}.pth"
    torch.save(with_counters(state(f"{name}_{trunk}")), path)
    return loaded(name, path, request.param)


def test_maps_and_descriptors_are_the_authors(method: TorchMethod, case: tuple[str, str, tuple[str, ...]]) -> None:
    name, trunk, sizes = case
    golden = arrays(f"{name}_{trunk}")
    exact = method.settings.dtype == "float64"
    for size in sizes:
        if exact and size == "512x512":
            continue  # a minute for what float32 shows as well
        check(method, golden, size, images=1 if exact and trunk != "ResNet18_512" else 4)


def test_sizes_are_read_off_the_file(method: TorchMethod, case: tuple[str, str, tuple[str, ...]]) -> None:
    name, trunk, _ = case
    backbone, dim = trunk.lower().split("_")
    assert (method.name, method.dim, method.image_size, method.correlates) == (name, int(dim), None, False)
    assert isinstance(method.network, CosPlace) and method.network.name == backbone


@pytest.mark.parametrize("trunk", COSPLACE)
def test_what_the_authors_train_is_what_they_train(trunk: str) -> None:
    theirs = json.loads((GOLDEN / f"cosplace_{trunk}.trainable.json").read_text())
    renamed = from_authors_names({name: torch.tensor(learns) for name, learns in theirs.items()})
    backbone, dim = trunk.lower().split("_")
    with torch.device("meta"):
        model = CosPlace(backbone, int(dim))
    assert set(dict(model.named_parameters())) == set(renamed)
    assert trainable(model) == {name for name, learns in renamed.items() if learns}


def test_eigenplaces_is_the_same_network() -> None:
    assert arrays("eigenplaces_ResNet50_2048")["identical_to_cosplace"]
    assert arrays("eigenplaces_VGG16_512")["identical_to_cosplace"]


@pytest.mark.parametrize(
    ("name", "golden", "absent", "misshapen"),
    [
        ("cosplace", "cosplace_ResNet18_512", "backbone.6.0.conv2.weight", "backbone.7.1.bn1.bias"),
        ("eigenplaces", "eigenplaces_VGG16_512", "backbone.0.weight", "backbone.28.bias"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(
    name: str, golden: str, absent: str, misshapen: str, tmp_path: Path
) -> None:
    check_refusals(name, state(golden), tmp_path, absent, misshapen)
