"""docs/datasets.md says what the registry says. Run this file to write its lower part anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cricavpr.datasets.benchmarks import BENCHMARKS, Benchmark, Split

PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"
MARK = "do not edit below -->\n"


def tables() -> str:
    return "".join(f"\n{line}" if line.startswith("#") else line for b in BENCHMARKS.values() for line in _section(b))


def _section(benchmark: Benchmark) -> Iterator[str]:
    yield f"## {benchmark.title} (`{benchmark.key}`)\n\n"
    for what in ("source", "registration", "licence"):
        yield f"- {what}: {getattr(benchmark, what)}\n"
    if benchmark.splits:
        yield "\n| split | queries | database | positives | layouts |\n|---|--:|--:|---|---|\n"
    yield from map(_row, benchmark.splits)
    notes: dict[str, list[str]] = {}
    for split in benchmark.splits:
        for note in split.notes:
            notes.setdefault(note, []).append(split.name)
    if notes:
        yield "\n"
    for note, names in notes.items():
        of_some = len(names) < len(benchmark.splits)
        yield f"- {', '.join(names) + ': ' if of_some and len(names) <= 3 else ''}{note}\n"


def _row(split: Split) -> str:
    counts = ("" if count is None else f"{count:,}" for count in (split.queries, split.database))
    layouts = "; ".join(layout.name for layout in split.layouts)
    return f"| {' | '.join((split.name, *counts, split.rule, layouts))} |\n"


def test_the_page_of_the_benchmarks_is_what_the_registry_says() -> None:
    below = PAGE.read_text(encoding="utf-8").partition(MARK)[2]
    assert below == tables(), "run: python tests/datasets/benchmarks/test_page.py"


if __name__ == "__main__":
    above = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(above + MARK + tables(), encoding="utf-8")
