"""Training steps that need less memory: activation checkpointing and gradient caching.

Activation checkpointing: each block of the backbone keeps only its input and is computed again in the backward pass.
Gradients are exact, and batch norm sees the same images both times.

Gradient caching: the features of the regions of all images (in short, the regions) are computed in parts, without a
gradient. The loss of the whole step gives the gradient of each region. Then each part is computed again, and passes the
gradient of its regions on to the weights. Gradients are exact unless the network has batch norm, which sees only one
part at a time. Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (2021),
which calls the regions "representations".

Letters: B images, R regions, C channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cricavpr.errors import InputError
from cricavpr.models.vit import VisionTransformer
from cricavpr.training.batch_norm import frozen_statistics, partial_update


class Part(NamedTuple):
    """Images that go through the backbone together, and how they update the running statistics of batch norm.

    Attributes:
        rows: indices of the images in the step.
        share, later, counted: arguments for `batch_norm.partial_update`.
    """

    rows: slice
    share: float
    later: float
    counted: bool


def parts_of(images: int, at_once: int, micro_batch: int) -> list[Part]:
    """Divide images into forward passes, and each forward pass into micro-batches.

    Only the first pass updates the running statistics of batch norm. It updates them once, with the mean over its
    micro-batches, weighted by their sizes.

    Args:
        images: number of images.
        at_once: images in a forward pass; 0 for all.
        micro_batch: images in a micro-batch; 0 for a whole forward pass.
    """
    parts = []
    for first in range(0, images, at_once or images):
        last = min(images, first + (at_once or images))
        for start in range(first, last, micro_batch or last - first):
            stop = min(last, start + (micro_batch or last - first))
            share, later = ((n / last if first == 0 else 0.0) for n in (stop - start, last - stop))
            parts.append(Part(slice(start, stop), share, later, start == 0))
    return parts


class Regions:
    """Region features of the images of a step, and their backward pass, with or without gradient caching.

    Args:
        module: the network; the running statistics of its batch norm are updated once.
        compute: function that computes the region features (b, R, C) of a slice of the images.
        parts: the images that are computed together.
        cached: whether to use gradient caching: first `compute` without a gradient, and again in `backward`.
    """

    def __init__(self, module: nn.Module, compute: Callable[[slice], Tensor], parts: list[Part], cached: bool) -> None:
        self.module, self.compute, self.parts, self.cached = module, compute, parts, cached
        with torch.set_grad_enabled(not cached and torch.is_grad_enabled()):
            self.values = torch.cat([self._first_time(part) for part in parts])  # (B, R, C)
        if cached:
            self.values.requires_grad_()  # collects the gradient of the loss

    def _first_time(self, part: Part) -> Tensor:
        with partial_update(self.module, part.share, part.later, part.counted):
            return self.compute(part.rows)

    def backward(self) -> None:
        """With gradient caching, compute the features again and pass the gradient of `values` on to the weights.

        Without gradient caching do nothing: the backward pass of the loss has already reached the weights.
        """
        if not self.cached or self.values.grad is None:
            return
        for part in self.parts:
            with frozen_statistics(self.module):  # the first pass has already updated the running statistics
                again = self.compute(part.rows)
                if again.requires_grad:
                    again.backward(self.values.grad[part.rows])  # type: ignore[no-untyped-call]


def checkpoint_blocks(trunk: nn.Module) -> None:
    """Make the blocks of a transformer keep only their inputs, and compute them again in the backward pass.

    The attention kernel must be the same in both passes.

    Raises:
        InputError: the trunk is not a vision transformer.
    """
    if not isinstance(trunk, VisionTransformer):
        raise InputError(
            f"step.activation_checkpointing needs a vision transformer, got a {type(trunk).__name__}. Set it to false; "
            "step.micro_batch saves memory too."
        )
    for block in trunk.blocks:
        assert isinstance(block, nn.Module)
        block.forward = partial(_checkpointed, block, block.forward)


def _checkpointed(block: nn.Module, forward: object, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(tokens, grid)  # type: ignore[operator, no-any-return]
    return checkpoint(  # type: ignore[no-any-return]
        forward,
        tokens,
        grid,
        use_reentrant=False,
        preserve_rng_state=False,  # blocks draw no random numbers
        context_fn=lambda: (contextlib.nullcontext(), frozen_statistics(block)),
    )
