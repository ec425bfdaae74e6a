"""Coordinates as people and programs write them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cricavpr.datasets.coordinates import parse_degrees, parse_metres, parse_zone, rounding_m
from cricavpr.datasets.written_positions import look_like_degrees


@pytest.mark.parametrize(
    "text, reference, expected",
    [
        ("48.2082", "", 48.2082),
        (" 48,2082 ", "", 48.2082),
        ("+48.2082", "", 48.2082),
        ("- 33.8568", "", -33.8568),
        ("\N{MINUS SIGN}33.8568", "", -33.8568),
        ("4.82082e1", "", 48.2082),
        ("48.2082N", "", 48.2082),
        ("s 33.8568", "", -33.8568),
        ("48°12'29.52\"N", "", 48.2082),
        ("48° 12.492' N", "", 48.2082),
        ("48 deg 12' 29.52\" N", "", 48.2082),
        ("48 degrees 12' 29.52'' N", "", 48.2082),
        ("48d12'29.52\"N", "", 48.2082),
        ("48:12:29.52N", "", 48.2082),
        ("48 12 29.52", "North", 48.2082),
        ("-48 12 29.52", "", -48.2082),
        ("- 48 12 29.52", "", -48.2082),
        ("48,12.492N", "", 48.2082),  # as XMP has it
        ("48,12,29.52N", "", 48.2082),
        ("33.8568", "S", -33.8568),
        ("-33.8568", "South", -33.8568),
        ("-33.8568 S", "", -33.8568),
        (".5", "", 0.5),
    ],
)
def test_latitudes_of_many_forms_are_understood(text: str, reference: str, expected: float) -> None:
    assert parse_degrees(text, "lat", reference) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("text", ["", "  ", "nan", "NaN"])
def test_an_empty_cell_is_unknown(text: str) -> None:
    assert math.isnan(parse_degrees(text, "lon")) and math.isnan(parse_metres(text))


@pytest.mark.parametrize(
    "text, reference, why",
    [
        ("48 12 29.52", "", "without N or S"),
        ("48 12.5 29 N", "", "cannot be read as degrees, minutes and seconds"),
        ("48.5 12 N", "", "cannot be read as degrees, minutes and seconds"),
        ("48 60 0 N", "", "cannot be read as degrees, minutes and seconds"),
        ("48 0 60 N", "", "cannot be read as degrees, minutes and seconds"),
        ("48 1 2 3 N", "", "not a number"),
        ("48.2 W", "", "'W' where N or S is expected"),
        ("48.2 O", "", "'O' where N or S is expected"),  # Ost is east, and ouest west
        ("48.2", "East", "'E' where N or S is expected"),
        ("-48.2", "N", "contradicts the minus"),
        ("48.2.1", "", "not a number"),
        ("1_0", "", "not a number"),
        ("4 8.2", "", "without N or S"),
        ("N", "", "not a number"),
        ("NN 48", "", "not a number"),
        ("--48", "", "not a number"),
    ],
)
def test_anything_that_could_mean_two_places_is_refused(text: str, reference: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_degrees(text, "lat", reference)


def test_the_rounding_of_degrees_is_that_of_their_last_digit() -> None:
    expected = {"48": 111_320, "48.20": 1_113.2, "-122.49646": 1.1132, "48 12 N": 1855.3, "48 12 29.5 N": 3.0922}
    assert {text: rounding_m(text) for text in expected} == pytest.approx(expected, rel=1e-3)


def test_metres_have_a_decimal_comma_only_where_the_table_has() -> None:
    assert parse_metres("602065,25", True) == 602065.25 and parse_metres("-3.5") == -3.5
    for wrong in ("602065,25", "1e999", "602.065.25", "east", "6 0"):
        with pytest.raises(ValueError, match="not a number in metres"):
            parse_metres(wrong)


@pytest.mark.parametrize(
    "text, zone",
    [
        *(("33N", (33, "N")), ("33 u", (33, "U")), ("05S", (5, "S")), ("60X", (60, "X")), ("1C", (1, "C"))),
        *(("EPSG:32633", (33, "+")), ("32719", (19, "-")), ("urn:ogc:def:crs:EPSG::25833", (33, "+"))),
        *(
            (wrong, None)
            for wrong in ("", "33", "N", "0N", "61N", "33I", "33O", "33Y", "3333N", "32661", "32600", "4326")
        ),
    ],
)
def test_zones_are_numbers_with_letters_or_codes(text: str, zone: tuple[int, str] | None) -> None:
    assert parse_zone(text) == zone


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([(16.37381, 48.20823), (16.37512, 48.20911)], True),
        ([(-0.12761, 51.50731), (0.00512, 51.47911)], True),  # London, on both sides of Greenwich
        ([(16.37381, 48.20823)], True),
        ([(16.37381, 98.20823)], False),  # no latitude
        ([(181.37381, 48.20823)], False),
        ([(16.373, 48.208), (16.375, 48.209)], False),  # millimetres
        ([(0.37381, 0.20823), (-0.37512, 0.20911)], False),  # around an origin
        ([(0.57381, 0.50823), (0.57382, 0.50911)], False),
        ([(1.37381, 10.20823), (9.37512, 30.20911)], False),  # a walk
    ],
)
def test_numbers_look_like_degrees_if_they_are_fine_and_far_from_0(
    rows: list[tuple[float, float]], expected: bool
) -> None:
    assert look_like_degrees(np.array(rows)) is expected
