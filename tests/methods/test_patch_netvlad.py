"""Patch-NetVLAD's second look: where patches are, what scores count, how sizes are fused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cricavpr.errors import InputError
from cricavpr.methods import load_method
from cricavpr.methods.patch_netvlad import CONFIGURATIONS, PatchNetVLADMethod
from cricavpr.models.patch_netvlad import patch_centres_px, patch_descriptors, patch_grid, patch_positions

from .vlad_files import WHITENED, authors_file, network

SIZE = (96, 128)  # a map of 6 x 8


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> PatchNetVLADMethod:
    path = authors_file("patch_netvlad", tmp_path_factory.mktemp("authors"))
    loaded = load_method("patch_netvlad", path, image_size=SIZE, patch_sizes=(2, 4), patch_weights=(0.7, 0.3))
    assert isinstance(loaded, PatchNetVLADMethod)
    return loaded


def with_settings(method: PatchNetVLADMethod, **changes: object) -> PatchNetVLADMethod:
    settings = replace(method.patch_settings, **changes)  # type: ignore[arg-type]
    return PatchNetVLADMethod("patch_netvlad", method.network, settings, "the same", "cpu")


def pictures(seed: int = 0) -> np.ndarray:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(seed)).numpy()


def test_the_configurations_are_the_published_ones() -> None:
    found = {name: (one.dim, one.settings.patch_sizes, one.settings.matcher) for name, one in CONFIGURATIONS.items()}
    assert found == {
        "patch_netvlad": (4096, (2, 5, 8), "ransac"),
        "patch_netvlad-speed": (512, (5,), "rapid"),
        "patch_netvlad-storage": (128, (5,), "rapid"),
    }
    assert all(one.settings.image_size == (480, 640) for one in CONFIGURATIONS.values())


def test_patches_at_480_by_640_are_as_many_as_in_the_paper() -> None:
    counts = [rows * columns for rows, columns in (patch_grid(size, 30, 40) for size in (2, 5, 8))]
    assert counts == [1131, 936, 759]


def test_patches_go_row_by_row_as_x_and_y_in_pixels() -> None:
    assert patch_positions(2, 3).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert patch_centres_px(2, 2, 2).tolist() == [[15, 15], [31, 15], [15, 31], [31, 31]]


def test_a_patch_is_the_netvlad_of_its_square() -> None:
    net = network().double()
    maps = torch.randn(1, 512, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for size, rows, columns in ((1, 5, 6), (3, 3, 4), (5, 1, 2)):
        (patches,) = patch_descriptors(net, maps, [size])
        assert patches.shape == (1, rows * columns, WHITENED)
        for place, (x, y) in enumerate(patch_positions(rows, columns).tolist()):
            alone = net.whitened(net.pool(maps[:, :, y : y + size, x : x + size]))
            assert (patches[:, place] - alone).norm() < 1e-12


def test_a_patch_as_large_as_the_map_is_the_whole_picture_without_whitening_too() -> None:
    net = network().double()
    net.remove_whitening()
    maps = torch.randn(2, 512, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert (patch_descriptors(net, maps, [4])[0][:, 0] - net.pool(maps)).norm() < 1e-12


def test_single_precision_is_nearly_as_good_in_small_patches_of_a_large_map() -> None:
    maps = 30 * torch.randn(1, 512, 30, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    exact = patch_descriptors(network().double(), maps, [2])[0]
    single = patch_descriptors(network(), maps.float(), [2])[0]
    assert (single.double() - exact).norm(dim=2).max() < 1e-5  # integral images lose a hundred times that


def test_patches_that_do_not_fit_the_picture_are_refused(method: PatchNetVLADMethod) -> None:
    with pytest.raises(InputError, match="do not fit into a feature map of 6 x 8 cells"):
        with_settings(method, patch_sizes=(2, 7)).local_features(pictures())


def test_local_features_are_kept_small_and_are_the_same_alone_and_in_company(method: PatchNetVLADMethod) -> None:
    both = method.local_features(pictures())
    assert {name: (array.shape, array.dtype.name) for name, array in both[0].items()} == {
        "patches_2": ((35, WHITENED), "float16"),
        "patches_4": ((15, WHITENED), "float16"),
        "grid_2": ((2,), "int64"),
        "grid_4": ((2,), "int64"),
    }
    (alone,) = method.local_features(pictures()[1:])
    assert np.abs(alone["patches_2"].astype(float) - both[1]["patches_2"].astype(float)).max() < 2e-3


@pytest.mark.parametrize("matcher", ["ransac", "rapid"])
def test_a_picture_matches_itself_best(method: PatchNetVLADMethod, matcher: str) -> None:
    if matcher == "ransac":
        pytest.importorskip("cv2")
    method = with_settings(method, matcher=matcher)
    here, there = method.local_features(pictures())
    same, other = method.compare(here, here), method.compare(here, there)
    assert (same > other).all() and (other >= 0).all()
    if matcher == "ransac":
        assert same.tolist() == [1.0, 1.0]  # every patch, of all
    else:
        assert same.tolist() == pytest.approx([36 + 16, 16 + 4])  # nothing moves oddly: the largest shifts, squared


def test_without_matches_the_score_is_zero(method: PatchNetVLADMethod) -> None:
    (here, _) = method.local_features(pictures())
    nothing = {name: np.full_like(array, np.nan) if name.startswith("p") else array for name, array in here.items()}
    assert method.compare(here, nothing).tolist() == [0.0, 0.0]


def test_sizes_are_fused_by_how_far_a_candidate_stands_out(method: PatchNetVLADMethod) -> None:
    raw = np.array([[1.0, 30.0], [3.0, 10.0]])
    assert method.fuse(raw).tolist() == pytest.approx([-0.7 + 0.3, 0.7 - 0.3])


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_size_that_says_the_same_of_all_says_nothing(method: PatchNetVLADMethod, level: float) -> None:
    raw = np.column_stack([np.full(7, level), np.arange(7.0)])
    assert method.fuse(raw).tolist() == pytest.approx((0.3 * (np.arange(7) - 3) / 2).tolist())
    assert method.fuse(np.full((7, 2), level)).tolist() == [0.0] * 7
    assert method.fuse(np.array([[1.0, 2.0]])).tolist() == [0.0]
    assert method.fuse(np.empty((0, 2))).shape == (0,)
