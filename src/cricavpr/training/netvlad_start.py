"""NetVLAD before its first step: its centres are those of k-means over local features of training pictures.

As in Arandjelovic et al. (2016) and in Nanne's code: features have unit length, and the assignment is as sharp as they
call for. Letters: B pictures, N features, K clusters, C channels, h x w positions.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cricavpr.datasets.base import Problem
from cricavpr.datasets.places import PlaceDataset
from cricavpr.models.netvlad import VLADNet
from cricavpr.training.recipe import NetVLADNetwork, Recipe
from cricavpr.training.sampling import normalised, sample_place

ROUNDS = 100  # of k-means, as in Nanne's code
_START = 3  # a stream of random numbers apart from those of the steps
_AT_ONCE = 16  # pictures through the trunk


def start_from_clusters(model: VLADNet, recipe: Recipe, places: PlaceDataset) -> tuple[Problem, ...]:
    """Set the centres of NetVLAD by k-means; return the photos that could not be used.

    The draws follow from the recipe's seed, so they are the same in every process and after every restart.
    """
    network = recipe.network
    assert isinstance(network, NetVLADNetwork)
    random = np.random.default_rng([recipe.seed, _START])
    problems: list[Problem] = []
    features = _features(model, recipe, places, random, problems)  # (N, C)
    model.pool.initialise(cluster(features, network.clusters, random), features)
    return tuple(problems)


@torch.no_grad()
def _features(
    model: VLADNet, recipe: Recipe, places: PlaceDataset, random: np.random.Generator, problems: list[Problem]
) -> Tensor:  # (N, C)
    """Compute local features of unit length: random ones of one picture, not augmented, of each of some places."""
    network = recipe.network
    assert isinstance(network, NetVLADNetwork)
    chosen = random.permutation(len(places))[: network.init_images].tolist()
    device = next(model.parameters()).device
    model.eval()
    found = []
    for start in range(0, len(chosen), _AT_ONCE):
        samples = [
            sample_place(places, place, 1, recipe.image_size, seed=recipe.seed, epoch=0)
            for place in chosen[start : start + _AT_ONCE]
        ]
        problems += [problem for sample in samples for problem in sample.problems]
        pictures = torch.from_numpy(np.concatenate([sample.images for sample in samples]))
        images = normalised(pictures.to(device))  # (B, 3, H, W)
        for maps in F.normalize(model.backbone(images), dim=1).flatten(2):  # (C, h w)
            rows = random.permutation(maps.shape[1])[: network.init_features]
            found.append(maps[:, torch.from_numpy(rows).to(device)].T)
    return torch.cat(found)


def cluster(features: Tensor, count: int, random: np.random.Generator) -> Tensor:  # (N, C) -> (K, C)
    """Return the centres of k-means, started from random features.

    An empty cluster takes the feature that is farthest from its own centre. With fewer features than centres some
    features are drawn more than once.
    """
    first = random.permutation(max(count, len(features)))[:count] % len(features)
    centres = features[torch.from_numpy(first).to(features.device)].clone()
    nearest = torch.full((len(features),), -1, device=features.device)
    for _ in range(ROUNDS):
        distances, now = torch.cdist(features, centres).min(dim=1)
        if torch.equal(now, nearest):
            break
        nearest = now
        sums = torch.zeros_like(centres).index_add_(0, nearest, features)
        sizes = torch.bincount(nearest, minlength=count)  # (K,)
        centres = sums / sizes.clamp(min=1)[:, None]
        empty = torch.nonzero(sizes == 0).flatten()
        farthest = features[distances.argsort(descending=True)[: len(empty)]]
        centres[empty[: len(farthest)]] = farthest
    return centres
