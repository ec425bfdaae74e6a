"""The map that all pages and notebooks share."""

from __future__ import annotations

import json
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cricavpr.pages import Circle, Ground, Line, Marker, map_of, notebook, render
from cricavpr.pages.html import asset
from cricavpr.pages.maps import LOOKS

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\u2028\udcff.jpg"


def drawn(html: str) -> ElementTree.Element:
    """The SVG of a map."""
    return ElementTree.fromstring(re.search(r"<svg viewBox.*?</g></svg>", html, re.S)[0])  # type: ignore[index]


def found(html: str, kind: str) -> list[ElementTree.Element]:
    return [each for each in drawn(html).iter() if kind in (each.get("class") or "").split()]


def middles(html: str, look: str) -> list[tuple[float, float]]:
    (path,) = found(html, f"cv-{look}")
    return [(float(x), float(y)) for x, y in re.findall(r"M(-?[\d.]+) (-?[\d.]+)", str(path.get("d")))]


def data(html: str) -> list[dict[str, object]]:
    return json.loads(re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)[0])  # type: ignore[no-any-return]


def test_north_is_up_east_is_right_and_a_unit_is_a_metre() -> None:
    html = map_of([Marker((600_000.0, 5_000_000.0)), Marker((600_100.0, 5_000_200.0))])
    (x0, y0), (x1, y1) = middles(html, "photo")
    assert (x1 - x0, y1 - y0) == (100.0, -200.0)
    left, top, width, height = map(float, str(drawn(html).get("viewBox")).split())
    assert left < min(x0, x1) and left + width > max(x0, x1) and top < min(y0, y1) and top + height > max(y0, y1)


@pytest.mark.parametrize("lon", [16.0, 179.9999, -180.0])
def test_degrees_are_laid_out_in_true_metres_also_across_the_date_line(lon: float) -> None:
    beyond = lon + 0.001 if lon + 0.001 <= 180 else lon + 0.001 - 360
    html = map_of([Marker((48.0, lon)), Marker((48.001, beyond))], degrees=True)
    (x0, y0), (x1, y1) = middles(html, "photo")
    assert x1 - x0 == pytest.approx(74.4, abs=0.3) and y1 - y0 == pytest.approx(-111.2, abs=0.3)


def test_a_mark_knows_its_number_name_and_photo() -> None:
    html = map_of(
        [
            Marker((0, 0), "a", "wrong"),
            Marker((1, 1), "b", photo="data:,x"),
            Marker((math.nan, math.nan), "nowhere"),
            Marker((2, 2), "c", "wrong", heading_deg=90.0),
        ]
    )
    photo, tick, wrong = data(html)
    assert photo == {"numbers": [1], "names": ["b"], "photos": {"0": "data:,x"}}
    assert tick == {"numbers": [3]} and wrong == {"numbers": [0, 3], "names": ["a", "c"], "photos": {}}
    assert [len(re.findall("M", str(path.get("d")))) for path in found(html, "cv-mark")] == [1, 1, 2]


def test_every_look_has_a_shape_of_its_own_apart_from_dots_of_another_size() -> None:
    shapes = [steps for look, steps in LOOKS.items() if steps != "h0"]
    assert len(set(shapes)) == len(shapes) >= 5
    for look in LOOKS:
        assert found(map_of([Marker((0, 0), "x", look)], key={look: "meaning"}), f"cv-{look}")
        assert f".cv-{look} " in asset("map.css"), look
    with pytest.raises(ValueError, match=r"unknown marker style \(look\) 'no'"):
        map_of([Marker((0, 0), look="no")])


def test_circles_lines_and_ground_are_drawn_in_metres() -> None:
    html = map_of(
        [Marker((0, 0))],
        [Circle((0, 0), 25.0, "doubt")],
        [Line([(0, 0), (3, 4)], "link", marker=0)],
        ground=[Ground([(0, 0), (50, 30)], "street", 12.0), Ground([(0, 0), (9, 0), (9, 9)], "house")],
    )
    (circle,), (line,) = found(html, "cv-doubt"), found(html, "cv-link")
    (street,), (house,) = found(html, "cv-street"), found(html, "cv-house")
    assert circle.get("r") == "25.0" and [title.text for title in circle] == ["doubt"]
    assert line.get("data-of") == "0" and [title.text for title in line] == ["link"]
    assert street.get("stroke-width") == "12.0" and str(street.get("d")).endswith("l50 -30")
    assert str(house.get("d")).endswith("l9 0 0 -9z")


def test_a_circle_fits_on_its_map() -> None:
    left, top, width, height = map(float, str(drawn(map_of([], [Circle((5, 5), 400.0)])).get("viewBox")).split())
    assert left <= -400 and top <= -400 and width >= 800 and height >= 800


def test_names_are_never_markup() -> None:
    html = map_of(
        [Marker((0, 0), HOSTILE)],
        [Circle((0, 0), 9.0, HOSTILE, HOSTILE)],
        [Line([(0, 0), (1, 1)], HOSTILE, HOSTILE)],
        ground=[Ground([(0, 0), (1, 1)], HOSTILE)],
        key={"photo": HOSTILE},
        label=HOSTILE,
    )
    html.encode()
    assert html.count("</script>") == 1 and "<img" not in html
    assert data(html)[0]["names"] == [HOSTILE]
    outside = re.sub(r'(<script type="application/json">).*?(</script>)', r"\1\2", html, flags=re.S)
    assert ElementTree.fromstring(outside).tag == "div"  # well-formed as a whole


def test_an_empty_map_and_one_of_unknown_positions_are_maps() -> None:
    for html in (map_of(), map_of([Marker((math.nan, math.nan), "x")], degrees=True)):
        assert "nan" not in str(drawn(html).get("viewBox")) and data(html) == []


def test_the_scale_bar_is_round_and_as_long_as_it_says() -> None:
    html = map_of([Marker((0, 0)), Marker((1000, 800))])
    (scale,) = found(html, "cv-scale")
    pixels = float(re.search(r"H([\d.]+)", str(scale[1].get("d")))[1])  # type: ignore[index]
    metres_per_pixel = float(re.search(r"scale\(([\d.]+)\)", str(scale.get("transform")))[1])  # type: ignore[index]
    assert scale[2].text == "100 m" and pixels * metres_per_pixel == pytest.approx(100.0, rel=0.01)


def test_many_maps_stand_in_one_document_without_ids_or_global_names() -> None:
    html = notebook(map_of([Marker((0, 0), "a")], key={"photo": "p"}))
    assert " id=" not in html and html.startswith('<div class="cricavpr">')
    assert ":root" not in html and "body {" not in html  # the style touches nothing else of a notebook
    script = asset("map.js")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(", script)
    assert not re.search(r"^(var|let|const|function|class) ", script, re.M)  # all within one function
    page = render(title="", kicker="", headline="", lede="", body=html, scripts=["map.js"])
    assert page.count("data-live") >= 1


def test_many_photos_are_one_element() -> None:
    grid = np.stack(np.meshgrid(np.arange(70.0), np.arange(70.0)), axis=-1).reshape(-1, 2)
    html = map_of([Marker((x, y)) for x, y in grid.tolist()])
    (path,) = found(html, "cv-mark")
    assert "cv-many" in str(path.get("class")) and len(middles(html, "photo")) == 4900
