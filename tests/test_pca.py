"""PCA and whitening: the authors' figures, one fit for all sizes, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import InputError, MadeByError
from cricavpr.pca import Pca, fit_pca

GOLDEN = Path(__file__).parent / "golden" / "pca_crica.npz"
STRETCHED = np.random.default_rng(0).standard_normal((60, 8)) * np.arange(1, 9) + 3.0


def described(vectors: np.ndarray, grouping: str = "shuffled:16:0") -> DescriptorSet:
    names = tuple(f"{number}.jpg" for number in range(len(vectors)))
    return DescriptorSet(
        names, vectors, MadeBy("cricavpr", "ab12", (224, 224), "as it is", grouping, None, vectors.shape[1])
    )


def test_reduced_descriptors_are_those_of_the_authors() -> None:
    with np.load(GOLDEN) as data:
        golden = dict(data)
    pca = fit_pca(described(golden["train"].astype(np.float64)), 16, renormalise=False)
    reduced = pca.project(golden["query"])
    np.testing.assert_allclose(pca.mean, golden["mean"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(pca.explained_variance, golden["explained_variance"], rtol=1e-9)
    np.testing.assert_allclose(reduced @ reduced.T, golden["gram"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=1), golden["norms"], rtol=1e-9)
    signs = np.sign((reduced * golden["transformed"]).sum(axis=0))  # a direction and its opposite serve alike
    np.testing.assert_allclose(reduced * signs, golden["transformed"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(pca.directions * signs[:, None], golden["components"], atol=1e-9)


def test_one_fit_serves_all_smaller_sizes() -> None:
    whole, small = fit_pca(described(STRETCHED), 6), fit_pca(described(STRETCHED), 2)
    cut = whole.truncated(2)
    np.testing.assert_allclose(cut.project(STRETCHED), small.project(STRETCHED), atol=1e-12)
    assert cut.describe() == small.describe() and cut.dim == 2


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_pca(described(STRETCHED), 4)
    centred = STRETCHED - STRETCHED.mean(axis=0)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(whole.directions @ rows[:4].T), np.eye(4), atol=1e-9)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("cricavpr.pca.ROWS_AT_ONCE", 7)
    in_parts = fit_pca(described(STRETCHED), 4, report=lambda done, of: told.append((done, of)))
    assert np.allclose(in_parts.directions, whole.directions, atol=1e-10)
    assert in_parts.describe() == whole.describe()
    assert told[-1] == (120, 120) and len(told) == 18  # two passes of nine blocks


def test_length_and_whitening_are_choices_and_are_told() -> None:
    as_the_authors = fit_pca(described(STRETCHED), 3, renormalise=False)
    assert not np.allclose(np.linalg.norm(as_the_authors.project(STRETCHED), axis=1), 1)
    unit = fit_pca(described(STRETCHED), 3)
    assert np.allclose(np.linalg.norm(unit.project(STRETCHED), axis=1), 1)
    white = fit_pca(described(STRETCHED), 3, whiten=True, renormalise=False).project(STRETCHED)
    assert np.allclose(np.cov(white.T), np.eye(3), atol=1e-10)
    lines = {pca.describe() for pca in (as_the_authors, unit, replace(unit, whiten=True))}
    assert len(lines) == 3
    assert as_the_authors.describe().startswith(
        "PCA to 3-d, not whitened, not renormalised, learnt on 60 descriptors, SHA"
    )
    assert as_the_authors.describe().endswith("in groups shuffled:16:0")


def test_a_pca_comes_back_from_its_file_to_the_bit(tmp_path: Path) -> None:
    pca = fit_pca(described(STRETCHED), 3, whiten=True)
    for name in ("a", "b"):
        pca.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    back = Pca.load(tmp_path / "a")
    assert back.describe() == pca.describe() and back.fitted_on == pca.fitted_on
    assert np.array_equal(back.project(STRETCHED), pca.project(STRETCHED))


@pytest.mark.parametrize("content", [b"", b"no pca", None])
def test_another_file_is_refused_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is None:
        described(STRETCHED.astype(np.float32)).save(path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="PCA") as caught:
        Pca.load(path)
    assert "\n" not in str(caught.value)


def test_descriptors_on_disk_are_reduced_on_disk(tmp_path: Path) -> None:
    before = described(STRETCHED.astype(np.float32), "in_order:16")
    before.save(tmp_path / "whole")
    pca = fit_pca(before, 3)
    after = pca.apply(DescriptorSet.load(tmp_path / "whole"), tmp_path / "small")
    in_memory = pca.apply(before)
    assert np.array_equal(after.vectors, in_memory.vectors) and after.made_by == in_memory.made_by
    assert (after.made_by.pca, after.made_by.dim, after.made_by.grouping) == (pca.describe(), 3, "in_order:16")


def test_a_pca_of_other_descriptors_is_refused_and_another_grouping_is_not() -> None:
    before = described(STRETCHED)
    pca = fit_pca(before, 3)
    pca.apply(described(STRETCHED, "in_order:16"))
    others = replace(before, made_by=replace(before.made_by, weights="cd34"))
    with pytest.raises(MadeByError, match="weights: "):
        pca.apply(others)
    with pytest.raises(MadeByError, match="reduced before"):
        pca.apply(replace(before, made_by=replace(before.made_by, pca="something")))
    with pytest.raises(InputError, match="reduced before"):
        fit_pca(replace(before, made_by=replace(before.made_by, pca="something")), 3)


def test_no_more_values_than_there_are() -> None:
    with pytest.raises(InputError, match=r"a PCA cannot keep 6 .* these 5 descriptors vary in only 4 directions"):
        fit_pca(described(STRETCHED[:5]), 6)
    with pytest.raises(InputError, match="can keep 1 to 3, got 9"):
        fit_pca(described(STRETCHED), 3).truncated(9)
    with pytest.raises(InputError, match="must be at least 1, got 0"):
        fit_pca(described(STRETCHED), 0)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 4)), "at least 2"),
        (np.ones((9, 4)), "vary in only 0 directions"),
        (np.full((9, 4), np.nan), "finite"),
    ],
)
def test_what_cannot_be_learnt_on_is_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_pca(described(vectors))


# --- whitening


def test_the_database_varies_equally_in_every_direction_afterwards() -> None:
    raw = fit_pca(described(STRETCHED), whiten=True, renormalise=False).project(STRETCHED)
    assert np.allclose(raw.T @ raw / (len(raw) - 1), np.eye(8), atol=1e-10)
    assert np.allclose(np.linalg.norm(fit_pca(described(STRETCHED), whiten=True).project(STRETCHED), axis=1), 1)


def test_the_largest_variance_comes_first_and_signs_are_fixed() -> None:
    pca = fit_pca(described(STRETCHED), 3, whiten=True)
    assert pca.dim == 3 and (np.diff(pca.variances) < 0).all()
    directions = pca.directions
    assert (np.abs(directions).max(axis=1) == directions.max(axis=1)).all()


def test_whitenings_of_different_databases_are_not_comparable() -> None:
    before = described(STRETCHED)
    one, other = (fit_pca(described(rows), 7, whiten=True).apply(before) for rows in (STRETCHED, STRETCHED[1:]))
    one.made_by.require_same(one.made_by, "these")
    with pytest.raises(MadeByError, match="pca"):
        one.made_by.require_same(other.made_by, "these")


def test_a_small_database_keeps_the_directions_it_varies_in() -> None:
    assert fit_pca(described(STRETCHED[:5]), whiten=True).dim == 4  # five points span four directions


def test_a_pca_is_shown_in_one_line() -> None:
    assert repr(fit_pca(described(STRETCHED), 3)).startswith("<Pca cricavpr, 8 to 3 dimensions: PCA to 3-d, not wh")
