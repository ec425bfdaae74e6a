"""Cards and answers made up by hand, as an evaluation writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cricavpr.descriptors import MadeBy
from cricavpr.evaluation.answers import Answer, Match, write_answers
from cricavpr.evaluation.cards import Card, Counts, Timings
from cricavpr.evaluation.protocols import protocol
from cricavpr.evaluation.report.evaluations import Evaluation


def card(
    method: str = "ours",
    grouping: str = "alone",
    recalls: tuple[float, ...] = (0.5, 0.75, 0.8),
    dataset: str = "town",
    split: str = "0" * 64,
    weights: str = "w" * 64,
    queries: int = 4,
) -> Card:
    made = MadeBy(method, weights, (112, 112), "plain", grouping, None, 8)
    recall_at = dict(zip((1, 5, 10), recalls, strict=False))
    return Card(
        dataset=dataset,
        split_hash=split,
        rule="within 25 m",
        counts=Counts(100, queries, 0),
        method=method,
        weights=weights,
        made_by=made,
        grouping=grouping,
        protocol=protocol("honest"),
        reranked=None,
        reranking=None,
        recall_at=recall_at,
        intervals=dict.fromkeys(recall_at, (0.0, 1.0)),
        timings=Timings(1.0, 0.1),
        versions={"cricavpr": "0"},
        command="cricavpr evaluate",
        date="2026-01-01",
    )


def match(distance_m: float | None = 10.0, score: float = 0.9, name: str = "a.jpg") -> Match:
    return Match(name, 0, score, distance_m, distance_m is not None and distance_m <= 25.0)


def answer(
    index: int,
    matches: Sequence[Match] = (),
    rank: int | None = None,
    positives: int = 1,
    condition: str | None = None,
    query: str = "",
) -> Answer:
    rank = 1 if rank is None and matches and matches[0].right else rank
    place = (500_000.0 + 100 * index, 6_000_000.0)
    return Answer(query or f"{index}.jpg", index, place, None, condition, positives, 5.0, rank, tuple(matches))


def run(answers: Sequence[Answer], label: str = "ours", of: Card | None = None) -> Evaluation:
    made = of or card(method=label)
    return Evaluation(label, replace(made, counts=replace(made.counts, queries=len(answers))), tuple(answers))


def write(folder: Path, of: Card, answers: Sequence[Answer] = ()) -> Path:
    folder.mkdir(parents=True)
    of.write(folder)
    if answers:
        write_answers(folder, answers)
    return folder
