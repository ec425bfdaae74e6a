"""evaluate with re-ranking, where a search by colour goes wrong and brightness puts it right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cricavpr.cli import main
from cricavpr.datasets.base import EvalDataset
from cricavpr.errors import InputError
from cricavpr.evaluation.evaluate import evaluate, format_table
from tests.mean_colour import MeanColour, photos
from tests.reranking.test_rerank import ByBrightness


def dataset(folder: Path) -> EvalDataset:
    """Photos 1 to 4 are shades of one red, which a direction of colour cannot tell apart; photo 0 is blue."""
    of = np.array([[0, 0, 200], [60, 6, 6], [120, 12, 12], [180, 18, 18], [240, 24, 24]], np.uint8)
    east = np.array([[500_000.0 + 100 * index, 6_000_000.0] for index in range(len(of))])
    base = photos(folder / "database", of, east)
    asked = photos(folder / "queries", of[[4, 3, 0]], east[[4, 3, 0]])
    return EvalDataset.within_radius("shades", base, asked)


def test_reranking_finds_what_the_search_could_not_tell_apart(tmp_path: Path) -> None:
    split = dataset(tmp_path)
    before = evaluate(MeanColour(), split, recall_ns=(1, 4))
    after = evaluate(ByBrightness(), split, recall_ns=(1, 4), rerank=4)
    assert before.recall_at[1] < after.recall_at[1] == 1.0
    assert before.recall_at[4] == after.recall_at[4] == 1.0
    assert after.predictions.indices[:, 0].tolist() == [4, 3, 0]
    assert after.ranks.tolist() == [1, 1, 1] != before.ranks.tolist()


def test_what_was_reranked_is_in_the_result_and_in_the_table(tmp_path: Path) -> None:
    split = dataset(tmp_path)
    before, after = (evaluate(ByBrightness(), split, recall_ns=(1,), rerank=n) for n in (None, 3))
    assert before.to_dict()["reranked"] is None
    values = json.loads(json.dumps(after.to_dict()))
    assert (
        (values["reranked"], values["failed_rerank"]) == (3, [])
        and values["reranking"] == "mean brightness; by nearness"
        and values["timings"]["rerank_s"] > 0
    )
    head, _, first, second = format_table([before, after]).splitlines()
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    rows = [
        dict(zip(columns, (cell.strip() for cell in row.strip("|").split("|")), strict=True)) for row in (first, second)
    ]
    assert [row["re-ranked"] for row in rows] == ["", "3"]
    assert "re-ranked" not in format_table([before])


def test_more_candidates_than_the_cut_off_are_searched_for(tmp_path: Path) -> None:
    for candidates in (5, 10**30):
        result = evaluate(ByBrightness(), dataset(tmp_path), recall_ns=(1,), rerank=candidates)
        assert result.predictions.indices.shape == (3, 5) and result.recall_at == {1: 1.0}


def test_the_cache_keeps_local_features_too(tmp_path: Path) -> None:
    split = dataset(tmp_path)
    evaluate(ByBrightness(), split, rerank=4, cache=tmp_path / "cache")
    again = ByBrightness()
    evaluate(again, split, rerank=4, cache=tmp_path / "cache")
    assert again.described == [] and again.compared == 0


class Dim(ByBrightness):
    """Gives no local features of the bright."""

    def local_features(self, images: object) -> list[dict[str, NDArray[np.generic]]]:
        features = super().local_features(images)  # type: ignore[arg-type]
        return [{"level": np.where(one["level"] > 80, np.nan, one["level"])} for one in features]


def test_photos_without_local_features_are_recorded_and_counted(tmp_path: Path) -> None:
    result = evaluate(Dim(), dataset(tmp_path), recall_ns=(1,), rerank=5)
    names = [problem.name for problem in result.failed_rerank]
    assert names == ["0004.png", "0000.png"]  # of the database and of the queries
    assert format_table([result]).splitlines()[0].endswith("| failed |")


@pytest.mark.parametrize(
    ("method", "n", "message"), [(MeanColour(), 3, "no local features"), (ByBrightness(), 0, "at least 1, got 0")]
)
def test_what_cannot_be_reranked_is_refused_before_any_work(
    method: MeanColour, n: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(method, dataset(tmp_path), rerank=n)


def test_the_command_line_says_which_method_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = dataset(tmp_path)
    (tmp_path / "positions.csv").write_text("unused")
    assert split.database.root.is_dir()
    code = main(["evaluate", str(tmp_path), "--method", "pixels", "--rerank", "5", "--quiet"])
    assert code == 2
    assert "\n" not in capsys.readouterr().err.strip()
