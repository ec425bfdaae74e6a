"""The training data of a run: its places, and the images of each step.

The images of a step depend only on the recipe and the number of the step. So a resumed run reads the same images as an
uninterrupted run, with any number of worker processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from cricavpr.datasets.base import Problem
from cricavpr.datasets.place_folder import open_places as open_on_disk
from cricavpr.datasets.places import PlaceDataset, TownPlaces
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.files import written_beside
from cricavpr.town import Town, render_arrays
from cricavpr.town.views import Split
from cricavpr.training.augment import AUGMENTS
from cricavpr.training.distributed import ALONE, World
from cricavpr.training.recipe import Recipe, Step
from cricavpr.training.sampling import SAMPLERS, Order, sample_place

_COMPANY = 1  # part of the seed, so that grouping and sampling draw different random numbers


# ---- places


def open_places(recipe: Recipe, pictures: Path, workers: int) -> PlaceDataset:
    """Open the places of a recipe. If it uses computer-drawn towns, draw the pictures that do not exist yet.

    Args:
        recipe: the recipe.
        pictures: folder for the pictures of drawn towns.
        workers: number of processes that draw.

    Raises:
        InputError: the data is missing, or has too few places for one step.
    """
    data, needed = recipe.data, recipe.step.images_per_place
    places: PlaceDataset
    if data.town is not None:
        town = data.town
        visits: list[tuple[Split, int]] = [("train", visit) for visit in range(town.views)]
        files = [draw_town(s, town.places, visits, recipe.image_size, pictures, workers) for s in town.seeds]
        places = TownPlaces.open(files).with_at_least(needed)
    else:
        assert data.disk is not None
        places = open_on_disk(Path(data.disk.path), data.disk.cities or None, needed)
    if len(places) < recipe.step.places:
        raise InputError(
            f"a step needs {recipe.step.places} places, but {places.name} has {len(places):,} with at least {needed} "
            "images. Lower step.places or step.images_per_place, or add data."
        )
    return places


def draw_town(
    seed: int,
    places: int,
    visits: list[tuple[Split, int]],
    image_size: tuple[int, int],  # (h, w)
    folder: Path,
    workers: int,
) -> Path:
    """Draw the pictures of a computer-drawn town into one .npy file, unless the file exists; return its path.

    The file holds an array (places, visits, h, w, 3). Its name has a hash of all arguments that decide its content.

    Args:
        seed: seed of the town.
        places: number of places.
        visits: the pictures to draw of each place; each is given by a split and the number of a visit.
        image_size: height and width of a picture in pixels.
        folder: folder of the file.
        workers: number of processes that draw.
    """
    key = json.dumps([seed, places, visits, image_size])
    path = folder / f"town-{seed}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        town = Town(seed, places)
        views = [town.view(place, visit, split) for place in range(places) for split, visit in visits]
        drawn = render_arrays(town, views, image_size, workers)
        with written_beside(path) as beside, beside.open("wb") as file:
            np.save(file, drawn.reshape(places, len(visits), *drawn.shape[1:]))
    return path


# ---- steps


class StepData(NamedTuple):
    """The data of one step, or one process's share of it."""

    images: Tensor  # (b, h, w, 3) uint8
    places: Tensor  # (b,) the id of the place of each image
    group_size: int  # images in a group; 0 puts all images of a forward pass into one group
    problems: tuple[Problem, ...]  # photos that could not be used, from all processes
    positions: Tensor  # (b,) indices of these images in the whole step, increasing
    waited_s: float = 0.0  # seconds that training waited for this data


