"""The numbers of an audit: the same photos in many companies, compared with each photo alone.

The companies follow Supplementary Table 5 of the paper (group sizes) and what its users measured since (shuffled
orders, unrelated neighbours); see docs/audit.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.describing import Report
from cricavpr.errors import InputError
from cricavpr.evaluation.audit.companies import Companies, Sides, Vectors
from cricavpr.grouping import ALONE, Group, Grouping
from cricavpr.index.search import search
from cricavpr.methods.base import Method, network_of

SIZES = (2, 4, 8, 16, 32)  # of groups; 1 is `alone`
BATCHES = (1, 7, 64)
PACKED = 2  # a group size that 1, 7 and 64 pack differently: 1, 3 and 32 groups
SAME_PLACE_M = 25.0
ROWS_AT_ONCE = 4096

Talk = Callable[[str], None]


@dataclass(frozen=True)
class Drift:
    """1 - cosine between two descriptors of one photo, over all photos of both sides: 0 is equal, 2 is opposite."""

    median: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Drift:  # (N,)
        return cls(float(np.median(values)), float(np.quantile(values, 0.95)), float(values.max()))


@dataclass(frozen=True)
class Measured:
    """One row: a way to describe the two sides, and what it changes against every photo alone.

    Attributes:
        part: what the row belongs to: alone, size, shuffled, strangers, one side, last group, packing, precision or
            device.
        name: the grouping as printed, or what else the row is about.
        drift: against each photo alone, or against what `name` says; None where it says nothing of its own.
        recall_at_1: fraction of all queries; None where recall means nothing.
        won, lost: queries that only this row gets right, and only `alone` gets right.
        same_place: fraction of photos with another photo within 25 m in their group; None without positions.
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
    """All that was measured.

    Attributes:
        correlates: what the method says of itself.
        group_size: of the shuffled, strange and one-sided companies.
        rows: in the order of the table.
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
    seeds: int
    device: str
    rows: tuple[Measured, ...]

    def part(self, name: str) -> tuple[Measured, ...]:
        return tuple(row for row in self.rows if row.part == name)

    def to_dict(self) -> dict[str, Any]:
        return {"schema": "cricavpr.audit.1", **asdict(self)}


def run_audit(
    method: Method,
    dataset: EvalDataset,
    folder: Path,
    *,
    seeds: int = 10,
    group_size: int = 16,
    elsewhere: Method | None = None,
    workers: int | None = None,
    progress: bool | Report = False,
    talk: Talk = lambda _: None,
) -> Audit:
    """Describe the dataset in all companies and compare.

    Args:
        folder: keeps the descriptors of every company while the audit lasts; an interrupted one goes on from there.
        elsewhere: the same method on another device, where there is one.
        talk: is told what begins.

    Raises:
        InputError: as for `describe`, fewer than one seed, or a group of fewer than two.
    """
    if seeds < 1 or group_size < 2:
        raise InputError(f"{seeds} seeds of groups of {group_size} tell nothing. Give 1 seed and a size of 2 or more.")
    talk("alone")
    companies = Companies(method, dataset, folder, workers, progress).with_names()
    judge = _Judge(companies)
    rows = tuple(_rows(companies, judge, seeds, group_size, elsewhere, talk))
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
        seeds=seeds,
        device=method.device,
        rows=rows,
    )


class _Judge:
    """Recall and drift against every photo alone."""

    def __init__(self, companies: Companies) -> None:
        assert companies.names is not None
        self.images = companies.images
        self.positives = companies.dataset.positives
        row_of = [{name: row for row, name in enumerate(images.names)} for images in self.images]
        self.kept = [np.array([row_of[side][name] for name in companies.names[side]], np.int64) for side in (0, 1)]
        self.alone = companies.described()
        self.alone_hits = self.hits(self.alone.database, self.alone.queries)

    def hits(self, database: Vectors, queries: Vectors) -> NDArray[np.bool_]:  # (Q,) of all queries
        """Whether the first match is right; a photo that could not be described is a miss."""
        first = search(database, queries, 1).indices[:, 0]
        hits = np.zeros(len(self.positives), bool)
        for query, match in zip(self.kept[1].tolist(), self.kept[0][first].tolist(), strict=True):
            hits[query] = match in self.positives[query]
        return hits

    def row(self, part: str, name: str, sides: Sides, against: Sides | None = None) -> Measured:
        base = self.alone if against is None else against
        drift = np.concatenate([drifts(sides.database, base.database), drifts(sides.queries, base.queries)])
        same = [accompanied(images.take(kept), groups) for images, kept, groups in self._company(sides)]
        hits = self.hits(sides.database, sides.queries)
        return self.counted(part, name, hits, Drift.of(drift), _share(same, sum(map(len, self.kept))))

    def counted(
        self, part: str, name: str, hits: NDArray[np.bool_], drift: Drift | None = None, same: float | None = None
    ) -> Measured:
        won, lost = int((hits & ~self.alone_hits).sum()), int((self.alone_hits & ~hits).sum())
        return Measured(part, name, drift, float(hits.mean()), won, lost, same)

    def _company(self, sides: Sides) -> Iterator[tuple[ImageSet, NDArray[np.int64], Sequence[Group]]]:
        return zip(self.images, self.kept, sides.groups, strict=True)


def _rows(
    companies: Companies, judge: _Judge, seeds: int, size: int, elsewhere: Method | None, talk: Talk
) -> Iterator[Measured]:
    yield judge.counted("alone", "alone", judge.alone_hits, Drift(0.0, 0.0, 0.0), 0.0)
    if companies.method.correlates:
        yield from _in_company(companies, judge, seeds, size, talk)
    yield from _packings(companies, judge, talk)
    if network_of(companies.method) is not None:
        yield from _low_precision(companies, judge, talk)
    if elsewhere is not None:
        talk(f"on {elsewhere.device}")
        other = companies.on_device(elsewhere)
        yield judge.row("device", f"{elsewhere.device} instead of {companies.method.device}", other)


def _low_precision(companies: Companies, judge: _Judge, talk: Talk) -> Iterator[Measured]:
    talk("bf16")
    try:
        low = companies.described(precision="bf16")
    except InputError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise  # not about the arithmetic
        yield Measured("precision", "bf16 is not possible with this network on this device")
        return
    yield judge.row("precision", "bf16 on both sides", low)
    yield judge.counted("precision", "queries in bf16, database in fp32", judge.hits(judge.alone.database, low.queries))


def _in_company(companies: Companies, judge: _Judge, seeds: int, size: int, talk: Talk) -> Iterator[Measured]:
    in_order = Grouping("in_order", size)
    for each in sorted({*SIZES, size}):
        talk(f"in_order:{each}")
        yield judge.row("size", f"in_order:{each}", companies.described(Grouping("in_order", each)))
    for seed in range(seeds):
        talk(f"shuffled:{size}:{seed}")
        yield judge.row("shuffled", f"shuffled:{size}:{seed}", companies.described(Grouping("shuffled", size, seed)))
    yield from _strangers(companies, judge, in_order, talk)
    company = companies.described(in_order)
    alone = judge.alone
    yield judge.counted("one side", f"database alone, queries {in_order}", judge.hits(alone.database, company.queries))
    yield judge.counted("one side", f"database {in_order}, queries alone", judge.hits(company.database, alone.queries))
    talk("the short last group")
    yield _last_group(companies, size)


def _strangers(companies: Companies, judge: _Judge, grouping: Grouping, talk: Talk) -> Iterator[Measured]:
    """The same photos among others from all over the set, twice: against alone, and one company against the other."""
    sides = []
    for seed in (0, 1):
        talk(f"strangers:{grouping.size}:{seed}")
        sides.append(companies.described(grouping, order_seed=seed))
        yield judge.row("strangers", f"strangers:{grouping.size}:{seed}", sides[-1])
    again = judge.row("strangers", f"strangers:{grouping.size}:1 against :0", sides[1], sides[0])
    yield Measured("strangers", again.name, again.drift)


def _last_group(companies: Companies, size: int) -> Measured:
    """The photos at the end of each side in a group as short as the division leaves it, against a full group."""
    assert companies.names is not None
    values, lengths = [], []
    for side, names in enumerate(companies.names):
        count = len(names)
        short = count % size or size // 2  # a set that divides evenly is shown what half a group would do
        if count < size:
            continue
        full = companies.part(side, np.arange(count - size, count), Grouping("in_order", size))
        tail = companies.part(side, np.arange(count - short, count), Grouping("in_order", size))
        values.append(drifts(tail, full[-short:]))
        lengths.append(f"{short}{'' if count % size else ' (as if)'}")
    name = f"last group of {' and '.join(lengths) or 'nothing'} instead of {size}"
    return Measured("last group", name, Drift.of(np.concatenate(values)) if values else None)


def _packings(companies: Companies, judge: _Judge, talk: Talk) -> Iterator[Measured]:
    """The same groups in other batches: nothing may change."""
    for grouping in (ALONE, Grouping("in_order", PACKED)) if companies.method.correlates else (ALONE,):
        talk(f"{grouping} in batches of {BATCHES[0]}")
        first = companies.described(grouping, batch_size=BATCHES[0])
        hits = judge.hits(first.database, first.queries)
        for batch in BATCHES[1:]:
            talk(f"{grouping} in batches of {batch}")
            packed = companies.described(grouping, batch_size=batch)
            row = judge.row("packing", f"{grouping}, batches of {batch} instead of {BATCHES[0]}", packed, first)
            now = judge.hits(packed.database, packed.queries)
            won, lost = int((now & ~hits).sum()), int((hits & ~now).sum())
            yield Measured("packing", row.name, row.drift, row.recall_at_1, won, lost)


def drifts(here: Vectors, there: Vectors) -> NDArray[np.float64]:  # (N, D) twice -> (N,)
    """1 - cosine of each pair of rows: half the squared distance of the unit vectors, exact where they are equal."""
    found = np.empty(len(here), np.float64)
    for start in range(0, len(here), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        a, b = _unit(here[rows]), _unit(there[rows])
        found[rows] = ((a - b) ** 2).sum(axis=1) / 2
    return found


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    rows = vectors.astype(np.float64)
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def accompanied(images: ImageSet, groups: Sequence[Group], radius_m: float = SAME_PLACE_M) -> int | None:
    """How many photos have another within `radius_m` in their group; None without positions."""
    if images.positions is None or not images.positions.known.any():
        return None
    zones = np.array(images.positions.zones or [""] * len(images))
    count = 0
    for group in groups:
        metres = images.positions.metres[group]  # (g, 2)
        near = np.linalg.norm(metres[:, None] - metres[None], axis=2) <= radius_m
        near &= zones[group][:, None] == zones[group][None]
        np.fill_diagonal(near, False)
        count += int(near.any(axis=1).sum())
    return count


def _share(counts: Sequence[int | None], photos: int) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) / photos if len(known) == len(counts) else None
