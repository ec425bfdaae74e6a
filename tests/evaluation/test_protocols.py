"""Protocols: what each runs and records, and that settings do what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cricavpr.cli import main
from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import InputError, MadeByError
from cricavpr.evaluation.cards import Card, Counts, Timings
from cricavpr.evaluation.evaluate import evaluate, format_table
from cricavpr.evaluation.intervals import wilson
from cricavpr.evaluation.protocols import Protocol, groupings, protocol
from cricavpr.evaluation.streaming import panoramas_of
from cricavpr.grouping import Grouping
from cricavpr.pca import Pca, fit_pca
from tests.evaluation.test_evaluate import GREEN, RED, Silent, dataset, places
from tests.mean_colour import GroupColour, MeanColour, colours


def card() -> Card:
    made = MadeBy("m", "none", None, "", "none", None, 3)
    return Card(
        "d", "ab", "within 25 m", Counts(1, 1, 0), "m", "none", made, "none", Protocol(), None, None,
        {1: 1.0}, {1: (1.0, 1.0)}, Timings(0, 0), {}, "", "",
    )  # fmt: skip


def test_honest_is_three_groupings_for_who_correlates_and_one_for_others() -> None:
    assert [str(one) for one in groupings("honest", True)] == ["alone", "in_order:16", "shuffled:16:0"]
    assert [str(one) for one in groupings("honest", True, "in_order:8")] == ["alone", "in_order:8", "shuffled:8:0"]
    assert [str(one) for one in groupings("honest", False)] == ["alone"]
    assert [str(one) for one in groupings("paper", True, "in_order:8")] == ["in_order:8"]


def test_a_wrong_protocol_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        protocol("papers")


def test_what_departs_is_in_the_table() -> None:
    assert str(protocol("honest")) == "honest"
    made = protocol("paper", unanswered="skip", one_hit_per_panorama=True, precision="bf16")
    assert str(made) == ("paper; queries without positives skipped; one hit per panorama; ranked by L2; bf16")


def test_skipping_counts_only_queries_with_positives(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED), places(RED, GREEN))
    result = evaluate(MeanColour(), split, recall_ns=(1,), protocol=protocol("honest", unanswered="skip"))
    assert result.recall_at == {1: 1.0} and result.card.intervals == {1: wilson(1, 1)}
    assert "queries without positives skipped" in format_table([result])
    assert evaluate(MeanColour(), split, recall_ns=(1,)).recall_at == {1: 0.5}


def test_of_a_panorama_only_the_best_image_is_answered(tmp_path: Path) -> None:
    # Two panoramas of two images: the query looks like both of the first, and next like the second image of the second.
    split = dataset(tmp_path, places(RED, [240, 20, 0], GREEN, [200, 100, 0]), places([250, 5, 0]))
    split = replace(split, per_panorama=2)
    every = evaluate(MeanColour(), split, recall_ns=(2,))
    assert every.predictions.indices.tolist() == [[0, 1]]
    one = evaluate(MeanColour(), split, recall_ns=(2,), protocol=protocol("honest", one_hit_per_panorama=True))
    assert one.predictions.indices.tolist() == [[0, 3]]
    (tmp_path / "database/0000.png").unlink()
    failed = evaluate(MeanColour(), split, recall_ns=(2,), protocol=protocol("honest", one_hit_per_panorama=True))
    assert failed.predictions.indices.tolist() == [[1, 3]]


def test_panoramas_come_from_keys_that_stand_together(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED, GREEN, RED), places(RED))
    with pytest.raises(InputError, match="does not say which images form one"):
        panoramas_of(split)
    keyed = replace(split, database=replace(split.database, keys=("a", "a", "b")))
    assert panoramas_of(keyed).tolist() == [0, 0, 1]
    with pytest.raises(InputError, match="'a' in colours are not"):
        panoramas_of(replace(split, database=replace(split.database, keys=("a", "b", "a"))))


def test_euclidean_and_cosine_order_are_one_for_vectors_of_unit_length(tmp_path: Path) -> None:
    of = colours(20)
    split = dataset(tmp_path, of, of[::-1].copy())
    dot, euclidean = (evaluate(MeanColour(), split, protocol=name, recall_ns=(10,)) for name in ("honest", "paper"))
    assert np.array_equal(dot.predictions.indices, euclidean.predictions.indices)
    np.testing.assert_allclose(euclidean.predictions.scores, 2 * dot.predictions.scores - 2, atol=1e-6)


class Turned(MeanColour):
    """Through a matrix, which autocast computes in half precision."""

    def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
        own = torch.from_numpy(super().describe(images))
        return F.normalize(F.linear(own, torch.eye(3)[[1, 2, 0]]), dim=1).float().numpy()


class Mixing(MeanColour):
    """Cannot be computed in half precision."""

    def describe(self, images: np.ndarray, groups: object = None) -> np.ndarray:
        vectors = torch.from_numpy(super().describe(images))
        vectors[[0]] = F.linear(vectors[[0]], torch.eye(3))  # float32 on the left
        return vectors.numpy()


def test_precision_changes_descriptors_and_is_written_into_them(tmp_path: Path) -> None:
    of = colours(9)
    split = dataset(tmp_path, of, of)
    made = [protocol("honest", precision=precision) for precision in ("fp32", "bf16")]
    full, half = (evaluate(Turned(), split, recall_ns=(1, 5), protocol=one) for one in made)
    assert half.made_by.preprocessing == f"{full.made_by.preprocessing}; network in bf16"
    apart = np.abs(full.predictions.scores - half.predictions.scores).max()
    assert 1e-4 < apart < 0.02 and half.card.protocol.precision == "bf16"


def test_a_precision_that_is_not_possible_is_one_line(tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED), places(RED))
    with pytest.raises(InputError, match="mean_colour cannot compute in bf16 on this device"):
        evaluate(Mixing(), split, protocol=protocol("honest", precision="bf16"))
    with pytest.raises(InputError, match="fp8"):
        evaluate(Turned(), split, protocol=protocol("honest", precision="fp8"))  # type: ignore[arg-type]


# --- PCA


@pytest.fixture
def pca(tmp_path: Path) -> Pca:
    split = dataset(tmp_path / "learn", colours(30, seed=9), colours(3))
    result = evaluate(GroupColour(), split, Grouping.parse("shuffled:4:0"), cache=tmp_path / "learnt")
    file = max((tmp_path / "learnt").glob("*.safetensors"), key=lambda path: path.stat().st_size)
    assert result.made_by.pca is None
    return fit_pca(DescriptorSet.load(file), 2, renormalise=False)


@pytest.mark.parametrize("cached", [False, True])
def test_a_pca_is_applied_to_both_sides_and_recorded(pca: Pca, cached: bool, tmp_path: Path) -> None:
    of = colours(12)
    split, cache = dataset(tmp_path, of, of), tmp_path / "cache" if cached else None
    result = evaluate(GroupColour(), split, "alone", protocol="paper", recall_ns=(1, 10), pca=pca, cache=cache)
    assert (result.made_by.dim, result.made_by.pca) == (2, pca.describe())
    assert result.card.protocol.pca == pca.describe()
    own = evaluate(GroupColour(), split, cache=cache)
    assert own.made_by.pca is None  # what is kept of the one is no part of the other
    unit = of / np.linalg.norm(of.astype(float), axis=1, keepdims=True)
    reduced = pca.project(unit)
    expected = -((reduced[:, None] - reduced[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(result.predictions.scores, -np.sort(-expected, axis=1)[:, :10], atol=1e-6)
    if cached:
        again = evaluate(GroupColour(), split, "alone", protocol="paper", recall_ns=(1, 10), pca=pca, cache=cache)
        assert np.array_equal(again.predictions.scores, result.predictions.scores)


def test_whitening_learnt_on_the_database_itself_is_recorded_and_evens_out_what_all_share(tmp_path: Path) -> None:
    of = colours(12)
    split = dataset(tmp_path, of, of)
    result = evaluate(MeanColour(), split, whiten_on_database=True)
    unit = of / np.linalg.norm(of.astype(float), axis=1, keepdims=True)
    mean, (_, spread, turn) = unit.mean(axis=0), np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    whitened = ((unit - mean) @ turn.T) / spread
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
    products = -np.sort(-(whitened @ whitened.T), axis=1)[:, :10]
    np.testing.assert_allclose(result.predictions.scores, products, atol=1e-4)
    assert result.made_by.pca is not None
    assert result.made_by.pca.startswith("PCA to 3-d, whitened, renormalised, learnt on 12 descriptors, SHA-256 ")
    plain = evaluate(MeanColour(), split)
    assert result.predictions.scores[:, -1].mean() < plain.predictions.scores[:, -1].mean() - 0.5


def test_a_pca_of_another_method_is_refused(pca: Pca, tmp_path: Path) -> None:
    split = dataset(tmp_path, places(RED), places(RED))
    with pytest.raises(MadeByError, match="fitted on descriptors of another kind"):
        evaluate(MeanColour(), split, pca=pca)


def test_descriptors_on_disk_and_in_memory_give_one_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    of = colours(12)
    split = dataset(tmp_path, of, of)
    memory = evaluate(GroupColour(), split, Grouping.parse("in_order:5"))
    monkeypatch.setattr("cricavpr.evaluation.streaming.IN_MEMORY_BYTES", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    disk = evaluate(GroupColour(), split, Grouping.parse("in_order:5"))
    assert np.array_equal(disk.predictions.scores, memory.predictions.scores)
    assert list((tmp_path / "temporary").iterdir()) == []


# --- the command line


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "there"
    made = ["town", "make", str(folder), "--seed", "7", "--places", "10", "--layout", "utm", "--image-size", "56"]
    assert main([*made, "--workers", "1", "--quiet"]) == 0
    return folder


def cards_in(out: Path) -> list[Card]:
    return [Card.read(path) for path in sorted(out.iterdir()) if not path.name.startswith(".")]


TINY = ["--weights", "random:0", "--quiet", "--workers", "0"]


def test_honest_is_the_default_and_leaves_one_card_each(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(town), "--out", str(tmp_path / "out"), *TINY]) == 0
    printed = capsys.readouterr()
    assert {one.grouping for one in cards_in(tmp_path / "out")} == {"alone", "in_order:16", "shuffled:16:0"}
    assert printed.err.count("card and answers: ") == 3 and printed.out.count("95 % Wilson confidence intervals") == 3
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    command = cards_in(tmp_path / "out")[0].command
    assert command.startswith("cricavpr evaluate there --out out --weights random:0") and str(tmp_path) not in command


def test_pca_from_photos_to_evaluation(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "pca.safetensors", tmp_path / "out"
    photos = str(town / "images/test/database")
    assert main(["pca", "fit", photos, "--out", str(file), "--dim", "6", *TINY]) == 0
    assert "PCA to 6-d, not whitened, renormalised, learnt on 10 descriptors" in capsys.readouterr().out
    command = ["evaluate", str(town), "--out", str(out), "--pca", str(file), "--pca-dim", "4", *TINY]
    assert main([*command, "--protocol", "paper"]) == 0
    (one,) = cards_in(out)
    assert one.protocol.pca is not None and one.protocol.pca.startswith("PCA to 4-d, not whitened, not renormalised")
    assert one.protocol.pca.endswith("in groups shuffled:16:0") and one.made_by.dim == 4
    whole, small = tmp_path / "whole", tmp_path / "small"
    assert main(["describe", photos, "--out", str(whole), *TINY]) == 0
    assert main(["pca", "apply", str(file), str(whole), "--out", str(small)]) == 0
    assert DescriptorSet.load(small).vectors.shape == (10, 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "papers"], "Did you mean 'paper'"),
        (["--pca", "nowhere"], "cannot read a PCA from nowhere"),
        (["--pca", "nowhere", "--whiten-on-database"], "Give only one of the two"),
        (["--pca-dim", "5"], "without a PCA"),
        (["--one-hit-per-panorama", "--grouping", "nonsense"], "invalid grouping 'nonsense'"),
    ],
)
def test_wrong_options_are_one_line(
    words: list[str], message: str, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(town), "--out", str(tmp_path / "out"), *TINY, *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_split_without_its_root_is_told_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "pitts30k-test"]) == 2
    assert "--root DIR" in capsys.readouterr().err
    assert main(["evaluate", "pitts30k-tset", "--root", "."]) == 2
    assert "Did you mean 'pitts30k-test'" in capsys.readouterr().err


# --- interrupted

KILLED = """
import os, signal, sys
import cricavpr.progress as progress
import cricavpr.describing.work as work
work.STATE_EVERY_S = 0
left = int(sys.argv[1])
def advance(self, count):
    global left
    left -= count
    if left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
