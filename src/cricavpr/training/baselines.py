"""NetVLAD and CosPlace as they are before the first step, to be trained for comparison (Supplementary Table 8).

NetVLAD starts as in Arandjelovic et al. (2016) and in Nanne's code: its centres are those of k-means over local
features of training pictures, each of unit length, and its assignment is as sharp as those features call for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.datasets.places import PlaceDataset
from cricavpr.models.cosplace import CosPlace, trainable
from cricavpr.models.cosplace import from_authors_names as cosplace_names
from cricavpr.models.netvlad import NANNE, VLADNet
from cricavpr.models.netvlad import from_authors_names as netvlad_names
from cricavpr.models.weights import find_weights, load_strictly, read_weights
from cricavpr.training.recipe import CosPlaceNetwork, NetVLADNetwork, Recipe
from cricavpr.training.samples import draw_place, normalised

ROUNDS = 100  # of k-means, as in Nanne's code
_START = 3  # a stream of random numbers apart from those of the steps
_AT_ONCE = 16  # pictures through the trunk

Baseline = CosPlace | VLADNet


def bare_baseline(network: NetVLADNetwork | CosPlaceNetwork) -> Baseline:
    """The network with weights by chance; what does not learn gets no gradient."""
    model: Baseline
    if isinstance(network, NetVLADNetwork):
        model = VLADNet(network.clusters, trunk=network.trunk)
    else:
        model = CosPlace(network.trunk, network.dim)
    learning = trainable(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = network.tuning == "full" or name in learning
    return model


def build_baseline(network: NetVLADNetwork | CosPlaceNetwork, seed: int) -> Baseline:
    """The network with weights drawn from `seed` or read from files.

    Raises:
        WeightsError: the weights are missing, unsafe or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = bare_baseline(network)
    if network.trunk_weights:
        file = read_weights(find_weights(network.trunk_weights))
        load_strictly(model.backbone, from_torchvision(file.tensors, model.backbone), str(file.path))
    if network.weights:
        file = read_weights(find_weights(network.weights))
        netvlad = isinstance(network, NetVLADNetwork)
        named = netvlad_names(file.tensors, NANNE) if netvlad else cosplace_names(file.tensors)
        load_strictly(model, named, str(file.path))
    return model


def from_torchvision(tensors: Mapping[str, Tensor], trunk: nn.Sequential) -> dict[str, Tensor]:
    """The entries of torchvision's VGG-16 or ResNet under the numbers of a trunk, without those behind its end."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    found = {}
    for name, tensor in tensors.items():
        head, _, rest = name.removeprefix("features.").partition(".")
        number = numbers.get(head, int(head) if head.isdecimal() else None)
        if number is not None and number < len(trunk) and not name.startswith("classifier."):
            found[f"{number}.{rest}"] = tensor
    return found


# ---- NetVLAD's start


def start_from_clusters(model: VLADNet, recipe: Recipe, places: PlaceDataset) -> float:
    """Put the centres of NetVLAD where training pictures have their features; the sharpness of the assignment.

    The draws follow from the recipe's seed: in every process, and after every restart, they are the same.
    """
    network = recipe.network
    assert isinstance(network, NetVLADNetwork)
    random = np.random.default_rng([recipe.seed, _START])
    features = _features(model, recipe, places, random)  # (N, C)
    centres = cluster(features, network.clusters, random)
    return model.pool.initialise(centres, features)


@torch.no_grad()
def _features(model: VLADNet, recipe: Recipe, places: PlaceDataset, random: np.random.Generator) -> Tensor:
    """Local features of unit length, (N, C): some of each of some pictures, one picture of a place, not augmented."""
    network = recipe.network
    assert isinstance(network, NetVLADNetwork)
    chosen = random.permutation(len(places))[: network.init_images].tolist()
    device = next(model.parameters()).device
    model.eval()
    found = []
    for start in range(0, len(chosen), _AT_ONCE):
        drawn = [
            draw_place(places, place, 1, recipe.image_size, seed=recipe.seed, epoch=0).images
            for place in chosen[start : start + _AT_ONCE]
        ]
        images = normalised(torch.from_numpy(np.concatenate(drawn)).to(device))  # (B, 3, H, W)
        for maps in F.normalize(model.backbone(images), dim=1).flatten(2):  # (C, h w)
            rows = random.permutation(maps.shape[1])[: network.init_features]
            found.append(maps[:, torch.from_numpy(rows).to(device)].T)
    return torch.cat(found)


def cluster(features: Tensor, count: int, random: np.random.Generator) -> Tensor:  # (N, C) -> (K, C)
    """The centres of k-means from `count` features drawn by chance; a centre that nobody is near to takes the feature
    that is farthest from its own. Features fewer than centres are drawn more than once."""
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
