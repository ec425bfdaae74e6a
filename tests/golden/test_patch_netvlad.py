"""Our Patch-NetVLAD against outputs of the authors' implementation: descriptors, patches, matches, scores, orders."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cricavpr.methods import load_method
from cricavpr.methods.base import LocalFeatures, TwoStageMethod
from cricavpr.methods.matching import opencv
from cricavpr.methods.patch_netvlad import PatchNetVLADMethod
from cricavpr.models.patch_netvlad import patch_centres_px, patch_grid, patch_positions

from .rebuilt import arrays, described, lengths, normalised, state
from .rerank_images import rerank_set

SIZES = (2, 5, 8)
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}  # length of the difference; size 2 as well, where theirs was in float64
INLIERS = 0.03  # of the matches: what OpenCV's versions differ by


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authors") / "pitts_WPCA64.pth.tar"
    torch.save({"num_pcs": 64, "state_dict": state("patch_netvlad_240x320")}, path)
    return path


class Case:
    """One size in one precision: our method, the authors' outputs, and what ours makes of their pictures."""

    def __init__(self, checkpoint: Path, size: str, dtype: str) -> None:
        height, width = map(int, size.split("x"))
        self.size, self.dtype, self.golden = (height, width), dtype, arrays(f"patch_netvlad_{size}")
        pixels = rerank_set(height, width)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == str(self.golden["images_sha256"])
        if "images" in self.golden:
            assert np.array_equal(pixels, self.golden["images"])
        self.method = self.load(checkpoint)
        settings = replace(self.method.patch_settings, matcher="rapid")
        self.rapid = PatchNetVLADMethod("patch_netvlad", self.method.network, settings, "the same", "cpu")
        maps: list[Tensor] = []
        hook = self.method.network.backbone.register_forward_hook(lambda *passed: maps.append(passed[-1]))
        self.images = normalised(pixels)
        self.local: list[LocalFeatures] = self.method.local_features(self.images.numpy())
        hook.remove()
        self.before_whitening = self.method.network.pool(maps[0].clone()).detach()
        self.half: list[LocalFeatures] = [
            {name: array.astype(np.float16) if name.startswith("patches") else array for name, array in one.items()}
            for one in self.local
        ]

    def load(self, checkpoint: Path) -> PatchNetVLADMethod:
        settings = {"image_size": self.size, "dtype": self.dtype, "kept": self.dtype}
        method = load_method("patch_netvlad", checkpoint, **settings)
        assert isinstance(method, PatchNetVLADMethod) and isinstance(method, TwoStageMethod)
        return method

    def matches(self) -> np.ndarray:  # (4, 3)
        query, *candidates = self.local
        return np.array([[len(self.method.matches(query, one, size)) for size in SIZES] for one in candidates])

    def scores(self, method: PatchNetVLADMethod, half: bool = False) -> np.ndarray:  # (4, 3)
        query, *candidates = self.half if half else self.local
        return np.stack([method.compare(query, one) for one in candidates])


