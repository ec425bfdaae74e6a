"""Estimates as JSON, GeoJSON, KML and CSV: every form says the same, and no name can break one."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cricavpr.files import plain_cell
from cricavpr.geo import LatLon, Positions, distances_m
from cricavpr.locate.estimate import Doubt, LocationEstimate, Match, Where
from cricavpr.locate.formats import FORMATS, to_csv, to_geojson, to_json, to_kml

LUND = Where(LatLon(55.7, 13.19), 386_300.0, 6_174_700.0, "33N")
MATCH = Match("a.jpg", 0.875, LUND, Path("/photos/a.jpg"))
SURE = Doubt(radius_m=12.34, confidence=0.98765, probability_in_map=0.99, precision=0.95, answered=True)
UNSURE = Doubt(radius_m=900.0, confidence=0.2, probability_in_map=0.4, precision=0.95, answered=False)
NASTY = 'x"<b>&,\n\x01\udcff.jpg'
RETURN = "cr\rx.jpg"  # alone: whoever reads a table takes it for the end of a row where it is not quoted
KML = "{http://www.opengis.net/kml/2.2}"


def estimate(doubt: Doubt | None, photo: str = "mine.jpg") -> LocationEstimate:
    return LocationEstimate(photo, LUND, (MATCH,), doubt)


def test_an_unknown_place_gives_no_position_away() -> None:
    unknown = estimate(UNSURE)
    assert (unknown.status, unknown.position, unknown.radius_m) == ("unknown", None, None)
    assert unknown.guess == LUND
    values = unknown.to_dict()
    assert values["position"] is None and values["metres"] is None and values["radius_m"] is None
    assert values["confidence"] == 0.2 and values["matches"][0]["name"] == "a.jpg"


def test_a_sure_answer_says_how_sure() -> None:
    values = estimate(SURE).to_dict()
    assert (values["status"], values["radius_m"], values["confidence"]) == ("located", 12.3, 0.9877)
    assert (values["probability_in_map"], values["precision"]) == (0.99, 0.95)


def test_without_calibration_there_are_words_instead_of_numbers() -> None:
    values = estimate(None).to_dict()
    assert values["status"] == values["confidence"] == values["probability_in_map"] == "uncalibrated"
    assert values["radius_m"] is None and values["precision"] is None and values["position"] is not None


def test_json_and_geojson_can_be_read_back() -> None:
    assert json.loads(to_json([estimate(SURE)])) == [json.loads(json.dumps(estimate(SURE).to_dict()))]
    here, nowhere = json.loads(to_geojson([estimate(SURE), estimate(UNSURE)]))["features"]
    assert here["geometry"]["coordinates"] == [13.19, 55.7] and nowhere["geometry"] is None


def test_csv_has_a_row_for_each_photo_whatever_its_name() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([estimate(SURE, NASTY), estimate(UNSURE)]), newline="")))
    assert [row["photo"] for row in rows] == [NASTY, "mine.jpg"]
    assert (rows[0]["lat_deg"], rows[0]["zone"], rows[0]["radius_m"]) == ("55.7", "33N", "12.3")
    assert (rows[1]["lat_deg"], rows[1]["status"], rows[1]["best_match"]) == ("", "unknown", "a.jpg")
    text = to_csv([estimate(SURE, RETURN), estimate(UNSURE)])
    assert [row["photo"] for row in csv.DictReader(io.StringIO(text, newline=""))] == [RETURN, "mine.jpg"]
    assert text.count("\n") == 2  # rows end as on every system that this runs on, and the last one when it is printed


@pytest.mark.parametrize("name", ["=1+1.jpg", "+1.jpg", "-1.jpg", "@anna.jpg", "\t=1.jpg", "\r=1.jpg", "'quoted'.jpg"])
def test_no_name_is_a_formula_in_a_spreadsheet(name: str) -> None:
    one = LocationEstimate(name, LUND, (replace(MATCH, name=name),), None)
    (row,) = csv.DictReader(io.StringIO(to_csv([one]), newline=""))
    for cell in (row["photo"], row["best_match"]):
        assert cell == f"'{name}" and plain_cell(cell) == name
    south = LocationEstimate("a.jpg", Where(LatLon(-33.9, -70.1)), (MATCH,), None)
    (row,) = csv.DictReader(io.StringIO(to_csv([south]), newline=""))
    assert (row["lat_deg"], row["lon_deg"]) == ("-33.9", "-70.1")  # a number is a number


def test_kml_has_a_pin_and_the_circle_of_the_radius() -> None:
    root = ElementTree.fromstring(to_kml([estimate(SURE, NASTY), estimate(None), estimate(UNSURE)]))
    marks = list(root.iter(f"{KML}Placemark"))
    assert [len(list(mark.iter(f"{KML}Point"))) for mark in marks] == [1, 1, 0]
    assert [len(list(mark.iter(f"{KML}Polygon"))) for mark in marks] == [1, 0, 0]
    assert marks[0].findtext(f"{KML}name") == 'x"<b>&,\n\ufffd\ufffd.jpg'
    assert ElementTree.fromstring(to_kml([estimate(None, RETURN)])).findtext(f".//{KML}Placemark/{KML}name") == RETURN
    pin = marks[0].find(f".//{KML}Point/{KML}coordinates")
    assert pin is not None and pin.text == "13.19000000,55.70000000"


@pytest.mark.parametrize("at", [(55.7, 13.19), (0.0, 179.9999), (-79.0, -60.0)])
def test_the_corners_of_the_circle_lie_on_it(at: tuple[float, float]) -> None:
    where = Where(LatLon(*at))
    text = to_kml([LocationEstimate("x", where, (MATCH,), SURE)])
    ring = ElementTree.fromstring(text).find(f".//{KML}LinearRing/{KML}coordinates")
    assert ring is not None and ring.text is not None
    corners = np.array([[float(value) for value in pair.split(",")][::-1] for pair in ring.text.split()])
    assert (np.abs(corners[:, 1]) <= 180).all() and corners[0] == pytest.approx(corners[-1])
    middle = Positions.from_latlon(np.tile(at, (len(corners), 1)))
    assert distances_m(Positions.from_latlon(corners), middle) == pytest.approx(12.34, rel=0.01)


def test_every_form_takes_no_estimates_at_all() -> None:
    assert all(form([]) for form in FORMATS.values())


def test_a_circle_that_touches_a_pole_is_drawn() -> None:
    for lat_deg, radius_m in ((-25.342037835499724, 7189647.290618343), (3.0748246982957284, 9665651.841986919)):
        wide = Doubt(radius_m, confidence=0.9, probability_in_map=0.9, precision=0.9, answered=True)
        assert "<LinearRing>" in to_kml([LocationEstimate("x", Where(LatLon(lat_deg, 13.0)), (MATCH,), wide)])
