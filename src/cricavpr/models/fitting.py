"""Sizes of images that a network takes, and sizes of a network's layers, read from its weights file.

If a tensor is missing or has the wrong number of dimensions, the published size is used instead. So a network can
always be built, and loading the weights into it can list everything that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from cricavpr.errors import InputError, WeightsError
from cricavpr.models.vit import BACKBONES, MOST_LAYERS, ViTConfig, count_layers
from cricavpr.models.weights import check_fit, load_checked

Network = TypeVar("Network", bound=nn.Module)

HEAD_WIDTH = 64  # width of an attention head in every network whose number of heads is computed from its width
_DINOV2_DIMS = {  # entries that tell the sizes of a transformer, and the number of dimensions of each
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "register_tokens": 3,
    "blocks.0.mlp.w3.weight": 2,
}


@dataclass(frozen=True)
class ImageNeeds:
    """Image sizes that a network takes. Cells are the patches of a transformer, or the h x w entries of a feature map.

    Attributes:
        cell_px: side of a cell in pixels.
        cells: smallest number of whole cells that an image must have.
        whole: whether height and width must be multiples of `cell_px`.
    """

    cell_px: int = 1
    cells: int = 1
    whole: bool = False

    def nearest(self, side_px: int) -> int:
        """Round a side to the nearest multiple of `cell_px`, at least one cell; ties go to the even multiple.

        Example:
            >>> ImageNeeds(14).nearest(480)
            476
        """
        return max(1, round(side_px / self.cell_px)) * self.cell_px

    def problem(self, height: int, width: int) -> str | None:
        """Return why the network cannot take images of this size, as a clause for a message; None if it can.

        Example:
            >>> ImageNeeds(14, cells=65).problem(100, 100)
            'it needs at least 65 patches of 14 x 14 px, but an image of 100 x 100 px has only 49'
        """
        side = self.cell_px
        if self.whole and (height % side or width % side):
            near = f"{self.nearest(height)} x {self.nearest(width)}"
            return f"height and width must be multiples of {side} px, such as {near}, got {height} x {width}"
        cells = (height // side) * (width // side)
        if cells >= self.cells:
            return None
        if self.cells == 1:
            return f"the shorter side must be at least {side} px, got {height} x {width}"
        return (
            f"it needs at least {self.cells} patches of {side} x {side} px, but an image of {height} x {width} px has "
            f"only {cells}"
        )


def renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the tensors of a state dict.

    Args:
        tensors: the state dict.
        names: maps regular expressions to texts. An expression that matches the beginning of a name is replaced by its
            text. Only the first matching expression counts. A name without a match stays as it is.

    Raises:
        WeightsError: two tensors would get the same name.
    """
    ours: dict[str, Tensor] = {}
    for theirs, tensor in tensors.items():
        matches = ((re.match(beginning, theirs), begins) for beginning, begins in names.items())
        name = next((found.expand(begins) + theirs[found.end() :] for found, begins in matches if found), theirs)
        if name in ours:
            raise WeightsError(
                f"two tensors of the weights file would both be renamed to {name}; one of them is {theirs}. Remove one."
            )
        ours[name] = tensor
    return ours


def shape_of(tensors: Mapping[str, Tensor], name: str, published: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the tensor `name`.

    Return `published` if this tensor is missing or empty, or has another number of dimensions than `published`.
    """
    if name not in tensors:
        return published
    shape = tuple(tensors[name].shape)
    return shape if len(shape) == len(published) and 0 not in shape else published


def layers_of(tensors: Mapping[str, Tensor], prefix: str, published: int) -> int:
    """Count the numbered layers whose names begin with `prefix`; return the published number if there are none."""
    return min(count_layers(tensors, prefix) or published, MOST_LAYERS)


def dinov2_of(tensors: Mapping[str, Tensor], prefix: str) -> ViTConfig:
    """Return the sizes of a DINOv2 transformer; the names of its tensors begin with `prefix`.

    Return the sizes of ViT-B/14 if they cannot be read from the tensors.
    """
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    dims = {name: own[name].ndim for name in _DINOV2_DIMS if name in own and own[name].numel()}
    needed = ("pos_embed", "patch_embed.proj.weight")
    if any(name not in dims for name in needed) or dims != {name: _DINOV2_DIMS[name] for name in dims}:
        return BACKBONES["vitb14"]
    _, positions, width = own["pos_embed"].shape
    if positions < 2 or width % HEAD_WIDTH or not 1 <= count_layers(own, "blocks.") <= MOST_LAYERS:
        return BACKBONES["vitb14"]
    registers = own["register_tokens"].shape[1] if "register_tokens" in own else 0
    gated = own.get("blocks.0.mlp.w3.weight")
    return ViTConfig(
        width=width,
        depth=count_layers(own, "blocks."),
        heads=width // HEAD_WIDTH,  # as in every DINOv2
        ffn="mlp" if gated is None else "swiglu",
        ffn_width=None if gated is None else gated.shape[1],
        patch=own["patch_embed.proj.weight"].shape[-1],
        grid=round((positions - 1) ** 0.5),
        registers=registers,
        positions="size" if registers else "factor",
    )


def build_and_load(
    build: Callable[[], Network], tensors: Mapping[str, Tensor], source: str, dtype: torch.dtype = torch.float32
) -> Network:
    """Build a network and load tensors into it; every entry must fit.

    Memory for the network is allocated only after every entry has been checked, so a file that claims huge sizes does
    no harm. The state of torch's random number generator does not change.

    Args:
        build: function that makes the network; it is called on torch's meta device.
        tensors: state dict with the parameter names of this package.
        source: name of the file in messages.
        dtype: precision of the network.

    Raises:
        WeightsError: entries are missing, unexpected or of another shape; the message lists them.
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
