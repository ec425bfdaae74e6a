"""From the tensors of an authors' file to a network of just their sizes.

Every size is read off the file. An entry that is missing or oddly shaped is taken for the published one here, so
that strict loading has a network to compare with and can name all that does not fit.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from cricavpr.errors import WeightsError
from cricavpr.models.cricavpr import vit_config_of
from cricavpr.models.vit import BACKBONES, ViTConfig
from cricavpr.models.weights import load_strictly

Network = TypeVar("Network", bound=nn.Module)

HEAD_WIDTH = 64  # of attention in all networks whose heads are counted off their width
_DINOV2_SHAPES = {  # what the sizes of a transformer are read off, and the number of its dimensions
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "register_tokens": 3,
    "blocks.0.mlp.w3.weight": 2,
}


def renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The entries of a state dict with the beginnings of their names exchanged.

    Args:
        names: regular expression of how a name begins in the file: how it begins here. The first that fits counts.

    Raises:
        WeightsError: two entries would get one name.
    """
    ours: dict[str, Tensor] = {}
    for theirs, tensor in tensors.items():
        name = _renamed(theirs, names)
        if name in ours:
            raise WeightsError(f"two entries of the weights both stand for {name}; one of them is {theirs}.")
        ours[name] = tensor
    return ours


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for beginning, ours in names.items():
        found = re.match(beginning, name)
        if found:
            return found.expand(ours) + name[found.end() :]
    return name


def shape_of(tensors: Mapping[str, Tensor], name: str, published: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an entry, or the published one where it is missing, empty or has other dimensions."""
    if name not in tensors:
        return published
    shape = tuple(tensors[name].shape)
    return shape if len(shape) == len(published) and 0 not in shape else published


def layers_of(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers there are under `prefix`; one where there are none, for strict loading to miss."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    return max(1, len(numbers))


def dinov2_of(tensors: Mapping[str, Tensor], prefix: str) -> ViTConfig:
    """The sizes of the DINOv2 transformer under `prefix`, or those of ViT-B/14 where they cannot be read."""
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    dimensions = {name: own[name].ndim for name in _DINOV2_SHAPES if name in own and own[name].numel()}
    needed = ("pos_embed", "patch_embed.proj.weight")
    if any(name not in dimensions for name in needed) or dimensions != {n: _DINOV2_SHAPES[n] for n in dimensions}:
        return BACKBONES["vitb14"]
    _, positions, width = own["pos_embed"].shape
    return vit_config_of(own) if positions > 1 and width % HEAD_WIDTH == 0 else BACKBONES["vitb14"]


def of_their_size(build: Callable[[], Network], tensors: Mapping[str, Tensor], source: str) -> Network:
    """A network for these tensors to be loaded into, its values not yet set.

    It takes no memory before every entry of the file is known to fit, and is never initialised at random.

    Raises:
        WeightsError: naming what is missing, unexpected or misshapen.
    """
    with torch.device("meta"):
        model = build()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*meta parameter.*")  # torch: nothing is copied; as we want it
        load_strictly(model, tensors, source)
    model = model.to_empty(device="cpu")
    for name, counter in model.named_buffers():
        if name.endswith("num_batches_tracked"):
            counter.zero_()  # may be missing from the file
    return model
