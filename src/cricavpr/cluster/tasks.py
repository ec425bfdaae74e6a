"""One task: a batch of whole groups goes to some machine, its descriptors come back.

Nothing here knows Ray. A task is a row of bytes and numbers, as is its answer, and it says all that a machine
needs beside the `Job`, so it can be done anywhere, and again.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cricavpr.cluster.footing import Footing, differences, footing, noise_digest
from cricavpr.datasets.base import ImageSet
from cricavpr.describing.flow import describe_batch
from cricavpr.describing.reading import Batch, Failures, load
from cricavpr.describing.work import InMemory
from cricavpr.descriptors import MadeBy, pack_names, unpack_names
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.grouping import Grouping
from cricavpr.methods import load_method
from cricavpr.methods.base import Method, made_by

Row = Mapping[str, Any]  # int and bytes alone: every column comes back as it went


@dataclass(frozen=True)
class MethodSpec:
    """A method by name, so that any machine can load it; see `load_method`."""

    name: str
    weights: str | None = None
    device: str = "cpu"
    image_size: tuple[int, int] | None = None

    def load(self) -> Method:
        settings = {} if self.image_size is None else {"image_size": self.image_size}
        return load_method(self.name, self.weights, self.device, **settings)

    def absolute(self) -> Self:
        """The same for a machine with another working directory."""
        if self.weights is None or not Path(self.weights).is_file():
            return self
        return type(self)(self.name, str(Path(self.weights).absolute()), self.device, self.image_size)


@dataclass(frozen=True)
class Job:
    """What all tasks of a run share, and what a machine must match before it works on them.

    Attributes:
        root: the folder of the photos, absolute: each machine must see it under this path.
        threads: of torch, as many as where the run was started.
        footing, noise, noise_groups: see `footing.py`.
    """

    method: MethodSpec
    made: MadeBy
    root: str
    threads: int
    footing: Footing
    noise: str
    noise_groups: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Task:
    """One batch.

    Attributes:
        sizes: (b,) bytes of each photo as seen where the run was started, -1 where it could not be seen.
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

    def to_row(self) -> Row:
        names, sizes = pack_names(self.names).tobytes(), self.sizes.astype("<i8").tobytes()
        return {"number": self.number, "names": names, "sizes": sizes, "groups": json.dumps(self.groups).encode()}

    @classmethod
    def from_row(cls, row: Row) -> Self:
        names = unpack_names(np.frombuffer(row["names"], np.uint8))
        sizes = np.frombuffer(row["sizes"], "<i8").astype(np.int64)
        return cls(int(row["number"]), names, sizes, tuple(json.loads(row["groups"])))


@dataclass(frozen=True, eq=False)
class Answer:
    """What a machine gave for a task.

    Attributes:
        vectors: (b, D), zero where a photo could not be read.
        failures: by place in the batch.
        refusal: why this machine, or this batch, ends the run; then there are no vectors.
    """

    number: int
    vectors: NDArray[np.float32]
    failures: Failures = field(default_factory=dict)
    refusal: str | None = None

    def to_row(self) -> Row:
        said = json.dumps({"shape": self.vectors.shape, "failures": self.failures, "refusal": self.refusal})
        return {"number": self.number, "vectors": self.vectors.astype("<f4").tobytes(), "said": said.encode()}

    @classmethod
    def from_row(cls, row: Row) -> Self:
        said = json.loads(row["said"])
        vectors = np.frombuffer(row["vectors"], "<f4").astype(np.float32).reshape(said["shape"])
        failures = {int(place): (stage, reason) for place, (stage, reason) in said["failures"].items()}
        return cls(int(row["number"]), vectors, failures, said["refusal"])


def answer(job: Job, task: Task) -> Answer:
    """Do one task here. Whatever goes wrong travels as text: an exception would come back as a traceback."""
    try:
        method = ready(job)
        images = ImageSet(Path(job.root), task.names)
        _require_same_photos(images, task)
        places = np.split(np.arange(len(images)), np.cumsum(task.groups)[:-1])
        work = InMemory(len(images), job.made)
        failures = describe_batch(method, next(load(method, images, [places], workers=0)), work)
        return Answer(task.number, work.rows, failures)
    except _OfTheMachine as error:
        refusal = f"machine {socket.gethostname()} cannot join: {error}"
    except CricaVPRError as error:
        refusal = str(error)  # of the photos or the method: the same line as on one machine
    except Exception as error:
        refusal = f"machine {socket.gethostname()} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Answer(task.number, np.zeros((0, 0), np.float32), refusal=refusal)


class _OfTheMachine(InputError):
    """The machine is not as it must be; the message names no machine."""


@lru_cache(maxsize=1)
def ready(job: Job) -> Method:
    """The method of a job, loaded and compared once in each process.

    Raises:
        InputError: this machine has other weights or programs, or computes other bytes.
    """
    import torch

    torch.set_num_threads(job.threads)
    try:
        method = job.method.load()
    except CricaVPRError as error:
        raise _OfTheMachine(str(error)) from error
    if other := made_by(method, Grouping.parse("alone")).differences(_alone(job.made)):
        raise _OfTheMachine(f"its method is another one ({'; '.join(other)}). Give it the same weights file.")
    if unlike := differences(job.footing, footing(job.method.device)):
        raise _OfTheMachine(f"it would give other bytes ({unlike}). Install the same there.")
    if noise_digest(method, job.noise_groups) != job.noise:
        raise _OfTheMachine(
            "the same noise gives other bytes there than here, so its processor computes in another order. "
            "Start the run on a machine of the cluster's own kind."
        )
    return method


def _alone(made: MadeBy) -> MadeBy:
    """The same method without its grouping, which is the run's and not the machine's."""
    return MadeBy.from_dict({**made.to_dict(), "grouping": "none" if made.grouping == "none" else "alone"})


def _require_same_photos(images: ImageSet, task: Task) -> None:
    """A photo that is missing on one machine alone would be a failure that no other machine has."""
    if not images.root.is_dir():
        raise _OfTheMachine(f"there is no folder {images.root} there. Mount the photos under the same path.")
    for index, size in enumerate(task.sizes.tolist()):
        if (found := size_of(images.path(index))) != size:
            seen = "is not there" if found < 0 else f"has {found:,} bytes there"
            raise _OfTheMachine(
                f"{images.names[index]} {seen} and {'is not' if size < 0 else f'has {size:,} bytes'} here. "
                f"Mount the same folder as {images.root}."
            )


def size_of(path: Path) -> int:
    """Bytes of a file, -1 where it cannot be seen."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1