progress.Progress.advance = advance
from cricavpr.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("after", [5, 14])  # photos: in the database, and in the queries
def test_a_killed_evaluation_goes_on_and_ends_in_the_same_bytes(
    after: int, town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(where: str) -> list[str]:
        words = ["--grouping", "in_order:2", "--batch-size", "2", "--out", str(tmp_path / where / "out")]
        return ["evaluate", str(town), *words, *TINY]

    killed = subprocess.run([sys.executable, "-c", KILLED, str(after), *command("killed")], check=False)
    assert killed.returncode == -9 and list((tmp_path / "killed/out").glob(".unfinished-*"))
    seen: list[int] = []
    monkeypatch.setattr("cricavpr.progress.Progress.advance", lambda _, count: seen.append(count))
    assert main(command("killed")) == 0
    assert 0 < sum(seen) < 20 - after + 3  # what was done was not done again
    assert main(command("whole")) == 0
    folders = [next(path for path in (tmp_path / where / "out").iterdir()) for where in ("killed", "whole")]
    assert folders[0].name == folders[1].name
    assert (folders[0] / "answers.jsonl").read_bytes() == (folders[1] / "answers.jsonl").read_bytes()
    cards: list[dict[str, Any]] = [json.loads((folder / "card.json").read_text()) for folder in folders]
    for one in cards:
        del one["timings"], one["date"]
    assert json.dumps(cards[0]) == json.dumps(cards[1])


def test_whatever_is_kept_spares_the_work(tmp_path: Path, pca: Pca) -> None:
    split, cache = dataset(tmp_path, colours(5), colours(5)), tmp_path / "cache"
    evaluate(MeanColour(), split, cache=cache)
    again = evaluate(Silent(), split, cache=cache, protocol=protocol("paper"))
    assert again.card.protocol.name == "paper"


@pytest.mark.slow
def test_memory_stays_bounded_when_the_descriptors_do_not_fit(tmp_path: Path) -> None:
    """1.6 GB of descriptors on disk, which take more than 3 GB in float32."""
    script = Path(__file__).parents[2] / "benchmarks" / "streaming.py"
    asked = ["--count", "400000", "--dim", "2048", "--queries", "50", "--folder", str(tmp_path)]
    printed = subprocess.run([sys.executable, str(script), *asked], capture_output=True, text=True, check=True).stdout
    *_, recall, _, peak_gb = (cell.strip() for cell in printed.splitlines()[-1].strip("|").split("|"))
    assert recall == "100.0" and float(peak_gb) < 1.0
    assert list(tmp_path.iterdir()) == []
