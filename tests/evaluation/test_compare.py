"""compare: intervals and paired tests by eye, unequal cards refused by name, published figures with their marks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from cricavpr.cli import main
from cricavpr.datasets.base import EvalDataset
from cricavpr.errors import InputError
from cricavpr.evaluation import compare
from cricavpr.evaluation.answers import counted, read_answers
from cricavpr.evaluation.compare import NS, beside, read_published
from cricavpr.evaluation.evaluate import evaluate
from cricavpr.evaluation.intervals import compare_paired, recall_intervals, wilson
from cricavpr.evaluation.protocols import protocol
from cricavpr.grouping import Grouping
from tests.evaluation.test_evaluate import dataset
from tests.mean_colour import GroupColour, MeanColour, colours

# --- intervals and tests


@pytest.mark.parametrize(
    ("right", "of", "low", "high"), [(29, 29, 0.8830, 1.0), (81, 263, 0.2553, 0.3662), (0, 9, 0.0, 0.2991)]
)
def test_an_interval_is_that_of_wilson(right: int, of: int, low: float, high: float) -> None:
    """81 of 263 is the example of Newcombe, "Two-sided confidence intervals for the single proportion" (1998)."""
    assert wilson(right, of) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("of", "share"), [(29, 0.95), (200, 0.5), (1000, 0.99), (29, 0.9), (500, 0.97)])
def test_an_interval_covers_what_it_says(of: int, share: float) -> None:
    """Summed over every possible count, which is what endless simulation would give."""
    counts = np.arange(of + 1)
    ends = np.array([wilson(int(right), of) for right in counts])
    inside = (ends[:, 0] <= share) & (share <= ends[:, 1])
    assert binom.pmf(counts, of, share)[inside].sum() >= 0.94


def test_an_interval_holds_its_recall_and_has_a_width_everywhere() -> None:
    for of in (1, 2, 29, 1000, 8280):
        for right in {0, 1, of // 2, of - 1, of}:
            low, high = wilson(right, of)
            assert 0.0 <= low <= right / of <= high <= 1.0 and low < high


def test_an_interval_over_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 query"):
        recall_intervals({1: 0.0}, 0)


def test_an_interval_of_a_difference_is_that_of_newcombe() -> None:
    """The first row of his table II: 36 both, 12 and 2 only one, none neither."""
    first, second = [True] * 48 + [False] * 2, [True] * 36 + [False] * 12 + [True] * 2
    paired = compare_paired(first, second)
    assert paired.difference == pytest.approx(-0.2)
    assert paired.interval == pytest.approx((-0.3404, -0.0569), abs=1e-4)


@pytest.mark.parametrize(
    ("of", "shares"),  # right in both, only in the second, only in the first, in none
    [(29, (0.9, 0.05, 0.03, 0.02)), (200, (0.8, 0.1, 0.05, 0.05)), (1000, (0.97, 0.01, 0.01, 0.01))],
)
def test_an_interval_of_a_difference_covers_what_it_says(of: int, shares: tuple[float, ...]) -> None:
    outcomes = np.array([[True, True], [False, True], [True, False], [False, False]])
    covered = 0
    for counts in np.random.default_rng(0).multinomial(of, shares, 2000):
        low, high = compare_paired(*np.repeat(outcomes, counts, axis=0).T).interval
        covered += low - 1e-12 <= shares[1] - shares[2] <= high + 1e-12
    assert covered / 2000 >= 0.94


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (1, 4, 2 * 6 / 32), (3, 3, 1.0), (0, 10, 2 / 1024)],
)
def test_mcnemar_by_eye(only_first: int, only_second: int, p: float) -> None:
    first = [True] * only_first + [False] * only_second + [True, True, False]
    second = [False] * only_first + [True] * only_second + [True, True, False]
    paired = compare_paired(first, second)
    assert (paired.only_first, paired.only_second, paired.p_value) == (only_first, only_second, pytest.approx(p))


def test_answers_to_other_numbers_of_queries_cannot_be_paired() -> None:
    with pytest.raises(InputError, match="the same queries"):
        compare_paired([True], [True, False])


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
        evaluate(GroupColour(), split, Grouping.parse(grouping)).save(out / name)
    return out


def test_cards_of_one_split_stand_side_by_side(cards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(cards / "alone"), str(cards / "together")]) == 0
    head, _, first, second, _, pairs, _, *tests = capsys.readouterr().out.splitlines()
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    assert columns == ["", "method", "grouping", "dim", "image size", "R@1", "R@5", "R@10"]
    runs = compare.read_recorded([cards / "alone", cards / "together"])
    for line, run in zip((first, second), runs, strict=True):
        low, high = run.card.intervals[1]
        assert f"| {100 * run.card.recall_at[1]:.1f} [{100 * low:.1f}, {100 * high:.1f}] " in line
        assert f"| {run.card.grouping} " in line
    assert "McNemar" in pairs
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tests if line.startswith("|")]
    assert [row[:2] for row in rows] == [["2 against 1", n] for n in ("1", "5", "10")]
    gained, lost = int(rows[0][2]), int(rows[0][3])
    assert (gained - lost) / 40 == pytest.approx(runs[1].card.recall_at[1] - runs[0].card.recall_at[1])
    assert lost > 0 and float(rows[0][4].split()[0]) == pytest.approx(100 * (gained - lost) / 40, abs=0.05)
    assert "of a recall by Wilson's method, of a difference by Newcombe's for pairs" in tests[-1]


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
        assert "but the card in this folder says 99.9" in said and said.count("\n") == 1


def test_a_card_of_half_a_database_is_not_compared_with_one_of_the_whole(cards: Path) -> None:
    """The split hash is over names, and does not change where a file is missing."""
    whole = compare.read_recorded([cards / "alone"])[0].card
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
    folder = evaluate(GroupColour(), other, **settings).save(tmp_path)  # type: ignore[arg-type]
    command = ["compare", str(cards / "alone"), str(folder)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert named in said and said.count("\n") == 1
    assert main([*command, "--anyway"]) == 0
    printed = capsys.readouterr().out
    assert "* [" in printed and f"* Rows 2 and 1 are not comparable: {named}" in printed and "McNemar" not in printed


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
    with pytest.raises(InputError, match="are for different queries"):
        compare.compare([cards / "alone", tmp_path / "copy"])


def test_one_card_or_none_is_one_line(cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for paths in ([cards / "alone"], [tmp_path], [tmp_path / "nowhere"]):
        assert main(["compare", *map(str, paths)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_skipped_queries_are_in_no_test(tmp_path: Path) -> None:
    of = colours(6)
    whole = dataset(tmp_path, of, of)
    without = replace(whole, positives=(np.empty(0, np.int64), *whole.positives[1:]))
    result = evaluate(MeanColour(), without, recall_ns=(1,), protocol=protocol("honest", unanswered="skip"))
    assert result.recall_at == {1: 1.0} and result.card.counted == 5
    assert len(counted(result.card, read_answers(result.save(tmp_path / "out"), result.card))) == 5


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
    folder = evaluate(GroupColour(), named, "in_order:8").save(tmp_path)
    assert main(["compare", str(folder), "--with-published"]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| p ")]
    assert rows and all("?" in line for line in rows)
    assert any("| cricavpr (CVPR 2024 paper of CricaVPR, table 2)" in line and "94.9?" in line for line in rows)
    (run,) = compare.read_recorded([folder])
    marks = {entry.grouping: entry.marks for entry in beside(run.card, read_published())}
    assert "grouping" not in marks["in_order:8"] and "grouping" in marks["alone"]
    assert all("list of images not known" in entry for entry in marks.values())


def test_a_split_of_which_nothing_is_on_record_says_so(cards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(cards / "alone"), "--with-published"]) == 0
    assert "no published recalls are known for the split colours" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["method,R@1\na,1\n", None, "\udc80"])
def test_another_table_is_refused_in_one_line(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"table\.csv"):
        read_published(path)
