"""A location estimate in a notebook."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cricavpr.geo import LatLon
from cricavpr.locate.estimate import Doubt, LocationEstimate, Match, Where

LUND = Where(LatLon(55.7, 13.19), 386_300.0, 6_174_700.0, "33N")
NEAR = Where(LatLon(55.7001, 13.19), 386_300.0, 6_174_711.0, "33N")
SURE = Doubt(radius_m=12.3, confidence=0.98, probability_in_map=0.99, precision=0.95, answered=True)
UNSURE = Doubt(radius_m=900.0, confidence=0.2, probability_in_map=0.4, precision=0.95, answered=False)
EVIL = '</script><img src=x onerror=alert(1)>"&.jpg'


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(str(dict(attrs)["src"]))


def noise(path: Path, side: int = 800) -> Path:
    """A picture that compresses badly."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_map_the_radius_and_the_matches_are_shown(tmp_path: Path) -> None:
    matches = (Match("a.png", 0.9, NEAR, noise(tmp_path / "a.png")), Match("b.png", 0.8, LUND, tmp_path / "gone.png"))
    html = LocationEstimate("mine.jpg", LUND, matches, SURE)._repr_html_()
    assert html.count('class="cv-map"') == 1 and html.count("cv-doubt") >= 1
    assert "mine.jpg" in html and "within 12.3 m" in html and "<td>0.900</td><td>a.png</td>" in html
    (image,) = Tags(html).images  # of the file that is there
    assert image.startswith("data:image/jpeg;base64,") and len(image) <= 20_000


def test_an_unknown_place_is_not_on_the_map() -> None:
    html = LocationEstimate("mine.jpg", LUND, (Match("a.png", 0.9, NEAR, Path("gone")),), UNSURE)._repr_html_()
    assert "unknown (confidence 0.200" in html and "estimated position" not in html
    assert not re.search(r'class="cv-circle', html)


@pytest.mark.parametrize("where", [Where(), Where(None, 10.0, 20.0)])
def test_no_position_is_no_map_and_a_local_frame_is_one_in_metres(where: Where) -> None:
    html = LocationEstimate("mine.jpg", where, (Match("a.png", 0.9, where, Path("gone")),))._repr_html_()
    assert ('class="cv-map"' in html) == (where.easting_m is not None)
    assert "uncalibrated" in html


def test_names_are_text_and_nothing_else() -> None:
    html = LocationEstimate(EVIL, LUND, (Match(EVIL, 0.9, NEAR, Path("gone")),), SURE)._repr_html_()
    assert Tags(html).images == [] and "<img" not in html
    assert LocationEstimate("mine.jpg", Where(), ())._repr_html_().count("no matching photo was found") == 1
