"""Tasks for the machines of a cluster. Each is a batch of complete groups of photos to describe. Nothing here uses Ray.

A sum of floats depends on the order of summation, which libraries choose by processor, number of threads and shape of
the batch. So a machine takes part only if it matches the machine that started the run in two ways: it has the same
package versions, and it computes the same bytes from known noise images.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet
from cricavpr.describing.flow import describe_batch
from cricavpr.describing.reading import Batch, Failures, load
from cricavpr.describing.work import InMemory
from cricavpr.descriptors import MadeBy
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.grouping import ALONE
from cricavpr.methods import load_method
from cricavpr.methods.base import Method, made_by

# The packages whose versions decide the pixels that are decoded, the order of sums, and which photos cannot be read.
PACKAGES = ("cricavpr", "torch", "numpy", "pillow", "pillow-heif")
NOISE_SIZE = (224, 224)  # (height, width) in pixels of the noise images for a method that accepts any size

Platform = tuple[tuple[str, str], ...]  # pairs: a package and its version, or "processor" and its name


@dataclass(frozen=True)
class MethodSpec:
    """The arguments of `load_method`, with which every machine loads the method."""

    name: str
    weights: str | None = None
    device: str = "cpu"
    image_size: tuple[int, int] | None = None

    def load(self) -> Method:
        settings = {} if self.image_size is None else {"image_size": self.image_size}
        return load_method(self.name, self.weights, self.device, **settings)

    def absolute(self) -> Self:
        """Return the same arguments with an absolute path to the weights file, if `weights` is a file."""
        if self.weights is None or not Path(self.weights).is_file():
            return self
        return replace(self, weights=str(Path(self.weights).absolute()))


@dataclass(frozen=True)
class Job:
    """Everything that all tasks of a run share. A machine checks that it matches the job before it describes photos.

    Attributes:
        method: the method and its settings.
        made: the method, weights and settings that make the descriptors, as stored with the descriptors.
        root: the absolute path of the folder of the photos, the same on each machine.
        threads: number of threads that torch uses on each machine, as on the machine that started the run.
        platform: package versions and processor of the machine that started the run.
        noise: digest of the descriptors of known noise images, computed on the machine that started the run.
        noise_groups: sizes of the groups in which the noise images are described.
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
        """The number of GPUs that a task uses: 0 or 1."""
        return int(self.method.device.startswith("cuda"))


@dataclass(frozen=True, eq=False)
class Task:
    """One batch of b photos to describe.

    Attributes:
        number: position of the batch in the run, counted from 0.
        names: names of the b photos, relative to the root folder of the job.
        sizes: (b,) size in bytes of each photo on the machine that started the run, -1 for a missing photo.
        groups: number of photos in each group; the numbers add up to b.
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
        number: the number of the batch.
        vectors: (b, D) descriptors, with zeros for a photo that could not be read. Empty if there is a refusal.
        failures: for each photo that could not be read, the reason, by position of the photo in the batch.
        refusal: the error because of which the run must end, or None.
    """

    number: int
    vectors: NDArray[np.float32]
    failures: Failures = field(default_factory=dict)
    refusal: str | None = None


def answer(job: Job, task: Task) -> Answer:
    """Describe one batch on this machine, and return the answer.

    An error is returned as `refusal`, because Ray would turn a raised exception into a long traceback.
    """
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
        refusal = str(error)  # an error of the photos or the method, with the same message as without a cluster
    except Exception as error:
        refusal = f"machine {here} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Answer(task.number, np.zeros((0, 0), np.float32), refusal=refusal)


class _MachineError(InputError):
    """An error of this machine, which cannot do the job. `answer` adds the name of the machine to the message."""


@lru_cache(maxsize=1)
def ready(job: Job) -> Method:
    """Load the method of a job, and check that this machine matches the job. This is done once in each process.

    Raises:
        InputError: this machine has other weights or package versions than the machine that started the run, or
            computes other bytes.
    """
    import torch

    torch.set_num_threads(job.threads)
    try:
        method = job.method.load()
    except CricaVPRError as error:
        raise _MachineError(str(error)) from error
    grouping = "none" if job.made.grouping == "none" else "alone"  # the grouping of the run need not match
    if other := made_by(method, ALONE).differences(replace(job.made, grouping=grouping)):
        raise _MachineError(f"its method differs ({'; '.join(other)}). Give that machine the same weights file.")
    if unlike := differences(job.platform, platform_here(job.method.device)):
        raise _MachineError(
            f"its descriptors could differ from those of this machine ({unlike}). Install the same versions there."
        )
    if noise_digest(method, job.noise_groups) != job.noise:
        raise _MachineError(
            "it computes slightly different descriptors of the same images, because its processor adds numbers in "
            "another order. Start the run on a machine with the same processor as the machines of the cluster."
        )
    return method


def _require_same_photos(images: ImageSet, task: Task) -> None:
    """Raise if a photo on this machine has another size than on the machine that started the run.

    A photo that is missing on only one of the two machines is an error, too.
    """
    if not images.root.is_dir():
        raise _MachineError(f"it has no folder {images.root}. Mount the photos there under the same path.")
    for index, size in enumerate(task.sizes.tolist()):
        if (found := size_of(images.path(index))) != size:
            seen = "is missing there" if found < 0 else f"has {found:,} bytes there"
            raise _MachineError(
                f"{images.names[index]} {seen} and {'is missing' if size < 0 else f'has {size:,} bytes'} here. "
                f"Mount the same photos as {images.root} on both machines."
            )


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, -1 if it cannot be read."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


def platform_here(device: str) -> Platform:
    """Return the package versions, the processor and, if it is used, the GPU of this machine.

    Args:
        device: the device of torch that describes photos, such as "cpu" or "cuda".
    """
    import torch
    from PIL import features

    found = {name: _version(name) for name in PACKAGES}
    found["libjpeg"] = str(features.version("jpg"))
    found["processor"] = torch.backends.cpu.get_cpu_capability()
    if torch.device(device).type == "cuda":
        found["accelerator"] = torch.cuda.get_device_name(device)
    return tuple(found.items())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def differences(wanted: Platform, found: Platform) -> str:
    """Return the differences between two platforms as text, such as "torch 2.12.0 there, 2.13.0 here".

    Args:
        wanted: the platform that the message calls "here": the machine that started the run.
        found: the platform that the message calls "there": a machine of the cluster.

    Returns:
        The text, or "" if the platforms are equal.
    """
    here, there = dict(wanted), dict(found)
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    return "; ".join(f"{name} {there.get(name, 'none')} there, {here.get(name, 'none')} here" for name in names)


def noise_digest(method: Method, groups: Sequence[int]) -> str:
    """Return the SHA-256 of the descriptors of known noise images.

    Args:
        groups: the number of images in each group that is described together.
    """
    height, width = method.image_size or NOISE_SIZE
    draw = np.random.default_rng(0)
    images = np.stack(
        [method.preprocess(draw.integers(0, 256, (height, width, 3), np.uint8)) for _ in range(sum(groups))]
    )  # (B, 3, h, w)
    vectors = method.describe(images, list(groups) if max(groups) > 1 else None)  # (B, D)
    return hashlib.sha256(vectors.tobytes()).hexdigest()
