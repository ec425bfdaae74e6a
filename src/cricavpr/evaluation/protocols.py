"""Protocols: the settings that decide a recall besides the method and the split. Cards record them.

`honest` evaluates alone, in file order and shuffled, side by side. `paper` follows the evaluation script of CricaVPR's
authors: database and queries in separate groups of 16 in file order (8 for Pittsburgh) with a short last group, PCA not
renormalised, ranking by Euclidean distance, and recall over all queries, also those without positives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cricavpr.datasets.base import EvalDataset
from cricavpr.errors import InputError
from cricavpr.grouping import ALONE, Grouping
from cricavpr.index.search import Distance
from cricavpr.schema import nearest

Unanswered = Literal["miss", "skip"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Protocol:
    """Everything that decides a recall besides the images, the positives and the descriptors.

    Attributes:
        name: name of the protocol; single settings may have been changed.
        unanswered: whether queries without positives count as misses or are skipped.
        one_hit_per_panorama: whether only the best image of each panorama is a prediction.
        tolerance: rule for positives; filled in from the dataset.
        distance: ranking by dot product or Euclidean distance, which agree for vectors of unit length.
        pca: the PCA that reduced the descriptors, or None; filled in from the descriptors.
        precision: arithmetic of the network.
    """

    name: str = "honest"
    unanswered: Unanswered = "miss"
    one_hit_per_panorama: bool = False
    tolerance: str = ""
    distance: Distance = "dot"
    pca: str | None = None
    precision: Precision = "fp32"

    @property
    def recall_ns(self) -> tuple[int, ...]:
        """The N of recall@N that the protocol reports."""
        return (1, 5, 10, 100) if self.name == "paper" else (1, 5, 10)

    def __str__(self) -> str:
        """Return a cell of a table: the name, and the settings that differ from `honest`."""
        departures = [
            "queries without positives skipped" if self.unanswered == "skip" else "",
            "one hit per panorama" if self.one_hit_per_panorama else "",
            "ranked by L2" if self.distance == "l2" else "",
            self.pca or "",
            self.precision if self.precision != "fp32" else "",
        ]
        return "; ".join([self.name, *filter(None, departures)])


PROTOCOLS: dict[str, Protocol] = {"honest": Protocol("honest"), "paper": Protocol("paper", distance="l2")}
HONEST = PROTOCOLS["honest"]


def protocol(
    name: str,
    dataset: EvalDataset | None = None,
    *,
    unanswered: Unanswered | None = None,
    one_hit_per_panorama: bool = False,
    precision: Precision = "fp32",
) -> Protocol:
    """Return a protocol by name, with single settings changed.

    Args:
        dataset: decides `unanswered` if that is None and the protocol is not `paper`.

    Raises:
        InputError: an unknown name.

    Example:
        >>> print(protocol("paper", unanswered="skip"))
        paper; queries without positives skipped; ranked by L2
    """
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}. {nearest(name, PROTOCOLS)}")
    if unanswered is None:
        unanswered = "miss" if dataset is None or name == "paper" else dataset.unanswered
    chosen = replace(PROTOCOLS[name], one_hit_per_panorama=one_hit_per_panorama, precision=precision)
    return replace(chosen, unanswered=unanswered)


def groupings(name: str, correlates: bool, paper_grouping: str = "in_order:16") -> tuple[Grouping, ...]:
    """Return the groupings that a protocol runs, in the order of its table.

    Args:
        correlates: whether descriptors depend on their group; other methods have only one result.
        paper_grouping: the authors' grouping of the split. The shuffle of `honest` has the same size, so that only the
            order differs.

    Example:
        >>> [str(one) for one in groupings("honest", correlates=True)]
        ['alone', 'in_order:16', 'shuffled:16:0']
    """
    in_order = Grouping.parse(paper_grouping)
    if name == "paper":
        return (in_order,)
    if not correlates:
        return (ALONE,)
    return ALONE, in_order, Grouping("shuffled", in_order.size or 16, 0)
