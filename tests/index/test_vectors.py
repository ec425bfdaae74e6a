"""The vectors of an index, asked for as those of an array."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cricavpr.index.vectors import Vectors
from tests.index.places import added, built, photos


@pytest.mark.parametrize("asked", [[3, 0, 3], [-1, -8], [], [True, False] * 4, slice(1, 7, 2), slice(5, None)])
def test_rows_are_named_as_those_of_an_array(tmp_path: Path, asked: list[int] | slice) -> None:
    vectors = added(built(tmp_path, range(5)), [5, 6, 7]).index.vectors
    rows = asked if isinstance(asked, slice) else np.array(asked)
    rows = np.empty(0, np.int64) if isinstance(asked, list) and not asked else rows
    assert np.array_equal(vectors[rows], photos(range(8)).vectors[rows])


@pytest.mark.parametrize("asked", [[8], [-9], [True] * 7])
def test_rows_that_are_not_there_are_an_error(tmp_path: Path, asked: list[int]) -> None:
    with pytest.raises(IndexError):
        built(tmp_path, range(8)).vectors[np.array(asked)]


def test_a_few_rows_cost_no_memory_for_the_others(tmp_path: Path) -> None:
    vectors = built(tmp_path, range(8)).vectors
    grown = Vectors(vectors.segments, 4)
    grown.starts, grown.shape = np.array([0, 1_000_000]), (1_000_000, 4)
    tracemalloc.start()
    assert np.array_equal(grown[np.array([3])], photos([3]).vectors)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 100_000
