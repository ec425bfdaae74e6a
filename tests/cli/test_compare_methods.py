"""Methods side by side."""

from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.evaluation.costs import measure_cost
from cricavpr.methods import load_method
from cricavpr.town.write import make_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "town"
    make_town(folder, 7101, 6, "photos", image_size=(112, 112))
    return folder


def compare(town: Path, methods: str, *more: str) -> int:
    return main(["compare-methods", str(town), "--methods", methods, "--quiet", *more])


def test_methods_without_weights_are_named_and_the_others_compared(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path))
    assert compare(town, "pixels,mixvpr,cricavpr-tiny") == 0
    answer = capsys.readouterr()
    assert "mixvpr is left out" in answer.err
    recall, cost = answer.out.split("\n\n")[:2]
    for table in (recall, cost):
        assert "pixels" in table and "cricavpr-tiny" in table and "mixvpr" not in table


def test_random_weights_stand_in_and_say_so(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path))
    assert compare(town, "mixvpr", "--random-weights") == 0
    out = capsys.readouterr().out
    assert "mixvpr (random:0)" in out and "random weights" in out


def test_a_wrong_name_is_answered_with_the_nearest(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(town, "pixles") == 2
    assert "Did you mean 'pixels'" in capsys.readouterr().err


def test_when_nothing_is_left_the_error_says_what_to_do(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRICAVPR_HOME", str(tmp_path))
    assert compare(town, "mixvpr") == 2
    assert "--random-weights" in capsys.readouterr().err


def test_the_cost_of_the_shipped_network_is_counted() -> None:
    cost = measure_cost(load_method("cricavpr-tiny"), "MIT")
    assert (cost.parameters, cost.descriptor_bytes, cost.image_size) == (3_582_105, 10_752, (112, 112))
    assert 0.3 < cost.gflop < 0.6 and cost.images_per_s > 0


def test_queries_that_a_network_learns_do_not_upset_the_count() -> None:
    cost = measure_cost(load_method("boq-resnet50", "random:0"), "MIT")
    assert cost.gflop > 1 and cost.parameters > 20e6
