"""compare: intervals and paired tests by eye, unequal cards refused by name, published figures with their marks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.cli import main
from cricavpr.datasets.base import EvalDataset
from cricavpr.errors import InputError
from cricavpr.evaluation import compare
from cricavpr.evaluation.evaluate import evaluate
from cricavpr.evaluation.intervals import bootstrap_intervals, mcnemar
from cricavpr.evaluation.protocols import protocol
from cricavpr.evaluation.published import NS, beside, read_published
from cricavpr.evaluation.recording import record
from cricavpr.grouping import Grouping
from tests.evaluation.test_evaluate import dataset
from tests.mean_colour import GroupColour, MeanColour, colours

# --- intervals and tests


def test_an_interval_by_eye() -> None:
    ranks = np.array([1] * 50 + [3] * 25 + [0] * 25)
    intervals = bootstrap_intervals(ranks, (1, 5))
    low, high = intervals[1]
    assert 0.5 - 0.11 < low < 0.5 - 0.08 and 0.5 + 0.08 < high < 0.5 + 0.11  # 1.96 sqrt(.5 .5 / 100) = 0.098
    assert intervals[5][0] == pytest.approx(0.75 - 0.085, abs=0.015)
    assert bootstrap_intervals(ranks, (1, 5)) == intervals  # seeded
    assert bootstrap_intervals(ranks, (1, 5), seed=1) != intervals
    assert bootstrap_intervals(np.ones(9), (1,)) == {1: (1.0, 1.0)}
    assert bootstrap_intervals(np.zeros(9, int), (1, 5)) == {1: (0.0, 0.0), 5: (0.0, 0.0)}


def test_an_interval_is_what_resampling_the_queries_gives() -> None:
    ranks = np.random.default_rng(0).integers(0, 12, 60)
    drawn = np.random.default_rng(1).integers(0, 60, (20_000, 60))
    recalls = ((ranks > 0) & (ranks <= 5))[drawn].mean(axis=1)
    low, high = bootstrap_intervals(ranks, (5,), resamples=20_000)[5]
    assert (low, high) == pytest.approx(np.quantile(recalls, [0.025, 0.975]), abs=1 / 60)


def test_an_interval_over_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no queries"):
        bootstrap_intervals(np.empty(0), (1,))


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (1, 4, 2 * 6 / 32), (3, 3, 1.0), (0, 10, 2 / 1024)],
)
def test_mcnemar_by_eye(only_first: int, only_second: int, p: float) -> None:
    first = [True] * only_first + [False] * only_second + [True, True, False]
    second = [False] * only_first + [True] * only_second + [True, True, False]
    paired = mcnemar(first, second)
    assert (paired.only_first, paired.only_second, paired.p_value) == (only_first, only_second, pytest.approx(p))


def test_answers_to_other_numbers_of_queries_cannot_be_paired() -> None:
    with pytest.raises(InputError, match="paired"):
        mcnemar([True], [True, False])


# --- cards


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> EvalDataset:
    of = colours(40)
    darker = (of * 0.8 + np.random.default_rng(5).integers(0, 60, of.shape)).clip(0, 255).astype(np.uint8)
    return dataset(tmp_path_factory.mktemp("split"), of, darker)


@pytest.fixture(scope="module")
def cards(split: EvalDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cards")
    for name, grouping in (("alone", "alone"), ("together", "in_order:4")):
        record(evaluate(GroupColour(), split, Grouping.parse(grouping)), split, out / name)
    return out


def test_cards_of_one_split_stand_side_by_side(cards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(cards / "alone"), str(cards / "together")]) == 0
    head, _, first, second, _, pairs, _, *tests = capsys.readouterr().out.splitlines()
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    assert columns == ["", "method", "grouping", "dim", "image size", "R@1", "R@5", "R@10"]
    runs = compare.read_runs([cards / "alone", cards / "together"])
    for line, run in zip((first, second), runs, strict=True):
        low, high = run.card.intervals[1]
        assert f"| {100 * run.card.recall_at[1]:.1f} [{100 * low:.1f}, {100 * high:.1f}] " in line
        assert f"| {run.card.grouping} " in line
    assert "McNemar" in pairs
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tests if line]
    assert [row[:2] for row in rows] == [["2 against 1", n] for n in ("1", "5", "10")]
    gained, lost = int(rows[0][2]), int(rows[0][3])
    assert (gained - lost) / 40 == pytest.approx(runs[1].card.recall_at[1] - runs[0].card.recall_at[1])
    assert lost > 0 and float(rows[0][4]) == pytest.approx(100 * (gained - lost) / 40, abs=0.05)


def test_a_card_that_its_own_answers_contradict_is_refused(
    cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recall that was changed by hand, with an interval to match, stands beside answers that were not."""
    (together,) = (file.parent for file in cards.rglob("together/**/card.json"))
    edited = Path(shutil.copytree(together, tmp_path / "edited"))
    values = json.loads((edited / "card.json").read_text())
    values["recall_at"]["1"], values["intervals"]["1"] = 0.999, [0.9, 1.0]
    (edited / "card.json").write_text(json.dumps(values))
    for verb in (["compare", str(cards / "alone"), str(edited)], ["report", str(edited), "--out", str(tmp_path / "r")]):
        assert main(verb) == 2
        said = capsys.readouterr().err
        assert "says R@1 99.9, and the answers beside it give" in said and said.count("\n") == 1


def test_a_card_of_half_a_database_is_not_compared_with_one_of_the_whole(cards: Path) -> None:
    """The split hash is over names, and does not change where a file is missing."""
    whole = compare.read_runs([cards / "alone"])[0].card
    half = replace(whole, counts=replace(whole.counts, failed_database=5))
    assert compare.differences(whole, half) == [
        "photos that could not be used: 0 of the database, 0 queries and 5 of the database, 0 queries"
    ]


