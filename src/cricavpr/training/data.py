"""Steps: which places each shows, in which order, and in which company. All of it follows from the seed and the
number of the step, so a run that goes on sees what it would have seen, whatever the number of workers.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from cricavpr.datasets.base import Problem
from cricavpr.datasets.place_folder import open_places as open_on_disk
from cricavpr.datasets.places import PlaceDataset, TownPlaces
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.training.augment import get_augment
from cricavpr.training.distributed import ALONE, World
from cricavpr.training.pictures import TownPictures, render_towns
from cricavpr.training.recipe import Recipe, Step
from cricavpr.training.samplers import make_sampler
from cricavpr.training.samples import Batch, Samples, collate

_INPUT_ERROR = f"{InputError.__module__}.{InputError.__qualname__}"
_COMPANY = 1  # a stream of random numbers apart from the samples'


def open_places(recipe: Recipe, pictures: Path, workers: int) -> PlaceDataset:
    """The places of the recipe's data; pictures of towns are drawn into `pictures` when they are not there yet.

    Raises:
        InputError: the data is not there, or has too few places for one step.
    """
    data, needed = recipe.data, recipe.step.images_per_place
    places: PlaceDataset
    if data.town is not None:
        wanted = TownPictures(data.town.seeds, data.town.places, data.town.views, recipe.image_size)
        places = TownPlaces.open(render_towns(wanted, pictures, workers)).with_at_least(needed)
    else:
        assert data.disk is not None
        places = open_on_disk(Path(data.disk.path), data.disk.cities or None, needed)
    if len(places) < recipe.step.places:
        raise InputError(
            f"{places.name} has {len(places):,} places with {needed} images, and a step takes {recipe.step.places}. "
            "Lower step.places or step.images_per_place, or add data."
        )
    return places


class Company(NamedTuple):
    """The order of the images of a whole step (B,), and the size of its groups."""

    order: NDArray[np.int64]
    group_size: int


class StepData(NamedTuple):
    """One step, or one process's share of it, ready: places are labels, whatever their number."""

    images: Tensor  # (b, h, w, 3) bytes
    places: Tensor  # (b,)
    group_size: int
    problems: tuple[Problem, ...]
    positions: Tensor  # (b,) which images of the whole step these are, rising


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a run. An epoch shows each place once; those that do not fill a last step are left out.

    Where several processes train each has a share of the places of every step, one after another by rank.

    Raises:
        InputError: a step cannot be shared among so many processes.
    """

    recipe: Recipe
    places: PlaceDataset
    world: World = ALONE

    def __post_init__(self) -> None:
        refuse_what_cannot_be_shared(self.recipe.step, self.world.count)

    @property
    def per_epoch(self) -> int:
        return len(self.places) // self.recipe.step.places

    @property
    def count(self) -> int:
        return self.recipe.steps or self.recipe.epochs * self.per_epoch

    def keys(self, first: int) -> Iterator[list[tuple[int, int]]]:
        """What to read for step `first` and each after it: (epoch, index of a place), P of them or a share."""
        sampler = make_sampler(self.recipe.data.sampler, self.places, self.recipe.seed)
        for epoch in range(first // self.per_epoch, -(-self.count // self.per_epoch)):
            order = sampler.order(epoch).tolist()
            for position in range(self.per_epoch):
                step = epoch * self.per_epoch + position
                if first <= step < self.count:
                    share = self.recipe.step.places // self.world.count
                    start = position * self.recipe.step.places + self.world.rank * share
                    yield [(epoch, place) for place in order[start : start + share]]

    def company(self, step: int) -> Company:
        """Who shares a group in this step. Groups within a process come out of a shuffle within each process."""
        wanted = self.recipe.step
        random = np.random.default_rng([self.recipe.seed, step, _COMPANY])
        reach = wanted.images // self.world.count if wanted.group_scope == "rank" else wanted.images
        order = np.arange(wanted.images)
        if wanted.members == "across":
            order = np.concatenate([random.permutation(part) for part in order.reshape(-1, reach)])
        return Company(order, int(random.choice(wanted.group_sizes)))

    def read(self, first: int, workers: int) -> Generator[StepData, None, None]:
        """Steps from `first` on, read by `workers` processes; 0 reads here.

        Raises:
            InputError: the data is broken through and through.
            CricaVPRError: a process that reads ended.
        """
        samples = Samples(
            self.places,
            self.recipe.step.images_per_place,
            self.recipe.image_size,
            get_augment(self.recipe.data.augment),
            self.recipe.seed,
        )
        loader = DataLoader(
            samples,
            batch_sampler=_Keys(self, first),  # keys are pairs, not numbers
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=_leave_signals_to_the_parent,
            generator=torch.Generator(),  # its own: drawing from torch's would shift what follows a restart
        )
        try:
            for step, batch in enumerate(loader, first):
                yield self._arranged(step, batch)
        except InputError as error:  # it comes back from a worker with the worker's traceback
            raise InputError(str(error).strip().splitlines()[-1].removeprefix(f"{_INPUT_ERROR}: ")) from None
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise CricaVPRError(
                f"a process that reads pictures ended ({reason}). Go on with --resume, and with fewer --workers if "
                "memory is short."
            ) from error

    def _arranged(self, step: int, batch: Batch) -> StepData:
        order, group_size = self.company(step)
        own, rows = np.divmod(order, len(batch.images))  # whose each is, and its row there
        positions = torch.from_numpy(np.flatnonzero(own == self.world.rank))
        mine = torch.from_numpy(rows)[positions]
        return StepData(batch.images[mine], batch.place_ids[mine], group_size, batch.problems, positions)


def refuse_what_cannot_be_shared(step: Step, processes: int) -> None:
    """A step that several processes cannot do as one would.

    Raises:
        InputError: its places do not divide, its forward passes are not theirs, or a group is larger than a process.
    """
    if processes == 1:
        return
    if step.places % processes:
        raise InputError(
            f"step.places = {step.places} does not divide among {processes} processes. Choose a multiple, or as many "
            "processes as divide it."
        )
    if step.images_at_once:
        raise InputError(
            f"step.images_at_once = {step.images_at_once} stands for the devices of one process, and there are "
            f"{processes} processes. Set step.images_at_once=0: batch norm then sees the whole step."
        )
    most = step.images // processes
    if step.group_scope == "rank" and max(step.group_sizes) > most:
        raise InputError(
            f"step.group_sizes has {max(step.group_sizes)}, and with step.group_scope = 'rank' each of {processes} "
            f"processes has {most} images. Lower it, or take step.group_scope=world."
        )


@dataclass(frozen=True, eq=False)
class _Keys:
    """What DataLoader calls a batch sampler."""

    steps: Steps
    first: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.steps.keys(self.first)


def _leave_signals_to_the_parent(worker: int) -> None:
    """A signal to the whole family must not take the readers from a parent that wants to save its work."""
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
