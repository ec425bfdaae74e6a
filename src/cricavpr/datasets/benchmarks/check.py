"""Check which files of a benchmark exist on disk, and whether counts, positives and photos are as published."""

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

Verdict = Literal["ok", "differs", "missing", "unknown"]  # "unknown": no expected value is known
State = Literal["as expected", "differs", "nothing there"]

LOOK_FOR = 200_000  # largest number of files to look for on each side (database, queries)
DECODED = 8  # number of photos to decode on each side
_REPORT_EVERY = 1_000  # files


@dataclass(frozen=True)
class Finding:
    """Result of one check: what was checked, the expected value, the found value, and the verdict."""

    what: str
    expected: str
    found: str
    verdict: Verdict


@dataclass(frozen=True)
class CheckedSplit:
    """Results of checking the files of one split.

    Attributes:
        layout: name of the layout of the files, or None if no layout fits.
        split_hash: `EvalDataset.split_hash` of the split, or None if the split could not be read.
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
        """Return the results as a dict that can be written as JSON."""
        facts = {"layout": self.layout, "split_hash": self.split_hash, "findings": to_plain(self.findings)}
        return {"split": self.name, "state": self.state} | facts


def state_of(splits: Iterable[CheckedSplit]) -> State:
    """Return the state of several splits together: their common state, or "differs" if they have none."""
    states = {split.state for split in splits}
    return states.pop() if len(states) == 1 else "differs"


def check_split(split: Split, root: Path, report: Report | None = None) -> CheckedSplit:
    """Check the files of a split below the folder `root`. Problems are returned as findings, not raised.

    Up to 200,000 files of the database and of the queries are looked for, and 8 photos of each are decoded. They are
    evenly spread over all photos.

    Args:
        report: called with the numbers of files looked for so far and in all, first for the database, then for the
            queries.
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
            found: tuple[str, Verdict] = ("exists", "ok") if there else ("not found", "missing")
            yield Finding(f"{layout.name}: {need}", "exists", *found)


def _positives(split: Split, rule: str, sizes: NDArray[np.int64]) -> Finding:  # sizes: (Q,) positives per query
    if not sizes.any():
        return Finding("positives", split.rule, "none", "ok" if split.unanswered == "skip" else "differs")
    share = f"{sizes.sum():,} pairs, {sizes.min()} to {sizes.max()} per query"
    if rule == split.rule:
        return Finding("positives", split.rule, share, "ok")
    return Finding("positives", split.rule, f"{share}; {rule}", "unknown")  # a list may use another radius


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
    """Return up to `at_most` of the numbers 0 to count - 1. They are evenly spread, with the first and the last."""
    return sorted(set(np.linspace(0, count - 1, min(at_most, count)).round().astype(int).tolist()))
