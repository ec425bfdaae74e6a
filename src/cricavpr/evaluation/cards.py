"""card.json: one result with everything that decided it, so that nobody has to guess what a figure means.

The format is versioned and published in docs/card.schema.json. A card is read strictly: an unknown version or a
missing field is an error, because half a card would be compared as if it were a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import PRECISIONS, UNANSWERED, Protocol
from cricavpr.files import write_text

SCHEMA = "cricavpr.card.1"
FILE = "card.json"


@dataclass(frozen=True)
class Counts:
    """Images of a split: what failed is included in `database` and `queries`."""

    database: int
    queries: int
    without_positives: int
    failed_database: int = 0
    failed_queries: int = 0


@dataclass(frozen=True)
class Timings:
    """Seconds; what came from a cache took none."""

    describe_s: float
    search_s: float
    rerank_s: float = 0.0


@dataclass(frozen=True)
class Card:
    """One evaluation.

    Attributes:
        dataset, split_hash, rule: which split, and how its positives were decided.
        counts: images of the split.
        method, weights: name and SHA-256.
        made_by: what decides the descriptors, as `MadeBy.to_dict`.
        grouping: which images saw one another.
        protocol: what else decides the recall.
        reranked: candidates that were compared again by local features, or None.
        reranking: which local features, and how they were compared, or None.
        recall_at: by N, fractions.
        intervals: by N, 95 % bootstrap interval over queries, fractions.
        timings: seconds.
        versions: of cricavpr, torch, numpy and python.
        command: what was typed.
        date: ISO 8601.
    """

    dataset: str
    split_hash: str
    rule: str
    counts: Counts
    method: str
    weights: str
    made_by: dict[str, Any]
    grouping: str
    protocol: Protocol
    reranked: int | None
    reranking: str | None
    recall_at: dict[int, float]
    intervals: dict[int, tuple[float, float]]
    timings: Timings
    versions: dict[str, str]
    command: str
    date: str
    schema: str = SCHEMA

    @property
    def ns(self) -> tuple[int, ...]:
        """The N of recall@N, rising."""
        return tuple(sorted(self.recall_at))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file: the version first, N as text."""
        values = asdict(self)
        by_n = {
            "recall_at": {str(n): self.recall_at[n] for n in self.ns},
            "intervals": {str(n): list(self.intervals[n]) for n in sorted(self.intervals)},
        }
        return {"schema": self.schema, **{**values, **by_n, "schema": self.schema}}

    def write(self, folder: Path) -> Path:
        """Write `card.json` into a folder, durably; the path of the file.

        Raises:
            InputError: the place cannot be written.
        """
        path = Path(folder) / FILE
        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a card: the file, or the folder that holds it.

        Raises:
            InputError: no such file, another version, or not a card.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"cannot read the card {path}: {error.strerror or error}. Give a card.json, or the folder of one."
            ) from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not a card: it is no JSON ({error}).") from error
        return cls.from_dict(values, str(path))

    @classmethod
    def from_dict(cls, values: Any, where: str = "this") -> Self:
        """The inverse of `to_dict`; `where` names it in messages.

        Raises:
            InputError: another version, or fields that are missing, unknown or wrong.
        """
        version = values.get("schema") if isinstance(values, dict) else None
        if version != SCHEMA:
            raise InputError(f"{where} has the format {version!r}, and this version reads {SCHEMA}. Evaluate again.")
        try:
            _require_fields(cls, values)
            _require_texts(values)
            card = cls(
                **{
                    **values,
                    "counts": _counts(values["counts"]),
                    "protocol": _protocol(values["protocol"]),
                    "timings": Timings(**values["timings"]),
                    "recall_at": {int(n): _fraction(recall) for n, recall in values["recall_at"].items()},
                    "intervals": {int(n): _interval(pair) for n, pair in values["intervals"].items()},
                }
            )
            MadeBy.from_dict(card.made_by)
            _require_recalls(card)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"{where} is not a whole card: {error}. Evaluate again.") from error
        return card


def _require_fields(kind: type[Card], values: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(kind)}
    if missing := sorted(known - set(values)):
        raise ValueError(f"{missing[0]!r} is missing")
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{unknown[0]!r} is unknown")


def _require_texts(values: Mapping[str, Any]) -> None:
    for name in (field.name for field in fields(Card) if field.type == "str"):
        if not isinstance(values[name], str):
            raise TypeError(f"{name!r} is {values[name]!r} and no text")


def _require_recalls(card: Card) -> None:
    """One or more N, each with an interval that holds its recall."""
    if not card.recall_at or set(card.recall_at) != set(card.intervals):
        raise ValueError("recall_at and intervals are not of the same N, one or more")
    for n, (low, high) in card.intervals.items():
        if not low <= card.recall_at[n] <= high:
            raise ValueError(f"R@{n} of {card.recall_at[n]} lies outside its interval of {low} to {high}")


def _protocol(values: dict[str, Any]) -> Protocol:
    _require_fields(Protocol, values)  # type: ignore[arg-type]  # any dataclass
    made = Protocol(**values)
    if made.unanswered not in UNANSWERED or made.precision not in PRECISIONS:
        raise ValueError(f"a protocol with unanswered {made.unanswered!r} and precision {made.precision!r}")
    return made


def _counts(values: dict[str, Any]) -> Counts:
    for name, count in values.items():
        if type(count) is not int or count < 0:
            raise ValueError(f"{name!r} is {count!r} and no count")
    return Counts(**values)


def _fraction(value: Any) -> float:
    if not 0.0 <= float(value) <= 1.0:
        raise ValueError(f"{value!r} is no fraction")
    return float(value)


def _interval(pair: Any) -> tuple[float, float]:
    low, high = map(_fraction, pair)
    if low > high:
        raise ValueError(f"{pair!r} is no interval")
    return low, high
