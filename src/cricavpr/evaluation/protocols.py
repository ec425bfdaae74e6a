"""Protocols: the settings that influence a recall besides the method and the split. Cards record them.

`honest` evaluates three times: each image described alone, in groups in file order, and in shuffled groups.

`paper` follows the evaluation script of CricaVPR's authors. Database and queries are described in separate groups of 16
images in file order (8 for Pittsburgh); the last group may be shorter. Descriptors are not scaled to length 1 again
after a PCA. Images are ranked by Euclidean distance. Queries without positives count as misses.
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
    """Settings that influence a recall, besides the images, the positives and the descriptors.

    Attributes:
        name: "honest" or "paper"; the other settings may differ from those of the named protocol.
        unanswered: what happens to queries without positives: "miss" counts them as misses, "skip" leaves them out.
        one_hit_per_panorama: whether only the best image of each panorama counts as a prediction.
        tolerance: how positives were decided, such as "within 25 m"; `evaluate` copies it from the dataset.
        distance: rank by dot product ("dot") or Euclidean distance ("l2"); both agree for vectors of length 1.
        pca: description of the PCA that reduced the descriptors, or None; `evaluate` copies it from the descriptors.
        precision: number format in which the network computes.
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
        """The values of N for which the protocol reports recall@N."""
        return (1, 5, 10, 100) if self.name == "paper" else (1, 5, 10)

    def __str__(self) -> str:
        """Return the name of the protocol, and the settings that differ from those of `honest`."""
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
    """Return the protocol of this name, with the given settings changed.

    Args:
        name: "honest" or "paper".
        dataset: the dataset to evaluate; its own rule for queries without positives is the default for `honest`.
        unanswered: as in `Protocol`. None takes "miss" for `paper` or without a dataset, else the dataset's rule.
        one_hit_per_panorama, precision: as in `Protocol`.

    Raises:
        InputError: the name is unknown.

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
    """Return the groupings that a protocol evaluates, in the order in which the table of results lists them.

    Args:
        name: name of the protocol.
        correlates: whether the method's descriptors depend on the other images of their group. If not, `honest` has
            only one grouping, because all give the same result.
        paper_grouping: grouping that the paper's authors used for the split. The shuffled groups of `honest` have the
            same size, so that only the order differs.

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
