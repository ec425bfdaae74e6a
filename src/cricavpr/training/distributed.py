"""Training by several processes: their ranks, what they exchange, and how they fail together.

Every process computes the loss of the whole step and divides it by the number of processes; what crosses from one
process to another is summed on its way back. So the sum of all gradients is that of one process with all images. With
one process nothing is exchanged.

Letters: N processes, b images of one process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cricavpr.errors import CricaVPRError, InputError

T = TypeVar("T")

TIMEOUT = timedelta(hours=2)  # the others wait while the first one validates; the death of one is noticed at once
_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class OthersFailed(CricaVPRError):
    """Another process failed and prints the reason."""


@dataclass(frozen=True)
class World:
    """This process among those that train together. Only the first one writes and validates."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    # ---- exchanging values

    def gather(self, rows: Tensor) -> Tensor:  # (b, ...) -> (N b, ...)
        """Return the rows of all processes, by rank. The gradient of one's own rows is summed over all processes."""
        if self.alone:
            return rows
        return _Gather.apply(rows, self)  # type: ignore[no-any-return, no-untyped-call]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.alone:
            return
        with _connection_errors():
            works = [dist.all_reduce(p.grad, async_op=True) for p in parameters if p.grad is not None]
            for work in works:
                assert work is not None
                work.wait()

    def max(self, *numbers: int) -> list[int]:
        """Return the maximum of each number over all processes."""
        if self.alone:
            return list(numbers)
        shared = torch.tensor(numbers, device=self.device)
        with _connection_errors():
            dist.all_reduce(shared, dist.ReduceOp.MAX)
        return shared.tolist()

    def gather_values(self, own: T) -> list[T]:
        """Return the value of each process, by rank."""
        if self.alone:
            return [own]
        values: list[Any] = [None] * self.count
        with _connection_errors():
            dist.all_gather_object(values, own)
        return values

    # ---- failing together

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make all processes leave this block, or all fail: one keeps its error, the others raise OthersFailed.

        Do not exchange anything inside that one process could miss by failing.
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
        (behind,) = self.max(self.count - self.rank if failed else 0)
        return self.count - behind

    def first_only(self, work: Callable[[], T]) -> T | None:
        """Do `work` in the first process while the others wait; they get None."""
        with self.together():
            return work() if self.first else None

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do `work` in the first process, then in all others, which can read the files of the first."""
        made = self.first_only(work)
        with self.together():
            return work() if made is None else made


ALONE = World()


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started; without torchrun this process trains alone.

    Args:
        device: cpu (processes talk through gloo) or cuda (nccl, one GPU for each process).

    Raises:
        InputError: the other processes cannot be reached, or the device is neither cpu nor cuda.
    """
    if not all(name in os.environ for name in _LAUNCHER_VARIABLES) or os.environ["WORLD_SIZE"] == "1":
        yield World(device=device)
        return
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise InputError(f"several processes cannot train on --device {device}. Use cpu or cuda.")
    on_gpu = kind == "cuda" and torch.cuda.is_available()  # a missing GPU is reported later
    own = f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else kind
    if on_gpu:
        torch.cuda.set_device(own)
    with _connection_errors():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), own)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CricaVPRError(
            f"cannot reach the other processes, or one has ended ({reason}). Go on with --resume."
        ) from error


class _Gather(torch.autograd.Function):
    """Gather the rows of all processes; backwards, sum their gradients of one's own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.own = slice(world.rank * len(rows), (world.rank + 1) * len(rows))
        return gather(rows, world)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return reduce_sum(gradient)[ctx.own].to(gradient.dtype), None


def gather(rows: Tensor, world: World) -> Tensor:  # (b, ...) -> (N b, ...)
    """Return the rows of all processes, by rank; without a gradient."""
    sent = rows.detach().to(wide(rows.dtype)).contiguous()
    parts = [torch.empty_like(sent) for _ in range(world.count)]
    with _connection_errors():
        dist.all_gather(parts, sent)
    return torch.cat(parts).to(rows.dtype)


def reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over all processes; without a gradient."""
    total = values.detach().to(wide(values.dtype)).clone(memory_format=torch.contiguous_format)
    with _connection_errors():
        dist.all_reduce(total)
    return total


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type to send and sum in: not every backend supports bf16, and it is too short for sums."""
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype
