"""Pages and charts that several verbs share."""

from __future__ import annotations

import base64
import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cricavpr.pages import content_hash, facts, picture, render, safe_json, table, text
from cricavpr.pages.charts import error_curve, key, recall_curves, round_levels, xy_chart
from cricavpr.pages.html import asset

HOSTILE = "</script></svg><script>alert(1)</script> & \" ' \u2028\udcff"


def test_foreign_text_is_escaped_everywhere_but_where_html_is_meant() -> None:
    page = render(title="<t>", kicker="<k>", headline="<h>", lede="<em>l</em>", body="<p>b</p>")
    assert "&lt;t&gt;" in page and "&lt;k&gt;" in page and "<h1>&lt;h&gt;</h1>" in page
    assert "<em>l</em>" in page and "<p>b</p>" in page
    assert text("\udcff<") == "?&lt;"


def test_the_policy_lets_in_this_style_and_this_script_and_nothing_else() -> None:
    page = render(
        title="", kicker="", headline="", lede="", body="", style="p{}", scripts=["map.js"], data={"a": "</b>"}
    )
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None and style[1].endswith("p{}")
    assert f"style-src '{content_hash(style[1])}'" in page
    assert f"script-src '{content_hash(asset('map.js'))}'" in page
    assert safe_json({"a": "</b>"}) in page
    assert "script-src 'none'" in render(title="", kicker="", headline="", lede="", body="")


def test_a_table_has_a_head_for_each_part() -> None:
    html = ElementTree.fromstring(table(["a", "b"], [("first", [["<x>", "1"]]), ("second", [["y", "2"], ["z", "3"]])]))
    assert [head.text for head in html.iter("th")] == ["a", "b", "first", "second"]
    assert [cell.text for cell in html.iter("td")] == ["<x>", "1", "y", "2", "z", "3"]


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.0, 0.151, [0.0, 0.05, 0.1, 0.15, 0.2]),
        (92.0, 98.7, [92.0, 94.0, 96.0, 98.0, 100.0]),
        (-3.0, 4.0, [-4.0, -2.0, 0.0, 2.0, 4.0]),
    ],
)
def test_levels_are_round_and_hold_all_values(low: float, high: float, levels: list[float]) -> None:
    assert round_levels(low, high) == levels


def test_levels_of_equal_values_still_are_an_axis() -> None:
    levels = round_levels(98.0, 98.0)
    assert levels[0] <= 98.0 <= levels[-1] and levels[0] < levels[-1]


def test_a_chart_puts_higher_values_higher() -> None:
    svg = xy_chart(
        [("line", [(0.0, 10.0), (1.0, 20.0)])],
        dots=[(1.0, 15.0)],
        level=10.0,
        x_ticks=[(0.0, "a"), (1.0, "b")],
        axis="<axis>",
        label='"label"',
    )
    chart = ElementTree.fromstring(svg)
    (line,) = chart.iter("polyline")
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in str(line.get("points")).split())
    (dot,) = chart.iter("circle")
    assert x0 < x1 and y0 > float(str(dot.get("cy"))) > y1
    assert chart.get("aria-label") == '"label"'


def test_a_small_difference_is_no_cliff_where_the_axis_covers_more() -> None:
    def height(least: float) -> float:
        svg = xy_chart(
            [("", [(0.0, 98.0), (1.0, 98.7)])], x_ticks=[(0.0, ""), (1.0, "")], axis="", label="", least=least
        )
        (line,) = ElementTree.fromstring(svg).iter("polyline")
        first, last = (float(point.split(",")[1]) for point in str(line.get("points")).split())
        return first - last

    assert height(5.0) < height(0.0) / 3


def test_names_in_charts_are_never_markup() -> None:
    """Every text of a chart: names of lines, labels, ticks, axes, units and marks."""
    points = [(0.0, 1.0), (1.0, 2.0)]
    charts = [
        xy_chart(
            [(HOSTILE, points)],
            x_ticks=[(0.0, HOSTILE), (1.0, HOSTILE)],
            axis=HOSTILE,
            label=HOSTILE,
            unit=HOSTILE,
            mark=(0.5, HOSTILE),
        ),
        recall_curves([(HOSTILE, [0.5, 1.0])]),
        key([HOSTILE]),
    ]
    shown = HOSTILE.replace("\udcff", "?")
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert not [each for each in root.iter() if each.tag == "script"]
        words = "".join([*root.itertext(), *(each.get("aria-label") or "" for each in root.iter())])
        assert shown in words
    assert ElementTree.fromstring(charts[0]).findtext("text[@class='axis']") == shown
    assert [t.text for t in ElementTree.fromstring(charts[0]).iterfind("text[@class='tick']")] == [shown, shown]


def test_names_in_titles_tables_facts_and_data_are_never_markup() -> None:
    body = table([HOSTILE], [(HOSTILE, [[HOSTILE]])]) + facts([(HOSTILE, HOSTILE)])
    page = render(title=HOSTILE, kicker=HOSTILE, headline=HOSTILE, lede="", body=body, data={HOSTILE: HOSTILE})
    page.encode()
    assert page.count("<script") == page.count("</script>") == 1 and "alert(1)</script> &" not in page
    held = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert held is not None and json.loads(held[1]) == {HOSTILE: HOSTILE}
    assert ElementTree.fromstring(body.join(("<p>", "</p>"))).findtext(".//td") == HOSTILE.replace("\udcff", "?")


def test_a_number_that_is_none_is_not_written_as_data() -> None:
    """A browser cannot read NaN, and the page would be empty."""
    with pytest.raises(ValueError):
        safe_json({"error_m": float("nan")})


def test_the_error_curve_rises_at_every_error_and_marks_the_radius() -> None:
    chart = ElementTree.fromstring(error_curve([1.0, 3.0, 400.0, 2000.0], 25.0))
    assert chart.get("aria-label") == "Share of queries by error: 50.0 per cent within 25 m."
    (line,) = chart.iter("polyline")
    heights = [float(point.split(",")[1]) for point in str(line.get("points")).split()]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == 5
    assert chart.findtext("text[@class='note']") == "25 m"


def test_a_picture_is_small_and_never_enlarged() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    assert len(picture(noise)) < 20_000
    held = Image.open(io.BytesIO(base64.b64decode(picture(noise[:20, :30]).partition(",")[2])))
    assert held.size == (30, 20)
