"""Render views of a town: turn a camera and a scene into pixels, for one view or many.

Pixels are computed only with + - * / sqrt floor min max and comparisons. IEEE 754 defines these to the last bit, so a
picture is the same on every machine.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np

from cricavpr.progress import Progress, Report
from cricavpr.town.bodies import draw_bodies
from cricavpr.town.camera import Camera, to_camera_frame
from cricavpr.town.ground import draw_ground
from cricavpr.town.hashing import Array
from cricavpr.town.views import Buffer, Shot, Town, View
from cricavpr.town.walls import draw_walls
from cricavpr.town.weather import Scene, add_haze, add_precipitation, develop, paint_sky

Job = TypeVar("Job")
Result = TypeVar("Result")

_CHUNK = 32  # pictures that a process renders before it returns them
_LAMP_COLOUR = (1.0, 0.80, 0.50)
_LAMP_REACH_M = 55.0
_LAMP_HEIGHT_M = 4.7


@dataclass(frozen=True, eq=False, repr=False)
class Rendering:
    """A picture, with the depth of each pixel and the number of the surface that it shows."""

    image: Array  # (h, w, 3) uint8
    depth_m: Array  # (h, w) float32 metres along the optical axis; infinite in the sky
    surface: Array  # (h, w) int32: SKY, GROUND, a wall, STANDING + k (tree, lamp), PASSING + k (car, passer-by)

    def __repr__(self) -> str:
        return "Rendering({} x {} px)".format(*self.depth_m.shape)


def render(
    town: Town,
    camera: Camera,
    scene: Scene,
    image_size: tuple[int, int] = (224, 224),  # (h, w) pixels
) -> Array:  # (h, w, 3) uint8
    """Render one view.

    Example:
        >>> town = Town(seed=1, places=5)
        >>> view = town.view(0, visit=0, split="query", condition="night")
        >>> render(town, view.camera, view.scene, (48, 64)).shape
        (48, 64, 3)
    """
    return np.asarray(render_with_depth(town, camera, scene, image_size).image)


def render_with_depth(
    town: Town,
    camera: Camera,
    scene: Scene,
    image_size: tuple[int, int] = (224, 224),  # (h, w) pixels
) -> Rendering:
    """Render one view, with the depth in metres and the surface number of each pixel."""
    height, width = image_size
    shot = Shot(town, camera, scene, image_size)
    buffer = Buffer(height * width)
    draw_walls(buffer, shot)
    draw_ground(buffer, shot)
    draw_bodies(buffer, shot)
    picture = _light(buffer, shot).reshape(3, height, width)
    add_precipitation(picture, shot.weather, scene.view_seed)
    depth = buffer.forward.reshape(height, width) / shot.rays.advance
    return Rendering(develop(picture, scene), depth, buffer.surface.reshape(height, width))


def _light(buffer: Buffer, shot: Shot) -> Array:  # (3, P) float32
    """Return the picture with light: surface colours in daylight and lamp light, seen through haze, and the sky."""
    weather, axes = shot.weather, shot.axes
    picture = np.empty_like(buffer.albedo)
    lamps = _lamp_light(buffer, shot) if weather.lamps > 0 else None
    for c in range(3):
        light = np.float32(weather.ambient[c]) + np.float32(weather.sun[c]) * buffer.direct
        if lamps is not None:
            light = light + lamps * np.float32(_LAMP_COLOUR[c])
        picture[c] = buffer.albedo[c] * light + buffer.light[c] * np.float32(0.9 if weather.lit else 0.0)
    solid = np.isfinite(buffer.forward)
    reach = np.where(solid, buffer.forward, 0) * np.sqrt(1 + shot.tangent * shot.tangent)
    add_haze(picture, reach, weather)
    sky = np.flatnonzero(~solid)
    if len(sky):
        t = shot.tangent[sky]
        east = t * np.float32(axes.right[0]) + np.float32(axes.forward[0])
        north = t * np.float32(axes.right[1]) + np.float32(axes.forward[1])
        picture[:, sky] = paint_sky(weather, east, north, shot.slope[sky], shot.scene.view_seed)
    return picture


def _lamp_light(buffer: Buffer, shot: Shot) -> Array:  # (P,) float32
    """Return the light of street lamps on each pixel. It falls with the square of the distance."""
    furniture, camera = shot.town.furniture, shot.camera
    index = np.sort(furniture.lamp_near.within(camera.x_m, camera.y_m, _LAMP_REACH_M))
    right, forward = to_camera_frame(camera, furniture.lamps_m[index, 0], furniture.lamps_m[index, 1])
    near = (forward > -8) & (forward < 60) & (np.abs(right) < np.abs(forward) * 1.2 + 12)
    y = np.where(np.isfinite(buffer.forward), buffer.forward, np.float32(1e4))
    x, z = shot.tangent * y, shot.slope * y
    total = np.zeros_like(y)
    lamp_z = np.float32(_LAMP_HEIGHT_M - camera.height_m)
    for lamp_x, lamp_y in zip(right[near].tolist(), forward[near].tolist(), strict=True):
        dx, dy, dz = x - np.float32(lamp_x), y - np.float32(lamp_y), z - lamp_z
        total += 1 / (dx * dx + dy * dy + dz * dz + np.float32(14))
    return np.asarray(np.minimum(total * np.float32(13.0 * shot.weather.lamps), np.float32(1.1)))


# --- many views


def render_arrays(
    town: Town,
    views: Sequence[View],
    image_size: tuple[int, int] = (112, 112),  # (h, w) pixels
    workers: int = 1,
    progress: bool | Report = False,
) -> Array:  # (N, h, w, 3) uint8
    """Render several views into one array. `workers` is the number of processes, which does not affect the result.

    Example:
        >>> town = Town(seed=1, places=5)
        >>> render_arrays(town, [town.view(place, 0, "database") for place in range(5)], (32, 32)).shape
        (5, 32, 32, 3)
    """
    height, width = image_size
    pictures = np.empty((len(views), height, width, 3), np.uint8)
    chunks = [(list(views[k : k + _CHUNK]), image_size) for k in range(0, len(views), _CHUNK)]
    done = 0
    with Progress(progress, len(views), "pictures") as counting:
        for part in in_order(_render_chunk, town, chunks, workers):
            pictures[done : done + len(part)] = part
            done += len(part)
            counting.reach(done, len(views))
    return pictures


def _render_chunk(town: Town, chunk: tuple[list[View], tuple[int, int]]) -> Array:
    views, image_size = chunk
    return np.stack([render(town, view.camera, view.scene, image_size) for view in views])


def in_order(work: Callable[[Town, Job], Result], town: Town, jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Yield `work(town, job)` for each job, in order. If `workers` is more than 1, new processes do the work."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(partial(work, town), jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _receive, (town,))
    try:
        with _ctrl_c_blocked():
            results = pool.map(partial(_work_on_received, work), jobs)  # starts the processes
        yield from results
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Make processes that are started in this block ignore Ctrl-C. Their parent receives it and ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_received: list[Town] = []  # in a worker process: the town, which is sent only once


def _receive(town: Town) -> None:
    _received[:] = [town]


def _work_on_received(work: Callable[[Town, Job], Result], job: Job) -> Result:
    return work(_received[0], job)
