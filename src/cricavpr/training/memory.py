"""Activation checkpointing: each block of the backbone keeps its input alone and is computed again backwards.

Gradients are exact, and batch norm sees the same images in both computations. Its running statistics must move once
only, so they are held still in the second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from cricavpr.models.vit import VisionTransformer


@contextlib.contextmanager
def statistics_held(module: nn.Module) -> Iterator[None]:
    """Batch norm inside goes on normalising with the statistics of the batch, but remembers nothing of it."""
    norms = [found for found in module.modules() if isinstance(found, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # what autograd keeps must stay the same, or `track_running_stats` would do
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)


def compute_blocks_twice(backbone: VisionTransformer) -> None:
    """From now on blocks keep their inputs alone. The attention kernel must be the same forwards and backwards."""
    for block in backbone.blocks:
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
