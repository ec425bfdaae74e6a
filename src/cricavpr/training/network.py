"""The network that a recipe names, as it is before the first step, and all that the loop knows of it: `Trainable`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cricavpr.datasets.places import PlaceDataset
from cricavpr.methods.base import Method
from cricavpr.methods.cricavpr import CricaVPRMethod, Settings
from cricavpr.methods.families import Settings as SingleSettings
from cricavpr.methods.families import TorchMethod
from cricavpr.models.adapters import Adapter
from cricavpr.models.cosplace import CosPlace
from cricavpr.models.cricavpr import CricaVPR, from_authors_names
from cricavpr.models.netvlad import VLADNet
from cricavpr.models.weights import find_weights, load_strictly, read_weights
from cricavpr.training.baselines import bare_baseline, build_baseline, start_from_clusters
from cricavpr.training.recipe import Network, Recipe

AUTHORS_CONVOLUTION = 1e-5  # weight and bias alike, in the authors' training script


class Trainable(ABC):
    """A network as the loop sees it, whichever it is: each image by itself to regions, and these to a descriptor in
    the company of the group. A network in which images do not see one another leaves the groups unread.

    Attributes:
        model: the parameters that learn, the state that is saved, the weights that are exported.
        trunk: the part of it that costs the most; torch.compile takes it.
        dim: length of a descriptor.
    """

    model: nn.Module
    trunk: nn.Module
    dim: int

    @abstractmethod
    def regions(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, R, C)
        """What the network knows of each image alone."""

    @abstractmethod
    def correlate(self, regions: Tensor, groups: Sequence[int]) -> Tensor:  # (B, R, C) -> (B, D)
        """Descriptors of unit length; group sizes add up to B."""

    @abstractmethod
    def method(self) -> Method:
        """The network as a method that describes; it is in evaluation mode until `model.train()`."""

    @abstractmethod
    def header(self) -> dict[str, Any]:
        """What a file of its weights says beside them."""


class TrainableCricaVPR(Trainable):
    """The paper's network."""

    def __init__(self, model: CricaVPR, settings: Settings) -> None:
        self.model: CricaVPR = model
        self.trunk = model.backbone
        self.dim = model.config.dim
        self.settings = settings

    def regions(self, images: Tensor) -> Tensor:
        return self.model.aggregator(self.model.backbone(images))  # type: ignore[no-any-return]

    def correlate(self, regions: Tensor, groups: Sequence[int]) -> Tensor:
        return F.normalize(self.model.encoder(regions, list(groups)).flatten(1), dim=1)

    def method(self) -> Method:
        device = str(next(self.model.parameters()).device)
        return CricaVPRMethod("cricavpr", self.model, self.settings, "in training", device)

    def header(self) -> dict[str, Any]:
        return self.settings.to_dict()


class TrainableBaseline(Trainable):
    """A network in which images do not see one another: one region, which is the descriptor."""

    def __init__(self, model: CosPlace | VLADNet, recipe: Recipe) -> None:
        self.model: CosPlace | VLADNet = model
        self.trunk = model.backbone
        self.dim = model.dim
        self.recipe = recipe

    def regions(self, images: Tensor) -> Tensor:
        return self.model(images)[:, None]  # type: ignore[no-any-return]  # (B, 1, D)

    def correlate(self, regions: Tensor, groups: Sequence[int]) -> Tensor:
        return F.normalize(regions.flatten(1), dim=1)

    def method(self) -> Method:
        device = str(next(self.model.parameters()).device)
        settings = SingleSettings(self.recipe.image_size, self.recipe.resize)
        return TorchMethod(self.recipe.network.kind, self.model, settings, "in training", device)

    def header(self) -> dict[str, Any]:
        plain = self.recipe.to_dict()
        return {"method": self.recipe.network.kind, "image_size": plain["image_size"], "resize": plain["resize"]}


def make_network(recipe: Recipe, device: str, places: PlaceDataset | None = None) -> Trainable:
    """The recipe's network on a device, before the first step.

    Args:
        places: what NetVLAD starts from; without them its centres are drawn by chance.

    Raises:
        WeightsError: the weights are missing, unsafe or do not fit.
    """
    network = recipe.network
    if isinstance(network, Network):
        model = build_network(network, recipe.seed).to(device)
        return TrainableCricaVPR(model, Settings(network.config(), recipe.image_size, recipe.resize))
    baseline = build_baseline(network, recipe.seed).to(device)
    if isinstance(baseline, VLADNet) and not network.weights and places is not None:
        start_from_clusters(baseline, recipe, places)
    return TrainableBaseline(baseline.train(), recipe)


def tunable_parameters(recipe: Recipe) -> int:
    """How many parameters of the network learn; those of a loss are not among them. Reads and draws no weights."""
    if not recipe.network.learns:
        return 0
    network = recipe.network
    with torch.device("meta"):
        model = CricaVPR(network.config()) if isinstance(network, Network) else bare_baseline(network)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def build_network(network: Network, seed: int) -> CricaVPR:
    """A network in training mode, its weights drawn from `seed` or read from files.

    Raises:
        WeightsError: the weights are missing, unsafe or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CricaVPR(network.config())
    if network.init == "authors":
        start_adapters_as_authors(model)
    if network.backbone_weights:
        _fill_backbone(model, network.backbone_weights)
    if network.weights:
        file = read_weights(find_weights(network.weights))
        load_strictly(model, from_authors_names(file.tensors), str(file.path))
    return model.train()


def start_adapters_as_authors(model: CricaVPR) -> None:
    """Up-projections zero, so that adapters change nothing yet; weights and biases of convolutions 1e-5."""
    for adapter in (module for module in model.modules() if isinstance(module, Adapter)):
        for parameter in adapter.up.parameters():
            nn.init.zeros_(parameter)
        for convolution in (module for module in adapter.modules() if isinstance(module, nn.Conv2d)):
            for parameter in convolution.parameters():
                nn.init.constant_(parameter, AUTHORS_CONVOLUTION)


def _fill_backbone(model: CricaVPR, weights: str) -> None:
    """DINOv2's own file, or the backbone inside a file of a whole CricaVPR. Adapters stay as they are."""
    file = read_weights(find_weights(weights))
    tensors = from_authors_names(file.tensors)
    whole = any(name.startswith("backbone.") for name in tensors)
    if whole:
        tensors = {n.removeprefix("backbone."): t for n, t in tensors.items() if n.startswith("backbone.")}
    plain = {name: tensor for name, tensor in tensors.items() if ".adapter." not in name}
    own = {name: tensor for name, tensor in model.backbone.state_dict().items() if ".adapter." in name}
    load_strictly(model.backbone, own | plain, str(file.path))
