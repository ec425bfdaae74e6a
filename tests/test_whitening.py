"""Whitening learnt on a database: what it does, what it is held by, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import InputError, MadeByError
from cricavpr.whitening import Whitening, fit_whitening

RNG = np.random.default_rng(0)
STRETCHED = RNG.standard_normal((60, 8)) * np.arange(1, 9) + 3.0


def described(vectors: np.ndarray, pca: str | None = None) -> DescriptorSet:
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = tuple(f"{number}.jpg" for number in range(len(unit)))
    return DescriptorSet(names, unit, MadeBy("gcl", "none", (480, 640), "as it is", "none", pca, unit.shape[1]))


def test_the_database_varies_equally_in_every_direction_afterwards() -> None:
    whitening = fit_whitening(STRETCHED)
    turned = (STRETCHED - whitening.mean) @ whitening.projection.T
    assert np.allclose(turned.T @ turned / len(turned), np.eye(8), atol=1e-10)
    assert np.allclose(np.linalg.norm(whitening.whiten(STRETCHED), axis=1), 1, atol=1e-5)


def test_the_largest_variance_comes_first_and_signs_are_fixed() -> None:
    whitening = fit_whitening(STRETCHED, dim=3)
    assert whitening.dim == 3
    assert (np.abs(whitening.projection).max(axis=1) == whitening.projection.max(axis=1)).all()
    lengths = np.linalg.norm(whitening.projection, axis=1)  # one over the standard deviation
    assert (np.diff(lengths) > 0).all()


def test_a_descriptor_set_keeps_its_names_and_says_what_became_of_it(tmp_path: Path) -> None:
    before = described(STRETCHED)
    after = fit_whitening(before.vectors, dim=4).apply(before)
    assert after.names == before.names and after.vectors.shape == (60, 4) and after.vectors.dtype == np.float32
    assert after.made_by.pca is not None
    assert after.made_by.pca.startswith("whitening to 4-d learnt on 60 descriptors, SHA-256 ")
    after.save(tmp_path / "white.safetensors")
    assert DescriptorSet.load(tmp_path / "white.safetensors").made_by == after.made_by


def test_whitenings_of_different_databases_are_not_comparable() -> None:
    before = described(STRETCHED)
    one, other = fit_whitening(before.vectors), fit_whitening(before.vectors[1:])
    one.apply(before).made_by.require_same(one.apply(before).made_by, "these")
    with pytest.raises(MadeByError, match="pca"):
        one.apply(before).made_by.require_same(other.apply(before).made_by, "these")


def test_more_rows_than_are_taken_at_once_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    before = described(STRETCHED)
    whole = fit_whitening(before.vectors)
    expected = whole.apply(before)
    monkeypatch.setattr("cricavpr.pca.ROWS_AT_ONCE", 7)
    in_parts = fit_whitening(before.vectors)
    assert in_parts.learnt_on == whole.learnt_on
    assert np.allclose(in_parts.apply(before).vectors, expected.vectors, atol=1e-6)


def test_a_small_database_keeps_the_directions_it_varies_in() -> None:
    few = STRETCHED[:5].astype(np.float32)
    assert fit_whitening(few).dim == 4  # five points span four directions
    with pytest.raises(InputError, match="5 descriptors vary in 4 directions, so 6 cannot be kept"):
        fit_whitening(few, dim=6)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 4)), "2 or more"),
        (np.ones(4), "shape"),
        (np.ones((9, 4)), "vary in 0 directions"),
        (np.full((9, 4), np.nan), "not finite"),
    ],
)
def test_what_cannot_be_learnt_on_is_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_whitening(vectors)


def test_descriptors_of_another_size_or_reduced_before_are_refused() -> None:
    whitening: Whitening = fit_whitening(STRETCHED)
    with pytest.raises(InputError, match="8 dimensions does not fit descriptors of 5"):
        whitening.apply(described(STRETCHED[:, :5]))
    with pytest.raises(InputError, match="went through PCA 8 already"):
        whitening.apply(described(STRETCHED, pca="PCA 8"))
