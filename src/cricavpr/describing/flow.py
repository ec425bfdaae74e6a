"""Description of photos: `describe` turns a set of photos into descriptors, and lists the photos that failed.

Worker processes read photos while the network computes. A photo that cannot be read is listed and left out of its
group; it does not stop the run. If the descriptors are written to a file, an interrupted run is resumed, and the file
is the same as after an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from cricavpr.methods.embedding import checked_descriptors, flaw
from cricavpr.progress import Progress, Report

KEY_FORMAT = "cricavpr.describe.1"


class NothingDescribed(InputError):
    """Raised when no photo could be described; `problems` lists all photos with the reasons."""

    def __init__(self, message: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True, eq=False)
class Described:
    """Result of `describe`.

    Attributes:
        descriptors: descriptors of the photos that could be described, in the order of the ImageSet.
        kept: (M,) indices of these photos in the ImageSet, increasing.
        problems: the photos that could not be described and why, in the order of the ImageSet.
    """

    descriptors: DescriptorSet
    kept: NDArray[np.int64]
    problems: tuple[Problem, ...]


def describe(
    method: Method,
    images: ImageSet,
    grouping: Grouping | str = ALONE,
    *,
    batch_size: int = 16,
    workers: int | None = None,
    out: Path | None = None,
    progress: bool | Report = False,
    draw: int = 0,
) -> Described:
    """Compute the descriptors of all photos of a set that can be read.

    Args:
        method: the method.
        images: the photos.
        grouping: which images influence one another, if the method correlates images; a `Grouping` or a text for
            `Grouping.parse`.
        batch_size: number of images that go through the network together, in complete groups; it does not change
            results.
        workers: number of processes that read photos; 0 reads them in this process, None chooses a number.
        out: file for the descriptors. Unfinished work is kept in a folder beside it, and the next run resumes it.
        progress: True for a progress bar on stderr, or a function that is called with (images done, all images).
        draw: number that is combined with the seed of a "shuffled" grouping, so that one seed gives several random
            orders. `evaluate` takes 0 for the database and 1 for the queries.

    Raises:
        InputError: there are no photos, no photo could be described, photos of one group differ in size, the grouping
            is by_key but the set has no keys, or a file cannot be written.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from cricavpr import ImageSet, load_method
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (64, 48), "teal").save(f"{folder}/a.jpg")
        ...     described = describe(load_method("pixels"), ImageSet(Path(folder), ("a.jpg", "missing.jpg")))
        >>> described.descriptors.vectors.shape, [problem.name for problem in described.problems]
        ((1, 2048), ['missing.jpg'])
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}.")
    planned = plan(method, images, Grouping.parse(grouping), batch_size, draw)
    workers = default_workers(len(images)) if workers is None else workers
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress(progress, len(images)))
        work = stack.enter_context(open_work(planned, len(images), out, bar))
        left = planned.batches[work.done :]
        bar.start(len(images) - sum(len(group) for batch in left for group in batch))
        reading = stack.enter_context(contextlib.closing(load(method, images, left, workers)))
        for batch, loaded in zip(left, reading, strict=True):
            work.batch_done(describe_batch(method, loaded, work))
            bar.advance(sum(map(len, batch)))
        return finish(work, images)


@dataclass(frozen=True, eq=False)
class Plan:
    """The batches of a run of `describe`, on one machine or on several.

    Attributes:
        made: provenance of the descriptors: method, weights and settings.
        batches: the batches in order; each holds the groups that go through the network together.
        mark: text that identifies the run. Unfinished work with another mark is not resumed.
    """

    made: MadeBy
    batches: list[list[Group]]
    mark: str


def plan(method: Method, images: ImageSet, grouping: Grouping, batch_size: int, draw: int = 0) -> Plan:
    """Plan the batches of `describe`. The arguments are those of `describe`.

    Raises:
        InputError: there are no images, the batch size is below 1, or the grouping is by_key but the set has no keys.
    """
    if not len(images):
        raise InputError(f"there are no images in {images.root}; expected at least one.")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    made, groups = made_by(method, grouping), _groups(method, images, grouping, draw)
    mark = f"{_key(images, made, groups)} in batches of {batch_size}"
    return Plan(made, list(pack(groups, batch_size)), mark)


