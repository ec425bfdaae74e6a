"""describe_on: as `describe`, with the batches spread over machines.

The plan is made here, by the very functions of `describe`: the same groups packed into the same batches, under
the same mark on the unfinished work. So either of the two goes on where the other stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cricavpr.cluster.address import Address
from cricavpr.cluster.footing import footing, noise_digest
from cricavpr.cluster.on_ray import Needs, connected, require_ray, spread
from cricavpr.cluster.tasks import Answer, Job, MethodSpec, Task
from cricavpr.datasets.base import ImageSet
from cricavpr.describing import Described, Report
from cricavpr.describing.flow import finish, open_work, plan
from cricavpr.describing.reading import Batch, Failures
from cricavpr.describing.work import Work
from cricavpr.errors import InputError
from cricavpr.grouping import ALONE, Grouping
from cricavpr.methods.base import Method, made_by
from cricavpr.progress import Progress

STRETCH = 256  # batches given to the cluster at a time: no batch is further ahead of the first unfinished one


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
    """Describe every image that can be read, on the machines of a Ray cluster.

    Args:
        address: the cluster. Every machine of it has this package, the extra "cluster", the weights and, under the
            same path, the photos.
        spec: the method. It is loaded here too: what this machine gives is what every other must give.
        grouping, batch_size, out, progress: as `describe`.

    Raises:
        InputError: as `describe`; the cluster cannot be reached or is lost; a machine that would give other bytes.
        MissingExtraError: Ray is not installed.
    """
    require_ray()  # said at once, not after a long look at the photos
    method = spec.load()
    spec = replace(spec, device=method.device)  # the same on every machine, where "auto" may choose another
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
            for number in _into(work, answers, batches):
                bar.advance(sum(map(len, batches[number])))
        return finish(work, images)


def _job(spec: MethodSpec, method: Method, grouping: Grouping, images: ImageSet, first: Batch) -> Job:
    import torch

    sizes = tuple(map(len, first))
    return Job(
        method=spec.absolute(),
        made=made_by(method, grouping),
        root=str(images.root.absolute()),
        threads=torch.get_num_threads(),
        footing=footing(spec.device),
        noise=noise_digest(method, sizes),
        noise_groups=sizes,
    )


def _answers(job: Job, images: ImageSet, batches: Sequence[Batch], done: int, bar: Progress) -> Generator[Answer]:
    """What the cluster gives for the batches from `done` on, in any order within a stretch."""
    needs = Needs(cpus=job.threads, gpus=int(job.method.device.startswith("cuda")))
    for start in range(done, len(batches), STRETCH):
        numbers = range(start, min(start + STRETCH, len(batches)))
        yield from spread(job, [Task.of(number, batches[number], images) for number in numbers], needs, bar.note)


def _into(work: Work, answers: Iterable[Answer], batches: Sequence[Batch]) -> Iterator[int]:
    """Put each answer away as it comes; count batches as done in their order, as the unfinished work has it."""
    waiting: dict[int, Failures] = {}
    for answer in answers:
        if answer.refusal is not None:
            raise InputError(answer.refusal)
        indices = np.concatenate(batches[answer.number])  # (b,) into the ImageSet
        if answer.vectors.shape != (len(indices), work.made.dim):
            raise InputError(
                f"batch {answer.number} came back as {answer.vectors.shape}, not {(len(indices), work.made.dim)}. "
                "Install the same version of this package on every machine."
            )
        work.put(indices, answer.vectors)
        waiting[answer.number] = {int(indices[place]): why for place, why in answer.failures.items()}
        while work.done in waiting:
            work.batch_done(waiting.pop(work.done))
        yield answer.number
