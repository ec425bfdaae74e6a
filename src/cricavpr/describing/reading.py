"""Reading of photos into batches, in this process or in worker processes, while the network computes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cricavpr.datasets.base import ImageSet
from cricavpr.errors import ImageError, InputError
from cricavpr.grouping import Group
from cricavpr.images import decode
from cricavpr.methods.base import Method, Pixels
from cricavpr.methods.embedding import SameSize, by_size

Failures = dict[int, tuple[str, str]]  # index in the ImageSet: stage, reason
Batch = list[Group]

SMALL_SET = 64  # fewer photos take less time than the start of a worker process
MOST_WORKERS = 8  # most worker processes that are chosen by default


@dataclass
class Loaded:
    """One batch of photos, ready for the network.

    Attributes:
        parts: the preprocessed photos, one part for each image size; normally all photos have the same size.
        failures: photos that could not be used.
        refusal: why the batch cannot be described; None if it can. This is a text and not an exception, because torch
            would add a worker's traceback to an exception.
    """

    parts: list[SameSize] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)
    refusal: str | None = None


class _Batches:
    """Dataset for worker processes: item i is batch i, read and preprocessed.

    A worker process gets a copy of `method.preprocess`. If that is a bound method, the network is copied with it;
    otherwise it is not.
    """

    def __init__(self, method: Method, images: ImageSet, batches: Sequence[Batch]) -> None:
        self.preprocess = method.preprocess
        self.root, self.names = images.root, images.names
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Loaded:
        loaded = Loaded()
        groups: list[list[tuple[int, Pixels]]] = []  # without the photos that failed
        for group in self.batches[number]:
            read = [(index, self._read(index, loaded.failures)) for index in group.tolist()]
            groups.append([(index, pixels) for index, pixels in read if pixels is not None])
        try:
            loaded.parts = by_size([group for group in groups if group], self.names.__getitem__)
        except InputError as error:
            loaded.refusal = str(error)
        return loaded

    def _read(self, index: int, failures: Failures) -> Pixels | None:  # (3, h, w)
        stage = "decode"
        try:
            image = decode(self.root / self.names[index])
            stage = "describe"
            return self.preprocess(image)
        except ImageError as error:
            failures[index] = error.stage, _one_line(str(error))
        except Exception as error:  # no error of one photo stops the others
            failures[index] = stage, _one_line(f"{type(error).__name__}: {error}")
        return None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def default_workers(count: int) -> int:
    """Return how many worker processes should read `count` photos; 0 means that this process reads them."""
    if count < SMALL_SET or multiprocessing.current_process().daemon:  # a daemon may not start processes
        return 0
    return min(MOST_WORKERS, max(1, (os.cpu_count() or 2) - 1))


def load(method: Method, images: ImageSet, batches: Sequence[Batch], workers: int) -> Generator[Loaded]:
    """Yield the batches in order. `workers` processes read in advance; with 0 workers, this process reads.

    Raises:
        InputError: a worker process died.
    """
    items = _Batches(method, images, batches)
    if workers < 1 or not batches:
        yield from (items[number] for number in range(len(items)))
        return
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        items,  # type: ignore[arg-type]  # has the methods of a Dataset; inheriting would import torch
        batch_size=None,
        num_workers=min(workers, len(batches)),  # more workers than batches would have nothing to do
        collate_fn=_as_tensors,  # type: ignore[arg-type]  # without batch_size it gets one item
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # else the loader would change the caller's random numbers
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
                "a photo crashed the decoder. Run again with 0 workers to find out the cause."
            ) from error
        yield _converted(loaded, lambda tensor: tensor.numpy())


def _as_tensors(loaded: Loaded) -> Loaded:
    """Convert the arrays of a batch to tensors, which torch passes between processes in shared memory."""
    import torch

    return _converted(loaded, torch.from_numpy)


def _converted(loaded: Loaded, convert: Callable[[Any], Any]) -> Loaded:
    return replace(loaded, parts=[replace(part, images=convert(part.images)) for part in loaded.parts])


def _start_worker(_: int) -> None:
    import signal

    import torch

    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):  # the main process handles them and ends its workers
        signal.signal(number, signal.SIG_IGN)
