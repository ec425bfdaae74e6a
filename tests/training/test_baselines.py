"""NetVLAD and CosPlace in the same loop: they learn, resume to the byte, and load as the methods they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cricavpr.errors import InputError, WeightsError
from cricavpr.methods import load_method
from cricavpr.models.cnn import resnet, vgg16_features
from cricavpr.models.weights import save_weights
from cricavpr.schema import build, to_plain
from cricavpr.training import train
from cricavpr.training.data import StepData, open_places
from cricavpr.training.learning import Described, Learner
from cricavpr.training.network import (
    build_baseline,
    cluster,
    from_torchvision,
    start_from_clusters,
    tunable_parameters,
)
from cricavpr.training.recipe import CosPlaceNetwork, NetVLADNetwork, Recipe
from tests.training.toy import TOY, machine

NETWORKS: dict[str, dict[str, Any]] = {
    "netvlad": {"kind": "netvlad", "trunk": "resnet18", "clusters": 4, "init_images": 6, "init_features": 8},
    "cosplace": {"kind": "cosplace", "trunk": "resnet18", "dim": 32},
}
DIMS = {"netvlad": 4 * 256, "cosplace": 32}


def recipe(kind: str, **network: Any) -> Recipe:
    values = to_plain(TOY) | {"network": NETWORKS[kind] | network, "steps": 8}
    values["step"]["group_sizes"] = [0]
    values["validation"] |= {"groupings": ["alone", "in_order:4"], "every_steps": 8}
    return build(Recipe, values, "toy")


@pytest.fixture(scope="module", params=list(NETWORKS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(kind: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("baseline") / kind
    train.train(recipe(kind), out, machine(pictures))
    return out


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_few_steps_lower_the_loss(run: Path) -> None:
    losses = [line["loss"] for line in log(run) if "loss" in line]
    assert len(losses) == 8
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def test_company_changes_nothing_in_them(run: Path) -> None:
    (measured,) = (line["measured"] for line in log(run) if "measured" in line)
    assert [measured[f"R@{n} alone"] for n in (1, 5, 10)] == [measured[f"R@{n} in_order:4"] for n in (1, 5, 10)]


def test_stopped_and_resumed_they_end_in_the_same_bytes(run: Path, kind: str, pictures: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    describe, left = Learner.describe, [5]

    def interrupted(self: Learner, data: StepData) -> Described:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return describe(self, data)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Learner, "describe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.train(recipe(kind), again, machine(pictures, checkpoint_every=3))
    assert train.resume(again, machine=machine(pictures)).step == 8
    for name in ("log.jsonl", "last.safetensors"):
        assert (again / name).read_bytes() == (run / name).read_bytes(), name


def test_exported_weights_load_as_the_method(run: Path, kind: str) -> None:
    method = load_method(kind, run / "last.safetensors")
    described = method.describe(torch.rand(2, 3, 64, 96).numpy())
    assert described.shape == (2, DIMS[kind]) and not method.correlates
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)


def test_only_the_end_of_the_trunk_learns_unless_all_is_asked_for(kind: str) -> None:
    model = build_baseline(recipe(kind).network, seed=0)  # type: ignore[arg-type]
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"0", "1", "4", "5"}  # before the third stage
    assert all(p.requires_grad for p in build_baseline(recipe(kind, tuning="full").network, 0).parameters())  # type: ignore[arg-type]
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert tunable_parameters(recipe(kind)) == learning


# ---- k-means


def test_clusters_are_found_where_the_points_are() -> None:
    places = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = (places[:, None] + torch.tensor([[-0.1, 0.0], [0.1, 0.0]])).reshape(-1, 2)
    centres = cluster(points, 3, np.random.default_rng(0))
    assert sorted(map(tuple, centres.round().tolist())) == [(0.0, 0.0), (0.0, 10.0), (10.0, 0.0)]


def test_a_centre_that_nobody_is_near_to_is_put_elsewhere() -> None:
    points = torch.tensor([[11.0, 10.0]] * 8 + [[10.0, 11.0]])  # far from zero, where a mean of nothing would lie
    for seed in range(5):
        centres = cluster(points, 2, np.random.default_rng(seed))
        assert sorted(centres.tolist()) == [[10.0, 11.0], [11.0, 10.0]]


def test_netvlad_starts_from_the_features_of_training_pictures_and_the_same_ones_each_time(pictures: Path) -> None:
    wanted = recipe("netvlad")
    places = open_places(wanted, pictures, 1)
    models = [build_baseline(wanted.network, seed=0) for _ in range(2)]  # type: ignore[arg-type]
    drawn = models[0].pool.centroids.detach().clone()  # type: ignore[union-attr]
    assert [start_from_clusters(model, wanted, places) for model in models] == [(), ()]  # type: ignore[arg-type]
    centres = models[0].pool.centroids.detach()  # type: ignore[union-attr]
    assert torch.equal(centres, models[1].pool.centroids)  # type: ignore[union-attr]
    assert not torch.allclose(centres, drawn)
    assert (centres.norm(dim=1) <= 1 + 1e-6).all()  # means of features of unit length
    weights = [model.pool.conv.weight.detach().flatten(1) for model in models]  # type: ignore[union-attr]
    assert torch.equal(*weights)
    sharpness = weights[0].norm(dim=1)  # the same for all clusters
    assert sharpness[0] > 1
    torch.testing.assert_close(sharpness, sharpness[:1].expand(4))


# ---- weights


@pytest.mark.parametrize("trunk", ["resnet18", "vgg16"])
@pytest.mark.parametrize("kind", list(NETWORKS))
def test_torchvision_s_trunk_fills_ours_without_its_classifier(kind: str, trunk: str, tmp_path: Path) -> None:
    if trunk == "vgg16":
        theirs = {f"features.{name}": tensor for name, tensor in vgg16_features("pool5").state_dict().items()}
        theirs["classifier.0.weight"] = torch.zeros(4, 4)
    else:
        theirs = dict(resnet(18).state_dict()) | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    path = tmp_path / "trunk.safetensors"
    save_weights(path, theirs, {})
    model = build_baseline(recipe(kind, trunk=trunk, trunk_weights=str(path)).network, seed=0)  # type: ignore[arg-type]
    given = from_torchvision(theirs, model.backbone)
    own = model.backbone.state_dict()
    assert own.keys() == given.keys() and all(torch.equal(own[name], given[name]) for name in own)


def test_going_on_from_a_whole_network_keeps_its_centres(pictures: Path, run: Path, kind: str) -> None:
    from cricavpr.training.network import make_network

    wanted = recipe(kind, weights=str(run / "last.safetensors"))
    network = make_network(wanted, torch.device("cpu"), open_places(wanted, pictures, 1))
    assert network.header["method"] == kind
    images = torch.rand(2, 3, 42, 42, generator=torch.manual_seed(0)).numpy()
    described, loaded = network.method().describe(images), load_method(kind, run / "last.safetensors")
    np.testing.assert_allclose(described, loaded.describe(images), rtol=1.3e-6, atol=1e-5)


def test_weights_of_another_trunk_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "trunk.safetensors"
    save_weights(path, dict(resnet(34).state_dict()), {})
    with pytest.raises(WeightsError, match="does not fit the network"):
        build_baseline(CosPlaceNetwork("resnet18", trunk_weights=str(path)), seed=0)


# ---- recipes


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"kind": "netvled"}, "Did you mean 'netvlad'"),
        ({"kind": "netvlad", "dim": 3}, "unknown key 'dim'"),
        ({"kind": "cosplace", "encoder_depth": 1}, "unknown key 'encoder_depth'"),
        ({"kind": "cosplace", "trunk": "resnet51"}, "unknown trunk 'resnet51'"),
        ({"kind": "cosplace", "dim": 0}, "dim must be at least 1, got 0"),
        ({"kind": "netvlad", "clusters": 1}, "clusters must be at least 2, got 1"),
        ({"kind": "netvlad", "init_images": 0}, "init_images must be at least 1, got 0"),
        (
            {"kind": "netvlad", "weights": "a", "trunk_weights": "b"},
            "weights must be empty if trunk_weights is given",
        ),
    ],
    ids=str,
)
def test_settings_of_one_network_are_refused_for_another(network: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        build(Recipe, to_plain(TOY) | {"network": network}, "toy")
    assert says in str(error.value)


def test_a_baseline_s_recipe_survives_the_way_through_a_checkpoint() -> None:
    for kind, type_ in (("netvlad", NetVLADNetwork), ("cosplace", CosPlaceNetwork)):
        assert build(Recipe, to_plain(recipe(kind)), "again") == recipe(kind)
        assert isinstance(recipe(kind).network, type_)
