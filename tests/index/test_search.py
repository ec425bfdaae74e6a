"""Exact search. The slow twin is one stable sort of every whole row."""

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.index import search as module
from cricavpr.index.search import Predictions, search, top_k


def slow_top_k(scores: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]


def test_the_best_come_first_and_ties_go_to_the_lower_index() -> None:
    indices, scores = top_k(np.array([[1.0, 3.0, 2.0, 3.0, 3.0]]), 2)
    assert indices.tolist() == [[1, 3]]
    assert scores.tolist() == [[3.0, 3.0]]
    assert indices.dtype == np.int64


@pytest.mark.parametrize("seed", range(30))
def test_top_k_equals_a_stable_sort_when_many_scores_are_equal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    scores = rng.integers(-3, 3, (7, count)).astype(rng.choice([np.float32, np.float64, np.int64]))
    k = int(rng.integers(1, 45))
    indices, values = top_k(scores, k)
    assert np.array_equal(indices, slow_top_k(scores, k))
    assert np.array_equal(values, np.take_along_axis(scores, indices, axis=1))


def test_unsigned_scores_are_not_turned_round() -> None:
    assert top_k(np.array([[3, 0, 7]], np.uint8), 3)[0].tolist() == [[2, 0, 1]]


def test_more_than_there_are_gives_all_there_are() -> None:
    assert top_k(np.zeros((2, 3)), 10)[0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert top_k(np.zeros((2, 0)), 10)[0].shape == (2, 0)
    assert top_k(np.zeros((0, 5)), 2)[0].shape == (0, 2)


def test_minus_infinity_comes_last_and_nan_is_refused() -> None:
    assert top_k(np.array([[-np.inf, -1.0, -np.inf]]), 2)[0].tolist() == [[1, 0]]
    with pytest.raises(InputError, match="is NaN"):
        top_k(np.array([[0.0, np.nan]]), 1)


@pytest.mark.parametrize("k", [0, -1])
def test_the_best_none_is_refused(k: int) -> None:
    with pytest.raises(InputError):
        top_k(np.zeros((1, 3)), k)
    with pytest.raises(InputError):
        search(np.zeros((3, 2), np.float32), np.zeros((1, 2), np.float32), k)


@pytest.mark.parametrize("block", [1, 2, 3, 7, 50, 1000, None])
@pytest.mark.parametrize("k", [1, 5, 60, 100])
def test_search_in_blocks_equals_one_stable_sort(block: int | None, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERIES_AT_ONCE", 4)  # 11 queries: three rounds
    rng = np.random.default_rng(3)
    database = rng.integers(-2, 3, (61, 4)).astype(np.float32)  # whole numbers: the products are exact
    queries = rng.integers(-2, 3, (11, 4)).astype(np.float32)
    found = search(database, queries, k, block)
    assert np.array_equal(found.indices, slow_top_k(queries @ database.T, k))
    assert np.array_equal(found.scores, np.take_along_axis(queries @ database.T, found.indices, axis=1))


def test_a_memory_mapped_database_gives_the_same(tmp_path: object) -> None:
    rng = np.random.default_rng(0)
    database = rng.normal(size=(500, 8)).astype(np.float32)
    mapped = np.memmap(f"{tmp_path}/vectors", "<f4", "w+", shape=database.shape)
    mapped[:] = database
    queries = rng.normal(size=(9, 8)).astype(np.float32)
    assert np.array_equal(search(mapped, queries, 6, 64).indices, search(database, queries, 6, 64).indices)


def test_an_empty_database_gives_no_columns() -> None:
    assert search(np.zeros((0, 4), np.float32), np.zeros((3, 4), np.float32), 5).indices.shape == (3, 0)


def test_dimensions_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="must have the same D"):
        search(np.zeros((3, 4), np.float32), np.zeros((3, 5), np.float32), 1)


def test_predictions_of_two_shapes_are_refused() -> None:
    with pytest.raises(InputError):
        Predictions(np.zeros((2, 3), np.int64), np.zeros((2, 4)))


def test_how_many_are_asked_for_and_how_many_are_read_at_once_are_told_apart() -> None:
    database = np.eye(4, dtype=np.float32)
    with pytest.raises(InputError, match="at least 1, got 0"):
        search(database, database, 0)
    with pytest.raises(InputError, match="block must be at least 1 row, got 0"):
        search(database, database, 1, block=0)