@pytest.fixture(
    scope="module",
    params=[
        ("240x320", "float32"),
        ("240x320", "float64"),
        ("480x640", "float32"),
        pytest.param(("480x640", "float64"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def case(request: pytest.FixtureRequest, checkpoint: Path) -> Case:
    return Case(checkpoint, *request.param)


def test_global_descriptors_before_and_after_whitening(case: Case) -> None:
    theirs = case.golden["global_descriptors"]
    ours = case.method.network.whitened(case.before_whitening).detach()
    assert lengths(ours, theirs) < TOLERANCE[case.dtype]
    assert lengths(described(case.method, case.images[:1]), theirs[:1]) < TOLERANCE[case.dtype]
    before = case.golden["global_before_pca_every4"]
    assert lengths(case.before_whitening[:, ::4], before) < TOLERANCE[case.dtype]
    assert lengths(ours.roll(1, 0), theirs) > 0.1


@pytest.mark.parametrize("size", SIZES)
def test_patches(case: Case, size: int) -> None:
    ours = [one[f"patches_{size}"] for one in case.local]  # (P, D) each
    assert (5, *ours[0].T.shape) == tuple(case.golden[f"patch_{size}_shape"])
    rows, columns = case.local[0][f"grid_{size}"].tolist()
    assert rows * columns == len(ours[0])
    for row, step, name in ((0, 5, "query_every5"), (3, 9, "cand3_every9")):
        theirs = case.golden[f"patch_{size}_local_{name}"].T  # (P, D)
        assert lengths(torch.from_numpy(ours[row][::step]), theirs) < TOLERANCE[case.dtype]
        assert lengths(torch.from_numpy(ours[row][::step]).roll(1, 0), theirs) > 0.1


def test_where_patches_are(case: Case) -> None:
    height, width = (side // 16 for side in case.size)
    for size in (2, 8):
        grid = patch_grid(size, height, width)
        assert np.array_equal(patch_centres_px(size, *grid)[:40].T, case.golden[f"keypoints_xy_patch{size}"])
    assert np.array_equal(patch_positions(*patch_grid(8, height, width))[:40].T, case.golden["indices_xy_patch8"])


def test_as_many_patches_choose_each_other(case: Case) -> None:
    assert np.array_equal(case.matches(), case.golden["mutual_matches"])


def test_scores_by_ransac_and_the_order_they_give(case: Case) -> None:
    ours, theirs = case.scores(case.method), _for_this_opencv(case)
    patches = np.array([len(case.local[0][f"patches_{size}"]) for size in SIZES])
    allowed = np.ceil(INLIERS * case.golden["mutual_matches"]) + 1e-6
    assert (np.abs(ours + theirs["RANSAC_scores_per_scale"]) * patches <= allowed).all()
    fused = case.method.fuse(ours)
    assert np.argsort(-fused, kind="stable").tolist() == theirs["RANSAC_order"].tolist()
    assert np.abs(case.method.fuse(-theirs["RANSAC_scores_per_scale"]) + theirs["RANSAC_fused"]).max() < 1e-9


def test_rapid_scores_and_the_order_they_give(case: Case) -> None:
    ours = case.scores(case.rapid)
    assert np.allclose(ours, -case.golden["spatialApproximator_scores_per_scale"], rtol=1e-9)
    fused = case.rapid.fuse(ours)
    assert np.allclose(fused, -case.golden["spatialApproximator_fused"], rtol=1e-9, atol=1e-9)
    assert np.argsort(-fused, kind="stable").tolist() == case.golden["spatialApproximator_order"].tolist()


def test_patches_kept_in_half_precision_give_the_same_order_and_nearly_the_same_scores(case: Case) -> None:
    for method in (case.method, case.rapid):
        whole, half = case.scores(method), case.scores(method, half=True)
        assert np.abs(half - whole).max() < 0.05 * whole.max()
        orders = [np.argsort(-method.fuse(scores), kind="stable").tolist() for scores in (whole, half)]
        assert orders[0] == orders[1]


def _for_this_opencv(case: Case) -> dict[str, np.ndarray]:
    """The authors' scores under the OpenCV that is nearer to the one installed."""
    newer = int(opencv().__version__.split(".")[0]) >= 5
    height, width = case.size
    found = case.golden if newer else arrays(f"patch_netvlad_{height}x{width}_cv2_4.10")
    assert np.array_equal(found["mutual_matches"], case.golden["mutual_matches"])
    return found


def test_the_two_opencvs_of_the_golden_files_give_one_order() -> None:
    for size in ("240x320", "480x640"):
        newer, older = arrays(f"patch_netvlad_{size}"), arrays(f"patch_netvlad_{size}_cv2_4.10")
        patches = [math.prod(patch_grid(p, *(int(side) // 16 for side in size.split("x")))) for p in SIZES]
        apart = np.abs(newer["RANSAC_scores_per_scale"] - older["RANSAC_scores_per_scale"]) * patches
        assert apart.max() < 10.5  # inliers, of up to 882 matches
        assert newer["RANSAC_order"].tolist() == older["RANSAC_order"].tolist()
