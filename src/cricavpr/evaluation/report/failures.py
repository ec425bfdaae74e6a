"""Rules that suggest from the answers why a query went wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from cricavpr.evaluation.answers import Answer
from cricavpr.evaluation.report.evaluations import Evaluation

NEAR = 2.0  # radii: a first match up to this far away is a near miss (25 to 50 m)
FAR = 4.0  # radii: a first match beyond this is another place (100 m)
SHARED = 2  # at least so many other wrong queries have the same first match
UNLIKE = 20  # if the best positive has a higher rank, it looks unlike the query

KINDS = {
    "near miss": "The first match is outside the radius by no more than the radius itself (25 to 50 m).",
    "aliasing": "The first match is another place (beyond 100 m) that looks the same: its score is at least the median "
    f"score of right first matches, or {SHARED} or more other wrong queries have the same first match.",
    "doubtful truth": f"All positives look unlike the query (the best has a rank above {UNLIKE}), but photos just "
    "outside the radius are among the first matches. Positions or directions may be off.",
    "nothing to find": "No database photo is right.",
    "not described": "The query has no descriptor.",
    "other": "None of these.",
}


@dataclass(frozen=True)
class Failure:
    """One wrong query.

    Attributes:
        index: its row among the answers.
        kinds: one or more keys of KINDS.
        shared: number of other wrong queries with the same first match.
        distance_m, score: of the first match; None if there is no match or its distance is unknown.
    """

    index: int
    query: str
    condition: str
    kinds: tuple[str, ...]
    shared: int
    distance_m: float | None
    score: float | None
    first_right_rank: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of failures.json."""
        return {key: value for key, value in asdict(self).items() if key != "index"}


def failures(evaluation: Evaluation) -> list[Failure]:
    """Return the wrong queries of an evaluation, in order."""
    wrong = [answer for answer in evaluation.answers if not answer.right]
    landed = Counter(answer.matches[0].name for answer in wrong if answer.matches)
    scores = [answer.matches[0].score for answer in evaluation.answers if answer.right]
    usual, found = median(scores) if scores else None, []
    for answer in wrong:
        first = answer.matches[0] if answer.matches else None
        shared = landed[first.name] - 1 if first else 0
        kinds = _kinds(answer, evaluation.radius_m, usual, shared)
        off_m, score = (first.distance_m, first.score) if first else (None, None)
        rank, condition = answer.first_right_rank, answer.condition or ""
        found.append(Failure(answer.index, answer.query, condition, kinds, shared, off_m, score, rank))
    return found


def _kinds(answer: Answer, radius_m: float, usual_score: float | None, shared: int) -> tuple[str, ...]:
    if not answer.matches:
        return ("not described",)
    if not answer.positives:
        return ("nothing to find",)
    first = answer.matches[0]
    kinds = []
    if first.distance_m is not None and radius_m < first.distance_m <= NEAR * radius_m:
        kinds.append("near miss")
    far = first.distance_m is not None and first.distance_m > FAR * radius_m
    if far and (shared >= SHARED or (usual_score is not None and first.score >= usual_score)):
        kinds.append("aliasing")
    just_outside = any(m.distance_m is not None and radius_m < m.distance_m <= NEAR * radius_m for m in answer.matches)
    if just_outside and (answer.first_right_rank is None or answer.first_right_rank > UNLIKE):
        kinds.append("doubtful truth")
    return tuple(kinds) or ("other",)
