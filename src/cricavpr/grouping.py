"""Grouping: which images see one another. Batch: how many the hardware takes at once.

A CricaVPR descriptor depends on its group, so the group is a value that is recorded with every result. The batch
only packs whole groups together for speed and never changes a descriptor.
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


@dataclass(frozen=True)
class Grouping:
    """How the images of a set are divided into groups whose members see one another.

    alone        every image by itself: the default for indexing and locating
    in_order     groups of `size` in the order of the set, the last one shorter: the paper's protocol (16; 8 for Pitts)
    shuffled     the same after a seeded shuffle: what is left of the gain when file order tells nothing
    by_key       images that share a key (one panorama, one sequence, one request)
    """

    kind: Kind = "alone"
    size: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        wants_size = self.kind in ("in_order", "shuffled")
        if wants_size != (self.size is not None) or (self.kind == "shuffled") != (self.seed is not None):
            raise InputError(
                f"grouping {self.kind!r} with size {self.size} and seed {self.seed} has no meaning. Use {SYNTAX}."
            )
        if self.size is not None and self.size < 1:
            raise InputError(f"a group of {self.size} images is impossible. Give a size of 1 or more.")
        if self.seed is not None and self.seed < 0:
            raise InputError(f"the shuffle seed {self.seed} is negative. Give 0 or more.")

    @classmethod
    def parse(cls, text: str) -> Grouping:
        """Read `alone`, `in_order:16`, `shuffled:16:0` or `by_key`.

        Raises:
            InputError: for anything else.
        """
        kind, *numbers = text.strip().split(":")
        counts = {"alone": 0, "by_key": 0, "in_order": 1, "shuffled": 2}
        if kind not in counts or len(numbers) != counts[kind] or not all(n.isdecimal() for n in numbers):
            raise InputError(f"grouping {text!r} is not understood. Use {SYNTAX}.")
        return cls(kind, *map(int, numbers))  # type: ignore[arg-type]  # kind was checked against the dict

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.kind, self.size, self.seed) if part is not None)

    def groups(self, count: int, keys: Sequence[str] | None = None, draw: int = 0) -> list[Group]:
        """Divide images 0..count-1 into groups; together they hold every image exactly once.

        Args:
            count: number of images in the set.
            keys: one key per image, needed by `by_key` alone.
            draw: which of the shuffles of one seed. Database and queries must not share one: where both list the
                same places in the same order, it would put each query in the company that its match had.

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
        raise InputError(
            "grouping by_key needs a key (panorama or sequence) for every image, and this set has none. Use alone."
        )
    members: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        members.setdefault(key, []).append(index)
    return [np.array(indices) for indices in members.values()]


def pack(groups: Sequence[Group], batch_size: int) -> Iterator[list[Group]]:
    """Pack whole groups, in order, into batches of at most `batch_size` images; a larger group travels by itself."""
    batch: list[Group] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > batch_size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
