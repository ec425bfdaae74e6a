"""describe: a method, images and a grouping in; descriptors out, and a list of the photos that gave none.

Photos are read in worker processes while the network works. A photo that cannot be read is left out of its
group and listed; it never stops a run. With `out` an interrupted run goes on where it stopped, and ends in
the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing.reading import Failures, Loaded, default_workers, load
from cricavpr.describing.work import InMemory, OnDisk, Work
from cricavpr.descriptors import DescriptorSet, MadeBy, flaws
from cricavpr.errors import ImageError, InputError
from cricavpr.files import size_and_time
from cricavpr.grouping import ALONE, Group, Grouping, pack
from cricavpr.methods.base import Method, made_by
from cricavpr.progress import Progress, Report

if TYPE_CHECKING:
    from torch import Tensor

KEY_FORMAT = "cricavpr.describe.1"


class NothingDescribed(InputError):
    """None of the photos could be described; `problems` names them all."""

    def __init__(self, message: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True, eq=False)
class Described:
    """What `describe` returns.

    Attributes:
        descriptors: of the photos that gave one, in the order of the ImageSet.
        kept: (M,) which images those are: rising indices into the ImageSet.
        problems: the other photos, in the same order.
    """

    descriptors: DescriptorSet
    kept: NDArray[np.int64]
    problems: tuple[Problem, ...]


def describe(
    method: Method,
    images: ImageSet,
    grouping: Grouping = ALONE,
    *,
    batch_size: int = 16,
    workers: int | None = None,
    out: Path | None = None,
    progress: bool | Report = False,
    draw: int = 0,
) -> Described:
    """Describe every image that can be read.

    Args:
        grouping: which images see one another; only a method that correlates has any use for it.
        batch_size: images that the hardware takes at once, whole groups each time. Never changes a result.
        workers: processes that read photos; 0 reads them in this one, None chooses.
        out: a file for the descriptors. Work in progress lies beside it and is taken up by the next run.
        draw: which of the shuffles of one seed, see `Grouping.groups`; `evaluate` takes 0 and 1.
        progress: True for a bar on stderr, or a function that is told (images done, images in all).

    Raises:
        InputError: no image, none that could be described, a group of images of different sizes, a grouping
            that the set has no keys for, or a place that cannot be written.
    """
    if workers is not None and workers < 0:
        raise InputError(f"{workers} processes cannot read photos. Give 0, which reads in this one, or more.")
    planned = plan(method, images, grouping, batch_size, draw)
    batches = planned.batches
    workers = default_workers(len(images)) if workers is None else workers
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress(progress, len(images)))
        work = stack.enter_context(begun(planned, len(images), out, bar))
        left = batches[work.done :]
        bar.start(sum(len(group) for batch in batches[: work.done] for group in batch))
        reading = stack.enter_context(contextlib.closing(load(method, images, left, workers)))
        for batch, loaded in zip(left, reading, strict=True):
            work.batch_done(describe_batch(method, loaded, work))
            bar.advance(sum(map(len, batch)))
        return finish(work, images)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done, wherever it is done.

    Attributes:
        made: how the descriptors come about.
        batches: the groups that go through the network together, in order.
        mark: tells unfinished work of another plan from work that can go on.
    """

    made: MadeBy
    batches: list[list[Group]]
    mark: str


def plan(method: Method, images: ImageSet, grouping: Grouping, batch_size: int, draw: int = 0) -> Plan:
    """The batches of `describe`, in order.

    Raises:
        InputError: no image, a batch of none, or a grouping that the set has no keys for.
    """
    if not len(images):
        raise InputError(f"there are no images in {images.root}. Give at least one.")
    if batch_size < 1:
        raise InputError(f"a batch of {batch_size} images is impossible. Give a batch size of 1 or more.")
    made, groups = made_by(method, grouping), _groups(method, images, grouping, draw)
    mark = f"{_key(images, made, groups)} in batches of {batch_size}"
    return Plan(made, list(pack(groups, batch_size)), mark)


