"""Our TransVPR against outputs of the authors' implementation: descriptors, masks, local features and re-ranking."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cricavpr.methods import load_method
from cricavpr.methods.base import LocalFeatures, TwoStageMethod
from cricavpr.methods.transvpr import TransVPRMethod
from cricavpr.models.transvpr import from_authors_names
from cricavpr.models.weights import load_strictly

from .rebuilt import arrays, described, lengths, normalised, state
from .rerank_images import rerank_set

SIZES = {"240x320": {"masks": 1, "local": 12, "all": 60}, "480x640": {"masks": 4, "local": 60, "all": 200}}  # strides
DESCRIPTOR = {"float32": 1e-4, "float64": 1e-8}  # length of the difference
TOKEN = {"float32": 5e-5, "float64": 1e-8}
MASK = {"float32": 1e-6, "float64": 1e-12}  # softmaxed: the largest value is 0.016
INLIERS = 0.08  # of the matches: what OpenCV's versions differ by


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As published: a flat state dict, batch norm's counters among it."""
    theirs = {key: value.float() for key, value in state("transvpr_240x320").items()}
    counters = {
        k.replace("running_mean", "num_batches_tracked"): torch.tensor(7) for k in theirs if "running_mean" in k
    }
    path = tmp_path_factory.mktemp("authors") / "TransVPR_MSLS.pth"
    torch.save({**theirs, **counters}, path)
    return path


class Case:
    """One size in one precision: our method, the authors' outputs, and what ours makes of their pictures."""

    def __init__(self, checkpoint: Path, size: str, dtype: str) -> None:
        height, width = map(int, size.split("x"))
        self.size, self.dtype, self.golden = size, dtype, arrays(f"transvpr_{size}")
        pixels = rerank_set(height, width)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == str(self.golden["images_sha256"])
        method = load_method("transvpr", checkpoint, image_size=(height, width), dtype=dtype)
        assert isinstance(method, TransVPRMethod) and isinstance(method, TwoStageMethod)
        if dtype == "float64":  # the file is float32: give the golden weights in full
            load_strictly(method.network, from_authors_names(state("transvpr_240x320")), "golden")
        images = normalised(pixels)
        self.method = method
        self.descriptors = described(method, images)
        outputs: list[Tensor] = []
        hook = method.network.transformer.register_forward_hook(lambda *passed: outputs.append(passed[-1]))
        self.local: list[LocalFeatures] = method.local_features(images.numpy())
        hook.remove()
        self.outputs = outputs[0]  # (5, depth, 1 + n, C)


def sizes() -> list[object]:
    """Both sizes in both precisions; torch takes its time over large convolutions in float64."""
    slow = {("480x640", "float64"): [pytest.mark.slow]}
    both = [(size, dtype) for size in SIZES for dtype in DESCRIPTOR]
    return [pytest.param(case, marks=slow.get(case, []), id="-".join(case)) for case in both]


@pytest.fixture(scope="module", params=sizes())
def case(request: pytest.FixtureRequest, checkpoint: Path) -> Case:
    return Case(checkpoint, *request.param)


def test_descriptors_are_the_authors(case: Case) -> None:
    theirs = case.golden["global_descriptors"]
    assert lengths(case.descriptors, theirs) < DESCRIPTOR[case.dtype]
    wrong = (case.descriptors.roll(1, 0).double() - torch.from_numpy(theirs)).norm(dim=1)
    assert wrong.min() > 0.05, "every wrong image must fail, and four of the five show one scene"


def test_every_level_and_every_mask_is_the_authors(case: Case) -> None:
    with torch.inference_mode():
        masks = case.method.network.pool.masks(case.outputs).numpy()
    stride = SIZES[case.size]
    levels = case.outputs[:2, :, :: stride["all"]].numpy()
    assert np.abs(levels - case.golden["all_levels_sample"]).max() < TOKEN[case.dtype]
    assert np.abs(masks[:, :, :: stride["masks"]] - case.golden["attention_masks"]).max() < MASK[case.dtype]


def test_local_features_are_the_authors(case: Case) -> None:
    patches = np.stack([local["patches"] for local in case.local])
    sample = patches[:, :: SIZES[case.size]["local"]]
    assert np.abs(sample - case.golden["local_level3_sample"]).max() < TOKEN[case.dtype]
    assert all(np.array_equal(local["centres"], case.golden["keypoints"]) for local in case.local)


def test_the_combined_mask_is_the_authors(case: Case) -> None:
    masks = np.stack([local["mask"] for local in case.local])
    assert np.abs(masks - case.golden["combined_mask"]).max() < TOKEN[case.dtype]
    assert (masks <= 0.02).sum(axis=1).tolist() == case.golden["masked_out_at_0_02"].tolist()


def test_as_many_patches_choose_each_other(case: Case) -> None:
    query, *candidates = case.local
    ours = [len(case.method.matches(query, candidate)) for candidate in candidates]
    assert ours == case.golden["matches_before_ransac_thr_0_02"].tolist()
    other = arrays(f"transvpr_{case.size}_cv2_4.10")
    assert ours == other["matches_before_ransac_thr_0_02"].tolist()


@pytest.mark.parametrize("version", ["", "_cv2_4.10"])
@pytest.mark.parametrize("threshold", [0.02, 0.3])
def test_scores_are_the_authors_within_what_versions_of_opencv_differ_by(
    case: Case, version: str, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    golden = arrays(f"transvpr_{case.size}{version}")
    theirs = golden[f"rerank_scores_thr_{str(threshold).replace('.', '_')}"]
    monkeypatch.setattr(case.method, "mask_threshold", threshold)
    query, *candidates = case.local
    ours = case.method.fuse(np.stack([case.method.compare(query, candidate) for candidate in candidates]))
    allowed = [1 + INLIERS * len(case.method.matches(query, candidate)) for candidate in candidates]
    assert (np.abs(ours - theirs) <= allowed).all()
    assert not (np.abs(np.roll(ours, 1) - theirs) <= allowed).all(), "the wrong candidates must fail"
    if threshold == 0.02:
        assert np.argsort(-ours).tolist() == golden["rerank_order"].tolist()
