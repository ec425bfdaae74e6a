"""The page, from a story small enough to be checked by eye."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.demo.page import Story, ground_of, render_page
from cricavpr.evaluation.answers import Answer, Match
from cricavpr.evaluation.report import Evaluation
from cricavpr.geo import Positions
from cricavpr.pages import distance
from cricavpr.town import Town
from tests.evaluation.report.made import card

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u2028.jpg"


def row(answers: Sequence[Answer], grouping: str = "alone", right: Sequence[bool] = (True, False)) -> Evaluation:
    """An evaluation of two queries."""
    hits = [
        replace(answer, first_right_rank=1 if hit else 2, matches=(replace(answer.matches[0], right=hit),))
        for answer, hit in zip(answers, right, strict=True)
    ]
    share = sum(right) / len(right)
    recalls = {1: share, 5: 1.0, 10: 1.0}
    made = card("cricavpr-tiny", grouping, dataset="town", queries=2)
    intervals = {n: (max(0.0, recall - 0.2), min(1.0, recall + 0.2)) for n, recall in recalls.items()}
    return Evaluation(f"cricavpr-tiny, {grouping}", replace(made, recall_at=recalls, intervals=intervals), tuple(hits))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Two queries: one 3 m off and right, one 400 m off and wrong."""
    town = Town(7001, 10)
    corner = np.array([town.origin.easting_m, town.origin.northing_m])
    names = (("a.jpg", "b.jpg"), ("1.jpg", HOSTILE))
    metres = (np.array([[0.0, 0.0], [400.0, 0.0]]) + corner, np.array([[3.0, 0.0], [0.0, 0.0]]) + corner)
    sides = []
    for side, of, at in zip(("database", "queries"), names, metres, strict=True):
        (tmp_path / side).mkdir()
        for name in of:
            Image.new("RGB", (64, 48), (200, 100, 0)).save(tmp_path / side / name)
        sides.append(ImageSet(tmp_path / side, of, Positions(at, ("31N", "31N")), conditions=("day", "night")))
    split = EvalDataset("town", sides[0], sides[1], (np.array([0]), np.array([0])), "within 25 m")
    taken = [tuple(at) for at in metres[1].tolist()]
    near, far = Match("a.jpg", 0, 0.9, 3.0, True), Match("b.jpg", 1, 0.8, 400.0, False)
    answers = (
        Answer("1.jpg", 0, taken[0], None, "day", 1, 3.0, 1, (near, replace(far, distance_m=397.0))),
        Answer(HOSTILE, 1, taken[1], None, "night", 1, 0.0, 2, (far, replace(near, distance_m=0.0))),
    )
    rows = (
        row(answers),
        row(answers, "in_order:16", (True, True)),
        row(answers, "shuffled:16:0", (False, False)),
    )
    return Story(town, split, answers, rows, {"town": "<seed 7001>"})


