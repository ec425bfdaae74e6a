"""Search beyond the first N: ranks over the whole database, panoramas, Euclidean distance, memory given back."""

from pathlib import Path

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.files import give_back
from cricavpr.index.search import search, search_and_rank

RNG = np.random.default_rng(0)
DATABASE = RNG.standard_normal((90, 6)).astype(np.float32)
QUERIES = RNG.standard_normal((7, 6)).astype(np.float32)
RIGHT = [np.sort(RNG.choice(90, count, replace=False)) for count in (1, 3, 0, 2, 5, 1, 1)]


def by_sorting(scores: np.ndarray, right: list[np.ndarray]) -> list[int]:
    order = np.argsort(-scores, axis=1, kind="stable")
    return [
        min((int(np.flatnonzero(row == one)[0]) + 1 for one in own), default=0)
        for row, own in zip(order, right, strict=True)
    ]


@pytest.mark.parametrize("block", [1, 13, 90, None])
@pytest.mark.parametrize("k", [1, 10, 90])
def test_ranks_are_those_of_sorting_everything(block: int | None, k: int) -> None:
    found, ranks = search_and_rank(DATABASE, QUERIES, k, RIGHT, block)
    assert ranks.tolist() == by_sorting(QUERIES @ DATABASE.T, RIGHT)
    assert np.array_equal(found.indices, search(DATABASE, QUERIES, k, block).indices)


def test_of_equal_scores_the_lower_index_comes_first_beyond_the_first_n_too() -> None:
    same = np.tile(DATABASE[:1], (9, 1))
    _, ranks = search_and_rank(same, QUERIES, 2, [np.array([6, 8])] * 7, 3)
    assert ranks.tolist() == [7] * 7


@pytest.mark.parametrize("block", [5, 90])
def test_euclidean_ranking_is_that_of_the_differences(block: int) -> None:
    squared = ((QUERIES[:, None] - DATABASE[None]) ** 2).sum(axis=2)
    found, ranks = search_and_rank(DATABASE, QUERIES, 8, RIGHT, block, distance="l2")
    assert np.array_equal(found.indices, np.argsort(squared, axis=1, kind="stable")[:, :8])
    np.testing.assert_allclose(-found.scores, np.sort(squared, axis=1)[:, :8], rtol=1e-4, atol=1e-5)
    assert ranks.tolist() == by_sorting(-squared, RIGHT)
    assert not np.array_equal(found.indices, search(DATABASE, QUERIES, 8).indices)


@pytest.mark.parametrize("block", [1, 7, 12, 90])
def test_only_the_best_image_of_a_panorama_is_a_prediction(block: int) -> None:
    panoramas = np.arange(90) // 6  # 15 of 6 images
    scores = QUERIES @ DATABASE.T
    best = scores.reshape(7, 15, 6).max(axis=2)
    order = np.argsort(-best, axis=1, kind="stable")
    right = [np.arange(6 * place, 6 * place + 6) for place in (3, 0, 14, 7, 7, 1, 2)]
    found, ranks = search_and_rank(DATABASE, QUERIES, 4, right, block, panoramas=panoramas)
    assert np.array_equal(found.indices // 6, order[:, :4])
    assert np.array_equal(found.scores, np.sort(best, axis=1)[:, ::-1][:, :4])
    assert ranks.tolist() == [order[row].tolist().index(place) + 1 for row, place in enumerate((3, 0, 14, 7, 7, 1, 2))]
    assert search(DATABASE, QUERIES, 90, block, panoramas=panoramas).indices.shape == (7, 15)


@pytest.mark.parametrize("block", [3, 9])
def test_a_better_image_of_the_same_panorama_does_not_stand_before_the_right_one(block: int) -> None:
    database = np.array([[9], [8], [7], [6], [5], [4], [3], [2], [1]], np.float32)
    _, ranks = search_and_rank(
        database, np.ones((1, 1), np.float32), 1, [np.array([8])], block, panoramas=np.arange(9) // 3
    )
    assert ranks.tolist() == [3]  # two panoramas are better


def test_panoramas_that_lie_scattered_are_refused() -> None:
    with pytest.raises(InputError, match="3 sorted numbers"):
        search(DATABASE[:3], QUERIES, 1, panoramas=np.array([0, 1, 0]))
    with pytest.raises(InputError, match="3 sorted numbers"):
        search(DATABASE[:3], QUERIES, 1, panoramas=np.array([0, 1]))


def test_lists_of_right_vectors_must_fit() -> None:
    with pytest.raises(InputError, match="expected 7 arrays"):
        search_and_rank(DATABASE, QUERIES, 1, RIGHT[:3])


def test_a_mapped_file_is_given_back_and_reads_the_same_again(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    np.tile(DATABASE, (5000, 1)).tofile(file)  # 10.8 MB
    mapped = np.memmap(file, np.float32, "r", shape=(450_000, 6))
    assert mapped.sum() == pytest.approx(5000 * float(DATABASE.sum()), rel=1e-2)
    held = _resident_kb(file)
    give_back(mapped[10:20])  # a part stands for its file
    if held is not None:
        assert held > 10_000 and _resident_kb(file) == 0
    assert np.array_equal(mapped[-90:], DATABASE)


def _resident_kb(file: Path) -> int | None:
    """How much of a mapped file is in this process's memory, where the system tells (Linux)."""
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
    except OSError:
        return None
    start = next(number for number, line in enumerate(lines) if line.endswith(str(file)))
    return next(int(line.split()[1]) for line in lines[start:] if line.startswith("Rss:"))
