"""Build a network with the sizes of the tensors in a file.

Sizes are read from the tensors. Where an entry is missing or has the wrong number of dimensions, the published size is
used, so that strict loading has a network to compare with and can name everything that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from cricavpr.errors import InputError, WeightsError
from cricavpr.models.vit import BACKBONES, MOST_LAYERS, ViTConfig, count_layers, vit_config_of
from cricavpr.models.weights import check_fit, load_checked

Network = TypeVar("Network", bound=nn.Module)

HEAD_WIDTH = 64  # of attention, in every network whose number of heads is computed from its width
_DINOV2_DIMS = {  # entries that tell the sizes of a transformer, and their number of dimensions
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "register_tokens": 3,
    "blocks.0.mlp.w3.weight": 2,
}


def renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the entries of a state dict.

    Args:
        names: regular expression for the beginning of a name in the file: the beginning of our name. The first match
            counts; without a match a name stays as it is.

    Raises:
        WeightsError: two entries get the same name.
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
    """Return the shape of an entry, or the published one if it is missing, empty or has other dimensions."""
    if name not in tensors:
        return published
    shape = tuple(tensors[name].shape)
    return shape if len(shape) == len(published) and 0 not in shape else published


def layers_of(tensors: Mapping[str, Tensor], prefix: str, published: int) -> int:
    """Count the numbered layers under a prefix; the published number if there are none."""
    return min(count_layers(tensors, prefix) or published, MOST_LAYERS)


def dinov2_of(tensors: Mapping[str, Tensor], prefix: str) -> ViTConfig:
    """Read the sizes of the DINOv2 transformer under a prefix; those of ViT-B/14 if they cannot be read."""
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    dims = {name: own[name].ndim for name in _DINOV2_DIMS if name in own and own[name].numel()}
    needed = ("pos_embed", "patch_embed.proj.weight")
    if any(name not in dims for name in needed) or dims != {name: _DINOV2_DIMS[name] for name in dims}:
        return BACKBONES["vitb14"]
    _, positions, width = own["pos_embed"].shape
    if positions < 2 or width % HEAD_WIDTH or not 1 <= count_layers(own, "blocks.") <= MOST_LAYERS:
        return BACKBONES["vitb14"]
    return vit_config_of(own)


def build_and_load(
    build: Callable[[], Network], tensors: Mapping[str, Tensor], source: str, dtype: torch.dtype = torch.float32
) -> Network:
    """Build a network and load tensors into it, strictly.

    The network takes no memory before every entry of the file is known to fit, whatever sizes the file claims, and no
    random numbers are drawn.

    Args:
        build: makes the network; called on torch's meta device.
        source: names the file in messages.

    Raises:
        WeightsError: naming every entry that is missing, unexpected or of another shape.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = build().to(dtype)
    except (InputError, RuntimeError, OverflowError, ValueError) as error:  # sizes that no network can have
        reason = str(error).strip().partition("\n")[0][:200]
        raise WeightsError(f"{source} describes a network that cannot be built ({reason}).") from None
    check_fit(model, tensors, source)
    model = model.to_empty(device="cpu")
    for name, counter in model.named_buffers():
        if name.endswith("num_batches_tracked"):
            counter.zero_()  # may be missing from the file
    load_checked(model, tensors)
    return model
