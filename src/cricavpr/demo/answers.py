"""What the demo learnt: where each query was taken, where it was placed, and what it was matched with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cricavpr.datasets.base import EvalDataset
from cricavpr.evaluation.evaluate import EvalResult
from cricavpr.evaluation.intervals import sign_test
from cricavpr.geo import Metres, distances_m
from cricavpr.locate import LocationEstimate


@dataclass(frozen=True)
class Spot:
    """A position: degrees, and metres from the town's own corner."""

    lat_deg: float
    lon_deg: float
    east_m: float
    north_m: float


@dataclass(frozen=True)
class Photo:
    """A picture with its true position. `key` is its path below the folder of photos."""

    key: str
    spot: Spot


@dataclass(frozen=True)
class Found:
    """A database picture that a query was matched with: its row, and how far it stands from the query."""

    row: int
    score: float
    off_m: float
    right: bool


@dataclass(frozen=True)
class Answer:
    """One query and what it was matched with, best first.

    Attributes:
        condition: hour or weather of the query, such as "night".
        nearest: row of the database picture that stands nearest: what should have been found.
        nearest_m: how far from the query that one stands.
    """

    photo: Photo
    condition: str
    matches: tuple[Found, ...]
    nearest: int
    nearest_m: float

    @property
    def right(self) -> bool:
        return self.matches[0].right

    @property
    def off_m(self) -> float:
        return self.matches[0].off_m

    @property
    def score(self) -> float:
        return self.matches[0].score


@dataclass(frozen=True)
class Row:
    """One line of the table of results.

    Attributes:
        weights: which network, in a word or two.
        hits: for each query whether its first match is right.
    """

    weights: str
    result: EvalResult
    hits: tuple[bool, ...]

    def recall(self, n: int) -> float:
        return self.result.recall_at[n]


def photos_of(
    keys: Sequence[str],
    degrees: Metres,  # (N, 2) latitude, longitude
    metres: Metres,  # (N, 2) east, north in the town's own frame
) -> tuple[Photo, ...]:
    """Pictures with their positions, in the order of `keys`."""
    rows = zip(keys, degrees.tolist(), metres.tolist(), strict=True)
    return tuple(Photo(key, Spot(lat, lon, east, north)) for key, (lat, lon), (east, north) in rows)


def answers_of(
    estimates: Sequence[LocationEstimate],  # one for each query, in order
    dataset: EvalDataset,
    photos: Sequence[Photo],  # the queries
    conditions: Sequence[str],
) -> tuple[Answer, ...]:
    """Compare what was answered with what is true, by the rule of the dataset."""
    assert dataset.database.positions is not None and dataset.queries.positions is not None
    row_of = {name: row for row, name in enumerate(dataset.database.names)}
    found = []
    for query, estimate in enumerate(estimates):
        here = dataset.queries.positions.take([query] * len(dataset.database))
        off_m = distances_m(here, dataset.database.positions)
        correct = set(dataset.positives[query].tolist())
        rows = [row_of[match.name] for match in estimate.matches]
        matches = tuple(
            Found(row, match.score, float(off_m[row]), row in correct)
            for row, match in zip(rows, estimate.matches, strict=True)
        )
        nearest = int(np.argmin(off_m))
        found.append(Answer(photos[query], conditions[query], matches, nearest, float(off_m[nearest])))
    return tuple(found)


# --- numbers about the answers


def share_right(answers: Sequence[Answer]) -> float:
    return sum(answer.right for answer in answers) / len(answers)


def median_off_m(answers: Sequence[Answer]) -> float:
    return float(np.median([answer.off_m for answer in answers]))


def by_condition(answers: Sequence[Answer], order: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(right, all) of each condition that occurs, in the given order."""
    counts: dict[str, tuple[int, int]] = {}
    for condition in order:
        of = [answer.right for answer in answers if answer.condition == condition]
        if of:
            counts[condition] = (sum(of), len(of))
    return counts


def interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) for a share that was `right` of `count` in a sample."""
    z = 1.96
    share, spread = right / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def won_and_lost(row: Row, against: Row) -> tuple[int, int]:
    """How many queries only `row` gets right, and how many only the other."""
    pairs = list(zip(row.hits, against.hits, strict=True))
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def may_be_chance(won: int, lost: int) -> bool:
    """The sign test at 5 %: whether a fair coin falls as unevenly as that, more often than once in twenty."""
    return sign_test(won, lost) > 0.05


def hardest_right(answers: Sequence[Answer]) -> int | None:
    """The right answer with the lowest score: where the two pictures differ most in the network's eyes."""
    return _first(answers, right=True, highest=False)


def boldest_wrong(answers: Sequence[Answer]) -> int | None:
    """The wrong answer with the highest score: what a score alone cannot warn of."""
    return _first(answers, right=False, highest=True)


def shown_first(answers: Sequence[Answer]) -> int:
    """The hardest right answer, or the boldest mistake where nothing is right."""
    right = hardest_right(answers)
    wrong = boldest_wrong(answers)
    chosen = right if right is not None else wrong
    assert chosen is not None  # every answer is right or wrong
    return chosen


def _first(answers: Sequence[Answer], *, right: bool, highest: bool) -> int | None:
    chosen = [row for row, answer in enumerate(answers) if answer.right is right]
    pick = max if highest else min
    return pick(chosen, key=lambda row: answers[row].score) if chosen else None