@contextlib.contextmanager
def begun(planned: Plan, count: int, out: Path | None, bar: Progress) -> Iterator[Work]:
    """Where descriptors of `count` images are put: in memory, or on disk with what an earlier run has done.

    Raises:
        InputError: a place that cannot be written.
    """
    if out is None:
        yield InMemory(count, planned.made)
        return
    with OnDisk(Path(out), count, planned.made, planned.mark, bar.note) as work:
        yield work


def describe_one(method: Method, image: NDArray[np.uint8]) -> NDArray[np.float32]:  # (H, W, 3) -> (D,)
    """Describe one image that sees no other.

    Raises:
        ImageError: the method gives no descriptor for it.
    """
    vector = _vectors(method, method.preprocess(image)[None], None)
    if flaws(vector).any():
        raise ImageError("describe", _flaw(vector[0]))
    return vector.reshape(-1)


def cache_key(method: Method, images: ImageSet, grouping: Grouping = ALONE, draw: int = 0) -> str:
    """SHA-256 over all that decides the descriptors: names, sizes and times of the photos, method, groups."""
    return _key(images, made_by(method, grouping), _groups(method, images, grouping, draw))


def _key(images: ImageSet, made: MadeBy, groups: Sequence[Group]) -> str:
    digest = hashlib.sha256(KEY_FORMAT.encode())
    digest.update(json.dumps(made.to_dict(), sort_keys=True).encode())
    for index, name in enumerate(images.names):
        size, time_ns = size_and_time(images.path(index))  # of none, a Problem when it is read
        digest.update(os.fsencode(name) + f"\0{size}\0{time_ns}\0".encode())
    for group in groups:
        digest.update(len(group).to_bytes(8, "little") + group.astype("<i8").tobytes())
    return digest.hexdigest()


def _groups(method: Method, images: ImageSet, grouping: Grouping, draw: int) -> list[Group]:
    """Groups change nothing for a method that does not correlate, so it reads its images in order."""
    return (grouping if method.correlates else ALONE).groups(len(images), images.keys, draw)


def describe_batch(method: Method, loaded: Loaded, work: Work) -> Failures:
    """Describe what was read of a batch and put it away; return what failed."""
    if loaded.refusal:
        raise InputError(loaded.refusal)
    failures = dict(loaded.failures)
    for run in loaded.runs:
        vectors = _vectors(method, run.tensor, run.groups)
        bad = flaws(vectors)
        failures |= {int(run.indices[row]): ("describe", _flaw(vectors[row])) for row in np.flatnonzero(bad)}
        work.put(run.indices, vectors)  # those that failed are left out at the end
    return failures


def _vectors(
    method: Method,
    images: Tensor,  # (B, 3, h, w)
    groups: Sequence[int] | None,
) -> NDArray[np.float32]:  # (B, D)
    import torch

    with torch.inference_mode():
        vectors: NDArray[np.float32] = method.describe(images, groups).float().cpu().numpy()
    if vectors.shape != (len(images), method.dim):
        raise InputError(
            f"method {method.name} gave descriptors of shape {vectors.shape} for {len(images)} images, "
            f"not ({len(images)}, {method.dim}). Its `dim` or its `describe` is wrong."
        )
    return vectors


def _flaw(vector: NDArray[np.float32]) -> str:  # (D,)
    if not np.isfinite(vector).all():
        return "its descriptor is not finite"
    return f"its descriptor has length {np.linalg.norm(vector):.3g} instead of 1"


def finish(work: Work, images: ImageSet) -> Described:
    problems = tuple(Problem(images.names[index], *work.failed[index]) for index in sorted(work.failed))
    if len(problems) == len(images):
        work.give_up()
        first = problems[0]
        raise NothingDescribed(
            f"none of the {len(images)} photos in {images.root} could be described. "
            f"The first: {first.name}: {first.stage}: {first.reason}",
            problems,
        )
    kept = np.setdiff1d(np.arange(len(images)), np.fromiter(work.failed, np.int64))
    return Described(work.finish(tuple(images.names[index] for index in kept.tolist()), kept), kept, problems)
