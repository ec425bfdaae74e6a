"""The paper's tables from cards: layout, marks and files."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import protocol
from cricavpr.evaluation.report.tables import OTHER_SPLIT, as_csv, as_latex, as_markdown, paper_name, tables
from tests.evaluation.report.made import card, run


def made(*cards: object, ablations: tuple[Path, ...] = ()) -> dict[str, object]:
    runs = [run((), of=of) for of in cards]  # type: ignore[arg-type]
    return {table.key: table for table in tables(runs, ablations)}


def test_only_what_was_run_is_filled_in_and_the_layout_stays_the_papers() -> None:
    of = made(card("cricavpr", "in_order:8", dataset="pitts30k-test"))
    assert sorted(of) == ["every_run", "table_2"]
    table = of["table_2"]
    names = list(dict.fromkeys(name for name, _ in table.heads if name))
    assert names == ["Pitts30k", "Tokyo24/7", "MSLS-val", "MSLS-challenge"]
    assert [cell.text for cell in table.rows[0]] == ["cricavpr", "8", "in_order:8", "50.0", "75.0", "80.0", *[""] * 9]


def test_the_best_is_bold_and_the_second_underlined_column_by_column() -> None:
    of = made(
        card("a", recalls=(0.9, 0.95, 0.99), dataset="tokyo247"),
        card("b", recalls=(0.8, 0.96, 0.99), dataset="tokyo247"),
        card("c", recalls=(0.7, 0.94, 0.98), dataset="tokyo247"),
    )
    a, b, c = as_markdown(of["every_run"]).splitlines()[4:7]
    assert a == "| a | 8 | alone | **90.0** | <u>95.0</u> | **99.0** |"
    assert b == "| b | 8 | alone | <u>80.0</u> | **96.0** | **99.0** |"
    assert c == "| c | 8 | alone | 70.0 | 94.0 | <u>98.0</u> |"


def test_one_number_alone_is_not_the_best_of_anything() -> None:
    assert "**" not in as_markdown(made(card())["every_run"])


def test_recalls_on_another_list_of_photos_are_marked_and_not_ranked() -> None:
    of = made(
        card("a", recalls=(0.5,), dataset="msls-val"),
        card("b", recalls=(0.6,), dataset="msls-val"),
        card("c", recalls=(0.9,), dataset="msls-val", split="1" * 64),
    )
    text = as_markdown(of["every_run"])
    assert "| b | 8 | alone | **60.0** |" in text and f"| c | 8 | alone | 90.0{OTHER_SPLIT} |" in text
    assert "a different list of photos" in text


def test_no_run_takes_the_place_of_another_in_every_run() -> None:
    """Two protocols, and the same protocol on two lists of photos: four rows, told apart by words or marks."""
    panorama = replace(card("a", recalls=(0.5,)), protocol=protocol("honest", one_hit_per_panorama=True))
    paper = replace(card("a", recalls=(0.6,)), protocol=protocol("paper"))
    of = made(card("a", recalls=(0.4,)), panorama, paper, card("a", recalls=(0.9,), split="1" * 64))
    lines = [(row[0].text, row[3].text) for row in of["every_run"].rows]
    assert lines == [
        ("a (honest)", "40.0"),
        ("a (honest; one hit per panorama)", "50.0"),
        ("a (paper; ranked by L2)", "60.0"),
        ("a (honest)", f"90.0{OTHER_SPLIT}"),
    ]


def test_the_grouping_is_always_a_column() -> None:
    of = made(card("a", "alone", dataset="nordland"), card("a", "in_order:16", (0.9,), dataset="nordland"))
    for table in of.values():
        assert ("", "Grouping") in table.heads
        assert {row[2].text for row in table.rows} == {"alone", "in_order:16"}


def test_group_sizes_make_supplementary_table_5() -> None:
    of = made(
        card("a", "in_order:16", (0.6, 0.7, 0.8)),
        card("a", "alone", (0.5, 0.7, 0.8)),
        card("a", "shuffled:16:0"),
        card("b", "none"),
    )
    table = of["supplementary_table_5"]
    assert [[cell.text for cell in row[:4]] for row in table.rows] == [
        ["a", "1", "alone", "50.0"],
        ["a", "16", "in_order:16", "60.0"],
    ]
    assert "supplementary_table_5" not in made(card("a", "alone"), card("b", "in_order:16"))


def test_no_run_takes_the_place_of_another_in_the_table_of_group_sizes() -> None:
    panorama = replace(card("a", "alone", (0.4,)), protocol=protocol("honest", one_hit_per_panorama=True))
    elsewhere = card("a", "in_order:16", (0.9,), split="1" * 64)
    table = made(card("a", "alone"), panorama, card("a", "in_order:16", (0.6,)), elsewhere)["supplementary_table_5"]
    assert [[cell.text for cell in row[:4]] for row in table.rows] == [
        ["a (honest)", "1", "alone", "50.0"],
        ["a (honest; one hit per panorama)", "1", "alone", "40.0"],
        ["a", "16", "in_order:16", "60.0"],
        ["a", "16", "in_order:16", f"90.0{OTHER_SPLIT}"],
    ]
    assert "a different list of photos" in as_markdown(table)  # a mark is always explained


def test_latex_has_the_papers_heads_and_escapes_foreign_text() -> None:
    text = as_latex(made(card("a_b & c", "in_order:16", dataset="pitts30k"), card("d", dataset="pitts30k"))["table_2"])
    assert "&& & \\multicolumn{3}{c}{Pitts30k} & \\multicolumn{3}{c}{Tokyo24/7}" in text
    assert "\\cmidrule(lr){4-6}" in text
    assert "a\\_b \\& c & 8 & in\\_order:16 & 50.0" in text
    assert all(line.count(" & ") == 14 for line in text.splitlines() if line.startswith(("a\\_b", "d &")))


def test_csv_holds_plain_numbers() -> None:
    of = made(card("a", recalls=(0.9,)), card("b", recalls=(0.8,)))
    rows = list(csv.DictReader(io.StringIO(as_csv(of["every_run"]))))
    assert [row["town R@1"] for row in rows] == ["90.0", "80.0"]


@pytest.mark.parametrize(
    ("here", "paper"),
    [
        ("pitts30k", "Pitts30k"),
        ("pitts30k-test", "Pitts30k"),
        ("pitts30k-val", "pitts30k-val"),
        ("tokyo247", "Tokyo24/7"),
        ("svox queries_night", "SVOX-Night"),
        ("svox-night", "SVOX-Night"),
        ("msls-val", "MSLS-val"),
        ("msls-val-11k", "msls-val-11k"),
        ("my street", "my street"),
    ],
)
def test_datasets_get_the_papers_names_only_when_they_are_the_papers(here: str, paper: str) -> None:
    assert paper_name(here) == paper


ABLATION = """recipe,title,seeds,diverged,unfinished,R@1 alone,R@1 alone least,R@1 alone greatest,steps,tunable,minutes
table3_depth0,No encoder,0 1,,,0.500000,0.400000,0.600000,10,5,1.00
table3_depth2,Two layers,0 1,,,0.750000,0.700000,0.800000,10,5,1.00
table6_conv1,1x1,0,,,0.250000,0.250000,0.250000,10,5,1.00
"""


def test_ablations_fill_the_tables_that_their_recipes_name(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(ABLATION)
    of = made(ablations=(tmp_path / "table.csv",))
    assert sorted(of) == ["supplementary_table_3", "supplementary_table_6"]
    lines = as_markdown(of["supplementary_table_3"]).splitlines()
    assert lines[2:] == [
        "| Version | grouping alone R@1 |",
        "| --- | ---: |",
        "| No encoder | <u>50.0</u> |",
        "| Two layers | **75.0** |",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        *(ABLATION.replace("0.250000", wrong) for wrong in ("much", "nan", "inf", "-0.1", "25.0")),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError) as error:
        made(ablations=(tmp_path / "table.csv",))
    assert "\n" not in str(error.value) and "table.csv" in str(error.value)


def test_a_row_that_was_cut_off_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("title,recipe,R@1 alone\nNo encoder\n")
    (table,) = tables([], [tmp_path / "table.csv"])
    assert [[cell.text for cell in row] for row in table.rows] == [["No encoder"]]


def test_two_ablations_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder / "run").mkdir(parents=True)
        paths.append(tmp_path / folder / "run" / "table.csv")
        paths[-1].write_text(ABLATION + "mine,Own,0,,,0.1,0.1,0.1,1,1,1\n")
    keys = [table.key for table in tables([], paths)]
    assert len(set(keys)) == len(keys) == 6
    assert {"ablation_run", "ablation_run_2", "supplementary_table_3_2"} <= set(keys)


def test_names_of_others_break_no_table() -> None:
    of = made(card("a|<script>\n%x", dataset="town\n\\end"))["every_run"]
    markdown, tex = as_markdown(of).splitlines(), as_latex(of).splitlines()
    assert [line.count(" | ") for line in markdown[2:5]] == [5, 5, 5] and "<script>" not in "".join(markdown)
    assert len(tex) == 10 and "\\%x" in tex[7] and tex[8] == "\\bottomrule"
