"""NetVLAD, SFRS and Patch-NetVLAD: files that do not fit, settings, random weights."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cricavpr.errors import InputError, WeightsError
from cricavpr.methods import METHODS, load_method
from cricavpr.methods.base import TwoStageMethod
from cricavpr.methods.netvlad import CAFFE_MEAN
from cricavpr.models.netvlad import NetVLAD, VLADNet
from cricavpr.models.registry import KNOWN

from .vlad_files import CLUSTERS, FORMS, WHITENED, authors_file, authors_state

METHODS_HERE = ("netvlad", "sfrs", "patch_netvlad", "patch_netvlad-speed", "patch_netvlad-storage")


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("fault", ["missing", "extra", "misshapen", "not finite"])
def test_what_does_not_fit_is_named(method: str, fault: str, tmp_path: Path) -> None:
    backbone, pool = (FORMS[method][part] for part in ("backbone.", "pool."))
    changes, named = {
        "missing": ({f"{backbone}28.bias": None}, "backbone.28.bias"),
        "extra": ({"surprise": torch.zeros(3)}, "surprise"),
        "misshapen": ({f"{pool}conv.weight": torch.zeros(CLUSTERS + 1, 512, 1, 1)}, "pool.conv.weight"),
        "not finite": ({f"{pool}centroids": torch.full((CLUSTERS, 512), torch.nan)}, f"{pool}centroids"),
    }[fault]
    with pytest.raises(WeightsError, match=named.replace(".", r"\.")):
        load_method(method, authors_file(method, tmp_path, **changes))


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("part", ["conv.weight", "centroids"])
def test_a_missing_part_of_netvlad_is_named(method: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=part):
        load_method(method, authors_file(method, tmp_path, **{f"{FORMS[method]['pool.']}{part}": None}))


@pytest.mark.parametrize("method", ["sfrs", "patch_netvlad"])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_half_a_whitening_is_refused(method: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"whitening\.{part}"):
        load_method(method, authors_file(method, tmp_path, **{f"{FORMS[method]['whitening.']}{part}": None}))


def test_a_file_of_one_method_is_no_file_of_another(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"base_model\.base\.0\.weight"):
        load_method("netvlad", authors_file("sfrs", tmp_path))
    with pytest.raises(WeightsError, match=r"encoder\.0\.weight"):
        load_method("sfrs", authors_file("netvlad", tmp_path))


def test_an_entry_that_stands_twice_is_refused(tmp_path: Path) -> None:
    twice = {"encoder.module.0.bias": torch.zeros(64)}
    with pytest.raises(WeightsError, match=r"would both be renamed to backbone\.0\.bias"):
        load_method("netvlad", authors_file("netvlad", tmp_path, **twice))


def test_old_torch_and_new_torch_give_the_same_network(tmp_path: Path) -> None:
    state = authors_state("sfrs")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).numpy()
    described = []
    for name, new in (("old.pth", False), ("new.pth", True)):
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=new)
        described.append(load_method("sfrs", tmp_path / name).describe(images))
    assert np.array_equal(*described)


def test_sizes_are_read_off_the_file(tmp_path: Path) -> None:
    assert load_method("netvlad", authors_file("netvlad", tmp_path)).dim == CLUSTERS * 512
    assert load_method("sfrs", authors_file("sfrs", tmp_path)).dim == WHITENED


def test_pictures_reach_each_network_as_its_authors_had_it(tmp_path: Path) -> None:
    picture = np.full((50, 70, 3), 128, np.uint8)
    expected = {"netvlad": ((3, 50, 70), 0.0741), "sfrs": ((3, 480, 640), 128 - 255 * CAFFE_MEAN[0])}
    for name, (shape, red) in expected.items():
        method = load_method(name, authors_file(name, tmp_path))
        tensor = pickle.loads(pickle.dumps(method.preprocess))(picture)
        assert tuple(tensor.shape) == shape and tensor[0, 0, 0].item() == pytest.approx(red, abs=1e-3)


def test_what_leaves_no_trace_in_the_weights_is_in_the_preprocessing(tmp_path: Path) -> None:
    path = authors_file("patch_netvlad", tmp_path)
    lines = {
        load_method("patch_netvlad", path, **settings).preprocessing
        for settings in (
            {}, {"dtype": "float64"}, {"whitening": False}, {"image_size": (64, 96)},
        )
    }  # fmt: skip
    assert len(lines) == 4


def test_settings_of_the_second_stage_leave_descriptors_comparable(tmp_path: Path) -> None:
    path = authors_file("patch_netvlad", tmp_path)
    settings: tuple[dict[str, Any], ...] = (
        {}, {"matcher": "rapid"}, {"patch_weights": (0.4, 0.2, 0.4)}, {"kept": "float32"}, {"patch_sizes": (2, 5, 7)}
    )  # fmt: skip
    loaded = [load_method("patch_netvlad", path, **changed) for changed in settings]
    methods = [method for method in loaded if isinstance(method, TwoStageMethod)]
    assert len({method.preprocessing for method in methods}) == 1
    assert len({method.local for method in methods}) == 3  # another matcher or weight needs no patch again
    assert len({(method.local, method.matching) for method in methods}) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_sise": (64, 64)}, "Did you mean 'image_size'"),
        ({"matcher": "ranzac"}, "matcher must be 'ransac' or 'rapid', got 'ranzac'"),
        ({"kept": "float8"}, "kept must be 'float16' or .*, got 'float8'"),
        ({"patch_sizes": (2, 5)}, "must have the same length"),
        ({"shorten_to": WHITENED + 1}, f"between 1 and {WHITENED}"),
        ({"shorten_to": 4, "whitening": False}, "needs a whitening, but these weights have none"),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_method("patch_netvlad", authors_file("patch_netvlad", tmp_path), **settings)


@pytest.mark.parametrize("name", METHODS_HERE)
def test_every_method_has_weights_that_are_known(name: str) -> None:
    known = KNOWN[METHODS[name].default_weights or ""]
    assert known.url and known.page and known.licence


def test_random_weights_follow_the_seed_and_tell_pictures_apart() -> None:
    before = torch.random.get_rng_state()
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0)).numpy()
    one, again, other = (load_method("patch_netvlad-storage", f"random:{n}").describe(images) for n in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.shape == (2, 128) and np.array_equal(one, again) and not np.allclose(one, other, atol=0.01)
    assert np.linalg.norm(one[0] - one[1]) > 0.01


# ---- the layer ------------------------------------------------------------------------------------------------------


def test_the_order_of_a_descriptor_is_a_choice_and_changes_no_distance() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, 6, 4, 5, generator=generator)
    first, second = NetVLAD(4, 6, "clusters"), NetVLAD(4, 6, "channels")
    second.load_state_dict(first.state_dict())
    by_cluster, by_channel = first(maps), second(maps)
    assert torch.allclose(by_cluster.view(3, 4, 6).transpose(1, 2).flatten(1), by_channel, atol=1e-6)
    assert torch.allclose(by_cluster @ by_cluster.T, by_channel @ by_channel.T, atol=1e-6)


def test_descriptors_and_each_cluster_have_unit_length() -> None:
    vlad = NetVLAD(4, 6)(torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(2)))
    assert torch.allclose(vlad.norm(dim=1), torch.ones(2))
    assert torch.allclose(vlad.view(2, 4, 6).norm(dim=2), torch.full((2, 4), 0.5))


def test_the_whole_is_the_first_region_and_quarters_are_the_last() -> None:
    layer, maps = NetVLAD(4, 6), torch.randn(2, 6, 4, 6, generator=torch.Generator().manual_seed(3))
    regions = layer.regions(maps)
    assert regions.shape == (2, 9, 24)
    assert torch.allclose(regions[:, 0], layer(maps), atol=1e-6)
    assert torch.allclose(regions[:, 2], layer(maps[:, :, 2:]), atol=1e-6)  # the lower half
    assert torch.allclose(regions[:, 6], layer(maps[:, :, :2, 3:]), atol=1e-6)  # the upper right quarter
    with pytest.raises(InputError, match="must be even"):
        layer.regions(maps[:, :, :3])


def test_a_network_knows_its_dimension() -> None:
    with torch.device("meta"):
        network = VLADNet(64, "channels", 4096)
    assert network.dim == 4096
    network.remove_whitening()
    assert network.dim == 32768
    assert sum(p.numel() for p in network.parameters()) == 14_714_688 + 2 * 64 * 512
