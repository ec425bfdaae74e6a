"""Cards and answers: what is written comes back, the published schema fits, and half a card is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.evaluation.answers import read_answers
from cricavpr.evaluation.cards import Card, dependence
from cricavpr.evaluation.evaluate import evaluate
from cricavpr.evaluation.protocols import protocol
from cricavpr.grouping import Grouping
from tests.evaluation.test_evaluate import BLUE, GREEN, RED, dataset, places
from tests.mean_colour import GroupColour, MeanColour

SCHEMA = Path(__file__).parents[2] / "docs" / "card.schema.json"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    # Query 1 looks like place 2 first, then like its own; query 2 has no place; query 3 cannot be read.
    split = dataset(tmp_path, places(RED, GREEN, BLUE), places(RED, [0, 100, 200], BLUE, RED))
    split = replace(split, positives=(*split.positives[:2], np.empty(0, np.int64), np.array([0])))
    (tmp_path / "queries/0003.png").write_bytes(b"no picture")
    return evaluate(MeanColour(), split, recall_ns=(1, 2), command="cricavpr evaluate there").save(tmp_path / "out")


def test_a_card_comes_back_from_its_file(written: Path) -> None:
    card = Card.read(written)
    assert card == Card.read(written / "card.json")
    assert (card.dataset, card.method, card.grouping, card.rule) == ("colours", "mean_colour", "none", "within 25 m")
    assert (card.counts.database, card.counts.queries, card.counts.without_positives) == (3, 4, 1)
    assert (card.counts.failed_database, card.counts.failed_queries) == (0, 1)
    assert card.recall_at == {1: 0.25, 2: 0.5} and card.intervals[1][0] <= 0.25 <= card.intervals[1][1]
    assert card.protocol == replace(protocol("honest"), tolerance="within 25 m")
    assert card.command == "cricavpr evaluate there" and card.date[:2] == "20"
    assert set(card.versions) == {"cricavpr", "torch", "numpy", "python"}
    assert str(written.parent) not in (written / "card.json").read_text()


def test_answers_by_eye(written: Path) -> None:
    first, second, third, fourth = read_answers(written)
    assert (first.query, first.first_right_rank, first.positives, first.nearest_m) == ("0000.png", 1, 1, 10.0)
    assert first.position == (500_000.0, 6_000_010.0) and first.latlon == pytest.approx((54.1482, 15.0), abs=1e-4)
    assert [(match.name, match.right, match.distance_m) for match in first.matches] == [
        ("0000.png", True, 10.0),
        ("0001.png", False, 100.499),
    ]
    assert second.first_right_rank == 2 and second.matches[0].index == 2 and not second.found(1) and second.found(2)
    assert (third.first_right_rank, third.nearest_m, third.matches[0].index) == (None, None, 2)
    assert (fourth.first_right_rank, fourth.positives, fourth.matches) == (None, 1, ())


def test_a_rank_is_known_beyond_the_first_n(tmp_path: Path) -> None:
    split = dataset(tmp_path, places([9, 200, 0], [0, 200, 9], [0, 200, 200], [200, 100, 0]), places([0, 100, 250]))
    (answer,) = read_answers(evaluate(MeanColour(), split, recall_ns=(1,)).save(tmp_path / "out"))
    assert len(answer.matches) == 1 and answer.first_right_rank == 3  # after the bluish and the bluer green


def schema_flaws(value: Any, schema: dict[str, Any], where: str = "card") -> list[str]:
    """The part of JSON Schema that our schema uses."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    fits = [k for k in wanted if (value is None if k == "null" else isinstance(value, kinds[k]))]
    if isinstance(value, bool):
        fits = [k for k in fits if k == "boolean"]
    if wanted and not fits:
        return [f"{where} is no {wanted}"]
    flaws = [f"{where} is not {schema['const']}"] if "const" in schema and value != schema["const"] else []
    flaws += [f"{where} is none of {schema['enum']}"] if "enum" in schema and value not in schema["enum"] else []
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        flaws.append(f"{where} is out of range")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        flaws += [f"{where} lacks {name}" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            rest = schema.get("additionalProperties", True)
            if name not in known and rest is False:
                flaws.append(f"{where} has {name}")
            flaws += schema_flaws(inner, known.get(name, rest if isinstance(rest, dict) else {}), f"{where}.{name}")
    for inner in value if isinstance(value, list) else []:
        flaws += schema_flaws(inner, schema.get("items", {}), f"{where}[]")
    return flaws


def test_the_published_schema_fits_and_does_not_fit_everything(written: Path) -> None:
    schema = json.loads(SCHEMA.read_text())
    values = json.loads((written / "card.json").read_text())
    assert schema_flaws(values, schema) == []
    assert set(values) == set(schema["properties"])
    assert set(values) - set(schema["required"]) == {"interval_kind", "query_sequences"}  # not in older cards
    assert set(schema["properties"]["protocol"]["required"]) == set(values["protocol"])
    for change in ({"schema": "other"}, {"recall_at": {"1": 2}}, {"extra": 1}, {"counts": {}}, {"method": None}):
        assert schema_flaws({**values, **change}, schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "cricavpr.card.2"}, "cricavpr.card.2"),
        ({"method": ...}, "missing key 'method'"),
        ({"more": 1}, "unknown key 'more'"),
        ({"split_hash": 5}, "split_hash must be str, got 5"),
        ({"recall_at": {}, "intervals": {}}, "at least one"),
        ({"recall_at": {"1": 1.0}, "intervals": {"5": [1.0, 1.0]}}, "the same values of N"),
        ({"recall_at": {"1": 0.5}, "intervals": {"1": [0.9, 1.0]}}, "within its confidence interval"),
        ({"counts": {"database": 3, "queries": -1, "without_positives": 0}}, "queries must be at least 0, got -1"),
        ({"recall_at": {"1": 1.5}, "intervals": {"1": [0.0, 1.5]}}, "R@1 must be from 0 to 1"),
        ({"recall_at": {"1": 0.3}, "intervals": {"1": [0.5, 0.2]}}, "within its confidence interval"),
        ({"protocol": {"name": 1}}, "protocol: name must be str"),
        ({"protocol": {"unanswered": "some"}}, "must be 'miss' or 'skip', got 'some'"),
        ({"made_by": {"method": "m"}}, "made_by: missing key 'weights'"),
        ({"counts": {"database": 3}}, "queries"),
    ],
)
def test_half_a_card_is_refused_in_one_line(change: dict[str, Any], message: str, written: Path) -> None:
    values = {**json.loads((written / "card.json").read_text()), **change}
    (written / "card.json").write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))
    with pytest.raises(InputError, match=message) as caught:
        Card.read(written)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", '{"schema": [}', "\udc80"])
