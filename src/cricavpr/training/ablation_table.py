"""The table of an ablation: one row for each recipe, in Markdown, CSV and LaTeX.

Recalls are those of the last measurement of each run, the mean over seeds, and with several seeds the least and the
greatest; a run that diverged or is not finished is not in them, and is named. The best of a column is bold, the second
underlined, as they are printed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from cricavpr.files import write_text
from cricavpr.training.ablate import Result, Row

MISSING = "-"


@dataclass(frozen=True)
class Line:
    """One row of the table: the results of a recipe, over its seeds."""

    row: Row
    results: tuple[Result, ...]

    @property
    def finished(self) -> list[Result]:
        return [result for result in self.results if result.state == "finished"]

    def seeds(self, state: str) -> list[int]:
        return [result.seed for result in self.results if result.state == state]

    def recalls(self, name: str) -> list[float]:
        """One fraction for each finished seed that measured it."""
        return [result.recalls[name] for result in self.finished if name in result.recalls]

    def mean_of(self, value: Callable[[Result], float]) -> float | None:
        return fmean(map(value, self.finished)) if self.finished else None

    @property
    def note(self) -> str:
        """What the numbers of this row do not tell."""
        said = [
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))} {words}"
            for state, words in (("diverged", "diverged"), ("unfinished", "not finished"))
            if (seeds := self.seeds(state))
        ]
        return "; ".join(said)


def lines_of(results: Sequence[Result]) -> list[Line]:
    """Results, row by row, as lines of the table."""
    return [Line(row, tuple(found)) for row, found in groupby(results, key=lambda result: result.row)]


def write_tables(results: Sequence[Result], out: Path) -> str:
    """Write table.md, table.csv and table.tex; the Markdown."""
    lines = lines_of(results)
    text = markdown(lines)
    for name, contents in (("table.md", text), ("table.csv", as_csv(lines)), ("table.tex", latex(lines))):
        write_text(out / name, contents)
    return text


# ---- what is printed


def markdown(lines: Sequence[Line]) -> str:
    marks = (lambda text: f"**{text}**", lambda text: f"<u>{text}</u>")
    head, *body = _cells(lines, marks)
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*shown, "", _legend(lines), ""])


def latex(lines: Sequence[Line]) -> str:
    """A tabular in the style of booktabs."""
    marks = (lambda text: f"\\textbf{{{text}}}", lambda text: f"\\underline{{{text}}}")
    head, *body = _cells(lines, marks, _latex)
    rows = [" & ".join(row) + " \\\\" for row in body]
    top = [f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule", " & ".join(head) + " \\\\", "\\midrule"]
    return "\n".join([f"% {_legend(lines)}", *top, *rows, "\\bottomrule", "\\end{tabular}", ""])


def as_csv(lines: Sequence[Line]) -> str:
    """Fractions, not per cent, each with the least and the greatest over the seeds."""
    names = recall_names(lines)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    spread = [column for name in names for column in (name, f"{name} least", f"{name} greatest")]
    table.writerow(["recipe", "title", "seeds", "diverged", "unfinished", *spread, "steps", "tunable", "minutes"])
    for line in lines:
        states = (" ".join(map(str, line.seeds(state))) for state in ("finished", "diverged", "unfinished"))
        recalls = [value for name in names for value in _spread(line.recalls(name))]
        minutes, steps = line.mean_of(lambda r: r.minutes), line.mean_of(lambda r: r.steps)
        costs = [_plain(steps, 0), line.results[0].tunable, _plain(minutes, 2)]
        table.writerow([line.row.name, line.row.title, *states, *recalls, *costs])
    return text.getvalue()


def recall_names(lines: Sequence[Line]) -> list[str]:
    """Columns: grouping by grouping, in the order of the recipes."""
    names = [
        f"R@{n} {grouping}"
        for line in lines
        if line.row.recipe.validation
        for grouping in line.row.recipe.validation.groupings
        for n in (1, 5, 10)
    ]
    return list(dict.fromkeys(names))


# ---- cells

Mark = Callable[[str], str]


def _cells(lines: Sequence[Line], marks: tuple[Mark, Mark], escaped: Callable[[str], str] = str) -> list[list[str]]:
    """Head and body, recalls marked."""
    names = recall_names(lines)
    columns = [_marked([_recall(line, name) for line in lines], marks, escaped) for name in names]
    head = list(map(escaped, ["", *names, "steps", "tunable", "minutes"]))
    return [
        head,
        *([_title(line, escaped), *cells, *_costs(line)] for line, *cells in zip(lines, *columns, strict=True)),
    ]


def _title(line: Line, escaped: Callable[[str], str]) -> str:
    return escaped(line.row.title + (f" ({line.note})" if line.note else ""))


def _recall(line: Line, name: str) -> tuple[str, str]:
    """The mean in per cent, and the spread behind it where there are several."""
    found = line.recalls(name)
    if not found:
        return MISSING, ""
    spread = f" ({100 * min(found):.1f} to {100 * max(found):.1f})" if len(found) > 1 else ""
    return f"{100 * fmean(found):.1f}", spread


def _marked(cells: Sequence[tuple[str, str]], marks: tuple[Mark, Mark], escaped: Callable[[str], str]) -> list[str]:
    ranked = sorted({float(mean) for mean, _ in cells if mean != MISSING}, reverse=True)
    mark_of = {f"{value:.1f}": mark for value, mark in zip(ranked, marks, strict=False)} if len(ranked) > 1 else {}
    return [mark_of.get(mean, str)(escaped(mean)) + escaped(spread) for mean, spread in cells]


def _costs(line: Line) -> list[str]:
    minutes, steps = line.mean_of(lambda r: r.minutes), line.mean_of(lambda r: r.steps)
    tunable = line.results[0].tunable
    return [
        MISSING if steps is None else f"{steps:,.0f}",
        f"{tunable:,}",
        MISSING if minutes is None else f"{minutes:.1f}",
    ]


def _spread(found: Sequence[float]) -> list[str]:
    return [f"{value:.6f}" for value in (fmean(found), min(found), max(found))] if found else ["", "", ""]


def _plain(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _legend(lines: Sequence[Line]) -> str:
    seeds = sorted({result.seed for line in lines for result in line.results})
    several = (
        f"mean over seeds {', '.join(map(str, seeds))} (least to greatest)" if len(seeds) > 1 else f"seed {seeds[0]}"
    )
    return f"Recall in per cent at the last measurement, {several}; parameters that learn; minutes of one run."


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
