"""The report from folders to files, and its page: foreign names stay names, and the network is asked for nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.evaluation.report.page import FILTERS, ORDERS, report_page
from cricavpr.evaluation.report.tables import tables
from tests.evaluation.report.made import answer, card, match, run, write
from tests.mean_colour import colours, photos

pytest.importorskip("matplotlib")

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\u2028\udcff.jpg"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two methods on four queries: one right thrice, one never."""
    photos(tmp_path / "data" / "queries", colours(4))
    photos(tmp_path / "data" / "database", colours(4))
    names = [f"{n:04d}.png" for n in range(4)]
    good = [
        answer(n, [match(5.0 if n else 40.0, name=name)], 2 if not n else 1, query=name) for n, name in enumerate(names)
    ]
    bad = [answer(n, [match(500.0, name=names[0])], 3, query=name) for n, name in enumerate(names)]
    write(tmp_path / "out" / "good", card("good", recalls=(0.75, 1.0)), good)
    write(tmp_path / "out" / "zbad", card("zbad", recalls=(0.0, 1.0)), bad)
    return tmp_path


def report(results: Path, *more: str) -> int:
    return main(["report", str(results / "out"), "--out", str(results / "report"), "--quiet", *more])


def test_the_door_writes_page_tables_figures_and_failures(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(results, "--data", str(results / "data"), "--rows", "2") == 0
    assert capsys.readouterr().out.strip() == str(results / "report" / "report.html")
    files = {
        path.relative_to(results / "report").as_posix() for path in (results / "report").rglob("*") if path.is_file()
    }
    drawn = {"recall_curves", "by_distance", "map_1", "map_2", "rows_ours_right", "rows_all_wrong"}
    assert files == {
        "report.html",
        "failures.json",
        *(f"tables/every_run.{kind}" for kind in ("md", "csv", "tex")),
        *(f"figures/{name}.{kind}" for name in drawn for kind in ("svg", "png")),
    }
    listed = json.loads((results / "report" / "failures.json").read_text())["results"]
    assert [len(of["failures"]) for of in listed] == [1, 4]
    assert listed[0]["failures"][0]["kinds"] == ["near miss"]
    assert "good, alone: R@1 75.0 on town" in (results / "report" / "report.html").read_text()


def test_cards_alone_make_a_report_without_pictures(results: Path) -> None:
    for file in results.glob("out/*/answers.jsonl"):
        file.unlink()
    assert report(results) == 0
    page = (results / "report" / "report.html").read_text()
    assert "Why the wrong queries" not in page and "<script" not in page and "Every run of this report" in page
    assert {path.stem for path in (results / "report" / "figures").iterdir()} == {"recall_curves"}


def test_pictures_of_another_dataset_are_one_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(results / "other" / "queries", colours(1))
    (results / "other" / "queries" / "0000.png").rename(results / "other" / "queries" / "elsewhere.png")
    photos(results / "other" / "database", colours(1))
    assert report(results, "--data", str(results / "other")) == 2
    said = capsys.readouterr().err
    assert "expected the photo 0000.png" in said and said.count("\n") == 1
    assert not (results / "report").exists()


def test_the_same_report_is_the_same_bytes(results: Path) -> None:
    assert report(results) == 0
    first = {path.name: path.read_bytes() for path in (results / "report").rglob("*") if path.is_file()}
    assert report(results) == 0
    assert first == {path.name: path.read_bytes() for path in (results / "report").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--regions", "pixels"], "needs the photos"),
        (["--data", "/nowhere"], "folder /nowhere does not exist"),
        (["--rows", "0"], "rows must be 1 to 200, got 0"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--rows", "201"], "rows must be 1 to 200, got 201"),
        (["--map", "pixels", "--map-data", "x", "--map-size", "9" * 5000 + "x2"], "such as 36x12"),
        (["--map", "pixels"], "needs --map-data"),
        (["--parameters", "pixels"], "of its parts, got pixels"),
    ],
)
def test_a_wrong_wish_is_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert report(results, *more) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["a$\\frac$b", "a\udcffb", "a\nb\x1b[2J", "<script>alert(1)</script>"])
def test_a_name_that_no_figure_can_draw_is_drawn_all_the_same(results: Path, name: str) -> None:
    """An invalid formula, bytes that are not UTF-8, and control characters, in a method and a condition."""
    found = [answer(0, [match()], condition=name), *(answer(n, [match(300.0)], 3, condition=name) for n in (1, 2, 3))]
    write(results / "out" / "hostile", card(name, recalls=(0.25, 1.0)), found)
    assert report(results, "--data", str(results / "data")) == 0
    assert "<script>alert" not in (results / "report" / "report.html").read_text()


class Outline(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def page() -> str:
    hostile = run(
        [answer(0, [match(300.0, name=HOSTILE)], 2, condition=HOSTILE, query=HOSTILE)], HOSTILE, card(HOSTILE)
    )
    return report_page([hostile], tables([hostile], ()), [], None)


def test_a_hostile_file_name_stays_a_name() -> None:
    html = page()
    html.encode()
    assert html.count("</script>") == [tag for tag, _ in Outline(html).elements].count("script") == 4
    assert "<img src=x" not in html
    data = re.search(r'id="data">(.*?)</script>', html, re.S)
    assert data is not None
    (item,) = json.loads(data[1])["items"]
    assert (item["picture"], item["matches"][0]["picture"]) == (f"queries/{HOSTILE}", f"database/{HOSTILE}")
    assert (item["note"], item["groups"]["taken"]) == (HOSTILE, [HOSTILE])


def test_the_page_asks_the_network_for_nothing_and_says_so_to_the_browser() -> None:
    html = page()
    for tag, attributes in Outline(html).elements:
        for name in ("src", "href"):
            assert str(attributes.get(name) or "#").startswith(("#", "data:")), tag
    assert "default-src 'none'" in html and "http://" not in html.replace("http://www.w3.org", "")


def test_failures_are_sorted_and_filtered_by_what_they_have() -> None:
    items = json.loads(re.search(r'id="data">(.*?)</script>', page(), re.S)[1])["items"]  # type: ignore[index]
    assert {order.by for order in ORDERS if order.by} == set(items[0]["numbers"])
    assert set(FILTERS) == set(items[0]["groups"])
