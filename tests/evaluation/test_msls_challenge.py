"""The file for the challenge of MSLS, and its scores where the answers are known."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets.base import EvalDataset, ImageSet
from cricavpr.datasets.benchmarks import open_split
from cricavpr.errors import InputError
from cricavpr.evaluation.msls_challenge import predict, read_submission, score_submission, write_submission
from cricavpr.index.search import Predictions
from cricavpr.town import Town
from tests.mean_colour import MeanColour
from tests.miniatures import msls


def challenge(
    city: str = "athens", queries: int = 3, answers: tuple[list[int], ...] = ([0], [3, 4], [])
) -> EvalDataset:
    """30 database images d0 to d29 of a city, and queries q0 on."""
    root = Path("msls")
    database = ImageSet(root, tuple(f"test/{city}/database/images/{city}-d{k}.jpg" for k in range(30)))
    asked = ImageSet(root, tuple(f"test/{city}/query/images/{city}-q{k}.jpg" for k in range(queries)))
    positives = tuple(np.array(found, np.int64) for found in answers)
    return EvalDataset(f"msls-challenge-{city}", database, asked, positives, "within 25 m")


def found(*rows: list[int], n: int = 25) -> Predictions:
    """The named images first, then the others in order."""
    indices = np.array([[*row, *(k for k in range(30) if k not in row)][:n] for row in rows], np.int64)
    return Predictions(indices, np.zeros(indices.shape))


ORDER: tuple[list[int], ...] = ([2, 0], [4], [])


def test_a_line_has_the_query_and_its_predictions_best_first_without_paths(tmp_path: Path) -> None:
    write_submission(tmp_path / "a.csv", [(challenge(), found(*ORDER))])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "# msls-challenge-athens: each city searched separately"
    assert lines[1].startswith("athens-q0 athens-d2 athens-d0 athens-d1 athens-d3 ")
    assert len(lines) == 4 and {len(line.split(" ")) for line in lines[1:]} == {26}


@pytest.mark.filterwarnings("ignore:Input line 1 contained no data")
def test_numpy_reads_the_file_as_the_server_does(tmp_path: Path) -> None:
    write_submission(tmp_path / "a.csv", [(challenge(), found(*ORDER))], count=20)
    table = np.loadtxt(tmp_path / "a.csv", dtype=str)
    assert table.shape == (3, 21) and table[1, :2].tolist() == ["athens-q1", "athens-d4"]


def test_a_zip_holds_one_csv_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        (tmp_path / name[0]).mkdir()
        write_submission(tmp_path / name[0] / "mine.zip", [(challenge(), found(*ORDER))])
    write_submission(tmp_path / "mine.csv", [(challenge(), found(*ORDER))])
    packed = (tmp_path / "a/mine.zip").read_bytes()
    assert packed == (tmp_path / "b/mine.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["mine.csv"]
        assert archive.read("mine.csv") == (tmp_path / "mine.csv").read_bytes()
    assert read_submission(tmp_path / "a/mine.zip") == read_submission(tmp_path / "mine.csv")


def test_the_file_says_whether_cities_were_pooled(tmp_path: Path) -> None:
    athens, miami = challenge("athens"), challenge("miami")
    write_submission(tmp_path / "a.csv", [(athens, found(*ORDER)), (miami, found(*ORDER))])
    first = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert first == "# msls-challenge-athens, msls-challenge-miami: each city searched separately"
    names = (*athens.database.names[:15], *miami.database.names[:15])
    pooled = EvalDataset("msls-challenge", ImageSet(Path("msls"), names), athens.queries, athens.positives, "")
    write_submission(tmp_path / "b.csv", [(pooled, found(*ORDER))])
    assert (tmp_path / "b.csv").read_text().startswith("# msls-challenge: 2 cities searched together in one database\n")


def scores(tmp_path: Path, *rows: list[int]) -> tuple[dict[int, float], dict[int, float], int, int]:
    write_submission(tmp_path / "a.csv", [(challenge(), found(*rows))])
    result = score_submission(read_submission(tmp_path / "a.csv"), [challenge()])
    return result.recall_at, result.map_at, result.queries, result.skipped


def test_scores_leave_out_the_query_without_an_answer(tmp_path: Path) -> None:
    """q0 (answer 0) is right in second place; q1 (answers 3, 4) in first and, after 0, 1 and 2, in fifth."""
    recall, mean_precision, queries, skipped = scores(tmp_path, [2, 0], [4], [])
    assert (queries, skipped) == (2, 1)
    assert recall == {1: 0.5, 5: 1.0, 10: 1.0, 20: 1.0}
    # q0: 1/2 of one. q1: at 1 the one place is right; at 5 the precisions 1/1 and 2/5 over two answers.
    assert mean_precision[1] == (0 + 1) / 2
    assert mean_precision[5] == pytest.approx((1 / 2 + (1 + 2 / 5) / 2) / 2)
    assert mean_precision[20] == mean_precision[5]


def test_a_perfect_file_scores_one_everywhere(tmp_path: Path) -> None:
    recall, mean_precision, _, _ = scores(tmp_path, [0], [3, 4], [])
    assert set(recall.values()) == {1.0} and set(mean_precision.values()) == {1.0}


def test_the_order_of_lines_and_queries_that_nobody_asked_do_not_matter(tmp_path: Path) -> None:
    write_submission(tmp_path / "a.csv", [(challenge(), found(*ORDER))])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    extra = "somewhere-else " + lines[1].partition(" ")[2]
    (tmp_path / "b.csv").write_text("\n".join([extra, *lines[:0:-1]]))
    results = [score_submission(read_submission(tmp_path / name), [challenge()]) for name in ("a.csv", "b.csv")]
    assert results[0].recall_at == results[1].recall_at and results[0].map_at == results[1].map_at


def test_a_file_of_single_cities_is_scored_against_them_together(tmp_path: Path) -> None:
    athens, miami = challenge("athens"), challenge("miami")
    write_submission(tmp_path / "a.csv", [(athens, found([0], [3], [])), (miami, found([1], [1], []))])
    result = score_submission(read_submission(tmp_path / "a.csv"), [athens, miami])
    assert result.queries == 4 and result.recall_at[1] == 0.5


@pytest.mark.parametrize(
    ("predictions", "count", "name", "says"),
    [
        (found(*ORDER), 19, "a.csv", "at least 20 predictions per query, got 19"),
        (found(*ORDER, n=22), 25, "a.csv", "athens-q0 .* needs 25 predictions, got 22"),
        (Predictions(np.full((3, 25), -1), np.zeros((3, 25))), 25, "a.csv", "athens-q0 .* needs 25 predictions, got 0"),
        (Predictions(np.zeros((3, 25), np.int64), np.zeros((3, 25))), 25, "a.csv", "must differ, but two are the same"),
        (found(*ORDER[:2]), 25, "a.csv", "expected predictions for the 3 queries of .*, got predictions for 2 queries"),
        (found(*ORDER), 25, "a.txt", r"must end in \.csv or \.zip"),
    ],
)
def test_a_file_that_the_server_would_refuse_is_not_written(
    tmp_path: Path, predictions: Predictions, count: int, name: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        write_submission(tmp_path / name, [(challenge(), predictions)], count)
    assert not (tmp_path / name).exists()


def test_the_same_city_twice_is_not_written(tmp_path: Path) -> None:
    part = challenge(), found(*ORDER)
    with pytest.raises(InputError, match="athens-q0 must occur once"):
        write_submission(tmp_path / "a.csv", [part, part])


def test_from_the_download_to_the_file_and_its_score(tmp_path: Path) -> None:
    """The six test cities in miniature, 24 queries against 24 images pooled; six queries have no answer."""
    town = Town(3, 4)
    msls.write_test(tmp_path / "msls", town)
    blind = open_split("msls-challenge", tmp_path / "msls")
    (result,) = predict(MeanColour(), [blind], count=20, workers=0)
    write_submission(tmp_path / "mine.zip", [(blind, result.predictions)], count=20)
    submission = read_submission(tmp_path / "mine.zip")
    assert len(submission) == 24 and {len(row) for row in submission.values()} == {20}
    msls.write_test(tmp_path / "msls", town, answers=msls.TEST_CITIES)
    scores = score_submission(submission, [open_split("msls-challenge", tmp_path / "msls")])
    assert (scores.queries, scores.skipped) == (18, 6)
    # Every city shows the same town here: what places 0 and 1 look like is found, but first in the first city.
    assert scores.recall_at[1] <= 3 / 18 and scores.recall_at[20] >= 12 / 18


PAD = " ".join(f"athens-d{k}" for k in range(2, 22))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "got none with predictions"),
        ("# only a comment\n", "got none with predictions"),
        ("q0 a b\nq0 a b\n", "line 2 of .* repeats query q0"),
        ("q0 a a\n", "line 1 of .* must differ, but two are the same"),
        ("q0 a b\nq1 a\n", "line 2 of .* must have 2 predictions, as many as the first line, got 1"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        read_submission(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([f"athens-q{k} {PAD}" for k in (0, 2)], "query athens-q1 .* is missing from the submission"),
        ([f"athens-q{k} other {PAD}" for k in range(3)], "must be the key of a database image, got 'other'"),
        ([f"athens-q{k} athens-d0" for k in range(3)], "recall@20 needs at least 20 predictions per query, got 1"),
    ],
)
def test_a_file_that_does_not_fit_the_challenge_is_one_clear_line(tmp_path: Path, lines: list[str], says: str) -> None:
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=says):
        score_submission(read_submission(tmp_path / "a.csv"), [challenge()])


def test_without_answers_there_is_nothing_to_score(tmp_path: Path) -> None:
    write_submission(tmp_path / "a.csv", [(challenge(), found(*ORDER))])
    unanswered = challenge(answers=([], [], []))
    with pytest.raises(InputError, match="scoring needs the ground truth of msls-challenge-athens"):
        score_submission(read_submission(tmp_path / "a.csv"), [unanswered])


def test_files_that_are_no_submission_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone\.csv"):
        read_submission(tmp_path / "gone.csv")
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"cannot read .*a\.zip"):
        read_submission(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.csv", "q a")
        archive.writestr("b.csv", "q a")
    with pytest.raises(InputError, match=r"must hold exactly one \.csv file, got 2"):
        read_submission(tmp_path / "b.zip")
