"""Several processes that train one network: who they are, what they exchange, and how one's failure ends all.

The rule that keeps gradients right: every process computes the loss of the whole step, divides it by the number of
processes, and what crosses from one to another is summed on its way back. The sum of everybody's gradients is then
that of one process with all images. Nothing here is done when there is one process.

Letters: N processes, b images of one process, C channels, h x w positions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cricavpr.errors import CricaVPRError, InputError

T = TypeVar("T")

TIMEOUT = timedelta(hours=2)  # the others wait while the first measures; who has died is noticed at once
_BY_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class OthersFailed(CricaVPRError):
    """Another process failed and says why; this one has nothing to add."""


@dataclass(frozen=True)
class World:
    """This process among those that train together. The first one writes and measures."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    # ---- values

    def everyone(self, rows: Tensor) -> Tensor:  # (b, ...) -> (N b, ...)
        """The rows of all processes, in the order of their ranks. The gradient of one's own is summed over all."""
        if self.alone:
            return rows
        return _Everyone.apply(rows, self)  # type: ignore[no-any-return, no-untyped-call]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """After this every process has the gradient of the whole step."""
        if self.alone:
            return
        with _reaching_the_others():
            works = [dist.all_reduce(p.grad, async_op=True) for p in parameters if p.grad is not None]
            for work in works:
                assert work is not None
                work.wait()

    def greatest(self, *numbers: int) -> list[int]:
        """Of each number the greatest that a process has."""
        if self.alone:
            return list(numbers)
        shared = torch.tensor(numbers, device=self.device)
        with _reaching_the_others():
            dist.all_reduce(shared, dist.ReduceOp.MAX)
        return shared.tolist()

    def texts(self, own: str) -> list[str]:
        """What each process has to say."""
        data = own.encode()
        (longest,) = self.greatest(len(data))
        padded = torch.zeros(1, 8 + longest, dtype=torch.uint8)
        padded[0] = torch.frombuffer(bytearray(len(data).to_bytes(8, "big") + data.ljust(longest)), dtype=torch.uint8)
        rows = [bytes(row.tolist()) for row in self.everyone(padded.to(self.device)).cpu()]
        return [row[8 : 8 + int.from_bytes(row[:8], "big")].decode() for row in rows]

    # ---- ends

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Processes leave the block together: where one fails all do, and the first that failed says why.

        Nothing may be exchanged inside that one process could miss by failing.

        Raises:
            OthersFailed: this process did well.
        """
        try:
            yield
        except CricaVPRError:
            if self._first_failed(failed=True) < self.rank:
                raise OthersFailed("another process failed for the same reason") from None
            raise
        if self._first_failed(failed=False) < self.count:
            raise OthersFailed("another process failed")

    def _first_failed(self, failed: bool) -> int:
        (behind,) = self.greatest(self.count - self.rank if failed else 0)
        return self.count - behind

    def in_turn(self, work: Callable[[], T]) -> T:
        """The first process, then all others: what the first writes the others find."""
        made: list[T] = []
        for turn in (self.first, not self.first):
            with self.together():
                if turn:
                    made.append(work())
        return made[0]


ALONE = World()


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Meet the processes that torchrun started with this one; where it started none, be alone.

    Args:
        device: cpu (processes talk through gloo) or cuda (nccl, one GPU for each process).

    Raises:
        InputError: they cannot be reached, or the device is another one.
    """
    if not all(name in os.environ for name in _BY_LAUNCHER) or os.environ["WORLD_SIZE"] == "1":
        yield World(device=device)
        return
    kind = torch.device(device).type
    if kind not in ("cpu", "cuda"):
        raise InputError(f"several processes cannot train on --device {device}. Use cpu or cuda.")
    on_gpu = kind == "cuda" and torch.cuda.is_available()  # where there is none `make_learner` says so
    own = f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else kind
    if on_gpu:
        torch.cuda.set_device(own)
    with _reaching_the_others():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), own)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _reaching_the_others() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CricaVPRError(
            f"the other processes cannot be reached, or one has ended ({reason}). Go on with --resume."
        ) from error