def test_what_is_no_card_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="card"):
        Card.read(tmp_path)


@pytest.mark.parametrize("change", ["cut off", "line lost", "no rank", "gone"])
def test_damaged_answers_are_refused_in_one_line(change: str, written: Path) -> None:
    path = written / "answers.jsonl"
    text = path.read_text()
    if change == "gone":
        path.unlink()
    elif change == "cut off":
        path.write_text(text[:-20])
    elif change == "line lost":
        path.write_text("".join(text.splitlines(keepends=True)[1:]))
    else:
        path.write_text(text.replace('"first_right_rank":1', '"first_right_rank":0'))
    with pytest.raises(InputError, match=r"answers\.jsonl") as caught:
        read_answers(written)
    assert "\n" not in str(caught.value)


def test_a_card_from_before_intervals_had_a_kind_is_read(written: Path) -> None:
    values = json.loads((written / "card.json").read_text())
    assert values["interval_kind"] == "wilson"
    del values["interval_kind"], values["query_sequences"]
    (written / "card.json").write_text(json.dumps(values))
    assert Card.read(written).interval_kind == "bootstrap"


def test_queries_of_few_sequences_are_counted_as_such(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED, GREEN), places(RED, GREEN, RED))
    keyed = replace(split, queries=replace(split.queries, keys=("a", "b", "a")))
    cards = [evaluate(MeanColour(), one, recall_ns=(1,)).card for one in (split, keyed)]
    assert [one.query_sequences for one in cards] == [None, 2]
    assert "3 queries come from 2 sequences" in dependence(cards[1])


def test_what_differs_has_a_folder_of_its_own(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED, GREEN), places(RED, GREEN))
    results = [
        evaluate(GroupColour(), split, Grouping.parse(grouping), recall_ns=(1,), protocol=protocol(name))
        for grouping, name in (("alone", "honest"), ("in_order:2", "honest"), ("in_order:2", "paper"))
    ]
    names = [result.card.folder_name() for result in results]
    assert len(set(names)) == 3 and names[1].startswith("colours--group_colour--in_order-2--honest--")
    assert replace(results[0].card, command="typed otherwise", date="another day").folder_name() == names[0]
