"""Losses for training, computed from the descriptors of the images of a step.

Each loss takes descriptors (B, D) of unit length and the place id of each image (B,). It returns the loss, and the
share of the images that take part in the loss. Letters: B images, D dimension, T triplets, M pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.errors import InputError
from cricavpr.extras import extra
from cricavpr.schema import nearest


class MultiSimilarity(nn.Module):
    """Multi-similarity loss with its miner, computed by pytorch-metric-learning; the defaults are those of CricaVPR.

    Source: Wang et al., "Multi-Similarity Loss with General Pair Weighting" (CVPR 2019). The loss is the mean over all
    images. An image without mined positive pairs has no positive term. An image without mined negative pairs has no
    negative term.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 50.0, base: float = 0.0, epsilon: float = 0.1) -> None:
        super().__init__()
        with extra("train", "training"):
            from pytorch_metric_learning import distances, losses, miners
        cosine = distances.DotProductSimilarity()
        self.loss = losses.MultiSimilarityLoss(alpha, beta, base, distance=cosine)
        self.miner = miners.MultiSimilarityMiner(epsilon, distance=distances.CosineSimilarity())

    def forward(self, descriptors: Tensor, places: Tensor) -> tuple[Tensor, float]:  # (B, D), (B,)
        pairs = self.miner(descriptors, places)
        mined = len(set(pairs[0].tolist()) | set(pairs[2].tolist())) / len(places)
        return self.loss(descriptors, places, pairs), mined


class Triplet(nn.Module):
    """Triplet loss of pytorch-NetVlad: max(0, d(q, p) - d(q, n) + margin), where the distances d are not squared.

    Source: Arandjelovic et al., "NetVLAD" (CVPR 2016), who use squared distances and a margin of 0.1; here the default
    margin is the square root of 0.1. Unlike theirs, triplets come from one step, not from a cache of the whole dataset.
    Each image is a query. Its positive is the nearest image of its place. Its negatives are the nearest images of other
    places that violate the margin, at most `negatives` of them.
    """

    def __init__(self, margin: float = math.sqrt(0.1), negatives: int = 10) -> None:
        super().__init__()
        if margin < 0 or negatives < 1:
            raise InputError(
                f"a triplet loss needs a margin of at least 0 and at least 1 negative, got margin {margin} and "
                f"{negatives} negatives."
            )
        self.margin, self.negatives = margin, negatives

    def forward(self, descriptors: Tensor, places: Tensor) -> tuple[Tensor, float]:  # (B, D), (B,)
        query, positive, negative = self.mine(descriptors.detach(), places)
        if not len(query):
            return descriptors.sum() * 0, 0.0
        loss = triplet_sum(descriptors[query], descriptors[positive], descriptors[negative], self.margin)
        return loss / len(query), _share([query, positive, negative], len(places))

    def mine(self, descriptors: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # (B, D), (B,) -> 3 x (T,)
        """Return the indices of query, positive and negative of each triplet.

        An image is not used as a query if the step has no other image of its place.
        """
        far = torch.finfo(descriptors.dtype).max
        distance = torch.cdist(descriptors, descriptors)  # (B, B)
        same = places[:, None] == places[None, :]
        alone = same.sum(dim=1) == 1
        not_itself = same & ~torch.eye(len(places), dtype=torch.bool, device=places.device)
        to_positive, positive = distance.masked_fill(~not_itself, far).min(dim=1)
        violating = distance < to_positive[:, None] + self.margin
        rejected = same | ~violating | alone[:, None]
        count = min(self.negatives, len(places))
        to_negative, negative = distance.masked_fill(rejected, far).topk(count, largest=False)
        query, rank = torch.nonzero(to_negative < far, as_tuple=True)
        return query, positive[query], negative[query, rank]


def triplet_sum(queries: Tensor, positives: Tensor, negatives: Tensor, margin: float) -> Tensor:  # 3 x (T, D) -> ()
    """Return the sum of max(0, d(q, p) - d(q, n) + margin) over triplets (q, p, n), with Euclidean distances d."""
    return F.triplet_margin_loss(queries, positives, negatives, margin, reduction="sum")


class CosFace(nn.Module):
    """Large-margin softmax over the places of a dataset: each place is a class with its own weight vector.

    Source: Wang et al., "CosFace" (CVPR 2018). The defaults are CosPlace's, scale 30 and margin 0.4; EigenPlaces has
    the scale 100. The weights (classes, D) belong to the loss and must be trained with the network.
    """

    place_ids: Tensor

    def __init__(self, dim: int, place_ids: Sequence[int], scale: float = 30.0, margin: float = 0.4) -> None:
        super().__init__()
        if not place_ids or scale <= 0:
            raise InputError(
                f"CosFace needs places and a scale above 0, got {len(place_ids)} places and scale {scale}."
            )
        self.scale, self.margin = scale, margin
        self.register_buffer("place_ids", torch.tensor(sorted(set(place_ids))))
        self.weight = nn.Parameter(torch.empty(len(self.place_ids), dim))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, descriptors: Tensor, places: Tensor) -> tuple[Tensor, float]:  # (B, D), (B,)
        classes = torch.searchsorted(self.place_ids, places).clamp(max=len(self.place_ids) - 1)
        unknown = self.place_ids[classes] != places
        if unknown.any():
            raise InputError(
                f"place {places[unknown][0].item()} is not one of the places with which CosFace was created."
            )
        return F.cross_entropy(self.logits(descriptors, classes), classes), 1.0

    def logits(self, descriptors: Tensor, classes: Tensor) -> Tensor:  # (B, D), (B,) -> (B, classes)
        """Return scale * cosine for each class; the margin is first subtracted from the cosine of the correct class."""
        lengths = descriptors.norm(dim=1)[:, None] * self.weight.norm(dim=1)[None, :]
        cosine = descriptors @ self.weight.T / lengths.clamp(min=1e-8)
        margins: Tensor = self.margin * F.one_hot(classes, len(self.weight)).to(cosine.dtype)
        logits: Tensor = self.scale * (cosine - margins)
        return logits