class Steps(torch.utils.data.Dataset[StepData | InputError]):
    """The steps of a run as a dataset: item i is the data of step i.

    An epoch shows each place once, except for the last places if they do not fill a step. If several processes train,
    each process reads a share of the places of every step, chosen by its rank.

    Raises:
        InputError: the steps of the recipe cannot be shared by several processes.
    """

    def __init__(self, recipe: Recipe, places: PlaceDataset, world: World = ALONE) -> None:
        refuse_unshareable(recipe.step, world.count)
        self.recipe, self.places, self.world = recipe, places, world
        self.per_epoch = len(places) // recipe.step.places
        self.count = recipe.steps or recipe.epochs * self.per_epoch
        self._orders: dict[int, Order] = {}  # only of the epoch that was read last

    def place_indices(self, step: int) -> list[int]:
        """Return the indices of the places of a step, or of this process's share of them."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch not in self._orders:
            self._orders = {epoch: SAMPLERS[self.recipe.data.sampler](self.places.places, self.recipe.seed, epoch)}
        share = self.recipe.step.places // self.world.count
        start = position * self.recipe.step.places + self.world.rank * share
        indices: list[int] = self._orders[epoch][start : start + share].tolist()
        return indices

    def company(self, step: int) -> tuple[NDArray[np.int64], int]:
        """Return the order in which a step's images are divided into groups, (B,), and the group size.

        If the recipe's group_scope is "rank", the images of each process are shuffled among themselves.
        """
        wanted = self.recipe.step
        random = np.random.default_rng([self.recipe.seed, step, _COMPANY])
        reach = wanted.images // self.world.count if wanted.group_scope == "rank" else wanted.images
        order = np.arange(wanted.images)
        if wanted.members == "across":
            order = np.concatenate([random.permutation(part) for part in order.reshape(-1, reach)])
        return order, int(random.choice(wanted.group_sizes))

    def load(self, step: int) -> StepData:
        """Read the images of a step, or this process's share of them."""
        recipe, epoch = self.recipe, step // self.per_epoch
        augment, size = AUGMENTS[recipe.data.augment], recipe.image_size
        samples = [
            sample_place(self.places, place, recipe.step.images_per_place, size, augment, seed=recipe.seed, epoch=epoch)
            for place in self.place_indices(step)
        ]
        images = np.concatenate([sample.images for sample in samples])
        labels = np.array([sample.place_id for sample in samples for _ in sample.images])
        order, group_size = self.company(step)
        rank, rows = np.divmod(order, len(images))  # rank of the process that has an image, and its row there
        positions = np.flatnonzero(rank == self.world.rank)
        mine = rows[positions]
        problems = tuple(problem for sample in samples for problem in sample.problems)
        pictures, places, where = map(torch.from_numpy, (images[mine], labels[mine], positions))
        return StepData(pictures, places, group_size, problems, where)

    def read(self, first: int, workers: int) -> Generator[StepData, None, None]:
        """Yield the data of step `first` and of all later steps.

        `workers` processes read in advance; with 0 workers, this process reads the data.
        """
        loader: DataLoader[Any] = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, self.count),
            collate_fn=_unchanged,
            num_workers=workers,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # else DataLoader would draw from torch's random numbers
        )
        loading = iter(loader)
        for _ in range(first, self.count):
            began = time.monotonic()
            with self.world.together(), _worker_errors():
                data = next(loading)
                if isinstance(data, InputError):
                    raise data
            problems = data.problems
            if self.world.max(len(problems)) != [0]:
                problems = tuple(itertools.chain.from_iterable(self.world.gather_values(problems)))
            yield data._replace(problems=problems, waited_s=time.monotonic() - began)

    def __getitem__(self, step: int) -> StepData | InputError:
        """Return the data of a step, for DataLoader.

        An InputError is returned, not raised, because DataLoader would add the worker's traceback to the message.
        """
        try:
            return self.load(step)
        except InputError as error:
            return error


def _unchanged(item: object) -> object:
    return item


@contextlib.contextmanager
def _worker_errors() -> Generator[None, None, None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise CricaVPRError(
            f"a process that reads pictures has ended ({reason}). Continue the run with --resume; if memory was "
            "short, use fewer --workers."
        ) from error


def _ignore_signals(worker: int) -> None:
    """Ignore SIGTERM and SIGINT in a worker: the training process handles them, and still needs the worker's data."""
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def refuse_unshareable(step: Step, processes: int) -> None:
    """Raise InputError if the result of a step shared by several processes could differ from that of one process."""
    if processes == 1:
        return
    if step.places % processes:
        raise InputError(
            f"step.places must be a multiple of the number of processes, got {step.places} places and {processes} "
            "processes."
        )
    if step.images_at_once:
        raise InputError(
            f"step.images_at_once must be 0 with several processes, got {step.images_at_once} with {processes}. "
            "Set step.images_at_once=0; batch norm then uses all images of the step."
        )
    most = step.images // processes
    if step.group_scope == "rank" and max(step.group_sizes) > most:
        raise InputError(
            f"step.group_sizes must be at most {most}, the number of images in each of {processes} processes, if "
            f"step.group_scope is 'rank'; got {max(step.group_sizes)}. Lower step.group_sizes, or set "
            "step.group_scope=world."
        )
