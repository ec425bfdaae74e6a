"""Batch norm over the images of all processes, and control over the updates of its running statistics.

Letters: N processes, b images of one process, C channels, feature maps of h x w cells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cricavpr.errors import InputError
from cricavpr.training.distributed import World, gather, reduce_sum, wide


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [found for found in module.modules() if isinstance(found, _BatchNorm)]


# ---- running statistics


@contextlib.contextmanager
def partial_update(module: nn.Module, share: float, later: float, counted: bool) -> Iterator[None]:
    """Make the forward pass in this block one part of a single update of batch norm's running statistics.

    A step may take several forward passes, such as micro-batches. Each would update the running statistics, and later
    updates would weaken earlier ones. This block sets the momentum so that all parts together have the effect of one
    update. That update uses the mean of the parts, weighted by their shares. The shares of all parts must add up to 1.

    Args:
        module: the network.
        share: weight of this part; 0 leaves the running statistics unchanged.
        later: sum of the shares of the parts that follow.
        counted: whether the counter `num_batches_tracked` increases.
    """
    norms = _norms(module)
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


def frozen_statistics(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Leave batch norm's running statistics unchanged in this block; normalise by the batch as usual.

    The block sets the momentum to 0. Changing `track_running_stats` instead would change which tensors autograd keeps.
    """
    return partial_update(module, 0.0, 0.0, counted=False)


# ---- several processes


def synchronise_batch_norm(module: nn.Module, world: World) -> None:
    """Make batch norm use the mean and variance over the images of all processes in training.

    Every process must have the same number of images. (torch's SyncBatchNorm does not run on the CPU.)

    Raises:
        InputError: the network has batch norm of another kind than BatchNorm2d.
    """
    for norm in _norms(module):
        if not isinstance(norm, nn.BatchNorm2d):
            raise InputError(f"several processes cannot train a network with {type(norm).__name__}. Start one process.")
        norm.forward = partial(_forward, norm, norm.forward, world)  # type: ignore[method-assign]


def _forward(norm: _BatchNorm, local: Callable[[Tensor], Tensor], world: World, maps: Tensor) -> Tensor:
    if not norm.training:
        return local(maps)
    normalised, mean, variance = _Normalise.apply(maps, norm.weight, norm.bias, norm.eps, world)  # type: ignore[no-untyped-call]
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    count = world.count * maps.numel() / maps.shape[1]
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        norm.num_batches_tracked += 1
    return normalised  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """Normalisation of feature maps by the mean and variance over all processes, (C,) each, which have no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,  # (b, C, h, w)
        weight: Tensor,  # (C,)
        bias: Tensor,  # (C,)
        eps: float,
        world: World,
    ) -> tuple[Tensor, Tensor, Tensor]:
        values = maps.to(wide(maps.dtype))
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        means, variances = gather(torch.stack([mean, variance])[None], world).unbind(1)  # (N, C) each
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(maps, weight, mean, scale)
        ctx.world = world
        ctx.mark_non_differentiable(mean, variance)
        normalised = (values - _on_maps(mean)) * _on_maps(scale * weight) + _on_maps(bias)
        return normalised.to(maps.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        maps, weight, mean, scale = ctx.saved_tensors
        wanted = gradient.to(wide(gradient.dtype))
        standard = (maps - _on_maps(mean)) * _on_maps(scale)  # (b, C, h, w), mean 0 and variance 1
        own = torch.stack([wanted.sum(dim=(0, 2, 3)), (wanted * standard).sum(dim=(0, 2, 3))])  # (2, C)
        shift, stretch = reduce_sum(own) / (ctx.world.count * maps.numel() / maps.shape[1])
        back = (wanted - _on_maps(shift) - standard * _on_maps(stretch)) * _on_maps(scale * weight)
        return back.to(maps.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None


def _on_maps(values: Tensor) -> Tensor:  # (C,) -> (C, 1, 1)
    return values[:, None, None]
