"""Compute the machines that an index of 10 million, 100 million and 1 billion photos needs, from measured figures.

Run: python -m benchmarks.scale, which writes the tables of docs/scale.md anew. The figures are in
docs/results/scale.toml: [local] is taken by hand from the table that benchmarks/million.py prints, and every [[milvus]]
is written by benchmarks/milvus.py --figures. Measure again, put the figures there, and run this.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures

from cricavpr.files import write_text
from cricavpr.schema import build

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, PAGE = DOCS / "results" / "scale.toml", DOCS / "scale.md"
BEGIN, END = "<!-- written by benchmarks/scale.py -->", "<!-- until here -->"

SIZES = {"10 million": 10**7, "100 million": 10**8, "1 billion": 10**9}


@dataclass(frozen=True)
class Local:
    """The compressed engine on one machine.

    Attributes:
        rows, dim: of the index that was measured.
        code_bytes: of a photo, in memory.
        own_mb: memory of the process at that size.
        scan_ms: CPU time of one query for comparing codes, which grows with the rows.
        rest_ms: CPU time of one query for reading and scoring the shortlist, which does not.
        encode_per_s: descriptors coded in a second of CPU.
    """

    rows: int
    dim: int
    code_bytes: int
    own_mb: float
    scan_ms: float
    rest_ms: float
    encode_per_s: float


@dataclass(frozen=True)
class Assumed:
    """Assumptions, which were not measured.

    Attributes:
        node_gb: memory of a machine.
        usable: the share of it that data may take; the rest is for the system, for queries and for growing.
        cores: of a machine.
        copies: of everything on a cluster, so that one machine may fail.
        disk_copies: that the cluster's object store keeps.
    """

    node_gb: float = 256.0
    usable: float = 0.7
    cores: int = 32
    copies: int = 2
    disk_copies: int = 2


@dataclass(frozen=True)
class Form:
    """A way to store a descriptor: name and bytes."""

    name: str
    dim: int
    value_bytes: int

    @property
    def photo_bytes(self) -> int:
        return self.dim * self.value_bytes


FORMS = (
    Form("4096 values, float32", 4096, 4),
    Form("4096 values, float16", 4096, 2),
    Form("PCA to 512, float32", 512, 4),
)


def read(path: Path = FIGURES) -> tuple[Local, list[Figures]]:
    values: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return build(Local, values["local"], str(path)), [build(Figures, one, str(path)) for one in values["milvus"]]


def slope(figures: list[Figures], kind: str, of: str) -> float:
    """Return the cost of one more stored value, between the smallest and the largest collection of a kind."""
    some = sorted((one for one in figures if one.kind == kind), key=lambda one: one.rows)
    first, last = some[0], some[-1]
    return float((getattr(last, of) - getattr(first, of)) / (last.rows * last.dim - first.rows * first.dim))


def nodes(ram_gb: float, assumed: Assumed) -> int:
    return max(1, math.ceil(ram_gb / (assumed.node_gb * assumed.usable)))


def local_table(local: Local, assumed: Assumed) -> str:
    lines = [
        "| photos | descriptors kept as | vectors on disk | codes in memory | machines of that memory "
        "| coding, core hours | one query, ms of one core | the same over all cores, ms |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for label, count in SIZES.items():
        for form in FORMS[:2]:
            ram_gb = count * local.code_bytes / 1e9
            cpu_ms = local.scan_ms * count / local.rows + local.rest_ms
            many = nodes(ram_gb, assumed)
            spread_ms = local.scan_ms * count / local.rows / (many * assumed.cores) + local.rest_ms
            lines.append(
                f"| {label} | {form.name} | {size(count * form.photo_bytes)} | {size(ram_gb * 1e9)} | {many} "
                f"| {count / local.encode_per_s / 3600:,.1f} | {rounded(cpu_ms)} | {rounded(spread_ms)} |"
            )
    return "\n".join(lines)


def milvus_table(figures: list[Figures], assumed: Assumed) -> str:
    """Memory by the measured slope; never below the vectors themselves, which the server holds."""
    lines = [
        "| photos | kind | descriptors | on disk, all copies | in memory, all copies | machines | filling, hours |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for label, count in SIZES.items():
        for kind in dict.fromkeys(one.kind for one in figures):
            for form in (FORMS[0], FORMS[2]):
                raw = count * form.photo_bytes
                memory = count * form.dim * max(slope(figures, kind, "rss_mb") * 1e6, 4.0) * assumed.copies
                disk = count * form.dim * max(slope(figures, kind, "disk_mb") * 1e6, 4.0) * assumed.disk_copies
                last = max((one for one in figures if one.kind == kind), key=lambda one: one.rows)
                hours = raw / (last.add_per_s * last.dim * 4) / 3600
                lines.append(
                    f"| {label} | {kind} | {form.name} | {size(disk)} | {size(memory)} "
                    f"| {max(assumed.copies, nodes(memory / 1e9, assumed)):,} | {rounded(hours)} |"
                )
    return "\n".join(lines)


def size(count: float) -> str:
    return f"{rounded(count / 1e12)} TB" if count >= 1e12 else f"{rounded(count / 1e9)} GB"


def rounded(value: float) -> str:
    """Round to two digits, because more are not known."""
    digits = 1 - math.floor(math.log10(abs(value))) if value else 0
    return f"{round(value, digits):,.{max(0, digits)}f}"


def tables(local: Local, figures: list[Figures], assumed: Assumed) -> str:
    wanted = ", ".join(f"{field.name} {getattr(assumed, field.name)}" for field in fields(assumed))
    here, there = local_table(local, assumed), milvus_table(figures, assumed)
    return f"Assumed: {wanted}.\n\n### In a folder\n\n{here}\n\n### On Milvus\n\n{there}"


def page(text: str, written: str) -> str:
    """Return the page with new tables."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


def main() -> None:
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), tables(*read(), Assumed())))


if __name__ == "__main__":
    main()
