"""The demo from end to end, in a small town."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.datasets import open_dataset
from cricavpr.demo import DemoResult, run_demo
from cricavpr.errors import InputError
from cricavpr.evaluation.answers import read_answers
from cricavpr.evaluation.cards import Card
from cricavpr.evaluation.evaluate import evaluate
from cricavpr.grouping import ALONE
from cricavpr.index.place_index import PlaceIndex
from cricavpr.locate import Locator
from cricavpr.methods import load_method
from tests.demo.test_page import data_of

SEED, PLACES = 7001, 24


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    """The pixel matcher: nothing to load, and right now and then."""
    return run_demo(tmp_path_factory.mktemp("pixels") / "demo", seed=SEED, places=PLACES, method="pixels")


def numbers(folder: Path) -> list[object]:
    """Cards without dates and times, and answers."""
    cards = [json.loads(path.read_text()) for path in sorted(folder.glob("*/card.json"))]
    for card in cards:
        del card["date"], card["timings"]
    return [cards, [path.read_text() for path in sorted(folder.glob("*/answers.jsonl"))]]


def test_the_page_holds_every_query_and_every_picture_it_can_show(demo: DemoResult) -> None:
    data = data_of(demo.page.read_text())
    files = sorted(path.name for path in (demo.photos / "queries").iterdir())
    assert [item["picture"] for item in data["items"]] == [f"queries/{name}" for name in files]
    assert len(files) == PLACES // 2 and len(list((demo.photos / "database").iterdir())) == PLACES
    wanted = {match["picture"] for item in data["items"] for match in item["matches"]}
    wanted |= {item["truth"][0] for item in data["items"]} | {item["picture"] for item in data["items"]}
    assert set(data["pictures"]) == wanted


def test_the_page_asks_the_network_for_nothing(demo: DemoResult) -> None:
    page = demo.page.read_text()
    assert "http:" not in page and "https:" not in page
    assert set(re.findall(r'(?:src|href)="([^#"]*)', page)) <= {"data:,", ""}


def test_page_table_and_cards_tell_the_same_recall(demo: DemoResult) -> None:
    right = sum(answer.matches[0].right for answer in demo.answers)
    assert 0 < right < PLACES // 2
    (card,) = (Card.read(path) for path in demo.evaluations.glob("*/card.json"))
    assert card.recall_at[1] == demo.results[0].recall_at[1] == right / len(demo.answers)
    assert card.command == f"cricavpr demo --seed {SEED} --places 24"
    assert f"<h1>{right} of {PLACES // 2} photos" in demo.page.read_text()
    assert repr(demo) == f"DemoResult({demo.page}: {right} of 12 photos located)"


def test_the_locator_answers_as_the_evaluation_does(demo: DemoResult) -> None:
    (folder,) = (path.parent for path in demo.evaluations.glob("*/card.json"))
    recorded = read_answers(folder)
    for located, evaluated in zip(demo.answers, recorded, strict=True):
        assert (located.query, located.condition, located.position) == (
            evaluated.query,
            evaluated.condition,
            evaluated.position,
        )
        assert [m.name for m in located.matches] == [m.name for m in evaluated.matches[:5]]
        assert [m.distance_m for m in located.matches] == [m.distance_m for m in evaluated.matches[:5]]


def test_the_kept_photos_and_index_give_the_same_numbers_to_anybody(demo: DemoResult) -> None:
    method = load_method("pixels")
    split, problems = open_dataset(demo.photos)
    assert not problems
    assert evaluate(method, split, ALONE).recall_at[1] == demo.results[0].recall_at[1]
    index = PlaceIndex.open(demo.index)
    index.verify()
    assert index.root == demo.photos / "database"
    assert index.photo(0).is_file()
    first = demo.answers[0]
    estimate = Locator(index, method).locate(demo.photos / "queries" / first.query)
    assert [match.score for match in estimate.matches] == pytest.approx([match.score for match in first.matches])


def test_an_answer_is_graded_by_where_the_photo_was_truly_taken(demo: DemoResult) -> None:
    for answer in demo.answers:
        first = answer.matches[0]
        assert first.distance_m is not None and answer.nearest_m is not None
        assert first.right == (first.distance_m <= 25.0)
        assert answer.nearest_m <= first.distance_m and answer.nearest_m < 6.0


def test_the_same_seed_gives_the_same_numbers(demo: DemoResult, tmp_path: Path) -> None:
    again = run_demo(tmp_path, seed=SEED, places=PLACES, method="pixels")
    assert numbers(again.evaluations) == numbers(demo.evaluations)
    assert data_of(again.page.read_text()) == data_of(demo.page.read_text())


def test_a_second_demo_takes_the_place_of_the_first(tmp_path: Path) -> None:
    first = run_demo(tmp_path, seed=SEED, places=12, method="pixels")
    second = run_demo(tmp_path, seed=SEED + 1, places=10, method="pixels")
    assert first.page == second.page
    assert len(list((tmp_path / "photos" / "database").iterdir())) == 10
    assert len(PlaceIndex.open(tmp_path / "place-index")) == 10
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        "evaluations",
        "index.html",
        "photos",
        "place-index",
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": 8}, "at least 1000"),
        ({"places": 3}, "must be from 10 to"),
        ({"places": 10**6}, "must be from 10 to 5,000"),
    ],
)
def test_what_cannot_be_a_demo_is_refused_before_any_work(tmp_path: Path, wrong: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_demo(tmp_path / "demo", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "demo").exists()


def test_a_foreign_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"holiday\.jpg"):
        run_demo(tmp_path, weights="no such file")


def test_progress_tells_every_stage_to_its_end(tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}
    listen: Callable[[str, int, int], None] = lambda stage, done, of: told.update({stage: (done, of)})  # noqa: E731
    run_demo(tmp_path, seed=SEED, places=10, method="pixels", progress=listen)
    assert list(told) == ["drawing the town", "indexing the database", "locating the queries", "measuring 1 of 1"]
    assert all(done == of for done, of in told.values())


def test_the_verb_measures_a_network_under_every_grouping_and_against_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a demo"
    assert main(["demo", "--out", str(out), "--places", "10", "--weights", "random:0"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == str(out / "index.html")
    cells = [re.split(r" *\| *", line)[2:4] for line in lines[2:8]]
    assert cells[0] == ["method", "grouping"] and cells[2:] == [
        ["cricavpr-tiny (random:0)", "alone"],
        ["cricavpr-tiny (random:0)", "in_order:16"],
        ["cricavpr-tiny (random:0)", "shuffled:16:0"],
        ["pixels", "none (does not correlate)"],
    ]
    assert "drawing the town" in said.err and "drawing" not in said.out
    commands = [shlex.split(line) for line in lines if line.startswith("  cricavpr ")]
    assert [command[1] for command in commands] == ["locate", "evaluate", "compare", "index"]
    assert Path(commands[0][2]).is_file() and Path(commands[0][4]).is_dir() and Path(commands[2][2]).is_dir()
    cards = [Card.read(path) for path in out.glob("evaluations/*/card.json")]
    # With equal numbers one seed would put the places of a query's group into one group of the database.
    assert len(cards) == 4 and all(card.counts.database != card.counts.queries for card in cards)


def test_the_verb_answers_a_foreign_folder_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
