"""evaluate, on places that are plain colours: recall can be checked by eye."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets.base import EvalDataset
from cricavpr.errors import InputError
from cricavpr.evaluation.cards import Card
from cricavpr.evaluation.evaluate import evaluate, evaluate_protocol, format_table
from cricavpr.grouping import Grouping
from tests.mean_colour import GroupColour, MeanColour, colours, photos

RED, GREEN, BLUE, YELLOW = [250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]


def places(*colours: list[int]) -> np.ndarray:
    return np.array(colours, np.uint8)


def dataset(folder: Path, database: np.ndarray, queries: np.ndarray, offset_m: float = 10.0) -> EvalDataset:
    """Photo i of either side stands 100 i metres east; the queries `offset_m` further north."""
    east = np.array([[500_000.0 + 100 * index, 6_000_000.0] for index in range(max(len(database), len(queries)))])
    base = photos(folder / "database", database, east[: len(database)])
    asked = photos(folder / "queries", queries, east[: len(queries)] + np.array([0, offset_m]))
    return EvalDataset.within_radius("colours", base, asked)


class Silent(MeanColour):
    """Must not be asked."""

    def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
        raise AssertionError("described again")


def test_a_method_that_tells_the_places_apart_finds_them_all(tmp_path: Path) -> None:
    of = colours(30)
    result = evaluate(MeanColour(), dataset(tmp_path, of, of))
    assert result.recall_at == {1: 1.0, 5: 1.0, 10: 1.0}
    assert result.predictions.indices[:, 0].tolist() == list(range(30))
    assert result.predictions.indices.shape == (30, 10)
    counts = result.card.counts
    assert (counts.database, counts.queries, counts.without_positives) == (30, 30, 0)
    assert (result.method, result.card.dataset, result.card.rule) == ("mean_colour", "colours", "within 25 m")
    assert result.card.timings.describe_s > 0


def test_recall_by_eye(tmp_path: Path) -> None:
    # Query 0 looks like its place, 1 like place 2 first and its own second, 2 least like its own.
    split = dataset(tmp_path, places(RED, GREEN, BLUE), places(RED, [0, 100, 200], [200, 100, 10]))
    result = evaluate(MeanColour(), split, recall_ns=(1, 2, 3))
    assert result.predictions.indices.tolist() == [[0, 1, 2], [2, 1, 0], [0, 1, 2]]
    assert result.recall_at == {1: 1 / 3, 2: 2 / 3, 3: 1.0}


def test_a_shuffle_gives_a_query_other_company_than_its_match_had(tmp_path: Path) -> None:
    of = colours(40)
    split = dataset(tmp_path, of, of)
    shuffled = evaluate(GroupColour(), split, Grouping.parse("shuffled:4:0"), recall_ns=(1,))
    in_order = evaluate(GroupColour(), split, Grouping.parse("in_order:4"), recall_ns=(1,))
    assert in_order.predictions.scores.min() > 1 - 1e-6  # the same photos in the same company
    assert in_order.recall_at[1] == 1.0 > shuffled.recall_at[1]


def test_an_n_beyond_the_database_counts_all_of_it(tmp_path: Path) -> None:
    huge = 10**30
    split = dataset(tmp_path, places(RED, GREEN), places(GREEN))
    result = evaluate(MeanColour(), split, recall_ns=(1, 100, huge))
    assert result.recall_at == {1: 0.0, 100: 1.0, huge: 1.0}
    assert result.predictions.indices.tolist() == [[1, 0]]
    assert list(Card.read(result.save(tmp_path / "out")).recall_at) == [1, 100, huge]


def test_queries_without_positives_are_misses_and_are_counted(tmp_path: Path) -> None:
    result = evaluate(MeanColour(), dataset(tmp_path, places(RED), places(RED, GREEN)), recall_ns=(1,))
    assert result.recall_at == {1: 0.5} and result.card.counts.without_positives == 1


def test_failed_photos_are_misses_and_are_counted_and_the_others_keep_their_place(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED, GREEN, BLUE, YELLOW), places(RED, GREEN, BLUE, YELLOW))
    (tmp_path / "database/0001.png").write_bytes(b"no picture")
    (tmp_path / "queries/0002.png").unlink()
    result = evaluate(MeanColour(), split, recall_ns=(1, 3))
    assert [problem.name for problem in result.failed_database] == ["0001.png"]
    assert [problem.stage for problem in result.failed_queries] == ["find"]
    assert result.predictions.indices[[0, 2, 3], 0].tolist() == [0, -1, 3]
    assert 1 not in result.predictions.indices and set(result.predictions.indices[1]) == {0, 2, 3}
    assert np.isneginf(result.predictions.scores[2]).all()
    assert result.recall_at == {1: 0.5, 3: 0.5}  # of 4: one was not found, one could not be asked
    assert (result.card.counts.database, result.card.counts.queries) == (4, 4)


def test_groups_change_the_result_of_a_method_that_correlates_and_are_recorded(tmp_path: Path) -> None:
    of = colours(24)
    split = dataset(tmp_path, of, of)
    results = {
        text: evaluate(GroupColour(), split, Grouping.parse(text)) for text in ("alone", "in_order:4", "shuffled:4:0")
    }
    assert [result.grouping for result in results.values()] == list(results)
    assert results["alone"].recall_at[1] == 1.0
    scores = [result.predictions.scores for result in results.values()]
    assert not np.allclose(scores[0], scores[1]) and not np.allclose(scores[1], scores[2])


@pytest.mark.parametrize("grouping", ["alone", "in_order:4", "shuffled:4:0"])
def test_where_nothing_correlates_the_grouping_says_so(grouping: str, tmp_path: Path) -> None:
    result = evaluate(MeanColour(), dataset(tmp_path, places(RED), places(RED)), Grouping.parse(grouping))
    assert (result.grouping, result.to_dict()["grouping"]) == ("none (does not correlate)", "none")


def test_the_result_is_json(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED, GREEN), places(RED, GREEN))
    (tmp_path / "database/0001.png").write_bytes(b"no picture")
    result = evaluate(GroupColour(), split, Grouping("in_order", 16), recall_ns=(1,))
    values = json.loads(json.dumps(result.to_dict()))
    assert values["recall_at"] == {"1": 0.5}
    assert values["split_hash"] == split.split_hash()
    assert values["made_by"]["grouping"] == values["grouping"] == "in_order:16"
    assert values["failed_database"][0]["name"] == "0001.png" and values["failed_queries"] == []
    assert (values["weights"], values["counts"]["database"], values["counts"]["queries"]) == ("none", 2, 2)


def test_a_table_always_has_its_grouping_and_reads_as_text_and_as_markdown(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED, GREEN), places(RED, GREEN))
    results = [
        evaluate(MeanColour(), split, recall_ns=(1, 5)),
        evaluate(GroupColour(), split, Grouping("in_order", 16), recall_ns=(1, 10)),
    ]
    head, rule, first, second = format_table(results).splitlines()
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    assert columns[:6] == ["dataset", "method", "grouping", "R@1", "R@5", "R@10"]
    assert columns[6:] == ["positives", "database", "queries"]
    assert set(rule) == {"|", "-", ":", " "} and len({len(line) for line in (head, rule, first, second)}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (first, second)]
    tail = ["within 25 m", "2", "2"]
    assert cells == [
        ["colours", "mean_colour", "none (does not correlate)", "100.0", "100.0", "", *tail],
        ["colours", "group_colour", "in_order:16", "100.0", "", "100.0", *tail],
    ]
    assert format_table([]) == ""


def test_a_table_says_when_photos_failed_or_queries_have_no_positives(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED), places(RED, GREEN, BLUE))
    (tmp_path / "queries/0002.png").unlink()
    head, _, row = format_table([evaluate(MeanColour(), split, recall_ns=(1,))]).splitlines()
    assert head.endswith("| without positives | failed |") and row.endswith("|                 2 |      1 |")


@pytest.mark.parametrize("recall_ns", [(), (0,), (1, -5)])
def test_an_n_below_one_is_refused_before_any_work(recall_ns: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="N"):
        evaluate(Silent(), dataset(tmp_path, places(RED), places(RED)), recall_ns=recall_ns)


def test_a_result_is_shown_in_one_line_and_in_a_notebook_as_its_row(tmp_path: Path) -> None:
    split = replace(dataset(tmp_path, places(RED, GREEN), places(RED, GREEN)), name="<b>")
    result = evaluate(MeanColour(), split, recall_ns=(1,))
    assert repr(result) == (
        "<EvalResult mean_colour on <b>, grouping none (does not correlate): R@1 100.0; 2 queries, 2 database images>"
    )
    html = result._repr_html_()
    assert "&lt;b&gt;</td>" in html and ">100.0</td>" in html and "<b>" not in html


# --- protocols, as Python users call them


def test_a_protocol_runs_all_that_the_verb_runs(tmp_path: Path) -> None:
    of = colours(24)
    split = replace(dataset(tmp_path, of, of), paper_grouping="in_order:4", unanswered="skip")
    said: list[str] = []
    results = evaluate_protocol(GroupColour(), split, "honest", out=tmp_path / "out", talk=said.append, workers=0)
    assert [result.grouping for result in results] == ["alone", "in_order:4", "shuffled:4:0"]
    assert {result.card.protocol.unanswered for result in results} == {"skip"}
    assert [Card.read(line.removeprefix("card and answers: ")) for line in said] == [one.card for one in results]
    assert not list((tmp_path / "out").glob(".unfinished*"))
    (paper,) = evaluate_protocol(GroupColour(), split, "paper", cache=tmp_path / "cache")
    assert (paper.grouping, paper.card.ns, paper.card.protocol.distance) == ("in_order:4", (1, 5, 10, 100), "l2")
    assert paper.card.protocol.unanswered == "miss"  # as the authors' script does
    (mine,) = evaluate_protocol(GroupColour(), split, "honest", ["shuffled:3:1"], recall_ns=(2,))
    assert (mine.grouping, mine.card.ns) == ("shuffled:3:1", (2,))
    assert evaluate(GroupColour(), split, protocol="paper").grouping == "in_order:4"
    assert evaluate(GroupColour(), split).grouping == "alone"


# --- cache


def test_the_cache_spares_the_work_and_changes_nothing(tmp_path: Path) -> None:
    split, cache = dataset(tmp_path, colours(9), colours(9)), tmp_path / "cache"
    (tmp_path / "database/0004.png").write_bytes(b"no picture")
    first = evaluate(MeanColour(), split, cache=cache, batch_size=4)
    again = evaluate(Silent(), split, cache=cache)  # another batch size is the same descriptors
    assert np.array_equal(first.predictions.indices, again.predictions.indices)
    assert np.array_equal(first.predictions.scores, again.predictions.scores)
    assert first.failed_database == again.failed_database and len(again.failed_database) == 1
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("change", ["photo", "weights", "descriptors", "cut off", "problems", "no problems"])
def test_the_cache_is_not_believed_when_anything_differs(change: str, tmp_path: Path) -> None:
    split, cache = dataset(tmp_path, colours(5), colours(5)), tmp_path / "cache"
    evaluate(MeanColour(), split, cache=cache)
    method = Silent()
    kept = sorted(cache.glob("*.safetensors"))[0]
    if change == "photo":
        photos(tmp_path / "database", places(YELLOW), size=(40, 40))
    elif change == "weights":
        method.weights = "others"
    elif change == "descriptors":
        kept.unlink()
    elif change == "cut off":
        kept.write_bytes(kept.read_bytes()[:-1])
    elif change == "problems":
        kept.with_suffix(".problems.json").write_text('[{"name": "0001.png", "stage": "", "reason": ""}]')
    else:
        kept.with_suffix(".problems.json").unlink()
    with pytest.raises(AssertionError, match="described again"):
        evaluate(method, split, cache=cache)


def test_groups_have_a_cache_of_their_own(tmp_path: Path) -> None:
    of, cache = colours(8), tmp_path / "cache"
    split = dataset(tmp_path, of, of)
    alone = evaluate(GroupColour(), split, cache=cache)
    together = evaluate(GroupColour(), split, Grouping("in_order", 4), cache=cache)
    fresh = evaluate(GroupColour(), split, Grouping("in_order", 4))
    assert np.array_equal(together.predictions.scores, fresh.predictions.scores)
    assert not np.allclose(together.predictions.scores, alone.predictions.scores)
