"""Check which files of a benchmark are on this disk, and whether they are as expected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet
from cricavpr.datasets.benchmarks.base import Layout, Split
from cricavpr.errors import ImageError, InputError
from cricavpr.images import decode
from cricavpr.progress import Report
from cricavpr.schema import to_plain

Verdict = Literal["ok", "differs", "missing", "unknown"]  # unknown: nothing is recorded to compare with
State = Literal["as expected", "differs", "nothing there"]

LOOK_FOR = 200_000  # files looked for on each side, spread evenly over a larger one
DECODED = 8  # photos decoded on each side, spread evenly over it
_REPORT_EVERY = 1_000  # files


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    what: str
    expected: str
    found: str
    verdict: Verdict


@dataclass(frozen=True)
class CheckedSplit:
    """One split on this disk.

    Attributes:
        layout: name of the layout that fits, or None.
        split_hash: hash of the split as read, or None if it could not be read.
    """

    name: str
    layout: str | None
    split_hash: str | None
    findings: tuple[Finding, ...]

    @property
    def state(self) -> State:
        verdicts = {finding.verdict for finding in self.findings}
        if self.layout is None and verdicts == {"missing"}:
            return "nothing there"
        return "differs" if verdicts & {"differs", "missing"} else "as expected"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        facts = {"layout": self.layout, "split_hash": self.split_hash, "findings": to_plain(self.findings)}
        return {"split": self.name, "state": self.state} | facts


def state_of(splits: Iterable[CheckedSplit]) -> State:
    """Return the state of several splits together."""
    states = {split.state for split in splits}
    return states.pop() if len(states) == 1 else "differs"


def check_split(split: Split, root: Path, report: Report | None = None) -> CheckedSplit:
    """Look for a split below a folder; whatever is wrong becomes a finding, and nothing is raised.

    Up to 200,000 files of each side are looked for (of a larger side, so many spread evenly) and eight are decoded.

    Args:
        report: called with (files looked for, files to look for) of a side.
    """
    layout = split.layout_of(root)
    if layout is None:
        return CheckedSplit(split.name, None, None, tuple(_needs(split, root)))
    findings = [Finding("layout", " or ".join(dict.fromkeys(each.name for each in split.layouts)), layout.name, "ok")]
    try:
        dataset = layout.read(root)
        digest = dataset.split_hash()
    except InputError as error:
        findings.append(Finding("reading", "readable", str(error), "differs"))
        return CheckedSplit(split.name, layout.name, None, tuple(findings))
    sizes = np.array([len(indices) for indices in dataset.positives], np.int64)
    findings += [
        _count("queries", split.queries, len(dataset.queries)),
        _count("database images", split.database, len(dataset.database)),
        _count("queries without positives", split.without_positives, int((sizes == 0).sum())),
        _positives(split, dataset.rule, sizes),
    ]
    for side, images in (("database", dataset.database), ("queries", dataset.queries)):
        findings += [_files(side, images, report), _decodable(side, images)]
    return CheckedSplit(split.name, layout.name, digest, (*findings, _hash(layout, digest)))


def _needs(split: Split, root: Path) -> Iterable[Finding]:
    for layout in split.layouts:
        for need in layout.needs:
            there = (root / need).exists()
            found: tuple[str, Verdict] = ("there", "ok") if there else ("not there", "missing")
            yield Finding(f"{layout.name}: {need}", "there", *found)


def _positives(split: Split, rule: str, sizes: NDArray[np.int64]) -> Finding:  # sizes: (Q,) positives of each query
    if not sizes.any():
        return Finding("positives", split.rule, "none", "ok" if split.unanswered == "skip" else "differs")
    share = f"{sizes.sum():,} pairs, {sizes.min()} to {sizes.max()} a query"
    if rule == split.rule:
        return Finding("positives", split.rule, share, "ok")
    return Finding("positives", split.rule, f"{share}; {rule}", "unknown")  # a list may have its own threshold


def _count(what: str, expected: int | None, found: int) -> Finding:
    if expected is None:
        return Finding(what, "not published", f"{found:,}", "unknown")
    return Finding(what, f"{expected:,}", f"{found:,}", "ok" if found == expected else "differs")


def _files(side: str, images: ImageSet, report: Report | None) -> Finding:
    rows = spread(len(images), LOOK_FOR)
    lost: list[str] = []
    for done, row in enumerate(rows, start=1):
        if not images.path(row).is_file():
            lost.append(images.names[row])
        if report is not None and (done % _REPORT_EVERY == 0 or done == len(rows)):
            report(done, len(rows))
    what = f"{side} files" + (f", {len(rows):,} looked for" if len(rows) < len(images) else "")
    if not lost:
        return Finding(what, f"{len(rows):,}", f"{len(rows):,}", "ok")
    found = f"{len(rows) - len(lost):,}; {len(lost):,} are missing, first {lost[0]!r}"
    return Finding(what, f"{len(rows):,}", found, "missing")


def _decodable(side: str, images: ImageSet) -> Finding:
    rows = spread(len(images), DECODED)
    sizes, broken = set(), []
    for row in rows:
        try:
            height, width, _ = decode(images.path(row)).shape
            sizes.add(f"{width} x {height}")
        except ImageError as error:
            broken.append(f"{images.names[row]!r} {error}")
    expected = f"{len(rows)} of {len(rows)}"
    if broken:
        return Finding(f"{side} decoded", expected, f"{len(rows) - len(broken)}; {broken[0]}", "differs")
    shown = min(sizes) if len(sizes) == 1 else f"{len(sizes)} sizes"
    return Finding(f"{side} decoded", expected, f"{len(rows)} of {len(rows)}, {shown}", "ok")


def _hash(layout: Layout, digest: str) -> Finding:
    if layout.split_hash is None:
        return Finding("split hash", "none recorded", digest[:16], "unknown")
    same = digest == layout.split_hash
    return Finding("split hash", layout.split_hash[:16], digest[:16], "ok" if same else "differs")


def spread(count: int, at_most: int) -> list[int]:
    """Return up to `at_most` of `count` rows, evenly spread, the first and the last among them."""
    return sorted(set(np.linspace(0, count - 1, min(at_most, count)).round().astype(int).tolist()))
