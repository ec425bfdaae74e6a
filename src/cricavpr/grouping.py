"""Grouping: which images see one another. Batch: how many go through the network at once.

A CricaVPR descriptor depends on its group, so the grouping is a value that is recorded with every result. A batch only
packs whole groups together for speed and never changes a descriptor.
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
    """Division of images into groups whose members see one another.

    alone        every image by itself: the default for indexing and locating
    in_order     groups of `size` in the order of the set, the last one shorter: the paper's protocol (16; 8 for Pitts)
    shuffled     the same after a seeded shuffle, when file order tells nothing
    by_key       images that share a key, such as a panorama or a sequence

    Raises:
        InputError: a size or seed that is missing, out of range, or that the kind does not have.

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
            raise InputError(f"invalid grouping {self.kind!r}, size {self.size}, seed {self.seed}. Use {SYNTAX}.")
        if self.size is not None and self.size < 1:
            raise InputError(f"the size of a group must be at least 1, got {self.size}.")
        if self.seed is not None and self.seed < 0:
            raise InputError(f"the seed of a shuffle must be at least 0, got {self.seed}.")

    def __repr__(self) -> str:
        return f"<Grouping {self}>"

    @classmethod
    def parse(cls, text: str | Grouping) -> Grouping:
        """Read `alone`, `in_order:16`, `shuffled:16:0` or `by_key`; return a Grouping as it is.

        Raises:
            InputError: anything else.
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
        """Divide images 0..count-1 into groups that together hold every image exactly once.

        Args:
            count: number of images.
            keys: one key per image, for `by_key`.
            draw: which of the shuffles of one seed. Database and queries must not share one: where both list the
                same places in the same order, each query would be grouped as its match was.

        Raises:
            InputError: `by_key` on a set without keys.
        """
        if self.kind == "alone":
            return list(np.arange(count).reshape(-1, 1))
        if self.kind == "by_key":
            return _groups_by_key(count, keys)
        order = np.arange(count)
        if self.kind == "shuffled":
            order = np.random.default_rng([self.seed or 0, draw]).permutation(count)
        assert self.size is not None
        return [order[start : start + self.size] for start in range(0, count, self.size)]


ALONE = Grouping()


def _groups_by_key(count: int, keys: Sequence[str] | None) -> list[Group]:
    if keys is None or len(keys) != count:
        raise InputError("grouping by_key needs a key (panorama or sequence) for every image, got none. Use alone.")
    members: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        members.setdefault(key, []).append(index)
    return [np.array(indices) for indices in members.values()]


def pack(groups: Sequence[Group], batch_size: int) -> Iterator[list[Group]]:
    """Pack whole groups, in order, into batches of at most `batch_size` images; a larger group is one batch."""
    batch: list[Group] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > batch_size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
