"""The network that a recipe names, as it is before the first step."""

from __future__ import annotations

import torch
from torch import nn

from cricavpr.models.adapters import Adapter
from cricavpr.models.cricavpr import CricaVPR, from_authors_names
from cricavpr.models.weights import find_weights, load_strictly, read_weights
from cricavpr.training.recipe import Network

AUTHORS_CONVOLUTION = 1e-5  # weight and bias alike, in the authors' training script


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
