"""`cricavpr ablate` at the size of a toy: what runs, what does not run again, and what stands in the table."""

from __future__ import annotations

import csv
import os
import re
import signal
from pathlib import Path

import pytest

from cricavpr.cli import main
from cricavpr.errors import InputError
from cricavpr.training import ablate as ablation
from cricavpr.training.ablate import read_variants
from cricavpr.training.data import StepData
from cricavpr.training.learning import Described, Learner
from cricavpr.training.network import tunable_parameters

BASE = """
image_size = [42, 42]
steps = 2
[data.town]
seeds = [11, 12]
places = 8
views = 4
[network]
backbone = "nano"
encoder_heads = 4
encoder_ffn = 64
[step]
places = 4
images_per_place = 2
[validation]
groupings = ["alone"]
every_steps = 2
[validation.town]
seed = 13
places = 5
"""
ROWS = {
    "one": "# Row: 1 layer\n" + 'base = "base.toml"\n[network]\nencoder_depth = 1\n',
    "same": "# Row: the same\n" + 'base = "one.toml"\n',
    "frozen": 'base = "base.toml"\nsteps = 0\n[network]\nadapter = "none"\ntuning = "frozen"\nencoder_depth = 0\n',
    "wild": 'base = "base.toml"\n[optimizer]\nrate = 1e30\n',
}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "base.toml").write_text(BASE)
    for name, text in ROWS.items():
        (folder / f"{name}.toml").write_text(text)
    return {name: str(folder / f"{name}.toml") for name in ROWS}


@pytest.fixture(scope="module")
def done(recipes: dict[str, str], pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ablation")
    assert main(asked([recipes[name] for name in ("one", "same", "frozen", "wild")], out, pictures)) == 3
    return out


def asked(recipes: list[str], out: Path, pictures: Path, *others: str) -> list[str]:
    return ["ablate", *recipes, "--out", str(out), "--pictures", str(pictures), "--workers", "0", *others]


def table(out: Path) -> dict[str, dict[str, str]]:
    return {row["recipe"]: row for row in csv.DictReader((out / "table.csv").read_text().splitlines())}


def test_each_recipe_becomes_a_row_in_the_order_given(done: Path, recipes: dict[str, str]) -> None:
    rows = table(done)
    assert list(rows) == ["one", "same", "frozen", "wild"]
    assert [row["title"] for row in rows.values()] == ["1 layer", "the same", "frozen", "wild"]
    assert [row["steps"] for row in rows.values()] == ["2", "2", "0", ""]
    assert re.match(r"\| 1 layer \|.*\d", (done / "table.md").read_text().splitlines()[2])


def test_a_recall_is_that_of_the_last_measurement_in_the_log(done: Path) -> None:
    last = (done / "one" / "seed-0" / "log.jsonl").read_text().splitlines()[-1]
    assert f'"R@1 alone": {float(table(done)["one"]["R@1 alone"])}' in last


def test_a_frozen_network_is_measured_without_a_step(done: Path) -> None:
    row = table(done)["frozen"]
    assert row["tunable"] == "0" and 0.0 <= float(row["R@10 alone"]) <= 1.0
    assert (done / "frozen" / "seed-0" / "last.safetensors").exists()


def test_a_run_that_diverges_is_named_and_does_not_stop_the_others(done: Path) -> None:
    row = table(done)["wild"]
    assert (row["seeds"], row["diverged"], row["R@1 alone"]) == ("", "0", "")
    assert "wild (seed 0 diverged)" in (done / "table.md").read_text()
    assert "step 2" in (done / "wild" / "seed-0" / "diverged").read_text()


def test_recipes_that_say_the_same_share_a_run(done: Path) -> None:
    assert not (done / "same").exists()
    rows = table(done)
    assert {**rows["same"], "recipe": "", "title": ""} == {**rows["one"], "recipe": "", "title": ""}


def test_what_is_finished_or_diverged_is_not_run_again(
    done: Path, recipes: dict[str, str], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "train", None)  # would fail if it were called
    monkeypatch.setattr(ablation, "resume", None)
    before = (done / "table.md").read_text()
    assert main(asked([recipes[name] for name in ("one", "same", "frozen", "wild")], done, pictures)) == 3
    assert (done / "table.md").read_text() == before


def test_a_run_of_another_recipe_is_refused_by_name(
    done: Path, recipes: dict[str, str], pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked([recipes["one"]], done, pictures, "--set", "network.encoder_depth=2")) == 2
    error = capsys.readouterr().err
    assert "network.encoder_depth was 1 and is now 2" in error and "seed-0" in error


def test_the_table_alone_trains_nothing_and_says_what_is_missing(
    done: Path, recipes: dict[str, str], pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked([recipes["one"]], done, pictures, "--table-only", "--seeds", "0,7")) == 0
    said = capsys.readouterr()
    assert "1 layer (seed 7 not finished)" in said.out and "1 of 2 runs" in said.err
    assert not (done / "one" / "seed-7").exists()


def test_an_interrupted_ablation_stops_and_goes_on_to_the_same_end(
    done: Path, tmp_path: Path, recipes: dict[str, str], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(self: Learner, data: StepData) -> Described:
        os.kill(os.getpid(), signal.SIGTERM)
        return describe(self, data)

    describe = Learner.describe
    arguments = asked([recipes["one"], recipes["frozen"]], tmp_path, pictures)
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "describe", signalled)
        assert main(arguments) == 143
    assert [row["unfinished"] for row in table(tmp_path).values()] == ["0", "0"]
    assert len((tmp_path / "one" / "seed-0" / "log.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "frozen").exists()
    assert main(arguments) == 0
    assert [row["seeds"] for row in table(tmp_path).values()] == ["0", "0"]
    for name in ("log.jsonl", "last.safetensors"):
        one = Path("one", "seed-0", name)
        assert (tmp_path / one).read_bytes() == (done / one).read_bytes()


def test_tunable_parameters_are_those_of_the_table_of_the_supplement() -> None:
    folder = Path(__file__).parents[2] / "recipes" / "ablations" / "paper"
    rows = read_variants([folder / "table3_depth2.toml", folder / "full_tuning.toml"], {})
    assert [round(tunable_parameters(row.recipe) / 1e6, 1) for row in rows] == [20.2, 97.6]


def test_recipes_that_cannot_be_compared_are_refused(tmp_path: Path, recipes: dict[str, str]) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.toml").write_text(f'base = "{recipes["one"]}"\n')
    with pytest.raises(InputError, match="two recipes are named 'one'"):
        read_variants([Path(recipes["one"]), tmp_path / "one.toml"], {})
    plain = tmp_path / "plain.toml"
    plain.write_text(BASE.split("[validation]")[0])
    with pytest.raises(InputError, match=r"has no \[validation\]"):
        read_variants([plain], {})
    assert main(["ablate", recipes["one"], "--out", str(tmp_path / "o"), "--seeds", "0,0"]) == 2
    assert main(["ablate", recipes["one"], "--out", str(tmp_path / "o"), "--seeds", "a"]) == 2
