"""Pairs of patches that choose each other, and how many of them one homography explains."""

import builtins
from typing import Any

import numpy as np
import pytest

from cricavpr.errors import MissingExtraError
from cricavpr.methods.matching import homography_inliers, mutual_matches


def test_those_match_who_choose_each_other() -> None:
    similarity = np.array([[0.9, 0.1, 0.3], [0.8, 0.2, 0.1], [0.0, 0.1, 0.7]])
    assert mutual_matches(similarity).tolist() == [[0, 0], [2, 2]]  # 1 prefers 0, who prefers 0


def test_of_equal_similarities_the_first_counts() -> None:
    assert mutual_matches(np.ones((3, 2))).tolist() == [[0, 0]]


def test_what_is_not_finite_matches_nothing() -> None:
    assert mutual_matches(np.array([[np.nan, 1.0], [0.5, 0.2]])).tolist() in ([], [[1, 0]])
    assert mutual_matches(np.full((2, 2), -np.inf)).tolist() == []


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_matches_nothing(shape: tuple[int, int]) -> None:
    assert mutual_matches(np.empty(shape)).shape == (0, 2)


def grid() -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(0, 160, 16), np.arange(0, 160, 16)), -1).reshape(-1, 2)


def test_a_shift_explains_all_points_but_those_that_went_elsewhere() -> None:
    there = grid() + np.array([32, -16])
    rng = np.random.default_rng(0)
    there[:30] = rng.integers(1000, 5000, (30, 2))
    assert homography_inliers(grid(), there, 3.0) == 70


def test_the_same_call_gives_the_same_count() -> None:
    rng = np.random.default_rng(1)
    here, there = rng.uniform(0, 640, (100, 2)), rng.uniform(0, 640, (100, 2))
    assert len({homography_inliers(here, there, 24.0) for _ in range(5)}) == 1


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_than_four_points_have_no_homography(count: int) -> None:
    assert homography_inliers(grid()[:count], grid()[:count], 3.0) == 0


def test_points_on_one_spot_or_one_line_raise_nothing() -> None:
    spot, line = np.zeros((9, 2)), np.stack([np.arange(9.0), np.zeros(9)], axis=1)
    for here in (spot, line):
        assert 0 <= homography_inliers(here, here, 3.0) <= 9


def test_points_without_partners_are_refused() -> None:
    with pytest.raises(ValueError, match="the same number of points, got 5 and 6"):
        homography_inliers(grid()[:5], grid()[:6], 3.0)


def test_without_opencv_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"cricavpr\[rerank\]"):
        homography_inliers(grid(), grid(), 3.0)
