"""Description of photos on a cluster, with the same result, byte for byte, as on one machine.

`describe_on` plans its batches and stores unfinished work with the functions of `describe`. So a run that began on a
cluster can be finished on one machine, and the other way round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cricavpr.cluster.on_ray import Address, connected, require_ray, spread
from cricavpr.cluster.tasks import Answer, Job, MethodSpec, Task, noise_digest, platform_here
from cricavpr.datasets.base import ImageSet
from cricavpr.describing import Described, Report
from cricavpr.describing.flow import finish, open_work, plan
from cricavpr.describing.reading import Batch, Failures
from cricavpr.describing.work import Work
from cricavpr.errors import InputError
from cricavpr.grouping import ALONE, Grouping
from cricavpr.methods.base import Method, made_by
from cricavpr.progress import Progress

STRETCH = 256  # batches that are given to the cluster at a time; all are finished before the next ones are given


def describe_on(
    address: Address,
    spec: MethodSpec,
    images: ImageSet,
    grouping: Grouping = ALONE,
    *,
    batch_size: int = 16,
    out: Path | None = None,
    progress: bool | Report = False,
) -> Described:
    """Describe every photo that can be read, on the machines of a Ray cluster.

    Args:
        address: the address of the cluster. Each of its machines needs this package with the extra "cluster", the
            weights, and the photos under the same path as on this machine.
        spec: the method and its settings. The method is loaded on this machine, too, to check that every machine
            computes the same bytes as this machine.
        grouping, batch_size, out, progress: as in `describe`.

    Raises:
        InputError: as `describe`; or the cluster cannot be reached or is lost; or a machine computes other bytes than
            this machine.
        MissingExtraError: Ray is not installed.
    """
    require_ray()  # first, because planning reads all photos, which takes long
    method = spec.load()
    spec = replace(spec, device=method.device)  # the same device on every machine, where "auto" may choose another
    planned = plan(method, images, grouping, batch_size)
    batches = planned.batches
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress(progress, len(images)))
        work = stack.enter_context(open_work(planned, len(images), out, bar))
        if work.done < len(batches):
            stack.enter_context(connected(address))
            bar.start(sum(len(group) for batch in batches[: work.done] for group in batch))
            job = _job(spec, method, grouping, images, batches[0])
            answers = stack.enter_context(contextlib.closing(_answers(job, images, batches, work.done, bar)))
            for number in _stored(work, answers, batches):
                bar.advance(sum(map(len, batches[number])))
        return finish(work, images)


def _job(spec: MethodSpec, method: Method, grouping: Grouping, images: ImageSet, first: Batch) -> Job:
    import torch

    sizes, root = tuple(map(len, first)), str(images.root.absolute())
    platform, noise = platform_here(spec.device), noise_digest(method, sizes)
    return Job(spec.absolute(), made_by(method, grouping), root, torch.get_num_threads(), platform, noise, sizes)


def _answers(job: Job, images: ImageSet, batches: Sequence[Batch], done: int, bar: Progress) -> Generator[Answer]:
    """Yield the answers for the batches, beginning with number `done`. The cluster gets `STRETCH` batches at a time."""
    for start in range(done, len(batches), STRETCH):
        numbers = range(start, min(start + STRETCH, len(batches)))
        yield from spread(job, [Task.of(number, batches[number], images) for number in numbers], bar.note)


def _stored(work: Work, answers: Iterable[Answer], batches: Sequence[Batch]) -> Iterator[int]:
    """Store the descriptors of each answer and yield the number of its batch.

    A batch is recorded as done only when all batches before it are done, because work resumes after the done batches.
    """
    waiting: dict[int, Failures] = {}
    for answer in answers:
        if answer.refusal is not None:
            raise InputError(answer.refusal)
        indices = np.concatenate(batches[answer.number])  # (b,) into the ImageSet
        if answer.vectors.shape != (len(indices), work.made.dim):
            raise InputError(
                f"batch {answer.number} has vectors of shape {answer.vectors.shape}, expected "
                f"{(len(indices), work.made.dim)}. Install the same version of this package on every machine."
            )
        work.put(indices, answer.vectors)
        waiting[answer.number] = {int(indices[place]): why for place, why in answer.failures.items()}
        while work.done in waiting:
            work.batch_done(waiting.pop(work.done))
        yield answer.number
