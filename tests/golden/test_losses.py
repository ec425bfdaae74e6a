"""The multi-similarity loss against the authors' own call of the library."""

import numpy as np
import pytest
import torch

from cricavpr.training.losses import MultiSimilarity

from .rebuilt import arrays


@pytest.mark.parametrize("case", ["ms0", "ms1", "ms2", "ms3", "ms4"])
def test_the_loss_and_its_gradient_are_the_authors(case: str) -> None:
    golden = arrays("loss_multi_similarity")
    descriptors = torch.from_numpy(golden[f"{case}_descriptors"]).requires_grad_()
    loss, _ = MultiSimilarity()(descriptors, torch.from_numpy(golden["labels"]))
    assert loss.item() == pytest.approx(golden[f"{case}_loss"].item(), rel=1e-9)
    if f"{case}_gradient" in golden:
        loss.backward()
        assert descriptors.grad is not None
        assert np.abs(descriptors.grad.numpy() - golden[f"{case}_gradient"]).max() < 1e-9


def test_the_order_of_the_images_does_not_matter() -> None:
    golden = arrays("loss_multi_similarity")
    order = golden["ms0_permutation"]
    descriptors, labels = golden["ms0_descriptors"][order], golden["labels"][order]
    loss, _ = MultiSimilarity()(torch.from_numpy(descriptors), torch.from_numpy(labels))
    assert loss.item() == pytest.approx(golden["ms0_loss_permuted"].item(), rel=1e-9)


def test_the_share_of_mined_images_counts_images_once() -> None:
    golden = arrays("loss_multi_similarity")
    anchors = np.concatenate([golden["ms1_mined_positive_pairs"][0], golden["ms1_mined_negative_pairs"][0]])
    _, mined = MultiSimilarity()(torch.from_numpy(golden["ms1_descriptors"]), torch.from_numpy(golden["labels"]))
    assert mined == len(set(anchors.tolist())) / 64
