"""The audit, on photos that are plain colours and a method whose dependence on company can be checked by eye."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cricavpr.cli import main
from cricavpr.datasets.base import EvalDataset
from cricavpr.errors import InputError
from cricavpr.evaluation.audit import Audit, Drift, run_audit, write_audit
from cricavpr.evaluation.audit.arrangements import far_apart
from cricavpr.evaluation.audit.measure import accompanied, drifts
from cricavpr.grouping import Grouping
from tests.mean_colour import GroupColour, MeanColour, colours, photos, unit

COUNT = 36


def dataset(folder: Path, count: int = COUNT, seed: int = 0) -> EvalDataset:
    """Query i shows the colour of photo i, which stands 100 i metres east."""
    of = colours(count, seed)
    east = np.array([[500_000.0 + 100 * index, 6_000_000.0] for index in range(count)])
    base = photos(folder / "database", of, east)
    asked = photos(folder / "queries", of, east + np.array([0, 5.0]))
    return EvalDataset.within_radius("colours", base, asked)


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    folder = tmp_path_factory.mktemp("audit")
    return run_audit(GroupColour(), dataset(folder), folder / "kept", shuffles=3, group_size=16, workers=0)


def test_the_drift_of_a_company_can_be_worked_out_by_hand(audit: Audit) -> None:
    own = colours(COUNT) / 255  # GroupColour adds the mean of the group to the photo's own colour
    groups = own.reshape(-1, 4, 3).mean(axis=1, keepdims=True)
    mixed = (own.reshape(-1, 4, 3) + groups).reshape(-1, 3)
    cosine = (mixed * own).sum(1) / np.linalg.norm(mixed, axis=1) / np.linalg.norm(own, axis=1)
    row = next(row for row in audit.rows if row.name == "in_order:4")
    assert row.drift is not None
    assert row.drift.median == pytest.approx(np.median(1 - cosine), abs=1e-6)
    assert row.drift.max == pytest.approx((1 - cosine).max(), abs=1e-6)


def test_every_company_of_the_issue_is_there(audit: Audit) -> None:
    assert [row.name for row in audit.part("size")] == [f"in_order:{n}" for n in (2, 4, 8, 16, 32)]
    assert [row.name for row in audit.part("shuffled")] == [f"shuffled:16:{seed}" for seed in range(3)]
    assert [row.name for row in audit.part("one side")] == [
        "database alone, queries in_order:16",
        "database in_order:16, queries alone",
    ]
    assert [row.name for row in audit.part("strangers")] == [
        "strangers:16:0",
        "strangers:16:1",
        "strangers:16:1 against :0",
    ]
    assert [row.name for row in audit.part("last group")] == ["last group of 4 and 4 instead of 16"]


def test_the_last_group_is_compared_with_the_same_photos_in_a_full_one(audit: Audit) -> None:
    own = colours(COUNT)[-16:] / 255

    def described(group: np.ndarray) -> np.ndarray:
        mixed = group + group.mean(axis=0)
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True))[-4:]

    drift = 1 - (described(own) * described(own[-4:])).sum(axis=1)
    (row,) = audit.part("last group")
    assert row.drift is not None and row.drift.max == pytest.approx(drift.max(), abs=1e-6)


def test_alone_is_the_zero_of_all_drifts(audit: Audit) -> None:
    (alone,) = audit.part("alone")
    assert alone.drift is not None and (alone.drift.median, alone.drift.max) == (0.0, 0.0)
    assert alone.recall_at_1 == 1.0


def test_wins_and_losses_are_counted_against_alone(audit: Audit) -> None:
    for row in (*audit.part("size"), *audit.part("shuffled"), *audit.part("one side")):
        assert row.recall_at_1 == pytest.approx(1.0 + (row.won - row.lost) / COUNT)
    mixed = audit.part("one side")[0]
    assert mixed.lost > 0  # the queries' colours are drawn towards their company, the database's are not


def test_batches_change_nothing_for_a_sound_method(audit: Audit) -> None:
    rows = audit.part("packing")
    assert [row.name for row in rows] == [
        "alone, batches of 7 instead of 1",
        "alone, batches of 64 instead of 1",
        "in_order:2, batches of 7 instead of 1",
        "in_order:2, batches of 64 instead of 1",
    ]
    assert all(row.drift is not None and row.drift.max < 1e-12 and row.won == row.lost == 0 for row in rows)


def test_a_method_that_looks_at_its_batch_is_found_out(tmp_path: Path) -> None:
    class BatchColour(MeanColour):
        """Says that it does not correlate, and mixes in its batch all the same: a batch norm left in training."""

        name = "batch_colour"

        def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
            own = images.mean(axis=(2, 3))
            return unit(own + own.mean(axis=0))

    audit = run_audit(BatchColour(), dataset(tmp_path), tmp_path / "kept", shuffles=1, workers=0)
    assert not audit.part("size")
    assert all(row.drift is not None and row.drift.max > 1e-3 for row in audit.part("packing"))


def test_a_method_that_does_not_correlate_is_described_alone_only(tmp_path: Path) -> None:
    audit = run_audit(MeanColour(), dataset(tmp_path), tmp_path / "kept", shuffles=1, workers=0)
    assert {row.part for row in audit.rows} == {"alone", "packing"}  # no network: there is no precision to change


def test_drift_is_told_by_median_95_per_cent_and_maximum() -> None:
    drift = Drift.of(np.arange(101) / 100)
    assert (drift.median, drift.p95, drift.max) == pytest.approx((0.5, 0.95, 1.0))


def test_a_network_that_has_no_bf16_is_audited_without(tmp_path: Path) -> None:
    class OnlyFloat32(MeanColour):
        """Its arithmetic refuses another type, as some operations of torch do."""

        def __init__(self) -> None:
            self.network = torch.nn.Linear(3, 3)

        def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("Index put requires the source and destination dtypes match")
            return super().describe(images)

    audit = run_audit(OnlyFloat32(), dataset(tmp_path, 4), tmp_path / "kept", shuffles=1, workers=0)
    assert [row.name for row in audit.part("precision")] == ["bf16 is not possible with this network on this device"]


def test_drift_is_exactly_zero_where_descriptors_are_equal() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    assert drifts(rows, rows).tolist() == [0.0] * 5
    assert drifts(rows, 3 * rows) == pytest.approx(np.zeros(5), abs=1e-13)
    assert drifts(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1]).tolist() == [1.0, 1.0]


def test_strangers_come_from_all_over_the_set(tmp_path: Path) -> None:
    images = dataset(tmp_path, 64).database
    order = far_apart(images, Grouping("in_order", 8), 0, 0)
    assert sorted(order.tolist()) == list(range(64))
    for start in range(0, 64, 8):  # one of each eighth of the street
        assert sorted(photo // 8 for photo in order[start : start + 8].tolist()) == list(range(8))
    assert order.tolist() != far_apart(images, Grouping("in_order", 8), 1, 0).tolist()


def test_a_photo_is_accompanied_when_another_of_its_place_is_in_its_group(tmp_path: Path) -> None:
    metres = np.array([[0.0, 0.0], [0.0, 20.0], [0.0, 500.0], [0.0, 520.0]])
    images = photos(tmp_path, colours(4), metres)
    pairs = [np.array([0, 1]), np.array([2, 3])]
    crossed = [np.array([0, 2]), np.array([1, 3])]
    assert (accompanied(images, pairs), accompanied(images, crossed)) == (4, 0)
    assert accompanied(photos(tmp_path / "b", colours(4)), pairs) is None


def test_an_interrupted_audit_goes_on_and_ends_in_the_same_numbers(tmp_path: Path) -> None:
    split = dataset(tmp_path)

    class Interrupted(GroupColour):
        calls = 0

        def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
            Interrupted.calls += 1
            if Interrupted.calls == 20:
                raise KeyboardInterrupt
            return super().describe(images, groups)  # type: ignore[arg-type]

    whole = run_audit(GroupColour(), split, tmp_path / "a", shuffles=1, group_size=4, workers=0)
    with pytest.raises(KeyboardInterrupt):
        run_audit(Interrupted(), split, tmp_path / "b", shuffles=1, group_size=4, workers=0)
    kept = len(list((tmp_path / "b").glob("*.safetensors")))
    assert kept > 2
    assert run_audit(Interrupted(), split, tmp_path / "b", shuffles=1, group_size=4, workers=0) == whole


def test_a_photo_that_cannot_be_read_is_left_out_everywhere(tmp_path: Path) -> None:
    split = dataset(tmp_path)
    split.database.path(3).write_bytes(b"no picture")
    audit = run_audit(GroupColour(), split, tmp_path / "kept", shuffles=1, group_size=8, workers=0)
    (alone,) = audit.part("alone")
    assert alone.recall_at_1 == pytest.approx((COUNT - 1) / COUNT)  # its query finds nothing
    assert audit.database == COUNT
    assert [(problem.name, problem.stage) for problem in audit.problems] == [("0003.png", "open")]
    again = run_audit(GroupColour(), split, tmp_path / "kept", shuffles=1, group_size=8, workers=0)
    assert again == audit  # problems too, though nothing was described again


@pytest.mark.parametrize("settings", [{"shuffles": 0}, {"group_size": 1}])
def test_an_audit_without_company_is_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1 shuffle"):
        run_audit(GroupColour(), dataset(tmp_path), tmp_path / "kept", **settings)  # type: ignore[arg-type]


def test_the_files_hold_the_numbers_and_the_words_and_no_descriptors(tmp_path: Path) -> None:
    audit = write_audit(GroupColour(), dataset(tmp_path), tmp_path / "out", shuffles=1, group_size=8, workers=0)
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert written["schema"] == "cricavpr.audit.1"
    assert len(written["rows"]) == len(audit.rows) and written["verdicts"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.html", "audit.json"]


def test_the_door_prints_the_table_and_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path, 4)
    rows = "\n".join(f"{side}/{n:04d}.png,{48 + n / 100},2" for side in ("database", "queries") for n in range(4))
    (tmp_path / "positions.csv").write_text(f"name,lat,lon\n{rows}\n")
    code = main(
        ["audit", str(tmp_path), "--method", "pixels", "--out", str(tmp_path / "out"), "--workers", "0", "--quiet"]
    )
    said = capsys.readouterr()
    assert code == 3 and "cannot use 0000.png: its descriptor has length 0" in said.err  # a picture of one colour
    assert "| alone, batches of 7 instead of 1 " in said.out
    assert "Descriptors of pixels do not depend on other images" in said.out


def test_a_wrong_folder_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "/nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
