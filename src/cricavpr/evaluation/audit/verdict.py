"""Rules that derive findings from the numbers of an audit. The page prints the rules; docs/audit.md explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cricavpr.evaluation.audit.measure import Audit, Measured
from cricavpr.evaluation.intervals import sign_test

NOISE = 1e-6  # a drift up to this is rounding: far above that of float32 (1e-12), far below what changes matches
CHANCE = 0.05  # if the p-value of a paired sign test is above this, the difference may be chance

RULES = (
    f"Drift is 1 - cosine between two descriptors of a photo. A drift up to {NOISE:g} is rounding. A larger drift "
    "means that the descriptor depends on what was changed.",
    "The batch size must change nothing. It is a fault if a query changes between correct and wrong, or if a drift is "
    "larger than rounding.",
    "A gain or loss of R@1, compared with photos described alone, may be chance if a paired sign test over the queries "
    f"has p > {CHANCE:g}.",
    "Shuffled groups gain or lose only if R@1 of every shuffle is on the same side of R@1 of photos described alone.",
    "A gain in file order that disappears in a shuffled order comes from the file order.",
)

Level = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Verdict:
    """One finding of an audit.

    Attributes:
        level: "good", "note" (neither good nor bad) or "bad".
        says: the finding in words.
    """

    level: Level
    says: str


Findings = Iterator[tuple[Level, str]]


def verdicts(audit: Audit) -> tuple[Verdict, ...]:
    """Return the findings of an audit, the most important first."""
    parts = [_packing(audit), _dependence(audit), _sound_batches(audit)]
    if audit.part("size") and max(audit.database, audit.queries) > 1:
        parts += [_file_order(audit), _strangers(audit), _one_side(audit), _last_group(audit)]
    return tuple(Verdict(*finding) for part in (*parts, _elsewhere(audit)) for finding in part)


def _is_fault(row: Measured) -> bool:
    return bool(row.won or row.lost) or _largest(row) > NOISE


def _packing(audit: Audit) -> Findings:
    row = next(filter(_is_fault, audit.part("packing")), None)
    if row is not None:
        yield (
            "bad",
            f"FAULT: the batch size changes results ({row.name}: drift up to {_largest(row):.2g}, {row.won + row.lost} "
            "queries change between right and wrong). The batch size must not matter, so no recall of this method can "
            "be trusted on this machine.",
        )


def _sound_batches(audit: Audit) -> Findings:
    if not any(map(_is_fault, audit.part("packing"))):
        yield "good", "The batch size changes nothing: the same groups in batches of other sizes give the same results."


def _dependence(audit: Audit) -> Findings:
    name = f"Descriptors of {audit.method}"
    moved = [row for row in (*audit.part("size"), *audit.part("shuffled"), *audit.part("strangers")) if row.drift]
    if not moved:
        yield "good", f"{name} do not depend on other images: each photo is described by itself."
    elif max(audit.database, audit.queries) < 2:
        yield (
            "note",
            f"Nothing is known about {audit.method}: with only one database photo and one query, no two photos shared "
            "a group. Give more photos.",
        )
    elif max(map(_largest, moved)) <= NOISE:
        yield "good", f"{name} do not depend on other images, although it describes the images of a group together."
    else:
        drift = _named(audit, f"in_order:{audit.group_size}").drift
        assert drift is not None
        yield (
            "note",
            f"{name} depend on the other images of their group: in groups of {audit.group_size} in file order the "
            f"cosine to the same photo described alone has the median {1 - drift.median:.4f} and the minimum "
            f"{1 - drift.max:.4f}. A recall means nothing without its grouping.",
        )


def _file_order(audit: Audit) -> Findings:
    row = _named(audit, f"in_order:{audit.group_size}")
    base = audit.part("alone")[0].recall_at_1 or 0.0
    shuffles = [shuffle.recall_at_1 or 0.0 for shuffle in audit.part("shuffled")]
    ordered, shuffled = _points((row.recall_at_1 or 0.0) - base), _points(sum(shuffles) / len(shuffles) - base)
    numbers = (
        f"R@1 compared with photos described alone ({100 * base:.1f}): {ordered:+.1f} points in file order, "
        f"{shuffled:+.1f} points in shuffled order (mean of {len(shuffles)} shuffles with R@1 from "
        f"{100 * min(shuffles):.1f} to {100 * max(shuffles):.1f})"
    )
    paired = f"{row.won} queries won, {row.lost} lost, p = {sign_test(row.won, row.lost):.2g}"
    if _chance(row):
        yield "note", f"Groups bring no gain here beyond chance. {numbers}; {paired}."
    elif ordered < 0:
        yield "bad", f"Groups cost recall here. {numbers}; {paired}."
    elif min(shuffles) > base:
        yield "note", f"Part of the gain remains after a shuffle: {shuffled:.1f} of {ordered:.1f} points. {numbers}."
    else:
        why = "The gain comes from the file order: neighbours in the list show the same place."
        yield "bad", f"{why} {numbers}.{_same_place(audit)}"


def _points(share: float) -> float:
    """Return a fraction as per cent, rounded to one decimal. Return 0.0 instead of -0.0."""
    return round(100 * share, 1) + 0.0


def _same_place(audit: Audit) -> str:
    ordered = _named(audit, f"in_order:{audit.group_size}").same_place
    shuffled = [row.same_place for row in audit.part("shuffled") if row.same_place is not None]
    if ordered is None or not shuffled:
        return ""
    return (
        f" {100 * ordered:.0f} % of the photos have another photo of the same place in their group in file order, "
        f"{100 * sum(shuffled) / len(shuffled):.0f} % in shuffled order."
    )


def _strangers(audit: Audit) -> Findings:
    first, *_, against = audit.part("strangers")
    if against.drift is not None and against.drift.max > NOISE:
        yield (
            "note",
            "Described together with photos of other places (strangers), the descriptor of a photo depends on which "
            f"ones: between two sets of strangers the cosine has the median {1 - against.drift.median:.4f} and the "
            f"minimum {1 - against.drift.max:.4f}. R@1 among strangers is {100 * (first.recall_at_1 or 0.0):.1f}.",
        )


def _one_side(audit: Audit) -> Findings:
    for row in audit.part("one side"):
        if row.lost > row.won and not _chance(row):
            recall = f"{100 * (row.recall_at_1 or 0.0):.1f}"
            yield (
                "bad",
                f"Database and queries need the same grouping: with {row.name}, R@1 falls to {recall}.",
            )


def _last_group(audit: Audit) -> Findings:
    for row in audit.part("last group"):
        if row.drift and row.drift.max > NOISE:
            moves = f"{row.drift.median:.2g} in the median, {row.drift.max:.2g} at most"
            yield "note", f"The {row.name} changes the descriptors of its photos: drift {moves}."


def _elsewhere(audit: Audit) -> Findings:
    """Yield the findings about precision and device."""
    for row in (*audit.part("precision"), *audit.part("device")):
        changed = row.won + row.lost
        if row.drift is not None:
            level: Level = "good" if not changed else "note" if _chance(row) else "bad"
            said = f"{changed} of {audit.queries:,} queries change" if changed else "no query changes"
            name = f"{row.name[0].upper()}{row.name[1:]}"
            yield level, f"{name}: {said} between right and wrong, drift up to {row.drift.max:.2g}."
        elif row.recall_at_1 is None:
            yield "note", f"{row.name}."


def _named(audit: Audit, name: str) -> Measured:
    return next(row for row in audit.rows if row.name == name)


def _largest(row: Measured) -> float:
    return row.drift.max if row.drift else 0.0


def _chance(row: Measured) -> bool:
    return sign_test(row.won, row.lost) > CHANCE
