"""Measurements of an audit: photos are described in many arrangements, and compared with each photo described alone.

Group sizes are those of the paper's Supplementary Table 5. Shuffled orders and groups of unrelated photos were added
because of what users of the method found later; see docs/audit.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet, Problem
from cricavpr.errors import InputError
from cricavpr.evaluation.audit.arrangements import Arrangements, Sides, Vectors
from cricavpr.grouping import ALONE, Group, Grouping
from cricavpr.index.search import search
from cricavpr.methods.base import Method, network_of
from cricavpr.progress import Report

SIZES = (2, 4, 8, 16, 32)  # group sizes to measure; size 1 is `alone`
BATCHES = (1, 7, 64)  # batch sizes to compare
PACKED = 2  # group size when comparing batch sizes; batches of 1, 7 and 64 images hold 1, 3 and 32 such groups
SAME_PLACE_M = 25.0
ROWS_AT_ONCE = 4096

Talk = Callable[[str], None]


@dataclass(frozen=True)
class Drift:
    """Drift of a set of photos: 1 - cosine between two descriptors of the same photo; 0 if equal, 2 if opposite.

    Attributes:
        median, p95, max: median, 95 % quantile and maximum over the photos.
    """

    median: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Drift:  # (N,)
        """Return median, 95 % quantile and maximum of the drifts of N photos."""
        return cls(float(np.median(values)), float(np.quantile(values, 0.95)), float(values.max()))


@dataclass(frozen=True)
class Measured:
    """One row of an audit's table: an arrangement, and what it changes compared with every photo described alone.

    Attributes:
        part: section of the table: alone, size, shuffled, strangers, one side, last group, packing, precision or
            device.
        name: the grouping as text, or another description of the arrangement. In a row named "X instead of Y" or
            "X against Y", arrangement X is compared with arrangement Y, and not with photos described alone.
        drift: drift of the descriptors between the two compared arrangements; None if not measured.
        recall_at_1: recall@1 as a fraction of all queries; None if not measured.
        won: number of queries that are correct only in this arrangement.
        lost: number of queries that are correct only in the arrangement to compare with.
        same_place: fraction of photos with another photo within 25 m in their group; None if not measured or without
            positions.
    """

    part: str
    name: str
    drift: Drift | None = None
    recall_at_1: float | None = None
    won: int = 0
    lost: int = 0
    same_place: float | None = None


@dataclass(frozen=True)
class Audit:
    """The measurements of an audit.

    Attributes:
        dataset, split_hash: name of the split, and the SHA-256 of its image names, positions and positives.
        rule: how positives were decided, such as "within 25 m".
        database, queries: number of database images and of queries.
        method, weights: name of the method, and the SHA-256 of its weights file.
        correlates: whether the method declares that its descriptors depend on the other images of a group.
        group_size: group size in all parts except "size" and "packing".
        shuffles: number of shuffled orders.
        device: device of the method, such as "cpu".
        rows: rows of the table, in order.
        problems: photos that could not be described; queries among them count as misses.
    """

    dataset: str
    split_hash: str
    rule: str
    database: int
    queries: int
    method: str
    weights: str
    correlates: bool
    group_size: int
    shuffles: int
    device: str
    rows: tuple[Measured, ...]
    problems: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        return f"<Audit of {self.method} on {self.dataset}: {len(self.rows)} arrangements>"

    def part(self, name: str) -> tuple[Measured, ...]:
        """Return the rows of one part (section) of the table."""
        return tuple(row for row in self.rows if row.part == name)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {"schema": "cricavpr.audit.1", **asdict(self)}


def run_audit(
    method: Method,
    dataset: EvalDataset,
    folder: Path,
    *,
    shuffles: int = 10,
    group_size: int = 16,
    elsewhere: Method | None = None,
    workers: int | None = None,
    progress: bool | Report = False,
    talk: Talk = lambda _: None,
) -> Audit:
    """Audit a method: describe the dataset in many arrangements, and compare with each photo described alone.

    Args:
        folder: folder for all descriptors, so that an interrupted audit can continue.
        shuffles: number of shuffled orders, at least 1.
        group_size: number of photos in a group, at least 2.
        elsewhere: the same method on another device, to compare devices; None does not compare devices.
        talk: called with the name of each arrangement before it is described.

    Raises:
        InputError: as for `describe`, or `shuffles` is below 1, or `group_size` is below 2.
    """
    if shuffles < 1 or group_size < 2:
        raise InputError(
            f"an audit needs at least 1 shuffle and a group size of at least 2, got {shuffles} shuffles and the group "
            f"size {group_size}."
        )
    talk("alone")
    judge = _Judge(Arrangements(method, dataset, folder, workers, progress), talk)
    return Audit(
        dataset=dataset.name,
        split_hash=dataset.split_hash(),
        rule=dataset.rule,
        database=len(dataset.database),
        queries=len(dataset.queries),
        method=method.name,
        weights=method.weights,
        correlates=method.correlates,
        group_size=group_size,
        shuffles=shuffles,
        device=method.device,
        rows=tuple(judge.rows(shuffles, group_size, elsewhere)),
        problems=tuple(problem for side in judge.arrangements.alone for problem in side.problems),
    )


class _Judge:
    """Measurement of the recall and drift of arrangements, compared with every photo described alone."""

    def __init__(self, arrangements: Arrangements, talk: Talk) -> None:
        self.arrangements, self.talk = arrangements, talk
        self.positives = arrangements.dataset.positives
        self.kept = [side.kept for side in arrangements.alone]
        self.alone = arrangements.described()
        self.alone_hits = self.hits(self.alone.database, self.alone.queries)

    def rows(self, shuffles: int, size: int, elsewhere: Method | None) -> Iterator[Measured]:
        """Yield all rows of the audit. `size` is the group size, `elsewhere` the method on another device or None."""
        method = self.arrangements.method
        yield Measured("alone", "alone", Drift(0.0, 0.0, 0.0), float(self.alone_hits.mean()), same_place=0.0)
        if method.correlates:
            yield from self._grouped(shuffles, size)
        yield from self._packings()
        if network_of(method) is not None:
            yield from self._low_precision()
        if elsewhere is not None:
            name = f"{elsewhere.device} instead of {method.device}"
            yield self.row("device", name, self.described(f"on {elsewhere.device}", elsewhere=elsewhere))

    def hits(self, database: Vectors, queries: Vectors) -> NDArray[np.bool_]:  # (Q,) of all queries
        """Return which queries have a correct first match; a query that could not be described counts as a miss."""
        first = search(database, queries, 1).indices[:, 0]
        hits = np.zeros(len(self.positives), bool)
        for query, match in zip(self.kept[1].tolist(), self.kept[0][first].tolist(), strict=True):
            hits[query] = match in self.positives[query]
        return hits

    def row(self, part: str, name: str, sides: Sides, against: Sides | None = None) -> Measured:
        base = self.alone if against is None else against
        before = self.alone_hits if against is None else self.hits(base.database, base.queries)
        drift = np.concatenate([drifts(sides.database, base.database), drifts(sides.queries, base.queries)])
        images = self.arrangements.images
        same = [accompanied(of, groups) for of, groups in zip(images, sides.groups, strict=True)]
        share = None if None in same else sum(filter(None, same)) / sum(map(len, images))
        row = self.counted(part, name, self.hits(sides.database, sides.queries), before)
        return replace(row, drift=Drift.of(drift), same_place=share)

    def counted(
        self, part: str, name: str, hits: NDArray[np.bool_], before: NDArray[np.bool_] | None = None
    ) -> Measured:
        before = self.alone_hits if before is None else before
        won, lost = int((hits & ~before).sum()), int((before & ~hits).sum())
        return Measured(part, name, None, float(hits.mean()), won, lost)

    def described(self, name: str, *of: Any, **how: Any) -> Sides:
        self.talk(name)
        return self.arrangements.described(*of, **how)

    def _grouped(self, shuffles: int, size: int) -> Iterator[Measured]:
        in_order, alone = Grouping("in_order", size), self.alone
        for each in sorted({*SIZES, size}):
            yield self.row("size", f"in_order:{each}", self.described(f"in_order:{each}", Grouping("in_order", each)))
        for seed in range(shuffles):
            name = f"shuffled:{size}:{seed}"
            yield self.row("shuffled", name, self.described(name, Grouping("shuffled", size, seed)))
        yield from self._strangers(in_order)
        grouped = self.arrangements.described(in_order)
        name = f"database alone, queries {in_order}"
        yield self.counted("one side", name, self.hits(alone.database, grouped.queries))
        name = f"database {in_order}, queries alone"
        yield self.counted("one side", name, self.hits(grouped.database, alone.queries))
        self.talk("the short last group")
        yield self._last_group(size)

    def _strangers(self, grouping: Grouping) -> Iterator[Measured]:
        """Yield three rows for groups of unrelated photos ("strangers").

        Two random divisions into groups are compared with photos described alone. The third row compares the two
        divisions with each other.
        """
        sides = []
        for seed in (0, 1):
            name = f"strangers:{grouping.size}:{seed}"
            sides.append(self.described(name, grouping, order_seed=seed))
            yield self.row("strangers", name, sides[-1])
        again = self.row("strangers", f"strangers:{grouping.size}:1 against :0", sides[1], sides[0])
        yield Measured("strangers", again.name, again.drift)

    def _last_group(self, size: int) -> Measured:
        """Compare the photos of the short last group of database and queries with the same photos in a full group."""
        values, lengths = [], []
        for side, count in enumerate(map(len, self.arrangements.images)):
            short = count % size or size // 2  # if the last group is full, use half of it instead
            if count < size:
                continue
            full = self.arrangements.part(side, np.arange(count - size, count), Grouping("in_order", size))
            tail = self.arrangements.part(side, np.arange(count - short, count), Grouping("in_order", size))
            values.append(drifts(tail, full[-short:]))
            lengths.append(f"{short}{'' if count % size else ' (as if)'}")
        name = f"last group of {' and '.join(lengths) or 'nothing'} instead of {size}"
        return Measured("last group", name, Drift.of(np.concatenate(values)) if values else None)

    def _packings(self) -> Iterator[Measured]:
        """Yield rows that compare the same groups in batches of different sizes, which must change nothing."""
        correlates = self.arrangements.method.correlates
        for grouping in (ALONE, Grouping("in_order", PACKED)) if correlates else (ALONE,):
            first = self.described(f"{grouping} in batches of {BATCHES[0]}", grouping, batch_size=BATCHES[0])
            for batch in BATCHES[1:]:
                packed = self.described(f"{grouping} in batches of {batch}", grouping, batch_size=batch)
                row = self.row("packing", f"{grouping}, batches of {batch} instead of {BATCHES[0]}", packed, first)
                yield replace(row, same_place=None)

    def _low_precision(self) -> Iterator[Measured]:
        try:
            low = self.described("bf16", precision="bf16")
        except InputError as error:
            if not isinstance(error.__cause__, RuntimeError):
                raise  # the error does not come from the precision
            yield Measured("precision", "bf16 is not possible with this network on this device")
            return
        yield self.row("precision", "bf16 on both sides", low)
        hits = self.hits(self.alone.database, low.queries)
        yield self.counted("precision", "queries in bf16, database in fp32", hits)


def drifts(here: Vectors, there: Vectors) -> NDArray[np.float64]:  # (N, D) twice -> (N,)
    """Return 1 - cosine between each row of `here` and the same row of `there`.

    It is computed as half the squared distance of the vectors scaled to length 1, which is exactly 0 for equal rows.
    """
    found = np.empty(len(here), np.float64)
    for start in range(0, len(here), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        found[rows] = ((_unit(here[rows]) - _unit(there[rows])) ** 2).sum(axis=1) / 2
    return found


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    rows = vectors.astype(np.float64)
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def accompanied(images: ImageSet, groups: Sequence[Group]) -> int | None:
    """Return the number of photos whose group has another photo within 25 m; None without positions."""
    if images.positions is None or not images.positions.known.any():
        return None
    zones = np.array(images.positions.zones or [""] * len(images))
    count = 0
    for group in groups:
        metres = images.positions.metres[group]  # (g, 2)
        near = np.linalg.norm(metres[:, None] - metres[None], axis=2) <= SAME_PLACE_M
        near &= zones[group][:, None] == zones[group][None]
        np.fill_diagonal(near, False)
        count += int(near.any(axis=1).sum())
    return count
