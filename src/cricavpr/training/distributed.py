"""Training by several processes: their ranks, the values that they exchange, and how all stop if one fails.

Every process gathers the values of all processes, computes the loss of the whole step, and divides the loss by the
number of processes. In the backward pass, the gradients of gathered values are summed over all processes. So the
gradients of the weights, summed over all processes, are those of one process with all images. A single process
exchanges nothing.

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

TIMEOUT = timedelta(hours=2)  # longest wait for another process, such as for the first process while it validates
_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class OthersFailed(CricaVPRError):
    """Raised in this process because another process failed; that process prints the reason."""


@dataclass(frozen=True)
class World:
    """The rank of this process, and the number of processes that train together.

    Only the first process writes files and validates.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
        device: device that this process computes on.
    """

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
        """Return the rows of all processes, ordered by rank.

        In the backward pass, each process gets the gradient of its own rows, summed over all processes.
        """
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
        """Return the values of all processes, ordered by rank."""
        if self.alone:
            return [own]
        values: list[Any] = [None] * self.count
        with _connection_errors():
            dist.all_gather_object(values, own)
        return values

    # ---- failing together

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make all processes fail if one of them raises a CricaVPRError in this block.

        The failed process with the lowest rank keeps its error; all others raise OthersFailed. Do not exchange values
        inside the block: the others would wait for a process that has failed.
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
        """Do `work` in the first process and return its result there; the others wait, and return None."""
        with self.together():
            return work() if self.first else None

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do `work` in the first process, then in all others, so that they can read files that the first wrote."""
        made = self.first_only(work)
        with self.together():
            return work() if made is None else made


ALONE = World()


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Connect the processes that torchrun started, for this block. Without torchrun this process trains alone.

    Args:
        device: cpu (processes communicate through gloo) or cuda (through nccl, one GPU for each process).

    Raises:
        InputError: several processes train, and the device is neither cpu nor cuda.
        CricaVPRError: the other processes cannot be reached.
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
            f"cannot reach the other processes, or one of them has ended ({reason}). Continue the run with --resume."
        ) from error


class _Gather(torch.autograd.Function):
    """Gathering of the rows of all processes. The backward pass sums the gradients of a process's own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.own = slice(world.rank * len(rows), (world.rank + 1) * len(rows))
        return gather(rows, world)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return reduce_sum(gradient)[ctx.own].to(gradient.dtype), None


def gather(rows: Tensor, world: World) -> Tensor:  # (b, ...) -> (N b, ...)
    """Return the rows of all processes, ordered by rank, without a gradient."""
    sent = rows.detach().to(wide(rows.dtype)).contiguous()
    parts = [torch.empty_like(sent) for _ in range(world.count)]
    with _connection_errors():
        dist.all_gather(parts, sent)
    return torch.cat(parts).to(rows.dtype)


def reduce_sum(values: Tensor) -> Tensor:
    """Return the sum of `values` over all processes, without a gradient."""
    total = values.detach().to(wide(values.dtype)).clone(memory_format=torch.contiguous_format)
    with _connection_errors():
        dist.all_reduce(total)
    return total


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which values are sent and summed: at least float32 for floating-point values.

    Not every backend supports bf16, and bf16 is too coarse for sums.
    """
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype
