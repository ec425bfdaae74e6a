"""Groupings: which images are described together, so that they influence each other's descriptors.

A CricaVPR descriptor depends on the other images of its group, so every result records its grouping. A batch is
something else. It consists of complete groups that go through the network at once for speed. It never changes a
descriptor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cricavpr.errors import InputError

Kind = Literal["alone", "in_order", "shuffled", "by_key"]
Group = NDArray[np.int64]  # (g,) indices into an ImageSet

SYNTAX = "alone, in_order:N, shuffled:N:SEED or by_key"


@dataclass(frozen=True, repr=False)
class Grouping:
    """Division of images into groups that are described together.

    The kinds are:

    alone        each image is its own group; the default for indexing and locating
    in_order     `size` consecutive images form a group; the last may be shorter; the protocol of the paper (size 16,
                 or 8 for Pittsburgh)
    shuffled     like in_order, after a random shuffle of the images by `seed`
    by_key       images with the same key form a group, such as a panorama or a sequence

    Raises:
        InputError: the size or the seed is missing for this kind, given for a kind without it, or out of range.

    Example:
        >>> Grouping.parse("in_order:2").groups(5)
        [array([0, 1]), array([2, 3]), array([4])]
    """

    kind: Kind = "alone"
    size: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        wants_size = self.kind in ("in_order", "shuffled")
        if wants_size != (self.size is not None) or (self.kind == "shuffled") != (self.seed is not None):
            raise InputError(
                f"invalid grouping {self.kind!r} with size {self.size} and seed {self.seed}. Use {SYNTAX}."
            )
        if self.size is not None and self.size < 1:
            raise InputError(f"the size of a group must be at least 1, got {self.size}.")
        if self.seed is not None and self.seed < 0:
            raise InputError(f"the seed of a shuffle must be at least 0, got {self.seed}.")

    def __repr__(self) -> str:
        return f"<Grouping {self}>"

    @classmethod
    def parse(cls, text: str | Grouping) -> Grouping:
        """Parse `alone`, `in_order:SIZE`, `shuffled:SIZE:SEED` or `by_key`; a Grouping is returned unchanged.

        Raises:
            InputError: the text has none of these forms.
        """
        if isinstance(text, Grouping):
            return text
        kind, *numbers = text.strip().split(":")
        counts = {"alone": 0, "by_key": 0, "in_order": 1, "shuffled": 2}
        if kind not in counts or len(numbers) != counts[kind] or not all(n.isdecimal() for n in numbers):
            raise InputError(f"invalid grouping {text!r}. Use {SYNTAX}.")
        return cls(kind, *map(int, numbers))  # type: ignore[arg-type]  # kind was checked against the dict

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.kind, self.size, self.seed) if part is not None)

    def groups(self, count: int, keys: Sequence[str] | None = None, draw: int = 0) -> list[Group]:
        """Divide images 0 to count - 1 into groups. Every image is in exactly one group.

        Args:
            count: number of images.
            keys: one key per image; only needed for `by_key`.
            draw: number that is combined with the seed, so that one seed gives several shuffles. Database and queries
                get different numbers. Otherwise, if both list the same places in the same order, the group of a query
                would show the same places as the group of its match.

        Raises:
            InputError: the kind is `by_key`, and there is not one key per image.
        """
        if self.kind == "alone":
            return list(np.arange(count).reshape(-1, 1))
        if self.kind == "by_key":
            if keys is None or len(keys) != count:
                raise InputError(
                    "the grouping by_key needs a key (a panorama or a sequence) for every image, but these images have "
                    "none. Use another grouping, such as alone."
                )
            members: dict[str, list[int]] = {}
            for index, key in enumerate(keys):
                members.setdefault(key, []).append(index)
            return [np.array(indices) for indices in members.values()]
        order = np.arange(count)
        if self.kind == "shuffled":
            order = np.random.default_rng([self.seed or 0, draw]).permutation(count)
        assert self.size is not None
        return [order[start : start + self.size] for start in range(0, count, self.size)]


ALONE = Grouping()


def pack(groups: Sequence[Group], batch_size: int) -> Iterator[list[Group]]:
    """Yield batches of complete groups, in order. A batch has at most `batch_size` images.

    A group with more images is a batch of its own.
    """
    batch: list[Group] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > batch_size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