def unequal(split: EvalDataset, change: str) -> tuple[EvalDataset, dict[str, object]]:
    if change == "split":
        return replace(split, queries=split.queries.take(range(39)), positives=split.positives[:39]), {}
    if change == "rule":
        return replace(split, rule="within 30 m"), {}
    if change == "N":
        return split, {"recall_ns": (1, 5)}
    return split, {"protocol": protocol("honest", unanswered="skip")}


@pytest.mark.parametrize(
    ("change", "named"),
    [("split", "split: colours"), ("rule", "rule: within 25 m and within 30 m"), ("N", "N: 1, 5, 10 and 1, 5"),
     ("unanswered", "queries without positives: counted as misses and skipped")],
)  # fmt: skip
def test_unequal_cards_are_refused_by_name_and_marked_anyway(
    change: str, named: str, split: EvalDataset, cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, settings = unequal(split, change)
    folder = record(evaluate(GroupColour(), other, **settings), other, tmp_path)  # type: ignore[arg-type]
    command = ["compare", str(cards / "alone"), str(folder)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert named in said and said.count("\n") == 1
    assert main([*command, "--anyway"]) == 0
    printed = capsys.readouterr().out
    assert "* [" in printed and f"* 2 and 1 are not comparable: {named}" in printed and "McNemar" not in printed


def test_a_panorama_rule_is_a_difference() -> None:
    from tests.evaluation.test_protocols import card

    one = card()
    other = replace(one, protocol=replace(one.protocol, one_hit_per_panorama=True))
    assert compare.differences(one, other) == ["panorama rule: every image counts and one hit per panorama"]
    assert compare.differences(one, replace(one, method="other", grouping="by_key", reranked=5)) == []


def test_answers_that_belong_to_others_are_refused(cards: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(cards / "together", tmp_path / "copy")
    (file,) = tmp_path.glob("copy/*/answers.jsonl")
    file.write_text(file.read_text().replace('"query":"0000.png"', '"query":"other.png"'))
    with pytest.raises(InputError, match="not to the same queries"):
        compare.paired_tests(compare.read_runs([cards / "alone", tmp_path / "copy"]))


def test_one_card_or_none_is_one_line(cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for paths in ([cards / "alone"], [tmp_path], [tmp_path / "nowhere"]):
        assert main(["compare", *map(str, paths)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_skipped_queries_are_in_no_test(tmp_path: Path) -> None:
    of = colours(6)
    whole = dataset(tmp_path, of, of)
    without = replace(whole, positives=(np.empty(0, np.int64), *whole.positives[1:]))
    result = evaluate(MeanColour(), without, recall_ns=(1,), protocol=protocol("honest", unanswered="skip"))
    folder = record(result, without, tmp_path / "out")
    (run,) = compare.read_runs([folder])
    assert run.card.recall_at == {1: 1.0}
    assert compare._right(run.card, compare.read_answers_of(run.card, folder), 1).shape == (5,)


# --- published


def test_published_figures_are_well_formed_and_each_has_a_source() -> None:
    from cricavpr.datasets.benchmarks import SPLITS

    entries = read_published()
    assert len(entries) > 150
    assert {entry.split for entry in entries} <= set(SPLITS)
    for entry in entries:
        assert entry.source and entry.recalls
        values = [float(entry.recalls[n]) for n in NS if n in entry.recalls]
        assert values == sorted(values) and values[0] > 10  # R@1 <= R@5 <= R@10, per cent
        if entry.grouping not in ("", "none") and not entry.grouping.startswith(("shuffled:", "database")):
            Grouping.parse(entry.grouping)


def test_figures_of_the_paper_by_eye() -> None:
    paper = {
        (e.split, e.grouping, e.dim): e.recalls
        for e in read_published()
        if e.method == "cricavpr" and "suppl" in e.source
    }
    assert paper["pitts30k-test", "alone", "10752"] == {1: "91.6", 5: "95.7", 10: "96.9"}
    assert paper["tokyo247", "in_order:16", "10752"] == {1: "93.0", 5: "97.1", 10: "97.8"}
    assert paper["svox-night", "in_order:16", "4096"] == {1: "85.1", 5: "95.0", 10: "96.7"}
    assert paper["pitts250k-test", "in_order:8", "4096"] == {1: "97.5", 5: "99.4", 10: "99.7"}


def test_published_figures_stand_beside_ones_own_and_are_marked(
    split: EvalDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = replace(split, name="pitts30k-test")
    folder = record(evaluate(GroupColour(), named, Grouping.parse("in_order:8")), named, tmp_path)
    assert main(["compare", str(folder), "--with-published"]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| p ")]
    assert rows and all("?" in line for line in rows)
    assert any("| cricavpr (CVPR 2024 paper of CricaVPR, table 2)" in line and "94.9?" in line for line in rows)
    (run,) = compare.read_runs([folder])
    marks = {entry.grouping: entry.marks for entry in beside(run.card, read_published())}
    assert "grouping" not in marks["in_order:8"] and "grouping" in marks["alone"]
    assert all("list of images not known" in entry for entry in marks.values())


def test_a_split_of_which_nothing_is_on_record_says_so(cards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(cards / "alone"), "--with-published"]) == 0
    assert "no figure is on record for a split called colours" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["method,R@1\na,1\n", None, "\udc80"])
def test_another_table_is_refused_in_one_line(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"table\.csv"):
        read_published(path)
