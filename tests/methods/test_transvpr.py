"""TransVPR's second look: which patches choose each other, and what the score counts."""

from pathlib import Path

import numpy as np
import pytest

from cricavpr.methods import load_method
from cricavpr.methods.transvpr import TransVPRMethod, patch_centres

from .small_files import small_file


@pytest.fixture
def method(tmp_path: Path) -> TransVPRMethod:
    loaded = load_method("transvpr", small_file("transvpr", tmp_path), image_size=(64, 96))
    assert isinstance(loaded, TransVPRMethod)
    return loaded


def local(patches: list[list[float]], mask: list[float]) -> dict[str, np.ndarray]:
    return {"patches": np.array(patches), "mask": np.array(mask), "centres": patch_centres(16, 16 * len(mask))}


def test_centres_go_row_by_row_as_x_and_y() -> None:
    assert patch_centres(32, 48).tolist() == [[8, 8], [24, 8], [40, 8], [8, 24], [24, 24], [40, 24]]


def test_patches_match_that_choose_each_other(method: TransVPRMethod) -> None:
    query = local([[1, 0], [0, 1], [1, 1]], [1, 1, 1])
    candidate = local([[0, 3], [2, 0]], [1, 1])
    assert method.matches(query, candidate).tolist() == [[0, 1], [1, 0]]


def test_a_masked_patch_stays_with_a_similarity_of_zero(method: TransVPRMethod) -> None:
    query = local([[1, 0], [0, 1]], [1, 1])
    candidate = local([[2, 0], [0, 3]], [1, 0.02])  # the second is masked
    assert method.matches(query, candidate).tolist() == [[0, 0]]
    query = local([[1, 0], [1, 1]], [1, 1])
    candidate = local([[-2, 0], [0, 3]], [1, 0.02])  # the first is worse than nothing: the masked one is chosen
    assert method.matches(query, candidate).tolist() == [[0, 1]]


def test_the_same_picture_scores_all_its_patches_and_another_fewer(method: TransVPRMethod) -> None:
    pytest.importorskip("cv2")
    pixels = np.random.default_rng(4).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    here, there = method.local_features(np.stack([method.preprocess(picture) for picture in pixels]))
    here = {**here, "patches": here["patches"] / np.linalg.norm(here["patches"], axis=1, keepdims=True)}
    method.mask_threshold = -1.0  # nothing is masked
    assert here["patches"].shape == (24, 64) and here["mask"].shape == (24,)
    assert (here["mask"].min(), here["mask"].max()) == (0.0, 1.0)
    raw = np.stack([method.compare(here, here), method.compare(here, there)])
    assert raw.shape == (2, 1) and raw[0, 0] == 24 and raw[1, 0] < 24
    assert method.fuse(raw).tolist() == raw[:, 0].tolist()


def test_too_few_matches_score_nothing(method: TransVPRMethod) -> None:
    few = local([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [1, 1, 1])
    assert method.compare(few, few).tolist() == [0]


def test_half_precision_is_enough_to_keep_but_sums_are_wider(method: TransVPRMethod) -> None:
    big = local([[200.0, 200.0], [200.0, -200.0]], [1, 1])  # 80,000 is more than float16 holds
    halved = {name: values.astype(np.float16) for name, values in big.items()}
    assert method.matches(halved, halved).tolist() == [[0, 0], [1, 1]]
