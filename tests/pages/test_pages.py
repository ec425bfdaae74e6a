"""Pages and charts that several verbs share."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from cricavpr.pages import content_hash, render, safe_json, table, text
from cricavpr.pages.charts import round_levels, xy_chart


def test_foreign_text_is_escaped_everywhere_but_where_html_is_meant() -> None:
    page = render(title="<t>", kicker="<k>", headline="<h>", lede="<em>l</em>", body="<p>b</p>")
    assert "&lt;t&gt;" in page and "&lt;k&gt;" in page and "<h1>&lt;h&gt;</h1>" in page
    assert "<em>l</em>" in page and "<p>b</p>" in page
    assert text("\udcff<") == "?&lt;"


def test_the_policy_lets_in_this_style_and_this_script_and_nothing_else() -> None:
    page = render(title="", kicker="", headline="", lede="", body="", style="p{}", script="go()", data={"a": "</b>"})
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None and style[1].endswith("p{}")
    assert f"style-src '{content_hash(style[1])}'" in page and f"script-src '{content_hash('go()')}'" in page
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