class _Everyone(torch.autograd.Function):
    """Rows of all processes; backwards, the sum of what all want of one's own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.world, ctx.own = world, slice(world.rank * len(rows), (world.rank + 1) * len(rows))
        return _gathered(rows, world)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _summed(gradient)[ctx.own].to(gradient.dtype), None


def _gathered(rows: Tensor, world: World) -> Tensor:  # (b, ...) -> (N b, ...)
    sent = rows.detach().to(_wide(rows.dtype)).contiguous()
    parts = [torch.empty_like(sent) for _ in range(world.count)]
    with _reaching_the_others():
        dist.all_gather(parts, sent)
    return torch.cat(parts).to(rows.dtype)


def _summed(values: Tensor) -> Tensor:
    total = values.detach().to(_wide(values.dtype)).clone(memory_format=torch.contiguous_format)
    with _reaching_the_others():
        dist.all_reduce(total)
    return total


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type to send and to sum in: not every backend knows bf16, and sums want more digits than it has."""
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype


# ---- batch norm ------------------------------------------------------------------------------------------------


def synchronise_batch_norm(module: nn.Module, world: World) -> None:
    """From now on batch norm inside normalises, in training, by the images of all processes.

    torch's own SyncBatchNorm refuses the CPU. Every process must bring equally many images.

    Raises:
        InputError: there is batch norm over something else than maps.
    """
    for norm in (found for found in module.modules() if isinstance(found, _BatchNorm)):
        if not isinstance(norm, nn.BatchNorm2d):
            raise InputError(f"several processes cannot train a network with {type(norm).__name__}. Start one.")
        norm.forward = partial(_normalise, norm, norm.forward, world)  # type: ignore[method-assign]


def _normalise(norm: _BatchNorm, by_itself: Callable[[Tensor], Tensor], world: World, maps: Tensor) -> Tensor:
    if not norm.training:
        return by_itself(maps)
    normalised, mean, variance = _Normalised.apply(maps, norm.weight, norm.bias, norm.eps, world)  # type: ignore[no-untyped-call]
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    count = world.count * maps.numel() / maps.shape[1]
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        norm.num_batches_tracked += 1
    return normalised  # type: ignore[no-any-return]


class _Normalised(torch.autograd.Function):
    """Maps normalised by mean and variance over all processes, and these two (C,), which carry no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,  # (b, C, h, w)
        weight: Tensor,  # (C,)
        bias: Tensor,  # (C,)
        eps: float,
        world: World,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = maps.to(_wide(maps.dtype))
        variance, mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)
        means, variances = _gathered(torch.stack([mean, variance])[None], world).unbind(1)  # (N, C) each
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(maps, weight, mean, scale)
        ctx.world = world
        ctx.mark_non_differentiable(mean, variance)
        normalised = (wide - _on_maps(mean)) * _on_maps(scale * weight) + _on_maps(bias)
        return normalised.to(maps.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        maps, weight, mean, scale = ctx.saved_tensors
        wanted = gradient.to(_wide(gradient.dtype))
        standard = (maps - _on_maps(mean)) * _on_maps(scale)  # (b, C, h, w), mean 0 and variance 1
        own = torch.stack([wanted.sum(dim=(0, 2, 3)), (wanted * standard).sum(dim=(0, 2, 3))])  # (2, C)
        shift, stretch = _summed(own) / (ctx.world.count * maps.numel() / maps.shape[1])
        back = (wanted - _on_maps(shift) - standard * _on_maps(stretch)) * _on_maps(scale * weight)
        return back.to(maps.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None


def _on_maps(values: Tensor) -> Tensor:  # (C,) -> (C, 1, 1)
    return values[:, None, None]
