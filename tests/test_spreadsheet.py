"""Names in CSV files that no spreadsheet runs, and that come back as they were."""

import csv
import io

import pytest

from cricavpr.files import plain_cell, safe_cell

NAMES = ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "\na", "'a", "'=a", "''a", "'", "a=b", " =a", "", "å"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_comes_back_as_it_was(name: str) -> None:
    assert plain_cell(safe_cell(name)) == name


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_no_cell_begins_like_a_formula(name: str) -> None:
    assert not safe_cell(name).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_a_name_survives_a_csv_file() -> None:
    file = io.StringIO()
    csv.writer(file).writerows([safe_cell(name)] for name in NAMES)
    rows = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert [plain_cell(row[0]) if row else "" for row in rows] == NAMES


def test_a_name_that_another_program_wrote_with_an_apostrophe_keeps_it() -> None:
    assert plain_cell("'quoted'.jpg") == "'quoted'.jpg"
