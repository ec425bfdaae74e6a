"""rerank, on places that are plain colours compared by their brightness: the order can be checked by eye."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cricavpr.datasets.base import ImageSet
from cricavpr.errors import InputError, MissingExtraError
from cricavpr.index.search import Predictions
from cricavpr.methods.base import LocalFeatures, TwoStageMethod
from cricavpr.reranking import Reranked, rerank, storage
from tests.mean_colour import MeanColour, photos

NOTHING = -1


class ByBrightness(MeanColour):
    """Local features are the mean brightness; a pair scores by how near it is, 0 beyond 100 levels."""

    local = "mean brightness"
    matching = "by nearness"

    def __init__(self) -> None:
        self.described: list[int] = []
        self.compared = 0

    def local_features(self, images: np.ndarray) -> list[LocalFeatures]:
        self.described.append(len(images))
        return [{"level": np.array([level], np.float16)} for level in (255 * images.mean(axis=(1, 2, 3))).tolist()]

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        self.compared += 1
        return np.maximum(0.0, 100.0 - np.abs(query["level"].astype(float) - candidate["level"].astype(float)))

    def fuse(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        return raw[:, 0]


def grey(folder: Path, *levels: int) -> ImageSet:
    return photos(folder, np.array([[level] * 3 for level in levels], np.uint8))


def found(*rows: Sequence[int]) -> Predictions:
    """What a search found: falling scores, -inf where there is nothing."""
    indices = np.array(rows, np.int64)
    scores = np.linspace(0.9, 0.1, indices.shape[1])[None].repeat(len(rows), 0)
    return Predictions(indices, np.where(indices < 0, -np.inf, scores).astype(np.float32))


def run(
    method: ByBrightness, folder: Path, database: ImageSet, queries: ImageSet, first: Predictions, n: int = 100
) -> Reranked:
    return rerank(method, database, queries, first, folder / "cache", n, workers=0)


def test_the_method_is_a_two_stage_method() -> None:
    assert isinstance(ByBrightness(), TwoStageMethod) and not isinstance(MeanColour(), TwoStageMethod)


def test_candidates_come_in_the_order_of_their_local_features(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40, 80, 120, 160), grey(tmp_path / "q", 150, 50)
    again = run(ByBrightness(), tmp_path, database, queries, found([0, 1, 2, 3], [3, 2, 1, 0]))
    assert again.indices.tolist() == [[3, 2, 1, 0], [0, 1, 2, 3]]
    assert again.scores[0].tolist() == pytest.approx([90, 70, 30, 0], abs=0.2)
    assert (np.diff(again.scores, axis=1) <= 0).all()
    assert again.failed_database == again.failed_queries == ()


def test_equal_scores_and_no_match_at_all_keep_the_order_of_the_search(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 100, 200, 100, 210), grey(tmp_path / "q", 110, 45)
    again = run(ByBrightness(), tmp_path, database, queries, found([3, 2, 0, 1], [3, 1, 0, 2]))
    assert again.indices[0].tolist() == [2, 0, 1, 3]  # 2 and 0 are equally near
    dark = run(
        ByBrightness(), tmp_path, grey(tmp_path / "e", 200, 210, 220), grey(tmp_path / "r", 40), found([2, 0, 1])
    )
    assert dark.indices.tolist() == [[2, 0, 1]] and dark.scores.tolist() == [[0, 0, 0]]


def test_beyond_the_first_candidates_the_order_of_the_search_stays_and_scores_fall(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40, 80, 120, 160), grey(tmp_path / "q", 160)
    method = ByBrightness()
    again = run(method, tmp_path, database, queries, found([0, 1, 2, 3, NOTHING]), n=2)
    assert again.indices.tolist() == [[1, 0, 2, 3, NOTHING]]
    assert again.scores[0].tolist() == pytest.approx([20, 0, -1, -2, -np.inf], abs=0.2)
    assert sum(method.described) == 3  # photos 2 and 3 are never looked at


def test_each_photo_is_looked_at_once_and_never_again(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40, 80, 120), grey(tmp_path / "q", 160, 50, 70)
    first = found([0, 1, 2], [0, 2, 1], [1, 0, 2])
    method = ByBrightness()
    again = run(method, tmp_path, database, queries, first)
    assert sum(method.described) == 6
    other = ByBrightness()
    second = run(other, tmp_path, database, queries, found([2, 1, 0], [0, 2, 1], [1, 0, 2]))
    assert other.described == [] and second.indices[0].tolist() == again.indices[0].tolist()


def test_a_photo_that_is_written_anew_is_looked_at_anew(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40, 80), grey(tmp_path / "q", 79)
    assert run(ByBrightness(), tmp_path, database, queries, found([0, 1])).indices.tolist() == [[1, 0]]
    grey(tmp_path / "d", 80, 40)
    for name in database.names:
        os.utime(tmp_path / "d" / name, ns=(5, 5))
    assert run(ByBrightness(), tmp_path, database, queries, found([0, 1])).indices.tolist() == [[0, 1]]


def test_a_failed_photo_keeps_its_place_behind_what_was_compared_and_is_recorded(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40, 80, 120, 160), grey(tmp_path / "q", 160, 160)
    (tmp_path / "d" / database.names[1]).write_bytes(b"no picture")
    (tmp_path / "q" / queries.names[1]).unlink()
    again = run(ByBrightness(), tmp_path, database, queries, found([1, 0, 2, 3], [1, 0, 2, 3]), n=3)
    assert again.indices.tolist() == [[2, 0, 1, 3], [1, 0, 2, 3]]
    assert [problem.name for problem in again.failed_database] == [database.names[1]]
    assert [(problem.name, problem.stage) for problem in again.failed_queries] == [(queries.names[1], "find")]
    assert (np.diff(again.scores[0]) <= 0).all() and again.scores[1].tolist() == pytest.approx(
        [0.9, 0.633, 0.367, 0.1], abs=0.001
    )


def test_a_query_without_candidates_stays_without(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40), grey(tmp_path / "q", 40, 50)
    again = run(ByBrightness(), tmp_path, database, queries, found([NOTHING, NOTHING], [0, NOTHING]))
    assert again.indices.tolist() == [[NOTHING, NOTHING], [0, NOTHING]]
    assert np.isneginf(again.scores).tolist() == [[True, True], [False, True]]


def test_another_way_to_compare_looks_at_no_photo_again_and_another_feature_does(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 10, 20), grey(tmp_path / "q", 21)
    seen = []
    for local, matching in (("level", "near"), ("level", "nearer"), ("level in float32", "nearer")):
        method = ByBrightness()
        method.local, method.matching = local, matching
        assert run(method, tmp_path, database, queries, found([0, 1])).indices.tolist() == [[1, 0]]
        seen.append((len(method.described), method.compared >= 2))
    assert seen == [(3, True), (0, True), (3, True)]


class Interrupted(ByBrightness):
    """Stops the run at the tenth comparison."""

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        if self.compared == 10:
            raise KeyboardInterrupt
        return super().compare(query, candidate)


@pytest.mark.parametrize("damage", ["none", "cut", "flipped", "foreign"])
def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(tmp_path: Path, damage: str) -> None:
    database, queries = grey(tmp_path / "d", 40, 80, 120, 160), grey(tmp_path / "q", 41, 82, 123, 164, 55)
    first = found(*[[0, 1, 2, 3]] * 5)
    whole = rerank(ByBrightness(), database, queries, first, tmp_path / "at-once", workers=0)
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(), tmp_path, database, queries, first)
    (results,) = (tmp_path / "cache").glob("*.results")
    content = results.read_bytes()
    changed = {
        "none": content,
        "cut": content[:-30],
        "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "foreign": b"something else\n" + content,
    }
    results.write_bytes(changed[damage])
    method = ByBrightness()
    again = run(method, tmp_path, database, queries, first)
    assert method.described == []
    assert method.compared == {"none": 12, "cut": 20, "flipped": 20, "foreign": 20}[damage]  # of 5 queries by 4
    assert again.indices.tobytes() == whole.indices.tobytes() and again.scores.tobytes() == whole.scores.tobytes()
    (once,) = (tmp_path / "at-once").glob("*.results")
    assert once.read_bytes() == results.read_bytes()


class Killed(ByBrightness):
    """Ends its process at the tenth comparison, with no time to save anything."""

    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        if self.compared == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().compare(query, candidate)


def test_a_killed_run_goes_on_from_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, queries = grey(tmp_path / "d", 40, 80, 120, 160), grey(tmp_path / "q", 41, 82, 123, 164, 55)
    first = found(*[[0, 1, 2, 3]] * 5)
    monkeypatch.setattr(storage, "SAVE_EVERY_S", 0.0)
    child = os.fork()
    if not child:
        run(Killed(), tmp_path, database, queries, first)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    method = ByBrightness()
    again = run(method, tmp_path, database, queries, first)
    assert method.described == [] and method.compared == 12  # of 5 queries by 4, two were saved
    whole = rerank(ByBrightness(), database, queries, first, tmp_path / "at-once", workers=0)
    assert again.indices.tobytes() == whole.indices.tobytes() and again.scores.tobytes() == whole.scores.tobytes()


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40, 80), grey(tmp_path / "q", 79)
    before = run(ByBrightness(), tmp_path, database, queries, found([0, 1]))
    method = ByBrightness()
    after = run(method, tmp_path, database, queries, found([0, 1]))
    assert method.compared == 0 and after.indices.tolist() == before.indices.tolist()


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    levels = list(range(30, 230, 10))
    database, queries = grey(tmp_path / "d", *levels), grey(tmp_path / "q", 41, 182)
    first = found(list(range(20)), list(range(20)))
    here = rerank(ByBrightness(), database, queries, first, tmp_path / "a", workers=0)
    there = rerank(ByBrightness(), database, queries, first, tmp_path / "b", workers=2)
    assert here.indices.tobytes() == there.indices.tobytes() and here.scores.tobytes() == there.scores.tobytes()


class Spoilt(ByBrightness):
    """Gives a value that is not finite for the bright ones."""

    def local_features(self, images: np.ndarray) -> list[LocalFeatures]:
        return [{"level": np.where(one["level"] > 100, np.nan, one["level"])} for one in super().local_features(images)]


def test_features_that_are_not_finite_are_a_failure_of_their_photo(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40, 150, 80), grey(tmp_path / "q", 79)
    again = run(Spoilt(), tmp_path, database, queries, found([0, 1, 2]))
    assert again.indices.tolist() == [[2, 0, 1]]
    assert "not finite" in again.failed_database[0].reason


class NeedsExtra(ByBrightness):
    def compare(self, query: LocalFeatures, candidate: LocalFeatures) -> NDArray[np.float64]:
        raise MissingExtraError("install something")


def test_a_missing_library_is_missed_before_the_long_work(tmp_path: Path) -> None:
    method = NeedsExtra()
    with pytest.raises(MissingExtraError):
        run(method, tmp_path, grey(tmp_path / "d", *range(40, 90)), grey(tmp_path / "q", 79), found(list(range(50))))
    assert sum(method.described) <= 2


class Misfused(ByBrightness):
    def fuse(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        return raw[:, 0] / 0 * 0


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with np.errstate(all="ignore"), pytest.raises(InputError, match="not finite"):
        run(Misfused(), tmp_path, grey(tmp_path / "d", 40, 80), grey(tmp_path / "q", 79), found([0, 1]))


@pytest.mark.parametrize(
    ("first", "candidates", "message"),
    [
        (found([0, 1], [0, 1]), 10, "predictions for 1 queries, got 2"),
        (found([0, 2]), 10, "index 2 is out of range for a database of 2"),
        (found([0, -2]), 10, "index -2 is out of range for a database of 2"),
        (found([0, 1]), 0, "candidates must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, first: Predictions, candidates: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(ByBrightness(), tmp_path, grey(tmp_path / "d", 40, 80), grey(tmp_path / "q", 79), first, candidates)


def test_local_features_that_were_damaged_are_named(tmp_path: Path) -> None:
    database, queries = grey(tmp_path / "d", 40, 80), grey(tmp_path / "q", 79)
    run(ByBrightness(), tmp_path, database, queries, found([0, 1]))
    for place in (tmp_path / "cache/local-features").rglob("*.safetensors"):
        place.write_bytes(b"x")
    with pytest.raises(InputError, match="Delete this file"):
        run(ByBrightness(), tmp_path, database, queries, found([1, 0]))


def test_progress_is_told_of_photos_and_then_of_queries(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    database, queries = grey(tmp_path / "d", 40, 80, 90), grey(tmp_path / "q", 79, 50)
    rerank(
        ByBrightness(), database, queries, found([0, 1], [1, 0]), tmp_path / "cache", workers=0,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(0, 4), (1, 4), (2, 4), (2, 4), (3, 4), (4, 4), (1, 2), (2, 2)]


@pytest.mark.parametrize("step", ["fsync", "mkdir"])
def test_a_refusal_of_the_system_is_said(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, queries = grey(tmp_path / "d", 40, 80), grey(tmp_path / "q", 79)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os if step == "fsync" else Path, step, refuse)
    with pytest.raises(InputError, match=r"cannot write .*: Permission denied"):
        run(ByBrightness(), tmp_path, database, queries, found([0, 1]))
