"""Why queries went wrong: each rule on the least that it needs."""

from __future__ import annotations

from cricavpr.evaluation.report.evaluations import KINDS, failures
from tests.evaluation.report.made import answer, match, run

RIGHT = match(5.0, 0.8)


def kinds(*answers: object) -> list[tuple[str, ...]]:
    return [failure.kinds for failure in failures(run(answers))]  # type: ignore[arg-type]


def test_a_right_query_is_no_failure() -> None:
    assert kinds(answer(0, [RIGHT])) == []


def test_a_near_miss_lies_outside_the_radius_and_within_two() -> None:
    assert kinds(answer(0, [match(25.1)], 2)) == [("near miss",)]
    assert kinds(answer(0, [match(50.0)], 2)) == [("near miss",)]
    assert kinds(answer(0, [match(50.1)], 2)) == [("other",)]


def test_far_and_as_alike_as_right_answers_are_is_aliasing() -> None:
    assert kinds(answer(0, [RIGHT]), answer(1, [match(101.0, 0.8)], 2)) == [("aliasing",)]
    assert kinds(answer(0, [RIGHT]), answer(1, [match(101.0, 0.79)], 2)) == [("other",)]
    assert kinds(answer(0, [RIGHT]), answer(1, [match(99.0, 0.95)], 2)) == [("other",)]


def test_a_photo_on_which_three_wrong_queries_land_is_aliasing_too() -> None:
    wrong = [answer(n, [match(300.0, 0.1, "hub.jpg")], 3) for n in range(3)]
    assert kinds(answer(0, [RIGHT]), *[answer(n + 1, w.matches, 3) for n, w in enumerate(wrong)]) == [("aliasing",)] * 3
    assert kinds(*wrong[:2]) == [("other",)] * 2
    assert [failure.shared for failure in failures(run(wrong))] == [2, 2, 2]


def test_truth_is_doubted_when_positives_look_unlike_and_neighbours_do_not() -> None:
    beside = [match(400.0, 0.1), match(30.0, 0.05)]
    assert kinds(answer(0, beside, 21)) == [("doubtful truth",)]
    assert kinds(answer(0, beside, 20)) == [("other",)]
    assert kinds(answer(0, [match(400.0, 0.1), match(51.0, 0.05)], 21)) == [("other",)]
    assert kinds(answer(0, [match(30.0)], 90)) == [("near miss", "doubtful truth")]


def test_what_cannot_be_found_is_said_so() -> None:
    assert kinds(answer(0, [match(400.0)], positives=0)) == [("nothing to find",)]
    assert kinds(answer(0, [])) == [("not described",)]


def test_an_unknown_distance_is_neither_near_nor_far() -> None:
    assert kinds(answer(0, [RIGHT]), answer(1, [match(None, 0.99)], 2)) == [("other",)]


def test_every_kind_is_explained() -> None:
    assert set(KINDS) == {"near miss", "aliasing", "doubtful truth", "nothing to find", "not described", "other"}
