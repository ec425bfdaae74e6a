"""The losses against the code that published them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cricavpr.training.losses import (
    CosFace,
    GeneralizedContrastive,
    MultiSimilarity,
    Triplet,
    contrastive_terms,
    triplet_sum,
)

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


def tensors(name: str, *keys: str) -> list[torch.Tensor]:
    golden = arrays(name)
    return [torch.from_numpy(golden[key]).requires_grad_() for key in keys]


def furthest(ours: torch.Tensor | None, theirs: np.ndarray) -> float:
    assert ours is not None
    return float(np.abs(ours.detach().numpy() - theirs).max())


def test_the_triplet_loss_and_its_gradients_are_those_of_pytorch_netvlad() -> None:
    golden = arrays("loss_triplet_nanne")
    queries, positives, negatives = tensors("loss_triplet_nanne", "queries", "positives", "negatives")
    rows = torch.from_numpy(np.repeat(np.arange(3), golden["negative_counts"]))
    loss = triplet_sum(queries[rows], positives[rows], negatives, Triplet().margin) / len(rows)
    assert loss.item() == pytest.approx(golden["loss"].item(), rel=1e-9)
    loss.backward()
    assert furthest(queries.grad, golden["grad_queries"]) < 1e-9
    assert furthest(positives.grad, golden["grad_positives"]) < 1e-9
    assert furthest(negatives.grad, golden["grad_negatives"]) < 1e-9


def test_the_mined_triplets_are_those_that_violate_the_margin() -> None:
    golden = arrays("loss_triplet_nanne")
    for query, count, active in zip(
        range(3),
        golden["negative_counts"],
        np.split(golden["active"], np.cumsum(golden["negative_counts"])[:-1]),
        strict=True,
    ):
        start = int(golden["negative_counts"][:query].sum())
        rows = [golden["queries"][query], golden["positives"][query], *golden["negatives"][start : start + count]]
        places = torch.tensor([0, 0, *range(1, count + 1)])
        asked, positive, negative = Triplet(negatives=100).mine(torch.from_numpy(np.stack(rows)), places)
        ours = negative[asked == 0] - 2
        assert set(ours.tolist()) == set(np.flatnonzero(active).tolist())
        assert (positive[asked == 0] == 1).all()


@pytest.mark.parametrize("scale", [30, 100])
def test_cosface_and_its_gradients_are_those_of_cosplace(scale: int) -> None:
    golden = arrays("loss_cosface")
    (descriptors,) = tensors("loss_cosface", "descriptors")
    place_ids = [100 * (number + 3) for number in range(10)]  # places have ids, not numbers of classes
    criterion = CosFace(32, place_ids[::-1], scale=scale).double()
    with torch.no_grad():
        criterion.weight.copy_(torch.from_numpy(golden["weight"]))
    labels = torch.from_numpy(golden["labels"])
    assert furthest(criterion.logits(descriptors, labels), golden[f"s{scale}_logits"]) < 1e-9 * scale
    loss, _ = criterion(descriptors, 100 * (labels + 3))
    assert loss.item() == pytest.approx(golden[f"s{scale}_loss"].item(), rel=1e-9)
    loss.backward()
    assert furthest(descriptors.grad, golden[f"s{scale}_grad_descriptors"]) < 1e-9
    assert furthest(criterion.weight.grad, golden[f"s{scale}_grad_weight"]) < 1e-9


def generalized_contrastive(a: torch.Tensor, b: torch.Tensor, similarity: torch.Tensor, margin: float) -> torch.Tensor:
    """As the authors: the distance carries torch's 1e-6 against a root of 0, which they round to float32."""
    return contrastive_terms(F.pairwise_distance(a, b), similarity, margin)


def test_the_generalized_contrastive_loss_and_its_gradients_are_the_authors() -> None:
    golden = arrays("loss_generalized_contrastive")
    a, b, similarity = tensors("loss_generalized_contrastive", "a", "b", "similarity")
    terms = generalized_contrastive(a, b, similarity.detach(), 0.5)
    assert furthest(terms, golden["per_pair_float64_same_formula"]) < 1e-12
    assert furthest(terms, golden["per_pair"]) < 1e-6  # the authors round distances to float32
    assert terms.mean().item() == pytest.approx(golden["mean"].item(), abs=1e-6)
    terms.sum().backward()
    assert furthest(a.grad, golden["grad_a_of_sum"]) < 1e-6
    assert furthest(b.grad, golden["grad_b_of_sum"]) < 1e-6


def test_contrast_over_a_batch_is_contrast_over_its_pairs_half_of_each_kind() -> None:
    golden = arrays("loss_generalized_contrastive")
    descriptors = torch.from_numpy(np.concatenate([golden["a"][1:], golden["b"][1:]])).requires_grad_()
    places = torch.arange(23).repeat(2) // 2
    loss, _ = GeneralizedContrastive()(descriptors, places)
    first, second = torch.triu_indices(46, 46, offset=1)
    same = (places[first] == places[second]).double()
    terms = generalized_contrastive(descriptors[first], descriptors[second], same, 0.5)
    expected = (terms[same == 1].mean() + terms[same == 0].mean()) / 2
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)  # pairwise_distance adds 1e-6 to each difference
    ours = torch.autograd.grad(loss, descriptors)[0]
    theirs = torch.autograd.grad(expected, descriptors)[0]
    assert (ours - theirs).abs().max().item() < 1e-6
