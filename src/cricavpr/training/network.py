"""The network of a recipe, and `Trainable`, its wrapper for the training loop.

Letters: B images, R regions, C channels, D dimension, N local features, K clusters, feature maps of h x w cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.datasets.base import Problem
from cricavpr.datasets.places import PlaceDataset
from cricavpr.methods import families
from cricavpr.methods.base import Method
from cricavpr.methods.cricavpr import CricaVPRMethod, Settings
from cricavpr.models import cosplace, netvlad
from cricavpr.models.adapters import Adapter
from cricavpr.models.cosplace import CosPlace
from cricavpr.models.cricavpr import CricaVPR, from_authors_names
from cricavpr.models.netvlad import NANNE, VLADNet
from cricavpr.models.registry import find_weights
from cricavpr.models.weights import load_strictly, read_weights
from cricavpr.training.recipe import CosPlaceNetwork, NetVLADNetwork, Network, Recipe
from cricavpr.training.sampling import normalised, sample_place

AUTHORS_CONVOLUTION = 1e-5  # initial weights and biases of the adapters' convolutions in the authors' script

Baseline = CosPlace | VLADNet


@dataclass(frozen=True, eq=False)
class Trainable:
    """A network for the training loop. It computes region features of images, then descriptors of groups of images.

    Attributes:
        model: the module that is trained, and whose weights are saved and exported.
        trunk: the most expensive part of `model`, for torch.compile.
        dim: length of a descriptor.
        header: settings that are stored in a file of the weights.
        regions: function that computes the features of the regions of each image alone, (B, 3, H, W) to (B, R, C).
        correlate: function that turns region features (B, R, C) and group sizes, which add up to B, into descriptors
            of unit length, (B, D).
        method: function that returns the network as a method. The network is then in evaluation mode until
            `model.train()` is called.
        problems: photos that could not be used to initialise the network.
    """

    model: nn.Module
    trunk: nn.Module
    dim: int
    header: dict[str, Any]
    regions: Callable[[Tensor], Tensor]
    correlate: Callable[[Tensor, Sequence[int]], Tensor]
    method: Callable[[], Method]
    problems: tuple[Problem, ...] = ()


def trainable_cricavpr(model: CricaVPR, settings: Settings) -> Trainable:
    """Wrap a CricaVPR network for the training loop."""
    return Trainable(
        model,
        model.backbone,
        model.config.dim,
        settings.to_dict(),
        regions=model.regions,
        correlate=model.correlate,
        method=lambda: CricaVPRMethod("cricavpr", model, settings, "in training", device_of(model)),
    )


def trainable_baseline(model: Baseline, recipe: Recipe, problems: tuple[Problem, ...] = ()) -> Trainable:
    """Wrap a network that describes each image alone. An image then has one region feature, its descriptor."""
    name, settings = recipe.network.kind, families.Settings(recipe.image_size, recipe.resize)
    return Trainable(
        model,
        model.backbone,
        model.dim,
        {"method": name, "image_size": list(recipe.image_size), "resize": recipe.resize},
        regions=lambda images: model(images)[:, None],
        correlate=lambda regions, groups: F.normalize(regions.flatten(1), dim=1),
        method=lambda: families.TorchMethod(name, model, settings, "in training", device_of(model)),
        problems=problems,
    )


def device_of(model: nn.Module) -> str:
    """Return the device of a network's parameters."""
    return str(next(model.parameters()).device)


def make_network(recipe: Recipe, device: torch.device, places: PlaceDataset | None = None) -> Trainable:
    """Return the network of a recipe as it is before the first step, in training mode.

    Args:
        recipe: the recipe.
        device: device of the network.
        places: training data. NetVLAD's centres are initialised from its features; None leaves the centres random.
    """
    network = recipe.network
    if isinstance(network, Network):
        model = build_network(network, recipe.seed).to(device)
        return trainable_cricavpr(model, Settings(network.config(), recipe.image_size, recipe.resize))
    baseline = build_baseline(network, recipe.seed).to(device)
    problems: tuple[Problem, ...] = ()
    if isinstance(baseline, VLADNet) and not network.weights and places is not None:
        problems = start_from_clusters(baseline, recipe, places)
    return trainable_baseline(baseline.train(), recipe, problems)


def tunable_parameters(recipe: Recipe) -> int:
    """Count the parameters of the network that are trained, without those of the loss. No weights are read."""
    if not recipe.network.learns:
        return 0
    network = recipe.network
    with torch.device("meta"):
        model = CricaVPR(network.config()) if isinstance(network, Network) else _bare_baseline(network)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


# ---- CricaVPR


