"""The page, from a story small enough to be checked by eye."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import binomtest

from cricavpr.demo.answers import (
    Answer,
    Found,
    Photo,
    Row,
    Spot,
    by_condition,
    interval,
    may_be_chance,
    median_off_m,
    shown_first,
)
from cricavpr.demo.map_svg import TownMap, distance, map_svg
from cricavpr.demo.page import Story, render_page
from cricavpr.evaluation.cards import Counts
from cricavpr.evaluation.evaluate import EvalResult
from cricavpr.geo import round_length_m
from cricavpr.index.search import Predictions
from cricavpr.pages import safe_json
from cricavpr.pages.charts import error_curve, recall_curves
from tests.evaluation.report.made import card

HOSTILE = "queries/</script><img src=x onerror=alert(1)>\"'&\u2028\udcff.jpg"


def spot(east_m: float, north_m: float) -> Spot:
    return Spot(2.4 + north_m / 111_000, 0.33 + east_m / 111_000, east_m, north_m)


def row(grouping: str = "alone", recall: float = 0.5, hits: tuple[bool, ...] = (True, False)) -> Row:
    recalls = {n: min(1.0, recall + n / 40) if n > 1 else recall for n in range(1, 21)}
    one = replace(
        card("cricavpr-tiny", grouping, queries=2, weights="3fa2" * 16),
        counts=Counts(2, 2, 0),
        recall_at=recalls,
        intervals=dict.fromkeys(recalls, (0.0, 1.0)),
    )
    found = Predictions(np.zeros((2, 1), np.int64), np.zeros((2, 1), np.float32))
    return Row("trained", EvalResult(one, None, found, np.zeros(2, np.int64)), hits)  # type: ignore[arg-type]


@pytest.fixture
def story() -> Story:
    """Two queries: one 3 m off and right, one 400 m off and wrong."""
    base = (Photo("database/a.jpg", spot(0, 0)), Photo("database/b.jpg", spot(400, 0)))
    near, far = Found(0, 0.9, 3.0, True), Found(1, 0.8, 400.0, False)
    answers = (
        Answer(Photo("queries/1.jpg", spot(3, 0)), "day", (near, replace(far, off_m=397.0)), 0, 3.0),
        Answer(Photo(HOSTILE, spot(0, 0)), "night", (far, replace(near, off_m=0.0)), 0, 0.0),
    )
    line = np.array([[0.0, 0.0], [500.0, 300.0]])
    town = TownMap(((line, 12.0),), (np.array([[5.0, 5.0], [15.0, 5.0], [15.0, 12.0], [5.0, 12.0]]),))
    return Story(
        seed=7001,
        radius_m=25.0,
        town=town,
        database=base,
        answers=answers,
        conditions=("day", "night", "fog"),
        rows=(row(), row("in_order:16", 0.9, (True, True)), row("shuffled:16:0", 0.45)),
        pictures={"database/a.jpg": b"jpeg", HOSTILE: b"other"},
        facts=(("town", "<seed 7001>"),),
    )


class Outline(HTMLParser):
    """The elements of a page and what is in its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""
        self.scripts: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = dict(attrs).get("id") or tag
            self.scripts[self.inside] = ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag in ("script", "style") else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[self.inside] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def data_of(page: str) -> Any:
    return json.loads(Outline(page).scripts["data"])


def test_the_headline_is_the_honest_recall(story: Story) -> None:
    page = render_page(story)
    assert "<h1>1 of 2 photos were placed within 25 m</h1>" in page
    assert "R@1 50.0 %" in page
    assert f"<strong>{distance(median_off_m(story.answers))}</strong>" in page


def test_the_page_is_repeatable(story: Story) -> None:
    assert render_page(story) == render_page(story)


def test_a_hostile_file_name_stays_a_name(story: Story) -> None:
    page = render_page(story)
    page.encode("utf-8")  # no stray bytes
    outline = Outline(page)
    assert not [attributes for _, attributes in outline.elements if "onerror" in attributes]
    assert set(outline.scripts) == {"style", "data", "script"}
    assert data_of(page)["queries"][1]["key"] == HOSTILE
    assert page.count("</script>") == 2


def test_the_script_never_writes_html(story: Story) -> None:
    script = Outline(render_page(story)).scripts["script"]
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttpRequest"):
        assert way not in script


def test_the_page_asks_the_network_for_nothing(story: Story) -> None:
    page = render_page(story)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"\s// .*", "", page))
    for tag, attributes in Outline(page).elements:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, name, value)


def test_the_content_security_policy_knows_style_and_script(story: Story) -> None:
    outline = Outline(render_page(story))
    policy = next(a["content"] or "" for a in outline.attributes("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for part in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(outline.scripts[part].encode()).digest()).decode()
        assert f"{part}-src 'sha256-{digest}'" in policy
    assert not [attributes for _, attributes in outline.elements if "style" in attributes or "onclick" in attributes]


def test_no_slot_of_the_template_stays_empty(story: Story) -> None:
    assert "{{" not in re.sub(r"<script.*?</script>", "", render_page(story), flags=re.DOTALL)


def test_every_picture_has_an_alternative_text(story: Story) -> None:
    assert all("alt" in attributes for attributes in Outline(render_page(story)).attributes("img"))


def test_every_id_is_there_once_and_the_script_finds_its_own(story: Story) -> None:
    outline = Outline(render_page(story))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"\$\('([\w-]+)'\)", outline.scripts["script"])) <= set(ids)


