"""Computation of the descriptors of one dataset in many arrangements, for an audit. Descriptors are kept in files.

An arrangement consists of a grouping, an order of the images, a batch size and a precision.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.describing import Described, cache_key
from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import Precision
from cricavpr.evaluation.streaming import describe_once, in_precision
from cricavpr.grouping import ALONE, Group, Grouping
from cricavpr.methods.base import Method
from cricavpr.progress import Report

Vectors = NDArray[np.float32]  # (N, D), one row for each photo that can be described alone


@dataclass(frozen=True, eq=False)
class Sides:
    """Descriptors of database and queries under one arrangement.

    Attributes:
        database, queries: the descriptors.
        groups: the groups of the database, and the groups of the queries. A group consists of indices of photos.
    """

    database: Vectors
    queries: Vectors
    groups: tuple[Sequence[Group], Sequence[Group]]


class Arrangements:
    """A method and a dataset. The method describes the dataset in any arrangement.

    Args:
        folder: folder for the descriptors, so that an interrupted audit can continue.

    Attributes:
        alone: descriptors of database and queries, with every photo described alone. Photos that cannot be described
            alone are left out of all arrangements.
        images: photos of the database and of the queries that can be described alone.
    """

    def __init__(
        self,
        method: Method,
        dataset: EvalDataset,
        folder: Path,
        workers: int | None = None,
        progress: bool | Report = False,
    ) -> None:
        self.method, self.dataset, self.folder = method, dataset, folder
        self.how: dict[str, Any] = {"workers": workers, "progress": progress}
        sides = dataset.database, dataset.queries
        self.alone = [self._describe(method, images, ALONE, 0, 16) for images in sides]
        self.images = [images.take(one.kept) for images, one in zip(sides, self.alone, strict=True)]

    def described(
        self,
        grouping: Grouping = ALONE,
        *,
        order_seed: int | None = None,
        batch_size: int = 16,
        precision: Precision = "fp32",
        elsewhere: Method | None = None,
    ) -> Sides:
        """Describe database and queries under one arrangement.

        Args:
            order_seed: first reorder the photos by `far_apart` with this seed, so that the photos of a group come from
                distant places. None keeps the file order.
            precision: number format in which the network computes.
            elsewhere: the same method on another device, to use instead of the method.
        """
        method = in_precision(self.method, precision)
        if elsewhere is not None:
            method = copy.copy(elsewhere)
            method.preprocessing += f"; {elsewhere.device}"  # so that the files of its descriptors have different names
        vectors, groups = [], []
        for draw, images in enumerate(self.images):
            order = np.arange(len(images)) if order_seed is None else far_apart(images, grouping, order_seed, draw)
            laid_out = images if order_seed is None else images.take(order)
            made = self._describe(method, laid_out, grouping, draw, batch_size)
            vectors.append(_in_order(made, images.names))
            groups.append([order[group] for group in grouping.groups(len(images), laid_out.keys, draw)])
        return Sides(vectors[0], vectors[1], (groups[0], groups[1]))

    def part(self, side: int, rows: NDArray[np.int64], grouping: Grouping) -> Vectors:
        """Describe some photos of the database or the queries.

        Args:
            side: 0 for the database, 1 for the queries.
            rows: rows of `images[side]`.
        """
        images = self.images[side].take(rows)
        return _in_order(self._describe(self.method, images, grouping, side, 16), images.names)

    def _describe(self, method: Method, images: ImageSet, grouping: Grouping, draw: int, batch_size: int) -> Described:
        """Describe the images, or read the file of an earlier call with the same arguments.

        The file name depends on the batch size too, because the audit compares batch sizes.
        """
        key = hashlib.sha256(f"{cache_key(method, images, grouping, draw)} {batch_size}".encode()).hexdigest()[:24]
        out = self.folder / f"{method.name}-{key}.safetensors"
        return describe_once(method, images, grouping, out=out, batch_size=batch_size, draw=draw, **self.how)


def _in_order(described: Described, names: tuple[str, ...]) -> Vectors:
    made = described.descriptors
    if made.names == names:
        return made.vectors
    row_of = {name: row for row, name in enumerate(made.names)}
    if lost := [name for name in names if name not in row_of]:
        raise InputError(
            f"{lost[0]} was described alone, but could not be described with the grouping {made.made_by.grouping}. "
            "Check this photo, or remove it from the dataset."
        )
    return made.vectors[[row_of[name] for name in names]]


def far_apart(images: ImageSet, grouping: Grouping, seed: int, draw: int) -> Group:
    """Return an order of the photos in which each group has photos from all over the set.

    The photos are sorted from west to east, or stay in file order if they have no positions. They are cut into as many
    strips as a group has photos. Each group then takes one random photo from every strip.

    Args:
        grouping: gives the number of photos in a group.
        seed: seed of the random choice.
        draw: 0 for the database, 1 for the queries, so that the two get different orders.
    """
    size = grouping.size or 1
    line = np.arange(len(images))
    if images.positions is not None and images.positions.known.any():
        line = np.lexsort((line, images.positions.metres[:, 1], images.positions.metres[:, 0]))
    generator = np.random.default_rng([seed, draw, 2])
    strips = [generator.permutation(strip) for strip in np.array_split(line, size)]
    longest = max(map(len, strips))
    return np.array([strip[place] for place in range(longest) for strip in strips if place < len(strip)], np.int64)
