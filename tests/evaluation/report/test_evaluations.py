"""Folders with cards, and what to call what is in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cricavpr.errors import InputError
from cricavpr.evaluation.protocols import protocol
from cricavpr.evaluation.report.evaluations import find_evaluations, splits
from tests.evaluation.report.made import answer, card, match, run, write


def test_a_folder_of_results_is_read_like_its_results(tmp_path: Path) -> None:
    write(tmp_path / "out" / "a", card("a", recalls=(1.0, 1.0, 1.0)), [answer(n, [match()]) for n in range(4)])
    write(tmp_path / "out" / "b", card("b"))
    whole = find_evaluations([tmp_path / "out"])
    single = find_evaluations([tmp_path / "out" / "a", tmp_path / "out" / "b", tmp_path / "out"])
    assert [r.label for r in whole] == [r.label for r in single] == ["a, alone", "b, alone"]
    assert len(whole[0].answers) == 4 and whole[1].answers == ()


def test_labels_say_as_much_as_it_takes(tmp_path: Path) -> None:
    write(tmp_path / "1", card("a", "alone"))
    write(tmp_path / "2", card("a", "in_order:16"))
    write(tmp_path / "3", card("a", "alone", weights="random:0"))
    write(tmp_path / "4", card("b", "none"))
    labels = [r.label for r in find_evaluations([tmp_path])]
    assert labels == ["a, alone, wwwwwwwwwwwwww", "a, in_order:16", "a, alone, random:0", "b"]


def test_labels_tell_protocols_apart_that_share_a_name(tmp_path: Path) -> None:
    write(tmp_path / "1", card("a", "none"))
    write(tmp_path / "2", replace(card("a", "none"), protocol=protocol("honest", one_hit_per_panorama=True)))
    assert [r.label for r in find_evaluations([tmp_path])] == ["a, honest", "a, honest; one hit per panorama"]


def test_the_note_of_an_at_name_is_the_condition(tmp_path: Path) -> None:
    names = ["@1@2@3@S@@@@@@@@@2015@night@.jpg", "@1@2@3@S@@@@@@@@@2015@@.jpg", "plain.jpg", "night@.jpg"]
    write(
        tmp_path / "a",
        card(recalls=(1.0, 1.0, 1.0)),
        [answer(n, [match()], query=name) for n, name in enumerate(names)],
    )
    (of,) = find_evaluations([tmp_path])
    assert [a.condition for a in of.answers] == ["night", None, None, None]


def test_runs_on_other_photos_are_kept_apart() -> None:
    runs = [run((), of=card("a")), run((), of=card("b", split="1" * 64)), run((), of=card("c"))]
    assert [[r.card.method for r in of] for of in splits(runs)] == [["a", "c"], ["b"]]


@pytest.mark.parametrize("card_text", ["{}", "no json", '{"schema": "cricavpr.card.9"}'])
def test_a_card_that_is_none_is_one_line(tmp_path: Path, card_text: str) -> None:
    (tmp_path / "card.json").write_text(card_text)
    with pytest.raises(InputError) as error:
        find_evaluations([tmp_path])
    assert "\n" not in str(error.value)


def test_an_empty_folder_and_lost_answers_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a card\.json or table\.csv"):
        find_evaluations([tmp_path])
    write(tmp_path / "a", card(), [answer(0, [match()])])
    with pytest.raises(InputError, match="has 1 answers, but its card counts 4 queries"):
        find_evaluations([tmp_path])
