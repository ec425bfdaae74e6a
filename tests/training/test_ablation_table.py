"""The table of an ablation, from results made by hand."""

from __future__ import annotations

import csv
from typing import Any

from cricavpr.training.ablate import RunResult, RunState, Variant
from cricavpr.training.ablation_table import as_csv, latex, markdown, rows_of
from tests.training.toy import toy

RECIPE = toy(validation__groupings=["alone"])


def result(
    name: str, seed: int, recalls: tuple[float, ...] = (), state: RunState = "finished", **other: Any
) -> RunResult:
    measured = dict(zip(("R@1 alone", "R@5 alone", "R@10 alone"), recalls, strict=False))
    title = other.pop("title", name)
    return RunResult(Variant(name, title, RECIPE), seed, state, measured, 12, 3456, 1.5)


def cells(text: str, row: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_best_of_a_column_is_bold_and_the_second_underlined_as_printed() -> None:
    rows = [("a", (0.9, 0.95, 1.0)), ("b", (0.8, 0.96, 1.0)), ("c", (0.70001, 0.9, 1.0)), ("d", (0.70004, 0.9, 1.0))]
    text = markdown(rows_of([result(name, 0, recalls) for name, recalls in rows]))
    assert cells(text, "a")[1:4] == ["**90.0**", "<u>95.0</u>", "100.0"]
    assert cells(text, "b")[1:4] == ["<u>80.0</u>", "**96.0**", "100.0"]
    assert cells(text, "c")[1] == cells(text, "d")[1] == "70.0"
    assert cells(text, "a")[4:] == ["12", "3,456", "1.5"]


def test_over_seeds_stands_the_mean_with_the_least_and_the_greatest() -> None:
    text = markdown(rows_of([result("a", seed, (share,)) for seed, share in enumerate((0.5, 0.6, 0.8))]))
    assert cells(text, "a")[1] == "63.3 (50.0 to 80.0)"
    assert "mean over seeds 0, 1, 2 (minimum to maximum)" in text


def test_what_diverged_or_is_not_finished_is_named_and_counts_in_nothing() -> None:
    found = [result("a", 0, (0.5,)), result("a", 1, (0.1,), "diverged"), result("b", 0, state="unfinished")]
    text = markdown(rows_of(found))
    assert cells(text, "a")[:2] == ["a (seed 1 diverged)", "50.0"]
    assert cells(text, "b")[:2] == ["b (seed 0 not finished)", "-"]


def test_the_csv_has_fractions_and_the_spread_in_columns_of_its_own() -> None:
    found = [result("a", 0, (0.5,), title='1x1, "small"'), result("a", 1, (0.75,), title='1x1, "small"')]
    (row,) = csv.DictReader(as_csv(rows_of(found)).splitlines())
    assert (row["recipe"], row["title"], row["seeds"], row["tunable"]) == ("a", '1x1, "small"', "0 1", "3456")
    assert [row[f"R@1 alone{end}"] for end in ("", " least", " greatest")] == ["0.625000", "0.500000", "0.750000"]
    assert row["R@5 alone"] == ""


def test_latex_marks_the_best_and_escapes_what_means_something_there() -> None:
    found = [result("a", 0, (0.9,), title="50% & more_"), result("b", 0, (0.8,))]
    text = latex(rows_of(found))
    assert r"50\% \& more\_ & \textbf{90.0} & - & - & 12 & 3,456 & 1.5 \\" in text
    assert r"b & \underline{80.0}" in text
    assert text.count("\\begin{tabular}{lrrrrrr}") == text.count("\\end{tabular}") == 1


def test_a_bar_in_a_title_breaks_no_row() -> None:
    assert r"| a \| b |" in markdown(rows_of([result("a", 0, (0.5,), title="a | b")]))