def build_network(network: Network, seed: int) -> CricaVPR:
    """Build a CricaVPR network in training mode, with random weights drawn from `seed` or weights from files."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CricaVPR(network.config())
    if network.init == "authors":
        start_adapters_as_authors(model)
    if network.backbone_weights:
        _load(model.backbone, network.backbone_weights, partial(_backbone_of, model))
    if network.weights:
        _load(model, network.weights, from_authors_names)
    return model.train()


def _load(module: nn.Module, weights: str, renamed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]) -> None:
    file = read_weights(find_weights(weights))
    load_strictly(module, renamed(file.tensors), str(file.path))


def start_adapters_as_authors(model: CricaVPR) -> None:
    """Initialise adapters as in the authors' script.

    Weights and biases are set to 1e-5 in the convolutions, and to 0 in `up`, the last linear layer. The zeros make sure
    that an untrained adapter changes nothing.
    """
    for adapter in (module for module in model.modules() if isinstance(module, Adapter)):
        for parameter in adapter.up.parameters():
            nn.init.zeros_(parameter)
        for convolution in (module for module in adapter.modules() if isinstance(module, nn.Conv2d)):
            for parameter in convolution.parameters():
                nn.init.constant_(parameter, AUTHORS_CONVOLUTION)


def _backbone_of(model: CricaVPR, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict for the model's backbone, with `tensors` from a file and the model's own adapters.

    The file may hold the weights of DINOv2 or of a whole CricaVPR.
    """
    given = from_authors_names(tensors)
    if any(name.startswith("backbone.") for name in given):
        given = {n.removeprefix("backbone."): t for n, t in given.items() if n.startswith("backbone.")}
    plain = {name: tensor for name, tensor in given.items() if ".adapter." not in name}
    return plain | {name: tensor for name, tensor in model.backbone.state_dict().items() if ".adapter." in name}


# ---- NetVLAD and CosPlace, trained for comparison with CricaVPR (Supplementary Table 8)


def build_baseline(network: NetVLADNetwork | CosPlaceNetwork, seed: int) -> Baseline:
    """Build a NetVLAD or CosPlace network, with random weights drawn from `seed` or weights from files."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _bare_baseline(network)
    if network.trunk_weights:
        _load(model.backbone, network.trunk_weights, partial(from_torchvision, trunk=model.backbone))
    if network.weights:
        theirs = partial(netvlad.from_authors_names, names=NANNE)
        _load(model, network.weights, theirs if isinstance(model, VLADNet) else cosplace.from_authors_names)
    return model


def _bare_baseline(network: NetVLADNetwork | CosPlaceNetwork) -> Baseline:
    """Build a NetVLAD or CosPlace network with random weights. Only parameters to be trained require a gradient."""
    model: Baseline
    if isinstance(network, NetVLADNetwork):
        model = VLADNet(network.clusters, trunk=network.trunk)
    else:
        model = CosPlace(network.trunk, network.dim)
    learning = cosplace.trainable(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = network.tuning == "full" or name in learning
    return model


def from_torchvision(tensors: Mapping[str, Tensor], trunk: nn.Sequential) -> dict[str, Tensor]:
    """Rename the tensors of torchvision's VGG-16 or ResNet to the parameter names of `trunk`.

    Tensors of layers that `trunk` does not have are left out.
    """
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    found = {}
    for name, tensor in tensors.items():
        head, _, rest = name.removeprefix("features.").partition(".")
        number = numbers.get(head, int(head) if head.isdecimal() else None)
        if number is not None and number < len(trunk) and not name.startswith("classifier."):
            found[f"{number}.{rest}"] = tensor
    return found


# ---- initialisation of NetVLAD (Arandjelovic et al., 2016, and the code of Nanne/pytorch-NetVlad)

ROUNDS = 100  # largest number of rounds of k-means, as in Nanne/pytorch-NetVlad
_START = 3  # part of the seed, so that these random numbers differ from those of the steps
_AT_ONCE = 16  # pictures that go through the trunk together


@torch.no_grad()
def start_from_clusters(model: VLADNet, recipe: Recipe, places: PlaceDataset) -> tuple[Problem, ...]:
    """Set the centres of NetVLAD by k-means over local features; return the photos that could not be used.

    The features come from one picture, without augmentation, of each of `init_images` random places. From each picture
    `init_features` random features of unit length are taken. The random choices depend only on the recipe's seed, so
    they are the same in every process and after every restart.
    """
    network = recipe.network
    assert isinstance(network, NetVLADNetwork)
    random = np.random.default_rng([recipe.seed, _START])
    chosen = random.permutation(len(places))[: network.init_images].tolist()
    device = next(model.parameters()).device
    model.eval()
    problems: list[Problem] = []
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
    features = torch.cat(found)  # (N, C)
    model.pool.initialise(cluster(features, network.clusters, random), features)
    return tuple(problems)


def cluster(features: Tensor, count: int, random: np.random.Generator) -> Tensor:  # (N, C) -> (K, C)
    """Return the centres that k-means finds, starting from random features.

    The centre of an empty cluster moves to the feature that is farthest from its nearest centre. If there are fewer
    features than centres, several centres start from the same feature.
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