class Outline(HTMLParser):
    """The elements of a page and what is in its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""
        self.contents: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = dict(attrs).get("id") or dict(attrs).get("type") or tag
            self.contents.append((self.inside, ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag in ("script", "style") else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.contents[-1] = (self.inside, self.contents[-1][1] + data)

    def content(self, kind: str) -> list[str]:
        return [content for name, content in self.contents if name == kind]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def data_of(page: str) -> Any:
    return json.loads(Outline(page).content("data")[0])


def test_the_headline_is_the_honest_recall(story: Story) -> None:
    page = render_page(story)
    assert "<h1>1 of 2 photos were located within 25 m</h1>" in page
    assert "R@1 50.0 %</strong> (95 % confidence interval 30 to 70)" in page
    assert f"<strong>{distance(201.5)}</strong>" in page


def test_the_page_is_repeatable(story: Story) -> None:
    assert render_page(story) == render_page(story)


def test_a_hostile_file_name_stays_a_name(story: Story) -> None:
    page = render_page(story)
    outline = Outline(page)
    assert not [attributes for _, attributes in outline.elements if "onerror" in attributes]
    assert [kind for kind, _ in outline.contents] == ["style", "application/json", "data", "script", "script"]
    assert data_of(page)["items"][1]["picture"] == f"queries/{HOSTILE}"
    assert page.count("</script>") == 4


def test_the_page_asks_the_network_for_nothing(story: Story) -> None:
    page = render_page(story)
    assert not re.search(
        r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"\s// .*|http://www\.w3\.org/2000/svg", "", page)
    )
    for tag, attributes in Outline(page).elements:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, name, value)


def test_the_content_security_policy_knows_style_and_scripts(story: Story) -> None:
    outline = Outline(render_page(story))
    policy = next(a["content"] or "" for a in outline.attributes("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for part in ("style", "script"):
        for content in outline.content(part):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
    assert not [attributes for _, attributes in outline.elements if "style" in attributes or "onclick" in attributes]


def test_every_id_is_there_once(story: Story) -> None:
    ids = [attributes["id"] for _, attributes in Outline(render_page(story)).elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_table_always_has_its_grouping(story: Story) -> None:
    page = render_page(story)
    for name in ("alone", "in_order:16", "shuffled:16:0"):
        assert f"<td>{name}</td>" in page
    assert "<code>in_order:16</code>: <strong>100.0 %</strong>" in page
    assert "Compared with alone, 1 query becomes correct and 0 wrong: this may be chance" in page
    assert "town: 2 queries against 100 database photos; a match is correct within 25 m; one query is 50 p" in page


def test_pictures_are_in_the_page_once(story: Story) -> None:
    page = render_page(story)
    pictures = data_of(page)["pictures"]
    assert set(pictures) == {"database/a.jpg", "database/b.jpg", "queries/1.jpg", f"queries/{HOSTILE}"}
    assert page.count("data:image/jpeg;base64,") == 4


def test_foreign_facts_are_escaped(story: Story) -> None:
    assert "<dd>&lt;seed 7001&gt;</dd>" in render_page(story)


def test_the_true_place_is_the_nearest_database_picture(story: Story) -> None:
    first, second = data_of(render_page(story))["items"]
    assert first["truth"] == ["database/a.jpg", "true place: the same"]
    assert second["truth"] == ["database/a.jpg", "true place: match 2"]
    assert first["facts"][1] == ["located at", first["matches"][0]["note"]]


def test_the_hardest_right_answer_is_shown_first(story: Story) -> None:
    first, second = story.answers
    easy = replace(first, matches=(replace(first.matches[0], score=0.99), first.matches[1]))
    shuffled = replace(story, answers=(easy, replace(first, query=HOSTILE)))
    assert data_of(render_page(shuffled))["first"] == 1
    assert data_of(render_page(replace(story, answers=(second, first))))["first"] == 1


def test_a_story_without_any_right_answer_has_a_page_too(story: Story) -> None:
    page = render_page(replace(story, answers=(story.answers[1], replace(story.answers[1], query="1.jpg"))))
    assert "<h1>0 of 2 photos" in page and "correct, lowest score" not in page and "wrong, highest score" in page
    assert data_of(page)["first"] == 0


def test_recall_is_told_for_each_condition_that_occurs(story: Story) -> None:
    page = render_page(story)
    assert "100.0 % (1 of 1)" in page and "0.0 % (0 of 1)" in page and '<th scope="row">fog</th>' not in page


def test_right_and_wrong_differ_in_shape_and_lead_to_where_they_were_located(story: Story) -> None:
    page = render_page(story)
    steps = {
        look: re.search(rf'class="cv-mark cv-{look}" d="M\S+ -?[\d.]+([^"]*)"', page) for look in ("right", "wrong")
    }
    assert steps["right"] and steps["wrong"] and steps["right"][1] == "h 0.00" and "l" in steps["wrong"][1]
    lines = re.findall(r'<path class="cv-line cv-(\w+)" data-of="(\d)" d="M(\S+) \S+L(\S+) \S+">', page)
    assert [(look, number) for look, number, *_ in lines] == [("right", "0"), ("wrong", "1")]
    lengths = [float(to) - float(start) for *_, start, to in lines]
    assert lengths == pytest.approx([-3.0, 400.0], abs=0.15)


def test_the_ground_has_the_streets_and_houses_around_the_places() -> None:
    town = Town(7001, 10)
    ground = ground_of(town)
    corner = np.array([town.origin.easting_m, town.origin.northing_m])
    streets = [np.asarray(shape.points) - corner for shape in ground if shape.look == "street"]
    assert all((line == street).all() for line, street in zip(streets, town.streets, strict=True))
    assert len([shape for shape in ground if shape.look == "house"]) > 50
    points = np.concatenate([np.asarray(shape.points) for shape in ground]) - corner
    low, high = np.concatenate(town.streets).min(axis=0), np.concatenate(town.streets).max(axis=0)
    assert (points > low - 60).all() and (points < high + 60).all()  # nothing of the ring around the town
