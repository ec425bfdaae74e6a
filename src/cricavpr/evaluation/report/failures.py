"""Why a query went wrong: what the answers alone can tell, by rules that are written down. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any

from cricavpr.evaluation.answers import Answer
from cricavpr.evaluation.report.runs import Run

NEAR = 2.0  # a near miss lies outside the radius, and within so many of them: 25 to 50 m
FAR = 4.0  # so many radii away is another place: beyond 100 m
SHARED = 2  # so many other wrong queries on the same photo
UNLIKE = 20  # the best positive behind this rank looks unlike the query

KINDS = {
    "near miss": "The first match lies outside the radius by no more than the radius itself (25 to 50 m).",
    "aliasing": "The first match is another place (beyond 100 m) that looks the same: its score is at least the median "
    f"score of right first matches, or {SHARED} or more other wrong queries land on the same photo.",
    "doubtful truth": f"Every positive looks unlike (the best has rank above {UNLIKE}), while photos just outside the "
    "radius are among the first matches. Positions or directions may be off.",
    "nothing to find": "No database photo counts as right.",
    "not described": "The query gave no descriptor.",
    "other": "None of these.",
}


@dataclass(frozen=True)
class Failure:
    """One wrong query.

    Attributes:
        index: its place among the answers.
        kinds: of KINDS, at least one.
        shared: other wrong queries with the same first match.
        distance_m, score: of the first match; None where there is none or its distance is unknown.
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
        """For a page or a file."""
        return {
            "query": self.query,
            "condition": self.condition,
            "kinds": list(self.kinds),
            "shared": self.shared,
            "distance_m": self.distance_m,
            "score": self.score,
            "first_right_rank": self.first_right_rank,
        }


def right(answer: Answer) -> bool:
    """Whether the first match shows the place."""
    return bool(answer.matches) and answer.matches[0].right


def failures(run: Run) -> list[Failure]:
    """All wrong queries of a run, in order."""
    wrong = [answer for answer in run.answers if not right(answer)]
    landed = Counter(answer.matches[0].name for answer in wrong if answer.matches)
    scores = [answer.matches[0].score for answer in run.answers if right(answer)]
    usual = median(scores) if scores else None
    found = []
    for answer in wrong:
        first = answer.matches[0] if answer.matches else None
        shared = landed[first.name] - 1 if first else 0
        found.append(
            Failure(
                index=answer.index,
                query=answer.query,
                condition=answer.condition or "",
                kinds=_kinds(answer, run.radius_m, usual, shared),
                shared=shared,
                distance_m=first.distance_m if first else None,
                score=first.score if first else None,
                first_right_rank=answer.first_right_rank,
            )
        )
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
