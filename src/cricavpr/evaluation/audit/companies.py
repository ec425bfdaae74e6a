"""Descriptors of one dataset in many companies, each made once and kept in files while the audit lasts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.describing import Report, cache_key, describe
from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError
from cricavpr.evaluation.precision import in_precision
from cricavpr.evaluation.protocols import Precision
from cricavpr.grouping import ALONE, Group, Grouping
from cricavpr.methods.base import Method

Vectors = NDArray[np.float32]  # (N, D), in the order of the images that gave a descriptor alone


@dataclass(frozen=True, eq=False)
class Sides:
    """Descriptors of both sides in one company.

    Attributes:
        groups: who was described with whom, of database and queries, as indices into each set.
    """

    database: Vectors
    queries: Vectors
    groups: tuple[Sequence[Group], Sequence[Group]]


@dataclass(frozen=True)
class Companies:
    """One method and one dataset; `described` gives both sides in the company that is asked for.

    Attributes:
        folder: keeps the descriptors; a run that was interrupted takes them up.
        names: of the photos that give a descriptor alone, of database and queries; None before `alone` was asked for.
    """

    method: Method
    dataset: EvalDataset
    folder: Path
    workers: int | None = None
    progress: bool | Report = False
    names: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    def with_names(self) -> Companies:
        """Describe every photo alone: those that cannot be read are left out of all that follows."""
        sides = [self._descriptors(self.method, images, ALONE, 0, 16) for images in self.images]
        return replace(self, names=(sides[0].names, sides[1].names))

    @property
    def images(self) -> tuple[ImageSet, ImageSet]:
        return self.dataset.database, self.dataset.queries

    def described(
        self,
        grouping: Grouping = ALONE,
        *,
        order_seed: int | None = None,
        batch_size: int = 16,
        precision: Precision = "fp32",
    ) -> Sides:
        """Both sides in one company, every photo once.

        Args:
            order_seed: lay the photos out anew first, so that those next to one another stand far apart.
            precision: of the network's arithmetic.
        """
        return self._sides(in_precision(self.method, precision), grouping, order_seed, batch_size)

    def on_device(self, other: Method) -> Sides:
        """Both sides alone, by the same method on another device."""
        return self._sides(OnAnotherDevice(other), ALONE, None, 16)

    def part(self, side: int, rows: NDArray[np.int64], grouping: Grouping) -> Vectors:
        """Some photos of one side; rows count what gave a descriptor alone."""
        images = self._known(side).take(rows)
        return self._in_order(self._descriptors(self.method, images, grouping, side, 16), images.names)

    def _sides(self, method: Method, grouping: Grouping, order_seed: int | None, batch_size: int) -> Sides:
        vectors, groups = [], []
        for draw in (0, 1):
            images = self._known(draw)
            order = np.arange(len(images)) if order_seed is None else far_apart(images, grouping, order_seed, draw)
            laid_out = images if order_seed is None else images.take(order)
            made = self._descriptors(method, laid_out, grouping, draw, batch_size)
            vectors.append(self._in_order(made, images.names))
            groups.append([order[group] for group in grouping.groups(len(images), laid_out.keys, draw)])
        return Sides(vectors[0], vectors[1], (groups[0], groups[1]))

    def _known(self, side: int) -> ImageSet:
        """The photos of a side that can be described."""
        images = self.images[side]
        assert self.names is not None, "ask with_names() first"
        if len(self.names[side]) == len(images):
            return images
        known = set(self.names[side])
        return images.take([row for row, name in enumerate(images.names) if name in known])

    def _descriptors(
        self, method: Method, images: ImageSet, grouping: Grouping, draw: int, batch_size: int
    ) -> DescriptorSet:
        """From the folder where they lie there already. The batch is part of the name: the audit compares batches."""
        key = hashlib.sha256(f"{cache_key(method, images, grouping, draw)} {batch_size}".encode()).hexdigest()[:24]
        out = self.folder / f"{method.name}-{key}.safetensors"
        if out.exists():
            return DescriptorSet.load(out)
        return describe(
            method,
            images,
            grouping,
            batch_size=batch_size,
            workers=self.workers,
            out=out,
            progress=self.progress,
            draw=draw,
        ).descriptors

    @staticmethod
    def _in_order(made: DescriptorSet, names: tuple[str, ...]) -> Vectors:
        if made.names == names:
            return made.vectors
        row_of = {name: row for row, name in enumerate(made.names)}
        lost = [name for name in names if name not in row_of]
        if lost:
            raise InputError(
                f"{lost[0]} gives a descriptor alone and none in company ({made.made_by.grouping}). "
                "Leave it out of the dataset, or look at it."
            )
        return made.vectors[[row_of[name] for name in names]]


def far_apart(images: ImageSet, grouping: Grouping, seed: int, draw: int) -> Group:
    """An order in which each run of `grouping.size` photos comes from so many different parts of the set.

    The set is laid out from west to east (in file order where positions are unknown) and cut into strips; a run takes
    one photo of each strip, by lot.
    """
    size = grouping.size or 1
    line = np.arange(len(images))
    if images.positions is not None and images.positions.known.any():
        line = np.lexsort((line, images.positions.metres[:, 1], images.positions.metres[:, 0]))
    generator = np.random.default_rng([seed, draw, 2])
    strips = [generator.permutation(strip) for strip in np.array_split(line, size)]
    longest = max(map(len, strips))
    return np.array([strip[place] for place in range(longest) for strip in strips if place < len(strip)], np.int64)


class OnAnotherDevice:
    """The same method computed elsewhere: the name of the device is part of how its descriptors are kept apart."""

    def __init__(self, method: Method) -> None:
        self.name, self.dim, self.correlates = method.name, method.dim, method.correlates
        self.image_size, self.weights, self.device = method.image_size, method.weights, method.device
        self.preprocess, self.describe = method.preprocess, method.describe
        self.preprocessing = f"{method.preprocessing}; {method.device}"
