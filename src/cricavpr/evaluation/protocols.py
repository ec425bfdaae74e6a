"""Protocols: what decides a recall besides the method and the split, by name and as a value that is recorded.

`honest` shows what a descriptor is worth alone, in the order of the files and in a shuffle, side by side. `paper` does
what the authors of CricaVPR did (their eval script): database and queries described apart, in groups of 16 in file
order (8 for Pittsburgh) with a short last group, PCA not renormalised, ranking by Euclidean distance, and recall over
all queries, those without positives included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cricavpr.errors import InputError
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index.search import Distance
from cricavpr.schema import nearest

Unanswered = Literal["miss", "skip"]
Precision = Literal["fp32", "bf16", "fp16"]

UNANSWERED: tuple[Unanswered, ...] = ("miss", "skip")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
PAPER_GROUPING = "in_order:16"
PAPER_NS = (1, 5, 10, 100)  # the default list of the authors' code


@dataclass(frozen=True)
class Protocol:
    """All that decides a recall besides the images, the positives and the descriptors.

    Attributes:
        name: which protocol this is, or was before single settings were changed.
        unanswered: queries without positives count as misses, or are skipped.
        one_hit_per_panorama: of each panorama only the best image is a prediction.
        tolerance: how positives were decided, in words; filled in from the dataset.
        distance: ranking by dot product or by Euclidean distance; the same for vectors of unit length.
        pca: what reduced the descriptors, or None; filled in from the descriptors.
        precision: of the network's arithmetic.
    """

    name: str = "honest"
    unanswered: Unanswered = "miss"
    one_hit_per_panorama: bool = False
    tolerance: str = ""
    distance: Distance = "dot"
    pca: str | None = None
    precision: Precision = "fp32"


PROTOCOLS: dict[str, Protocol] = {
    "honest": Protocol("honest"),
    "paper": Protocol("paper", distance="l2"),
}
HONEST = PROTOCOLS["honest"]


def protocol(
    name: str,
    *,
    unanswered: Unanswered | None = None,
    one_hit_per_panorama: bool = False,
    precision: Precision = "fp32",
) -> Protocol:
    """A protocol by name with single settings changed; None keeps the protocol's own.

    Raises:
        InputError: an unknown name, answered with the nearest.
    """
    if name not in PROTOCOLS:
        raise InputError(f"there is no protocol {name!r}. {nearest(name, PROTOCOLS)}")
    chosen = replace(PROTOCOLS[name], one_hit_per_panorama=one_hit_per_panorama, precision=precision)
    return chosen if unanswered is None else replace(chosen, unanswered=unanswered)


def groupings(name: str, correlates: bool, paper_grouping: str = PAPER_GROUPING) -> tuple[Grouping, ...]:
    """Which groupings a protocol runs, in the order of its table.

    Args:
        correlates: whether a descriptor depends on its group; for other methods there is one result.
        paper_grouping: how the authors grouped the split. The shuffle of `honest` has the same size, so that nothing
            but the order differs.
    """
    in_order = Grouping.parse(paper_grouping)
    if name == "paper":
        return (in_order,)
    if not correlates:
        return (ALONE,)
    return ALONE, in_order, Grouping("shuffled", in_order.size or 16, 0)


def describe_protocol(made: Protocol) -> str:
    """One cell of a table: the name, and everything in which it departs from `honest`."""
    departures = [
        "queries without positives skipped" if made.unanswered == "skip" else "",
        "one hit per panorama" if made.one_hit_per_panorama else "",
        "ranked by L2" if made.distance == "l2" else "",
        made.pca or "",
        made.precision if made.precision != "fp32" else "",
    ]
    return "; ".join([made.name, *filter(None, departures)])