def _share(indices: Sequence[Tensor], count: int) -> float:
    """Return the fraction of a step's `count` images whose indices occur in `indices`."""
    occurs = torch.zeros(count, dtype=torch.bool, device=indices[0].device)
    occurs[torch.cat(list(indices))] = True
    return occurs.float().mean().item()


class GeneralizedContrastive(nn.Module):
    """Contrastive loss with graded similarity psi: psi d^2 / 2 + (1 - psi) max(0, tau - d)^2 / 2.

    d is the distance of two descriptors, and tau is the margin.

    Source: Leyva-Vallina et al., "Data-efficient large scale place recognition with graded similarity supervision"
    (CVPR 2023). Here psi is 1 for two images of the same place, else 0. Unlike the paper's loss, this loss takes all
    pairs of a step. The mean over positive pairs and the mean over negative pairs have the same weight, as if half of
    the pairs were positive.
    """

    def __init__(self, margin: float = 0.5) -> None:
        super().__init__()
        if margin <= 0:
            raise InputError(f"the margin of a contrastive loss must be above 0, got {margin}.")
        self.margin = margin

    def forward(self, descriptors: Tensor, places: Tensor) -> tuple[Tensor, float]:  # (B, D), (B,)
        first, second = torch.triu_indices(len(places), len(places), offset=1, device=places.device)
        same = places[first] == places[second]
        # Compute distances from dot products: the differences of 41,328 pairs of 10,752 values would take 1.8 GB.
        products = (descriptors @ descriptors.T)[first, second]
        squares = descriptors.square().sum(dim=1)
        distance = (squares[first] + squares[second] - 2 * products).clamp(min=1e-12).sqrt()
        terms = contrastive_terms(distance, same.to(distance.dtype), self.margin)
        sides = [terms[mask].mean() for mask in (same, ~same) if mask.any()]
        pulled = same | (distance.detach() < self.margin)
        loss = torch.stack(sides).mean() if sides else descriptors.sum() * 0
        return loss, _share([first[pulled], second[pulled]], len(places))


def contrastive_terms(distance: Tensor, similarity: Tensor, margin: float) -> Tensor:  # (M,), (M,) -> (M,)
    """Return the loss of each pair.

    Pairs with similarity 1 are pulled together. Pairs with similarity 0 are pushed apart until their distance is
    `margin`.
    """
    pull, push = distance.square(), (margin - distance).clamp(min=0).square()
    return (similarity * pull + (1 - similarity) * push) / 2


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "multi_similarity": MultiSimilarity,
    "triplet": Triplet,
    "cosface": CosFace,
    "generalized_contrastive": GeneralizedContrastive,
}


def make_loss(name: str, dim: int, place_ids: Sequence[int], **settings: Any) -> nn.Module:
    """Return the loss called `name`.

    Args:
        name: a key of LOSSES.
        dim: length of a descriptor; only CosFace needs it.
        place_ids: ids of all places of the training data; only CosFace needs them.
        settings: settings of the loss that replace its defaults.

    Raises:
        InputError: the name is unknown, or the loss has no setting of a given name.

    Example:
        >>> make_loss("triplet", dim=0, place_ids=[], margin=0.2).margin
        0.2
    """
    if name not in LOSSES:
        raise InputError(f"unknown loss {name!r}. {nearest(name, LOSSES)}")
    if name == "cosface":
        settings = {"dim": dim, "place_ids": place_ids, **settings}
    try:
        return LOSSES[name](**settings)
    except TypeError as error:
        raise InputError(f"the loss {name} does not take {settings}: {error}.") from None
