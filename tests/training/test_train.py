"""`train` at the size of a toy: what it leaves, and that only the recipe decides what is in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cricavpr.cli import main
from cricavpr.cli.train import _report
from cricavpr.datasets.base import Problem
from cricavpr.errors import CricaVPRError, InputError
from cricavpr.images import Preprocess
from cricavpr.methods import load_method
from cricavpr.models.weights import read_weights
from cricavpr.town.write import make_town
from cricavpr.training import train
from cricavpr.training.checkpoints import load_newest
from cricavpr.training.data import StepData, Steps, open_places
from cricavpr.training.distributed import World
from cricavpr.training.learning import Described, Learner
from cricavpr.training.log import elapsed_s
from cricavpr.training.recipe import Recipe
from cricavpr.training.sampling import normalised
from tests.datasets.test_places import photo_places
from tests.training.toy import TOY, machine, toy


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "toy"
    outcome = train.train(TOY, out, machine(pictures))
    assert (outcome.step, outcome.steps, outcome.stopped_by) == (12, 12, None)
    return out


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines(run) if "loss" in line]


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_run_leaves_weights_that_load_and_describe(run: Path, name: str) -> None:
    method = load_method("cricavpr", run / f"{name}.safetensors")
    assert (method.image_size, method.correlates) == ((42, 42), True)
    assert method.describe(torch.zeros(2, 3, 42, 42).numpy()).shape == (2, method.dim)


def test_weights_say_what_made_them_and_nothing_of_the_machine(run: Path) -> None:
    provenance = read_weights(run / "last.safetensors").header["provenance"]
    assert provenance["step"] == 12
    assert provenance["recipe"]["step"]["group_sizes"] == [1, 4]
    assert provenance["data"] == {"name": "towns", "places": 16, "images": 64}
    assert str(run.parent) not in json.dumps(provenance)
    assert len(provenance["data_fingerprint"]) == 64


def test_the_log_has_a_line_for_each_step_and_each_measurement(run: Path) -> None:
    found = lines(run)
    assert [line["step"] for line in found if "loss" in line] == list(range(1, 13))
    measured = {line["step"]: line["measured"] for line in found if "measured" in line}
    assert list(measured) == [5, 10, 12]
    assert set(measured[5]) == {f"R@{n} {g}" for n in (1, 5, 10) for g in ("alone", "in_order:4")}
    assert {line["group_size"] for line in found if "loss" in line} == {1, 4}


def test_the_speed_lies_beside_the_log(run: Path) -> None:
    *_, speed, end = map(json.loads, (run / "speed.jsonl").read_text().splitlines())
    assert speed["step"] == end["step"] == 12 and 0 <= speed["waiting"] <= 1 and speed["memory_mb"] > 0
    assert 0 < speed["elapsed_s"] <= end["elapsed_s"] == elapsed_s(run)


def test_the_same_recipe_gives_the_same_bytes_whatever_the_number_of_workers(
    run: Path, pictures: Path, tmp_path: Path
) -> None:
    train.train(TOY, tmp_path / "again", machine(pictures, workers=2, checkpoint_every=100))
    for name in ("log.jsonl", "last.safetensors", "best.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes(), name


def test_the_learning_rate_of_the_log_is_the_schedule_s(run: Path) -> None:
    drawn = [line["rate"] for line in lines(run) if "rate" in line]
    assert drawn[:2] == [5e-4, 1e-3] and drawn[-1] < 1e-4


def test_towns_are_drawn_once(run: Path, pictures: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in pictures.iterdir()}
    assert len(before) == 3
    train.train(toy(steps=1), tmp_path / "run", machine(pictures))
    assert before == {path: path.stat().st_mtime_ns for path in pictures.iterdir()}


def test_training_and_describing_prepare_a_picture_alike() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (42, 42, 3), np.uint8)
    assert np.array_equal(normalised(torch.from_numpy(picture[None]))[0], Preprocess((42, 42))(picture))


# --- steps


def steps_of(recipe: Recipe, pictures: Path) -> Steps:
    return Steps(recipe, open_places(recipe, pictures, 1))


def test_an_epoch_shows_each_place_once_and_the_next_one_in_another_order(pictures: Path) -> None:
    steps = steps_of(toy(epochs=2, steps=0), pictures)
    assert (steps.per_epoch, steps.count) == (4, 8)
    shown = [steps.place_indices(step) for step in range(8)]
    first, second = ([place for step in part for place in step] for part in (shown[:4], shown[4:]))
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second


@pytest.mark.parametrize("first", [1, 3, 4, 5])
def test_a_run_that_goes_on_sees_what_it_would_have_seen(pictures: Path, first: int) -> None:
    steps = steps_of(toy(epochs=2, steps=0), pictures)
    whole, later = list(steps.read(0, 0)), list(steps.read(first, 0))
    assert len(later) == len(whole) - first
    for a, b in zip(whole[first:], later, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.places, b.places) and a.group_size == b.group_size


def test_members_of_a_group_come_across_places_or_in_order(pictures: Path) -> None:
    across, in_order = (next(steps_of(toy(step__members=m), pictures).read(0, 0)) for m in ("across", "in_order"))
    assert in_order.places.tolist() == sorted(in_order.places.tolist(), key=in_order.places.tolist().index)
    assert (in_order.places[::2] == in_order.places[1::2]).all()
    assert sorted(across.places.tolist()) == sorted(in_order.places.tolist())
    assert not (across.places[::2] == across.places[1::2]).all()


def test_too_few_places_for_a_step_are_refused(pictures: Path) -> None:
    with pytest.raises(InputError, match="a step needs 17 places, but towns has 16 with at least 2 images"):
        open_places(toy(step__places=17), pictures, 1)


# --- how a run ends


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe, done = Learner.describe, 0

    def poisoned(self: Learner, data: StepData) -> Described:
        nonlocal done
        done += 1
        if done == 7:
            next(self.model.parameters()).data.fill_(float("nan"))
        return describe(self, data)

    monkeypatch.setattr(Learner, "describe", poisoned)
    with pytest.raises(CricaVPRError, match="step 7: the loss is nan") as error:
        train.train(TOY, tmp_path / "run", machine(pictures, checkpoint_every=3))
    kept, path, complaints = load_newest(tmp_path / "run" / "checkpoints")
    assert (kept.facts.step, complaints) == (6, [])
    assert path.name in str(error.value)
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values() if tensor.is_floating_point())
    assert losses(tmp_path / "run") == [line["loss"] for line in lines(tmp_path / "run") if "rate" in line]


def test_weights_that_are_no_numbers_are_never_saved(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, done = Learner.update, 0

    def poisoning(self: Learner, rate: float) -> None:
        nonlocal done
        update(self, rate)
        done += 1
        if done == 4:
            next(self.model.parameters()).data.fill_(float("inf"))

    monkeypatch.setattr(Learner, "update", poisoning)
    with pytest.raises(CricaVPRError, match="not finite"):
        train.train(TOY, tmp_path / "run", machine(pictures, checkpoint_every=4))
    assert load_newest(tmp_path / "run" / "checkpoints")[0].facts.step == 0


def test_patience_ends_a_run(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "measure", lambda *_: ({"R@5 alone": 0.5}, []))
    recipe = toy(validation__every_steps=2, validation__patience=2)
    outcome = train.train(recipe, tmp_path / "run", machine(pictures))
    assert (outcome.step, outcome.best) == (6, 0.5)
    assert read_weights(tmp_path / "run" / "best.safetensors").header["provenance"]["step"] == 2
    assert train.resume(tmp_path / "run", machine=machine(pictures)).step == 6  # it stays ended


def test_a_folder_with_a_run_in_it_is_not_written_over(run: Path, pictures: Path) -> None:
    with pytest.raises(InputError, match="holds a run already"):
        train.train(TOY, run, machine(pictures))


def test_a_place_that_cannot_be_written_is_said_before_the_first_step(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        train.train(TOY, tmp_path / "file" / "run", machine(pictures))


def test_a_checkpoint_that_may_not_be_written_ends_the_verb_with_its_reason(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text(SHORT)
    replaced = Path.replace

    def refused(self: Path, target: Path) -> Path:
        if target.name.startswith("000000002-"):
            raise PermissionError(13, "Permission denied")
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    verb = ["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run"), "--pictures", str(pictures)]
    assert main([*verb, "--workers", "0", "--quiet"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "cannot write a checkpoint of step 2" in said.err and "Permission denied" in said.err
    assert load_newest(tmp_path / "run" / "checkpoints")[0].facts.step == 0


def test_a_terminal_that_is_gone_does_not_end_a_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", Gone())
        assert train.train(toy(steps=1), tmp_path / "run", replace(machine(pictures), quiet=False)).step == 1


# --- data on disk, and the verb

SHORT = """
image_size = [42, 42]
steps = 2
data = {town = {seeds = [11, 12], places = 8, views = 4}}
network = {backbone = "nano", encoder_heads = 4, encoder_ffn = 64}
step = {places = 4, images_per_place = 2}
"""


def test_names_with_control_characters_reach_no_terminal_raw(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "re\x1b[2Jcipe.toml", tmp_path / "ru\x1b[2J\nn"
    recipe.write_text(SHORT + "validation = {town = {seed = 13, places = 5}}\n")
    others = ["--out", str(out), "--pictures", str(pictures), "--workers", "0"]
    assert main(["train", str(recipe), *others]) == 0
    assert main(["train", str(recipe), *others]) == 2
    assert main(["ablate", str(recipe), *others]) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "| re\\x1b[2Jcipe |" in said.out
    assert said.out.splitlines()[0].endswith("2 of 2 steps, best recall 100.0 %")
    assert "ru\\x1b[2J\\nn holds a run already" in said.err


def test_a_photo_that_cannot_be_used_is_named_once_and_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo_places(tmp_path, 3, 3, 3, 3)
    named = [{"id": k, "images": [f"{k}/{n}.png" for n in range(3)]} for k in range(4)]
    named[0]["images"][1] = "a\x1b[2J\n.png"  # type: ignore[index]
    places = {"format": "cricavpr places 1", "name": "mine", "folder": ".", "places": named}
    (tmp_path / "mine.json").write_text(json.dumps(places))
    recipe = SHORT.replace("town = {seeds = [11, 12], places = 8, views = 4}", f'disk.path = "{tmp_path}/mine.json"')
    (tmp_path / "recipe.toml").write_text(recipe.replace("steps = 2", "epochs = 6"))
    verb = ["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run"), "--workers", "0", "--quiet"]
    assert main(verb) == 3
    assert capsys.readouterr().err.splitlines() == [
        "cannot use a\\x1b[2J\\n.png: no such file, or a link whose target does not exist [find]",
        "1 photo could not be used; other photos were used instead.",
    ]


def test_pictures_of_a_town_that_are_damaged_are_named(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text(SHORT + "validation = {town = {seed = 13, places = 5}}\n")
    verb = ["train", str(tmp_path / "recipe.toml"), "--pictures", str(tmp_path / "pictures"), "--workers", "0"]
    assert main([*verb, "--out", str(tmp_path / "first"), "--quiet"]) == 0
    for town in (11, 13):
        (file,) = (tmp_path / "pictures").glob(f"town-{town}-*")
        whole = file.read_bytes()
        for damaged in (whole[:1000], b"", b"not an array"):
            file.write_bytes(damaged)
            capsys.readouterr()
            assert main([*verb, "--out", str(tmp_path / "other")]) == 2
            error = capsys.readouterr().err
            assert file.name in error and error.count("\n") == 1
        file.write_bytes(whole)


def broken(photo: Path) -> Path:
    photo.write_bytes(photo.read_bytes()[:100])
    return photo


@pytest.mark.parametrize("verb", ["train", "ablate"])
def test_photos_of_the_validation_that_cannot_be_used_are_named_once_and_give_3(
    verb: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_town(tmp_path / "val", 22, 5, "utm", image_size=(56, 56), workers=1)
    bad = [broken(sorted((tmp_path / "val").rglob(f"{side}/*.jpg"))[0]) for side in ("database", "queries")]
    (tmp_path / "recipe.toml").write_text(
        SHORT
        + f'validation = {{dataset = "{tmp_path / "val"}", every_steps = 1, groupings = ["alone", "in_order:4"]}}\n'
    )
    asked = [verb, str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run"), "--pictures", str(pictures)]
    assert main([*asked, "--workers", "0", "--quiet"]) == 3
    said = capsys.readouterr().err.splitlines()
    for photo, line in zip(bad, said, strict=False):
        assert line.startswith(f"cannot use {photo.parent.name}/{photo.name}: ")
    assert said[2:] == ["2 photos could not be used; other photos were used instead."]


def test_photos_that_netvlad_cannot_start_from_are_named_once_and_give_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_town(tmp_path / "gsv", 21, 10, "gsv", image_size=(56, 56), workers=1)
    bad = [broken(photo) for photo in sorted((tmp_path / "gsv" / "Images").rglob("*.jpg"))[::2]]
    recipe = SHORT.replace("town = {seeds = [11, 12], places = 8, views = 4}", f'disk.path = "{tmp_path / "gsv"}"')
    network = 'kind = "netvlad", trunk = "resnet18", clusters = 2, init_images = 10, init_features = 8'
    (tmp_path / "recipe.toml").write_text(
        recipe.replace('backbone = "nano", encoder_heads = 4, encoder_ffn = 64', network)
    )
    load = Steps.load
    monkeypatch.setattr(Steps, "load", lambda self, step: load(self, step)._replace(problems=()))
    verb = ["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run"), "--workers", "0", "--quiet"]
    assert main(verb) == 3
    *named, last = capsys.readouterr().err.splitlines()
    assert named and last == f"{len(named)} photos could not be used; other photos were used instead."
    for line in named:
        assert [photo.name in line for photo in bad].count(True) == 1 and line.startswith("cannot use ")
    assert len(set(named)) == len(named)


def test_a_stopped_run_gives_the_code_of_the_signal_although_photos_could_not_be_used() -> None:
    problem = Problem("a.jpg", "open", "is empty")
    alone, other = World(), World(1, 2)
    assert _report(train.Outcome(3, 9, None, 15, (problem,)), Path("run"), alone) == 143
    assert _report(train.Outcome(9, 9, None, None, (problem,)), Path("run"), alone) == 3
    assert _report(train.Outcome(9, 9, None, None, (problem,)), Path("run"), other) == 0  # the first one says so


def test_the_verb_trains_on_gsv_cities_with_broken_and_missing_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_town(tmp_path / "gsv", 21, 50, "gsv", image_size=(56, 56), workers=1)
    photos = sorted((tmp_path / "gsv" / "Images").rglob("*.jpg"))
    random = np.random.default_rng(0)
    one_in_a_hundred = len(photos) // 100
    damaged = [photos[row] for row in random.choice(len(photos), 2 * one_in_a_hundred, replace=False)]
    for photo in damaged[:one_in_a_hundred]:
        photo.write_bytes(photo.read_bytes()[: int(random.integers(0, 400))])
    for photo in damaged[one_in_a_hundred:]:
        photo.unlink()
    make_town(tmp_path / "val", 22, 5, "utm", image_size=(56, 56), workers=1)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
image_size = [42, 42]
epochs = 3
[data]
sampler = "cities_in_order"
augment = "randaugment"
[data.disk]
path = "{tmp_path / "gsv"}"
[network]
backbone = "nano"
encoder_heads = 4
encoder_ffn = 64
[step]
places = 4
images_per_place = 4
[validation]
dataset = "{tmp_path / "val"}"
groupings = ["in_order:4"]
"""
    )
    asked = ["train", str(recipe), "--out", str(tmp_path / "run"), "--workers", "0", "--set", "epochs=2"]
    assert main([*asked, "--set", "optimizer.rate=2e-4"]) == 3
    said = capsys.readouterr()
    assert "24 of 24 steps, best recall" in said.out
    assert "waiting" in said.err
    assert len(photos) == 200 and [said.err.count(photo.name) for photo in damaged] == [1, 1, 1, 1]
    assert said.err.count("cannot use") == 4
    assert {line["rate"] for line in lines(tmp_path / "run") if "rate" in line} == {2e-4}
    weights = str(tmp_path / "run" / "last.safetensors")
    assert main(["evaluate", str(tmp_path / "val"), "--weights", weights, "--out", str(tmp_path / "out")]) == 0


def test_wrong_arguments_of_the_verb_are_answered_in_one_line(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(Path(__file__).parents[2] / "recipes" / "cricavpr_tiny_town.toml")
    wrong = [
        (["train"], "expected a recipe, got no recipe"),
        (["train", "nowhere.toml"], "nowhere.toml"),
        (["train", recipe, "--set", "step.place=3"], "Did you mean 'places'"),
        (["train", recipe, "--out", "a", "--resume", "b"], "Remove --out"),
        (["train", recipe, "--workers", "-1"], "workers must be at least 0, got -1"),
        (["train", recipe, "--checkpoint-every", "0"], "checkpoint_every must be at least 1, got 0"),
        (["train", "--resume", str(tmp_path)], "holds no checkpoint"),
        (["train", recipe, "--resume", str(run)], "began with another recipe"),
    ]
    for arguments, says in wrong:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
