"""The card of an evaluation (card.json): its recall, and all settings and data that influence the recall.

The format has a version and a JSON schema, docs/card.schema.json. A card with an unknown version or a missing field
raises an error, because incomplete cards must not be compared.
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
    """Numbers of images in a split.

    Attributes:
        database, queries: all images, also those that could not be described.
        without_positives: queries without positives; no database image shows the place of such a query.
        failed_database, failed_queries: images that could not be described.
    """

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
    """Seconds that each step of an evaluation took; about 0 if its result was read from a cache."""

    describe_s: float
    search_s: float
    rerank_s: float = 0.0


@dataclass(frozen=True, repr=False)
class Card:
    """Result and settings of one evaluation.

    Attributes:
        dataset: name of the split.
        split_hash: SHA-256 of the split's image names, positions and positives.
        rule: which database images are positives of a query, such as "within 25 m".
        counts: numbers of images in the split.
        method, weights, grouping: the same values as in `made_by`.
        made_by: method, weights and settings that computed the descriptors.
        protocol: further settings that influence the recall.
        reranked: number of candidates per query that were re-ranked by local features; None without re-ranking.
        reranking: the local features and how they were compared; None without re-ranking.
        recall_at: recall@N as a fraction from 0 to 1; the keys are the values of N.
        intervals: 95 % confidence interval of each recall@N, as fractions; the keys are the values of N.
        timings: seconds that each step took.
        versions: versions of cricavpr, torch, numpy and python.
        command: the command line of the evaluation.
        date: date and time in ISO 8601.
        schema: version of the file format.
        interval_kind: how `intervals` were computed; a card file without this field has bootstrap intervals.
        query_sequences: number of sequences, panoramas or folders that the queries come from; None if unknown, or if
            no two queries share a sequence.
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
            raise ValueError(
                "recall_at and intervals must have the same values of N and at least one, got "
                f"{list(self.recall_at)} and {list(self.intervals)}"
            )
        for n, (low, high) in self.intervals.items():
            if not 0.0 <= low <= self.recall_at[n] <= high <= 1.0:
                raise ValueError(
                    f"R@{n} must be from 0 to 1 and within its confidence interval, got {self.recall_at[n]} and the "
                    f"interval {low} to {high}"
                )

    def __repr__(self) -> str:
        recalls = ", ".join(f"R@{n} {100 * self.recall_at[n]:.1f}" for n in self.ns)
        return f"<Card {self.method} on {self.dataset}, grouping {self.grouping}: {recalls}>"

    @property
    def ns(self) -> tuple[int, ...]:
        """The values of N for which the card has recall@N, in ascending order."""
        return tuple(sorted(self.recall_at))

    @property
    def counted(self) -> int:
        """Number of queries that count for recall. The protocol may skip queries without positives."""
        skipped = self.counts.without_positives if self.protocol.unanswered == "skip" else 0
        return self.counts.queries - skipped

    def to_dict(self) -> dict[str, Any]:
        """Return the content of card.json as a dictionary."""
        return {"schema": self.schema, **to_plain(self)}

    def write(self, folder: Path) -> Path:
        """Write `card.json` into a folder and return the path of the file.

        An existing card is replaced only when the new card is completely written.

        Raises:
            InputError: the file cannot be written.
        """
        path = Path(folder) / FILE
        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a card.

        Args:
            path: the card.json, or the folder that holds it.

        Raises:
            InputError: the file does not exist, has another format version, or is not a card.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the card {path}: {error}. Give a card.json or its folder.") from error
        values = parse_json(text, str(path))
        version = values.get("schema") if isinstance(values, dict) else None
        if version != SCHEMA:
            raise InputError(f"the card {path} must have the format {SCHEMA}, got {version!r}. Evaluate again.")
        return build(cls, values, str(path))

    def folder_name(self) -> str:
        """Return a readable folder name for this evaluation.

        Cards of the same split, method and settings have the same name, even if times, versions or recalls differ.
        """
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
    """Return a warning for a card whose queries come from sequences, so that its intervals are too narrow.

    Intervals and tests assume independent queries.
    """
    return (
        f"the {card.counts.queries:,} queries come from {card.query_sequences:,} sequences, panoramas or folders and "
        "are not independent, so the true confidence intervals are wider"
    )
