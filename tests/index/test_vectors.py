"""The vectors of an index, asked for as those of an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.index.places import WIDE, added, built, photos


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


@pytest.mark.parametrize("first", [4000, 1000])
def test_what_a_search_and_a_check_have_read_is_given_back(
    tmp_path: Path, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cricavpr.index.writing.FOLD_BYTES", 0)  # segments stay apart
    index = built(tmp_path, range(first), WIDE)
    for start in range(first, 4000, 1000):
        index = added(index, range(start, start + 1000), WIDE).index
    assert index.search(photos([7], WIDE), 1, engine="exact").indices.tolist() == [[7]]
    if (held := _resident_kb(tmp_path)) is not None:
        assert held < 200  # of 1,000 of vectors
        index.verify()
        assert _resident_kb(tmp_path) < 200 + held


def _resident_kb(folder: Path) -> int | None:
    """How much of the mapped files of an index is in this process's memory, where the system tells (Linux)."""
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
    except OSError:
        return None
    starts = [number for number, line in enumerate(lines) if f"{folder}/segment-" in line]
    sizes = (next(line for line in lines[start:] if line.startswith("Rss:")) for start in starts)
    return sum(int(size.split()[1]) for size in sizes)