@contextlib.contextmanager
def open_work(planned: Plan, count: int, out: Path | None, bar: Progress) -> Iterator[Work]:
    """Open the storage for the descriptors of a run, in this block.

    Args:
        planned: plan of the run.
        count: number of images.
        out: file for the descriptors, beside which unfinished work is kept and resumed; None keeps them in memory.
        bar: progress bar, through which notes are printed.
    """
    if out is None:
        yield InMemory(count, planned.made)
        return
    with OnDisk(Path(out), count, planned.made, planned.mark, bar.note) as work:
        yield work


def describe_one(method: Method, image: NDArray[np.uint8]) -> NDArray[np.float32]:  # (H, W, 3) -> (D,)
    """Return the descriptor of a single image.

    Raises:
        ImageError: the method cannot describe the image.

    Example:
        >>> from cricavpr import load_method
        >>> describe_one(load_method("pixels"), np.zeros((48, 64, 3), np.uint8))
        Traceback (most recent call last):
        cricavpr.errors.ImageError: its descriptor has length 0 instead of 1
    """
    vector = checked_descriptors(method, method.preprocess(image)[None], None)
    if flaws(vector).any():
        raise ImageError("describe", flaw(vector[0]))
    return vector.reshape(-1)


def cache_key(method: Method, images: ImageSet, grouping: Grouping = ALONE, draw: int = 0) -> str:
    """Return a SHA-256 of everything that decides descriptors: names, sizes and mtimes of photos, method and groups."""
    return _key(images, made_by(method, grouping), _groups(method, images, grouping, draw))


def _key(images: ImageSet, made: MadeBy, groups: Sequence[Group]) -> str:
    digest = hashlib.sha256(KEY_FORMAT.encode())
    digest.update(json.dumps(made.to_dict(), sort_keys=True).encode())
    for index, name in enumerate(images.names):
        size, time_ns = size_and_time(images.path(index))  # -1, -1 for a missing photo, which is reported when read
        digest.update(os.fsencode(name) + f"\0{size}\0{time_ns}\0".encode())
    for group in groups:
        digest.update(len(group).to_bytes(8, "little") + group.astype("<i8").tobytes())
    return digest.hexdigest()


def _groups(method: Method, images: ImageSet, grouping: Grouping, draw: int) -> list[Group]:
    """Return the groups of images. If the method does not correlate images, each image is a group of its own."""
    return (grouping if method.correlates else ALONE).groups(len(images), images.keys, draw)


def describe_batch(method: Method, loaded: Loaded, work: Work) -> Failures:
    """Compute the descriptors of a batch and store them in `work`; return the photos that failed.

    Raises:
        InputError: photos of one group differ in size.
    """
    if loaded.refusal:
        raise InputError(loaded.refusal)
    failures = dict(loaded.failures)
    for part in loaded.parts:
        vectors = checked_descriptors(method, part.images, part.groups)
        bad = np.flatnonzero(flaws(vectors))
        failures |= {int(part.indices[row]): ("describe", flaw(vectors[row])) for row in bad}
        work.put(part.indices, vectors)  # photos that failed are left out at the end
    return failures


def finish(work: Work, images: ImageSet) -> Described:
    """Return the result of `describe`, after the last batch has been described.

    Raises:
        InputError: no photo could be described.
    """
    problems = tuple(Problem(images.names[index], *work.failed[index]) for index in sorted(work.failed))
    if len(problems) == len(images):
        work.give_up()
        first = problems[0]
        raise NothingDescribed(
            f"none of the {len(images)} photos in {images.root} could be described. "
            f"The first problem: {first.name}: {first.stage}: {first.reason}",
            problems,
        )
    kept = np.setdiff1d(np.arange(len(images)), np.fromiter(work.failed, np.int64))
    return Described(work.finish(tuple(images.names[index] for index in kept.tolist()), kept), kept, problems)
