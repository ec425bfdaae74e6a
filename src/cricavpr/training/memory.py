"""What a step keeps in memory, and batch norm's running statistics, which must move once however often it computes.

Activation checkpointing: each block of the backbone keeps its input alone and is computed again backwards. Gradients
are exact, and batch norm sees the same images in both computations.

Gradient caching: regions of all images are computed in parts without a gradient; the loss of the whole step says what
it wants of each region; then each part is computed again and takes its share of that. Gradients are exact but for
batch norm, which sees a part. Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup" (2021), whose representations are our regions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from cricavpr.errors import InputError
from cricavpr.models.vit import VisionTransformer


class Part(NamedTuple):
    """Images that go through the backbone together, and how they move batch norm's statistics.

    Attributes:
        rows: which of the images.
        share: how much of one movement is theirs; 0 holds the statistics.
        later: the shares of the parts after this one.
        counted: whether the movement is counted with this part.
    """

    rows: slice
    share: float
    later: float
    counted: bool


def parts_of(images: int, at_once: int, micro_batch: int) -> list[Part]:
    """Forward passes of `at_once` images, each cut into micro-batches; 0 does not cut.

    The first pass alone moves the statistics: once, by the mean over its micro-batches, by their sizes.
    """
    parts = []
    for first in range(0, images, at_once or images):
        last = min(images, first + (at_once or images))
        for start in range(first, last, micro_batch or last - first):
            stop = min(last, start + (micro_batch or last - first))
            share, later = ((n / last if first == 0 else 0.0) for n in (stop - start, last - stop))
            parts.append(Part(slice(start, stop), share, later, start == 0))
    return parts


@contextlib.contextmanager
def statistics_moved(module: nn.Module, share: float, later: float, counted: bool) -> Iterator[None]:
    """Let batch norm inside make a part of one movement of its running statistics.

    Movements one after another weigh the earlier ones down. These momenta undo that: with shares that add up to 1 the
    statistics have moved, after the last part, by the usual momentum towards the mean of the parts'.
    """
    norms = [found for found in module.modules() if isinstance(found, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm, momentum in zip(norms, momenta, strict=True):
        assert momentum is not None
        norm.momentum = momentum * share / (1 - momentum * later)
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None and not counted:
                norm.num_batches_tracked.copy_(count)


def statistics_held(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Batch norm inside goes on normalising with the statistics of the batch, but remembers nothing of it.

    Momentum 0 and not `track_running_stats`: what autograd keeps must stay the same.
    """
    return statistics_moved(module, 0.0, 0.0, counted=False)


def give_back(regions_of: Callable[[slice], Tensor], parts: list[Part], wanted: Tensor, module: nn.Module) -> None:
    """The second half of gradient caching: compute each part again and hand it its gradient.

    Args:
        regions_of: rows to their regions (b, R, C), as they were computed first.
        wanted: (B, R, C) gradient of the loss by the regions.
        module: what holds batch norm, whose statistics have moved already.
    """
    for part in parts:
        with statistics_held(module):
            regions = regions_of(part.rows)
            if regions.requires_grad:
                regions.backward(wanted[part.rows])  # type: ignore[no-untyped-call]


def compute_blocks_twice(trunk: nn.Module) -> None:
    """From now on blocks keep their inputs alone. The attention kernel must be the same forwards and backwards.

    Raises:
        InputError: it is no vision transformer.
    """
    if not isinstance(trunk, VisionTransformer):
        raise InputError(
            "step.activation_checkpointing is for the blocks of a vision transformer, and this is a "
            f"{type(trunk).__name__}. Switch it off; step.micro_batch saves memory too."
        )
    for block in trunk.blocks:
        assert isinstance(block, nn.Module)
        block.forward = partial(_again_backwards, block, block.forward)


def _again_backwards(block: nn.Module, forward: object, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    if not torch.is_grad_enabled():
        return forward(tokens, grid)  # type: ignore[operator, no-any-return]
    return checkpoint(  # type: ignore[no-any-return]
        forward,
        tokens,
        grid,
        use_reentrant=False,
        preserve_rng_state=False,  # blocks draw nothing
        context_fn=lambda: (contextlib.nullcontext(), statistics_held(block)),
    )
