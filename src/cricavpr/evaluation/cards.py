"""card.json: a recall with everything that decides it, so that nobody has to guess what a figure means.

The format has a version and a schema, docs/card.schema.json. A card is read strictly: an unknown version or a missing
field is an error, because an incomplete card must not be compared.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import Protocol
from cricavpr.files import write_text
from cricavpr.schema import build, parse_json, to_plain

SCHEMA: Literal["cricavpr.card.1"] = "cricavpr.card.1"
FILE = "card.json"

IntervalKind = Literal["bootstrap", "wilson"]


@dataclass(frozen=True)
class Counts:
    """Numbers of images of a split; `database` and `queries` include those that failed."""

    database: int
    queries: int
    without_positives: int
    failed_database: int = 0
    failed_queries: int = 0

    def __post_init__(self) -> None:
        for name, count in vars(self).items():
            if count < 0:
                raise ValueError(f"{name} must be at least 0, got {count}")


@dataclass(frozen=True)
class Timings:
    """Seconds for each step; about 0 if the result came from a cache."""

    describe_s: float
    search_s: float
    rerank_s: float = 0.0


@dataclass(frozen=True, repr=False)
class Card:
    """One evaluation.

    Attributes:
        dataset, split_hash, rule: the split, and the rule for its positives.
        counts: numbers of images of the split.
        method, weights, grouping: as in `made_by`.
        made_by: provenance of the descriptors.
        protocol: the other settings that decide the recall.
        reranked: number of candidates of each query that were compared again by local features, or None.
        reranking: the local features and how they were compared, or None.
        recall_at: fractions by N.
        intervals: 95 % intervals over the queries by N, as fractions.
        timings: seconds for each step.
        versions: versions of cricavpr, torch, numpy and python.
        command: the command line.
        date: ISO 8601.
        interval_kind: how `intervals` were computed; cards without this field have bootstrap intervals.
        query_sequences: number of sequences, panoramas or folders of the queries; None if unknown, or if each query
            has its own.
    """

    dataset: str
    split_hash: str
    rule: str
    counts: Counts
    method: str
    weights: str
    made_by: MadeBy
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
    schema: Literal["cricavpr.card.1"] = SCHEMA
    interval_kind: IntervalKind = "bootstrap"
    query_sequences: int | None = None

    def __post_init__(self) -> None:
        if not self.recall_at or set(self.recall_at) != set(self.intervals):
            raise ValueError("recall_at and intervals must have the same N, at least one")
        for n, (low, high) in self.intervals.items():
            if not 0.0 <= low <= self.recall_at[n] <= high <= 1.0:
                raise ValueError(
                    f"R@{n} must be in its interval, and both in 0..1, got {self.recall_at[n]}, {low}, {high}"
                )

    def __repr__(self) -> str:
        recalls = ", ".join(f"R@{n} {100 * self.recall_at[n]:.1f}" for n in self.ns)
        return f"<Card {self.method} on {self.dataset}, grouping {self.grouping}: {recalls}>"

    @property
    def ns(self) -> tuple[int, ...]:
        """The N of recall@N, rising."""
        return tuple(sorted(self.recall_at))

    @property
    def counted(self) -> int:
        """Number of queries over which recall is computed."""
        skipped = self.counts.without_positives if self.protocol.unanswered == "skip" else 0
        return self.counts.queries - skipped

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {"schema": self.schema, **to_plain(self)}

    def write(self, folder: Path) -> Path:
        """Write `card.json` into a folder, durably, and return its path.

        Raises:
            InputError: the file cannot be written.
        """
        path = Path(folder) / FILE
        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a card: the file, or the folder that holds it.

        Raises:
            InputError: no such file, another version, or not a card.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the card {path}: {error}. Give a card.json, or its folder.") from error
        values = parse_json(text, str(path))
        version = values.get("schema") if isinstance(values, dict) else None
        if version != SCHEMA:
            raise InputError(f"the card {path} must have the format {SCHEMA}, got {version!r}. Evaluate again.")
        return build(cls, values, str(path))

    def folder_name(self) -> str:
        """Return a readable folder name. Cards that differ only in times and versions have the same name."""
        deciding = {
            "split": [self.split_hash, self.rule],
            "made_by": self.made_by,
            "protocol": self.protocol,
            "reranked": [self.reranked, self.reranking],
            "ns": self.ns,
        }
        mark = hashlib.sha256(json.dumps(to_plain(deciding), sort_keys=True).encode()).hexdigest()[:8]
        reranked = [] if self.reranked is None else [f"reranked-{self.reranked}"]
        parts = [self.dataset, self.method, self.grouping, self.protocol.name, *reranked, mark]
        return "--".join(re.sub(r"[^A-Za-z0-9_.-]+", "-", part).strip("-.")[:60] or "x" for part in parts)


def dependence(card: Card) -> str:
    """Return one line about dependent queries; intervals and tests assume independent ones."""
    return (
        f"the {card.counts.queries:,} queries come from {card.query_sequences:,} sequences, panoramas or folders and "
        "are not independent: the true intervals are wider"
    )
