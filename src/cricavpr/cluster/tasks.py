"""One task of a cluster: a batch of whole groups that some machine describes. Nothing here uses Ray.

A task and its job hold all that a machine needs, so a task can be done anywhere, and again.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.cluster.platforms import Platform, differences, noise_digest, platform_here
from cricavpr.datasets.base import ImageSet
from cricavpr.describing.flow import describe_batch
from cricavpr.describing.reading import Batch, Failures, load
from cricavpr.describing.work import InMemory
from cricavpr.descriptors import MadeBy
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.grouping import ALONE
from cricavpr.methods import load_method
from cricavpr.methods.base import Method, made_by


@dataclass(frozen=True)
class MethodSpec:
    """The arguments of `load_method`, so that every machine can load the method."""

    name: str
    weights: str | None = None
    device: str = "cpu"
    image_size: tuple[int, int] | None = None

    def load(self) -> Method:
        settings = {} if self.image_size is None else {"image_size": self.image_size}
        return load_method(self.name, self.weights, self.device, **settings)

    def absolute(self) -> Self:
        """Return the same for a machine with another working directory."""
        if self.weights is None or not Path(self.weights).is_file():
            return self
        return replace(self, weights=str(Path(self.weights).absolute()))


@dataclass(frozen=True)
class Job:
    """The part that all tasks of a run share. A machine must match it before it describes anything.

    Attributes:
        made: provenance of the descriptors.
        root: the folder of the photos, absolute and the same on each machine.
        threads: of torch, as many as where the run was started.
        platform, noise, noise_groups: see `platforms.py`.
    """

    method: MethodSpec
    made: MadeBy
    root: str
    threads: int
    platform: Platform
    noise: str
    noise_groups: tuple[int, ...]

    @property
    def gpus(self) -> int:
        """GPUs that a task takes."""
        return int(self.method.device.startswith("cuda"))


@dataclass(frozen=True, eq=False)
class Task:
    """One batch.

    Attributes:
        sizes: (b,) bytes of each photo on the machine that started the run, -1 if it is not there.
        groups: sizes of the groups; they add up to b.
    """

    number: int
    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    groups: tuple[int, ...]

    @classmethod
    def of(cls, number: int, batch: Batch, images: ImageSet) -> Self:
        indices = np.concatenate(batch).tolist()
        sizes = np.array([size_of(images.path(index)) for index in indices], np.int64)
        return cls(number, tuple(images.names[index] for index in indices), sizes, tuple(map(len, batch)))


@dataclass(frozen=True, eq=False)
class Answer:
    """The result of a task.

    Attributes:
        vectors: (b, D), zero for a photo that could not be read.
        failures: by place in the batch.
        refusal: why this machine or this batch ends the run; there are no vectors then.
    """

    number: int
    vectors: NDArray[np.float32]
    failures: Failures = field(default_factory=dict)
    refusal: str | None = None


def answer(job: Job, task: Task) -> Answer:
    """Do one task here. An error is returned as text: an exception would arrive as a traceback."""
    here = socket.gethostname()
    try:
        method = ready(job)
        images = ImageSet(Path(job.root), task.names)
        _require_same_photos(images, task)
        places = np.split(np.arange(len(images)), np.cumsum(task.groups)[:-1])
        work = InMemory(len(images), job.made)
        failures = describe_batch(method, next(load(method, images, [places], workers=0)), work)
        return Answer(task.number, work.rows, failures)
    except _MachineError as error:
        refusal = f"machine {here} cannot join: {error}"
    except CricaVPRError as error:
        refusal = str(error)  # of the photos or the method: the same line as on one machine
    except Exception as error:
        refusal = f"machine {here} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Answer(task.number, np.zeros((0, 0), np.float32), refusal=refusal)


class _MachineError(InputError):
    """This machine cannot do the job; the message leaves out its name."""


@lru_cache(maxsize=1)
def ready(job: Job) -> Method:
    """Load the method of a job and compare this machine with it, once in each process.

    Raises:
        InputError: this machine has other weights or programs, or computes other bytes.
    """
    import torch

    torch.set_num_threads(job.threads)
    try:
        method = job.method.load()
    except CricaVPRError as error:
        raise _MachineError(str(error)) from error
    grouping = "none" if job.made.grouping == "none" else "alone"  # the run's, not the machine's
    if other := made_by(method, ALONE).differences(replace(job.made, grouping=grouping)):
        raise _MachineError(f"its method differs ({'; '.join(other)}). Give it the same weights file.")
    if unlike := differences(job.platform, platform_here(job.method.device)):
        raise _MachineError(f"it would compute other bytes ({unlike}). Install the same programs there.")
    if noise_digest(method, job.noise_groups) != job.noise:
        raise _MachineError(
            "the same noise gives other bytes there than here, so its processor adds in another order. "
            "Start the run on a machine with a processor like those of the cluster."
        )
    return method


def _require_same_photos(images: ImageSet, task: Task) -> None:
    """Raise if a photo differs from that of the machine that started the run, or if only one of them has it."""
    if not images.root.is_dir():
        raise _MachineError(f"there is no folder {images.root} there. Mount the photos under the same path.")
    for index, size in enumerate(task.sizes.tolist()):
        if (found := size_of(images.path(index))) != size:
            seen = "is not there" if found < 0 else f"has {found:,} bytes there"
            raise _MachineError(
                f"{images.names[index]} {seen} and {'is not' if size < 0 else f'has {size:,} bytes'} here. "
                f"Mount the same folder as {images.root}."
            )


def size_of(path: Path) -> int:
    """Return the bytes of a file, -1 if it cannot be read."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1
