"""Many pictures at once: over the cores, in order, independent of how many there are."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from PIL import Image

from cricavpr.town.hashing import Array
from cricavpr.town.render import render
from cricavpr.town.views import Split, Town, View, get_town, remember_town
from cricavpr.town.weather import CONDITIONS

Job = TypeVar("Job")
Result = TypeVar("Result")

EVERY_CONDITION: tuple[tuple[Split, str | None], ...] = (
    ("database", None),
    *[("query", condition) for condition in CONDITIONS],
)
_CHUNK = 32  # pictures handed to a process at a time


def render_arrays(
    town: Town,
    views: Sequence[View],
    image_size: tuple[int, int] = (112, 112),  # (h, w) pixels
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,  # called with (done, of)
    out: Array | None = None,  # (N, h, w, 3) uint8, for instance a memory map
) -> Array:  # (N, h, w, 3) uint8
    """Render all views into one array. The result does not depend on `workers`."""
    height, width = image_size
    pictures = np.empty((len(views), height, width, 3), np.uint8) if out is None else out
    remember_town(town)
    chunks = [
        (town.seed, len(town.places), list(views[k : k + _CHUNK]), image_size) for k in range(0, len(views), _CHUNK)
    ]
    done = 0
    for part in in_order(_render_chunk, chunks, workers):
        pictures[done : done + len(part)] = part
        done += len(part)
        if progress is not None:
            progress(done, len(views))
    return pictures


def _render_chunk(job: tuple[int, int, list[View], tuple[int, int]]) -> Array:
    seed, places, views, image_size = job
    town = get_town(seed, places)
    return np.stack([render(town, view.camera, view.scene, image_size) for view in views])


def in_order(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Results in the order of the jobs, from this process or from fresh ones."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        with _ctrl_c_blocked():
            results = pool.map(work, jobs)  # starts the processes
        yield from results
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Start processes that do not get Ctrl-C: their parent does, and ends them without a traceback."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def contact_sheet(
    town: Town,
    places: Sequence[int],
    visits: Sequence[tuple[Split, str | None]] = EVERY_CONDITION,
    image_size: tuple[int, int] = (112, 112),  # (h, w) pixels of one picture
    gap: int = 2,
) -> Image.Image:
    """Rows are places, columns are visits: (split, condition or None for the visit's own)."""
    height, width = image_size
    sheet = np.full((len(places) * (height + gap) - gap, len(visits) * (width + gap) - gap, 3), 255, np.uint8)
    for row, place in enumerate(places):
        for column, (split, condition) in enumerate(visits):
            view = town.view(place, column, split, condition)
            top, left = row * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = render(town, view.camera, view.scene, image_size)
    return Image.fromarray(sheet)
