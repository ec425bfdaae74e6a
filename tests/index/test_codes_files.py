"""Files of quantisers and codes: what is damaged, cut or another's is named and never used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cricavpr.index.array_file import Column, write_arrays
from cricavpr.index.codes.coding import codes_file, header_of, read_codes, write_codes
from cricavpr.index.codes.compressed import Quantiser
from cricavpr.index.manifest import Piece
from cricavpr.index.storage import CodesError
from cricavpr.index.vectors import Rows
from tests.index.test_engines import drawn, made, small_codes

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return drawn(300, 32)


@pytest.fixture(scope="module")
def quantiser(vectors: np.ndarray) -> Quantiser:
    with pytest.MonkeyPatch.context() as patch:
        small_codes(patch, 8, 4)
        return Quantiser.learn(Rows((vectors,), None, 32), made(32))


PIECE = Piece("segment-0123456789abcdef.bin", 1, "c0ffee" * 10, 300)


def written(path: Path, about: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    write_arrays(path, about, {name: Column.of(array) for name, array in arrays.items()})


def test_a_quantiser_comes_back_to_the_bit(tmp_path: Path, quantiser: Quantiser, vectors: np.ndarray) -> None:
    quantiser.save(tmp_path / "quantiser")
    back = Quantiser.load(tmp_path / "quantiser", made(32))
    assert back.fingerprint == quantiser.fingerprint
    assert np.array_equal(back.encode(vectors), quantiser.encode(vectors))


def test_a_quantiser_of_other_descriptors_is_refused(tmp_path: Path, quantiser: Quantiser) -> None:
    quantiser.save(tmp_path / "quantiser")
    with pytest.raises(CodesError, match="another method, weights or settings"):
        Quantiser.load(tmp_path / "quantiser", replace(made(32), weights="others"))
    written(tmp_path / "other", {"kind": "something"}, {})
    with pytest.raises(CodesError, match="is not a"):
        Quantiser.load(tmp_path / "other", made(32))


@pytest.mark.parametrize("change", ["not finite", "does not fit", "missing", "no parts", "integers", "other values"])
def test_a_quantiser_of_impossible_arrays_is_refused(tmp_path: Path, quantiser: Quantiser, change: str) -> None:
    arrays = dict(quantiser.arrays())
    if change == "not finite":
        arrays["mean"] = np.full_like(arrays["mean"], np.nan)
    elif change == "does not fit":
        arrays["mean"] = arrays["mean"][:-1]
    elif change == "no parts":
        arrays["projection"], arrays["centroids"] = arrays["projection"][:0], arrays["centroids"][:0]
    elif change == "integers":
        arrays["centroids"] = arrays["centroids"].astype(np.uint8)
    elif change == "other values":
        arrays["mean"], arrays["projection"] = arrays["mean"][:-1], arrays["projection"][:, :-1].copy()
    else:
        del arrays["mean"]
    written(tmp_path / "wrong", {"kind": "cricavpr.quantiser.2", "made_by": made(32).fingerprint}, arrays)
    with pytest.raises(CodesError, match="is not a"):
        Quantiser.load(tmp_path / "wrong", made(32))


def test_codes_come_back(tmp_path: Path, quantiser: Quantiser, vectors: np.ndarray) -> None:
    write_codes(tmp_path, quantiser.encode(vectors), PIECE, quantiser)
    assert np.array_equal(read_codes(tmp_path, PIECE, quantiser), quantiser.encode(vectors))


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("kind", "cricavpr.quantiser.2"),
        ("segment", "decaf"),
        ("count", 299),
        ("made_by", "others"),
        ("quantiser", "another"),
    ],
)
def test_codes_of_something_else_are_refused_by_name(
    tmp_path: Path, quantiser: Quantiser, vectors: np.ndarray, what: str, value: object
) -> None:
    path = codes_file(tmp_path, PIECE, quantiser)
    written(path, {**header_of(PIECE, quantiser), what: value}, {"codes": quantiser.encode(vectors)})
    with pytest.raises(CodesError, match=f"{path} has the {what} .* in its header, expected"):
        read_codes(tmp_path, PIECE, quantiser)


@pytest.mark.parametrize(
    "codes",
    [np.zeros((300, 3), np.uint8), np.zeros((299, 2), np.uint8), np.zeros((300, 2), np.int8), np.zeros(600, "u1")],
)
def test_codes_of_another_shape_are_refused(tmp_path: Path, quantiser: Quantiser, codes: np.ndarray) -> None:
    written(codes_file(tmp_path, PIECE, quantiser), header_of(PIECE, quantiser), {"codes": codes})
    with pytest.raises(CodesError, match="does not hold 300 codes of 2 bytes"):
        read_codes(tmp_path, PIECE, quantiser)
