"""The table of an ablation: one row for each recipe, in Markdown, CSV and LaTeX.

Recalls are from the last validation of each run, averaged over the seeds. With several seeds, minimum and maximum are
printed after the mean. Runs that diverged or are not finished do not count, and the title of the row lists their seeds.
In each column of recalls, the best value is bold and the second best is underlined. Values that are equal when rounded
for printing count as equal.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Literal

from cricavpr.files import write_text
from cricavpr.training.ablate import RunResult, Variant

MISSING = "-"
Mark = Callable[[str], str]


class TableRow:
    """One row of the table: the results of one recipe with all seeds."""

    def __init__(self, variant: Variant, results: Sequence[RunResult]) -> None:
        self.variant, self.results = variant, results
        self.finished = [result for result in results if result.state == "finished"]

    def seeds(self, state: str) -> list[int]:
        """Return the seeds of the runs in a state: finished, diverged or unfinished."""
        return [result.seed for result in self.results if result.state == state]

    def recalls(self, name: str) -> list[float]:
        """Return the recall `name`, such as "R@1 alone", of each finished run that measured it, as fractions."""
        return [result.recalls[name] for result in self.finished if name in result.recalls]

    def mean(self, cost: Literal["steps", "minutes"], form: str, missing: str) -> str:
        """Return the mean steps or minutes of the finished runs as text; return `missing` if no run is finished.

        Args:
            cost: "steps" or "minutes".
            form: format of the number, such as ".1f".
            missing: text to return if no run is finished.
        """
        return format(fmean(getattr(result, cost) for result in self.finished), form) if self.finished else missing

    @property
    def title(self) -> str:
        """Title of the row: the recipe's title, and the seeds that diverged or are not finished."""
        missing = [
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))} {words}"
            for state, words in (("diverged", "diverged"), ("unfinished", "not finished"))
            if (seeds := self.seeds(state))
        ]
        return self.variant.title + (f" ({'; '.join(missing)})" if missing else "")


def rows_of(results: Sequence[RunResult]) -> list[TableRow]:
    """Group results into rows; all results of one recipe must be adjacent in the sequence."""
    return [TableRow(variant, list(found)) for variant, found in groupby(results, key=lambda result: result.variant)]


def write_tables(results: Sequence[RunResult], out: Path) -> str:
    """Write table.md, table.csv and table.tex into the folder `out`; return the Markdown text."""
    rows = rows_of(results)
    text = markdown(rows)
    for name, contents in (("table.md", text), ("table.csv", as_csv(rows)), ("table.tex", latex(rows))):
        write_text(out / name, contents)
    return text


def markdown(rows: Sequence[TableRow]) -> str:
    """Return the table in Markdown."""
    head, *body = _cells(rows, lambda text: f"**{text}**", lambda text: f"<u>{text}</u>", str)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([*shown, "", _legend(rows), ""])


def latex(rows: Sequence[TableRow]) -> str:
    """Return the table as a LaTeX tabular, which needs the package booktabs."""
    head, *body = _cells(rows, lambda text: f"\\textbf{{{text}}}", lambda text: f"\\underline{{{text}}}", _latex)
    begin = f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}"
    lines = [" & ".join(line) + " \\\\" for line in (head, *body)]
    top = [f"% {_legend(rows)}", begin, "\\toprule", lines[0], "\\midrule"]
    return "\n".join([*top, *lines[1:], "\\bottomrule", "\\end{tabular}", ""])


def as_csv(rows: Sequence[TableRow]) -> str:
    """Return the table as CSV. Recalls are fractions, not per cent, each with minimum and maximum over the seeds."""
    names = recall_names(rows)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    spread = [column for name in names for column in (name, f"{name} least", f"{name} greatest")]
    table.writerow(["recipe", "title", "seeds", "diverged", "unfinished", *spread, "steps", "tunable", "minutes"])
    for row in rows:
        states = (" ".join(map(str, row.seeds(state))) for state in ("finished", "diverged", "unfinished"))
        recalls = [
            f"{value:.6f}" if found else ""
            for found in map(row.recalls, names)
            for value in ((fmean(found), min(found), max(found)) if found else (0.0,) * 3)
        ]
        costs = [row.mean("steps", ".0f", ""), row.results[0].tunable, row.mean("minutes", ".2f", "")]
        table.writerow([row.variant.name, row.variant.title, *states, *recalls, *costs])
    return text.getvalue()


def recall_names(rows: Sequence[TableRow]) -> list[str]:
    """Return the names of all recalls, such as "R@1 alone", ordered by grouping, then by cut-off."""
    validations = [row.variant.recipe.validation for row in rows]
    groupings = [grouping for validation in validations if validation for grouping in validation.groupings]
    return list(dict.fromkeys(f"R@{n} {grouping}" for grouping in groupings for n in (1, 5, 10)))


def _cells(rows: Sequence[TableRow], best: Mark, second: Mark, escape: Mark) -> list[list[str]]:
    """Return the cells of the table, the header first.

    Args:
        rows: rows of the table.
        best: function that marks the best value of a column, for example makes it bold.
        second: function that marks the second best value.
        escape: function that escapes special characters in a text.
    """
    names = recall_names(rows)
    columns = [
        [escape(row.title) for row in rows],
        *(_recalls([row.recalls(name) for row in rows], best, second, escape) for name in names),
        [row.mean("steps", ",.0f", MISSING) for row in rows],
        [f"{row.results[0].tunable:,}" for row in rows],
        [row.mean("minutes", ".1f", MISSING) for row in rows],
    ]
    return [list(map(escape, ["", *names, "steps", "tunable", "minutes"])), *map(list, zip(*columns, strict=True))]


def _recalls(found: Sequence[Sequence[float]], best: Mark, second: Mark, escape: Mark) -> list[str]:
    """Return the cells of one column: mean recalls in per cent, with minimum and maximum if there are several seeds."""
    means = [f"{100 * fmean(values):.1f}" if values else MISSING for values in found]
    ranked = sorted({float(mean) for mean in means if mean != MISSING}, reverse=True)
    marks = {f"{value:.1f}": mark for value, mark in zip(ranked, (best, second), strict=False) if len(ranked) > 1}
    spreads = [f" ({100 * min(v):.1f} to {100 * max(v):.1f})" if len(v) > 1 else "" for v in found]
    return [marks.get(mean, str)(escape(mean)) + escape(spread) for mean, spread in zip(means, spreads, strict=True)]


def _legend(rows: Sequence[TableRow]) -> str:
    seeds = sorted({result.seed for row in rows for result in row.results})
    which = f"mean over seeds {', '.join(map(str, seeds))} (minimum to maximum)" if seeds[1:] else f"seed {seeds[0]}"
    return f"Recall in per cent at the last validation, {which}; tunable: trained parameters; minutes: time of one run."


_SPECIAL: dict[str, str | int | None] = {character: f"\\{character}" for character in "&%$#_{}"}
_SPECIAL |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _latex(text: str) -> str:
    return text.translate(str.maketrans(_SPECIAL))
