"""Reading photos, here or in worker processes, while the network works."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet
from cricavpr.errors import ImageError, InputError
from cricavpr.grouping import Group
from cricavpr.images import decode
from cricavpr.methods.base import Method

if TYPE_CHECKING:
    from torch import Tensor

Failures = dict[int, tuple[str, str]]  # index in the ImageSet: stage, reason
Batch = list[Group]

SMALL_SET = 64  # fewer photos than this are read before a worker process would have started
MOST_WORKERS = 8


@dataclass(frozen=True, eq=False)
class Run:
    """Images of one size that go through the network together."""

    tensor: Tensor  # (b, 3, h, w)
    groups: list[int] | None  # sizes that add up to b; None where every image is alone
    indices: NDArray[np.int64]  # (b,) into the ImageSet


@dataclass
class Loaded:
    """One batch, read: normally one run, several where photos keep their own sizes.

    A refusal travels as text: an exception would come back with a worker's traceback in it.
    """

    runs: list[Run] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)
    refusal: str | None = None


class _Batches:
    """Item i is batch i, read and preprocessed. Small enough to be sent to a worker process.

    A worker gets `preprocess` alone: where that is an object of its own rather than a bound method, the
    network stays behind.
    """

    def __init__(self, method: Method, images: ImageSet, batches: Sequence[Batch]) -> None:
        self.preprocess = method.preprocess
        self.root, self.names = images.root, images.names
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Loaded:
        loaded = Loaded()
        groups: list[list[tuple[int, Tensor]]] = []  # without the photos that failed
        for group in self.batches[number]:
            tensors = [(index, self._read(index, loaded.failures)) for index in group.tolist()]
            groups.append([(index, tensor) for index, tensor in tensors if tensor is not None])
        self._fill(loaded, [group for group in groups if group])
        return loaded

    def _read(self, index: int, failures: Failures) -> Tensor | None:  # (3, h, w)
        stage = "decode"
        try:
            image = decode(self.root / self.names[index])
            stage = "describe"
            return self.preprocess(image)
        except ImageError as error:
            failures[index] = error.stage, _one_line(str(error))
        except Exception as error:  # whatever one photo does, the others go on
            failures[index] = stage, _one_line(f"{type(error).__name__}: {error}")
        return None

    def _fill(self, loaded: Loaded, groups: list[list[tuple[int, Tensor]]]) -> None:
        """Stack the groups of each size into a run."""
        import torch

        by_size: dict[tuple[int, ...], list[list[tuple[int, Tensor]]]] = {}
        for group in groups:
            sizes = {tuple(tensor.shape): self.names[index] for index, tensor in group}
            if len(sizes) > 1:
                loaded.refusal = _sizes_differ(sizes)
                return
            by_size.setdefault(next(iter(sizes)), []).append(group)
        for same in by_size.values():
            indices = np.array([index for group in same for index, _ in group])
            tensor = torch.stack([tensor for group in same for _, tensor in group])  # (b, 3, h, w)
            counts = [len(group) for group in same]
            loaded.runs.append(Run(tensor, counts if max(counts) > 1 else None, indices))


def _sizes_differ(sizes: dict[tuple[int, ...], str]) -> str:
    (a, first), (b, second) = list(sizes.items())[:2]
    return (
        f"{first} ({a[1]} x {a[2]}) and {second} ({b[1]} x {b[2]}) are in one group but differ in size. "
        "Give the method an image size, or describe each photo alone."
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def default_workers(count: int) -> int:
    if count < SMALL_SET or multiprocessing.current_process().daemon:  # a daemon may not start processes
        return 0
    return min(MOST_WORKERS, max(1, (os.cpu_count() or 2) - 1))


def load(method: Method, images: ImageSet, batches: Sequence[Batch], workers: int) -> Generator[Loaded]:
    """Read the batches in order, `workers` of them ahead."""
    items = _Batches(method, images, batches)
    if workers < 1 or not batches:
        yield from (items[number] for number in range(len(items)))
        return
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        items,  # type: ignore[arg-type]  # a Dataset in all but name; importing that would load torch
        batch_size=None,
        num_workers=min(workers, len(batches)),  # more would find nothing to do
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # with no batch_size it gets one item
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # or it would draw its seed from the caller's random numbers
    )
    loading = iter(loader)
    while True:
        try:
            loaded = next(loading)
        except StopIteration:
            return
        except RuntimeError as error:  # items never raise, so this is the loader itself
            raise InputError(
                f"a process that reads photos died ({_one_line(str(error))[:200]}). It ran out of memory, or "
                "a photo crashed the decoder. Run again with 0 workers to see which."
            ) from error
        yield loaded


def _as_it_is(loaded: Loaded) -> Loaded:
    return loaded


def _start_worker(_: int) -> None:
    import signal

    import torch

    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):  # for the main process, which then ends its workers
        signal.signal(number, signal.SIG_IGN)
