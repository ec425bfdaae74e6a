"""Rows of a table that a decimal comma, or a second column for the same number, makes ambiguous are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets.photos import read_photos
from cricavpr.errors import InputError
from tests.photos import photo

NAMES = ("a.jpg", "b.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shade, name in enumerate(NAMES):
        photo(tmp_path / name, shade)
    return tmp_path


def test_decimal_commas_between_commas_are_refused(folder: Path) -> None:
    (folder / "positions.csv").write_text("name,lat,lon\na.jpg,55,69,13,19\nb.jpg,55,70,13,20\n")
    with pytest.raises(InputError, match="has 5 cells for 3 columns; separate cells by semicolons"):
        read_photos(folder, need_positions=True)


def test_one_row_with_a_cell_too_many_leaves_the_others(folder: Path) -> None:
    (folder / "positions.csv").write_text("name,lat,lon,\na.jpg,55.69,13.19,,\nb.jpg,55.70,13.20,,extra\n")
    photos, problems = read_photos(folder, need_positions=True)
    assert photos.names == ("a.jpg",)
    assert [(one.name, "5 cells for 4 columns" in one.reason) for one in problems] == [("b.jpg", True)]


def test_two_columns_for_one_number_must_agree(folder: Path) -> None:
    (folder / "positions.csv").write_text("name,lat,latitude,lon\na.jpg,55.69,55.69,13.19\nb.jpg,55.70,55.6,13.20\n")
    photos, problems = read_photos(folder, need_positions=True)
    assert photos.names == ("a.jpg",)
    assert [one.name for one in problems] == ["b.jpg"] and "has lat 55.70, but latitude 55.6" in problems[0].reason


def test_blanks_around_a_name_do_not_count(folder: Path) -> None:
    (folder / "positions.csv").write_text("name;lat;lon\na.jpg ;55.69;13.19\n b.jpg;55.70;13.20\n")
    photos, problems = read_photos(folder, need_positions=True)
    assert photos.names == NAMES and not problems and photos.positions is not None
    assert np.allclose(photos.positions.latlon()[:, 0], (55.69, 55.70))


def test_a_picture_is_not_a_table(folder: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg is not a text file"):
        read_photos(folder, folder / "a.jpg")
