"""recall@N against figures that others computed."""

import json
from pathlib import Path

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.evaluation.recall import first_hit_ranks, recall_at
from cricavpr.geo import Positions, within_radius
from cricavpr.index.search import top_k

GOLDEN = Path(__file__).parent.parent / "golden"
CORRIDOR = json.loads((GOLDEN / "corridor.json").read_text())["recall_at_1_5_10"]


def arrays(*indices: list[int]) -> list[np.ndarray]:
    return [np.array(one, np.int64) for one in indices]


def test_recall_by_eye() -> None:
    predictions = np.array([[4, 2, 0], [1, 3, 5], [2, 4, 1], [0, 1, 2]])
    positives = arrays([2, 7], [1], [], [9])
    assert first_hit_ranks(predictions, positives).tolist() == [2, 1, 0, 0]
    assert recall_at(predictions, positives, (1, 2, 3)) == {1: 0.25, 2: 0.5, 3: 0.5}


def test_queries_without_positives_count_as_misses_unless_left_out() -> None:
    predictions, positives = np.array([[0], [0]]), arrays([0], [])
    assert recall_at(predictions, positives, (1,)) == {1: 0.5}
    assert recall_at(predictions, positives, (1,), skip_without_positives=True) == {1: 1.0}


def test_minus_one_is_never_a_positive() -> None:
    assert recall_at(np.array([[-1, -1]]), arrays([-1, 3]), (1, 2)) == {1: 0.0, 2: 0.0}


@pytest.mark.parametrize("k", [0, 3, -1])
def test_an_n_that_there_are_no_predictions_for_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"got {k}"):
        recall_at(np.array([[0, 1]]), arrays([0]), (k,))


def test_no_queries_are_refused() -> None:
    with pytest.raises(InputError, match="at least one query"):
        recall_at(np.zeros((0, 2), np.int64), [], (1,))
    with pytest.raises(InputError, match="at least one query"):
        recall_at(np.array([[0]]), arrays([]), (1,), skip_without_positives=True)
    with pytest.raises(InputError, match="must have shape"):
        recall_at(np.array([[0]]), [], (1,))


@pytest.mark.parametrize("method", CORRIDOR)
def test_corridor_gives_the_published_recall(method: str) -> None:
    with np.load(GOLDEN / "corridor.npz") as data:
        positives = np.split(data["positives_flat"], data["positives_offsets"][1:-1])
        predictions, _ = top_k(data[method], 10)
    assert list(recall_at(predictions, positives, (1, 5, 10)).values()) == CORRIDOR[method]


@pytest.fixture(scope="module")
def crica() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "recall_crica.npz") as data:
        return dict(data)


def test_positives_are_those_of_the_authors_and_exactly_25_m_counts(crica: dict[str, np.ndarray]) -> None:
    found = within_radius(Positions(crica["database_utm"]), Positions(crica["query_utm"]), 25.0)
    matrix = np.zeros(crica["positives"].shape, bool)
    for query, indices in enumerate(found):
        matrix[query, indices] = True
    assert np.array_equal(matrix, crica["positives"])
    boundary = crica["boundary_query_rows"]
    assert matrix[boundary].any(axis=1)[:2].all() and crica["boundary_is_positive"][:2].all()
    distances = np.hypot(*(crica["query_utm"][boundary[2]] - crica["database_utm"]).T)
    assert not matrix[boundary[2], np.argmin(np.abs(distances - 25.01))]  # 25.01 m away


def test_ranking_and_recall_are_those_of_the_authors(crica: dict[str, np.ndarray]) -> None:
    database, queries = (crica[f"{side}_descriptors"].astype(np.float64) for side in ("database", "query"))
    squared = ((queries[:, None] - database[None]) ** 2).sum(axis=2)
    predictions, scores = top_k(-squared, 100)
    assert np.array_equal(predictions[:, :20], crica["predictions_top20"])
    np.testing.assert_allclose(-scores[:, :20], crica["distances_top20"], rtol=1e-4, atol=1e-5)
    positives = [np.flatnonzero(row) for row in crica["positives"]]
    recalls = recall_at(predictions, positives, crica["recall_values"].tolist())
    assert [100 * recall for recall in recalls.values()] == pytest.approx(crica["recalls"].tolist(), rel=1e-12)
    assert ", ".join(f"R@{k}: {100 * recall:.1f}" for k, recall in recalls.items()) == str(crica["recall_string"])