def test_the_table_always_has_its_grouping(story: Story) -> None:
    page = render_page(story)
    for name in ("alone", "in_order:16", "shuffled:16:0"):
        assert f"<td>{name}</td>" in page
    assert "<code>in_order:16</code>: <strong>90.0 %</strong>" in page
    assert "Against alone, 1 query is won and 0 lost: that may be chance." in page


def test_pictures_are_in_the_page_once(story: Story) -> None:
    page = render_page(story)
    assert page.count(base64.b64encode(b"jpeg").decode()) == 1
    assert data_of(page)["pictures"]["database/a.jpg"] == base64.b64encode(b"jpeg").decode()


def test_foreign_facts_are_escaped(story: Story) -> None:
    assert "<dd>&lt;seed 7001&gt;</dd>" in render_page(story)


def test_a_story_without_any_right_answer_has_a_page_too(story: Story) -> None:
    wrong = (replace(story, answers=story.answers[1:]), story.answers[1:])
    page = render_page(wrong[0])
    assert "<h1>0 of 1 photos" in page and "mistake with the highest score" in page
    assert data_of(page)["shown"] == 0


def test_right_and_wrong_differ_in_shape_and_not_in_colour_alone(story: Story) -> None:
    svg = ElementTree.fromstring(map_svg(story.town, story.database, story.answers, 0))
    pins = {pin.get("class"): pin.find("g/*") for pin in svg.iter("g") if pin.get("role") == "button"}
    shapes = {kind: shape.tag for kind, shape in pins.items() if shape is not None}
    assert shapes == {"query right": "circle", "query wrong": "path"}


def test_the_map_puts_north_up_and_a_line_from_truth_to_answer(story: Story) -> None:
    svg = ElementTree.fromstring(map_svg(story.town, story.database, story.answers, 0))
    assert svg.get("viewBox") == "-24 -324 548 348"
    lines = [path.get("d") for path in svg.iter("path") if path.get("data-q")]
    assert lines == ["M3.0 0.0L0.0 0.0", "M0.0 0.0L400.0 0.0"]
    street = next(path for path in svg.iter("path") if path.get("class") == "street")
    assert (street.get("d"), street.get("stroke-width")) == ("M0 0l500-300", "12.0")


def test_one_query_of_the_map_is_reached_by_the_tab_key(story: Story) -> None:
    svg = ElementTree.fromstring(map_svg(story.town, story.database, story.answers, 1))
    assert [pin.get("tabindex") for pin in svg.iter("g") if pin.get("role") == "button"] == ["-1", "0"]


def test_charts_are_well_formed_and_say_their_numbers() -> None:
    chart = ElementTree.fromstring(error_curve([1.0, 3.0, 400.0, 2000.0], 25.0))
    assert chart.get("aria-label") == "Share of queries by error: 50.0 per cent within 25 m."
    curves = ElementTree.fromstring(recall_curves([("a & b", [0.5, 1.0]), ("c", [0.25, 0.5])]))
    assert curves.get("aria-label") == "recall at N. a & b: 50.0 per cent at 1; c: 25.0 per cent at 1."


def test_json_in_a_script_cannot_end_it() -> None:
    assert safe_json({"a": "</script><!--"}) == '{"a":"\\u003c/script>\\u003c!--"}'


def test_lengths_read_as_people_write_them() -> None:
    assert [distance(m) for m in (0.04, 9.94, 9.96, 412.4, 999.6, 1314.0)] == [
        "0.0 m",
        "9.9 m",
        "10 m",
        "412 m",
        "1.00 km",
        "1.31 km",
    ]
    assert [round_length_m(m) for m in (1.0, 3.9, 199.0, 200.0, 640.0)] == [1, 2, 100, 200, 500]


@pytest.mark.parametrize(("right", "count"), [(0, 10), (1, 2), (160, 200), (10, 10)])
def test_the_interval_is_wilsons(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(0.95, "wilson")
    assert interval(right, count) == pytest.approx((expected.low, expected.high), abs=1e-4)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (5, 2), (6, 0), (3, 15), (40, 41)])
def test_what_may_be_chance_is_told_by_the_sign_test(won: int, lost: int) -> None:
    p = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert may_be_chance(won, lost) == (p > 0.05)


def test_the_hardest_right_answer_is_shown_first(story: Story) -> None:
    first, second = story.answers
    easy = replace(first, matches=(replace(first.matches[0], score=0.99),))
    assert shown_first([easy, second, first]) == 2
    assert by_condition(story.answers, story.conditions) == {"day": (1, 1), "night": (0, 1)}
