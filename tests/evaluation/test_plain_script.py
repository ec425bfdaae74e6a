"""`--protocol paper` is what the authors' script does: descriptors and recall equal those of a plain script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cricavpr
from cricavpr.cli import main
from cricavpr.datasets import open_dataset
from cricavpr.evaluation.cards import Card
from cricavpr.evaluation.evaluate import evaluate
from cricavpr.evaluation.protocols import protocol
from cricavpr.evaluation.streaming import describe_sides
from cricavpr.grouping import Grouping
from cricavpr.methods import load_method
from tests import plain_script

WEIGHTS = Path(cricavpr.__file__).parent / "weights" / "cricavpr-tiny.safetensors"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37 places in the @UTM@ tree, at another size than the network's: two groups of 16 and one of 5."""
    folder = tmp_path_factory.mktemp("town")
    made = ["town", "make", str(folder), "--seed", "3", "--places", "37", "--layout", "utm", "--image-size", "96"]
    assert main([*made, "--workers", "1", "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def plain(tree: Path) -> dict[str, np.ndarray]:
    return plain_script.evaluate(plain_script.tiny_network(str(WEIGHTS)), str(tree), (112, 112), antialias=True)


def test_descriptors_are_those_of_the_plain_script(tree: Path, plain: dict[str, np.ndarray]) -> None:
    dataset, _ = open_dataset(tree)
    grouping = Grouping.parse("in_order:16")
    sides = describe_sides(load_method("cricavpr-tiny"), dataset, grouping, batch_size=48, workers=0)
    for side, name in zip(sides, ("database", "queries"), strict=True):
        assert side.descriptors.vectors.shape == plain[name].shape and len(plain[name]) >= 33
        apart = np.linalg.norm(side.descriptors.vectors - plain[name], axis=1)
        assert apart.max() < 1e-5
        assert np.linalg.norm(side.descriptors.vectors[1:] - plain[name][:-1], axis=1).min() > 1e-2  # not trivially


def test_recall_is_exactly_that_of_the_plain_script(tree: Path, plain: dict[str, np.ndarray]) -> None:
    dataset, _ = open_dataset(tree)
    method = load_method("cricavpr-tiny")
    paper = protocol("paper")
    result = evaluate(method, dataset, Grouping.parse("in_order:16"), protocol=paper, workers=0)
    assert [100 * recall for recall in result.recall_at.values()] == pytest.approx(plain["recalls"].tolist(), rel=1e-12)
    there = plain["predictions"].shape[1]
    assert np.array_equal(result.predictions.indices[:, :there], plain["predictions"])


def test_the_command_line_does_the_same(tree: Path, plain: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert (
        main(["evaluate", str(tree), "--protocol", "paper", "--out", str(tmp_path), "--quiet", "--workers", "0"]) == 0
    )
    (folder,) = (path for path in tmp_path.iterdir() if not path.name.startswith("."))
    card = Card.read(folder)
    assert (card.grouping, card.protocol.name, card.protocol.distance, card.ns) == (
        "in_order:16",
        "paper",
        "l2",
        (1, 5, 10, 100),
    )
    assert [100 * card.recall_at[n] for n in card.ns] == pytest.approx(plain["recalls"].tolist(), rel=1e-12)
