"""Files of quantisers and codes: what is damaged, cut or another's is named and never used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from UNKNOWN.ArrayFile import ArrayFile
from UNKNOWN.codes_for import codes_for
from UNKNOWN.CodesOf import CodesOf
from UNKNOWN.read_codes import read_codes
from UNKNOWN.write_codes import write_codes

from cricavpr.errors import InputError
from cricavpr.index import array_file as module
from cricavpr.index.codes.quantiser import Coding, Quantiser
from cricavpr.index.storage import CodesError
from cricavpr.index.vectors import Rows
from tests.index.test_engines import drawn, made

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return drawn(300, 32)


@pytest.fixture(scope="module")
def quantiser(vectors: np.ndarray) -> Quantiser:
    return Quantiser.learn(Rows((vectors,)), made(32), Coding(8, 4))


@pytest.fixture
def owner(quantiser: Quantiser) -> CodesOf:
    return CodesOf.segment_by("c0ffee", 300, quantiser)


def test_arrays_come_back_and_equal_content_gives_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 16)
    arrays = {"b": np.arange(12, dtype=np.float32).reshape(3, 4), "a": np.arange(5, dtype=np.uint8)}
    arrays["empty"] = np.empty((0, 4), np.uint8)
    for name in ("one", "two"):
        ArrayFile({"what": "a test"}, arrays).write(tmp_path / name)
    back = ArrayFile.read(tmp_path / "one")
    assert back.about == {"what": "a test"}
    assert all(np.array_equal(back.arrays[name], array) for name, array in arrays.items())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_flipped_byte_and_every_cut_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 20)
    path = tmp_path / "arrays"
    ArrayFile({"what": "a test"}, {"a": np.arange(50, dtype=np.uint8)}).write(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CodesError):
            ArrayFile.read(path)
        path.write_bytes(whole[:place])
        with pytest.raises(CodesError):
            ArrayFile.read(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(CodesError, match="bytes instead of"):
        ArrayFile.read(path)


def test_damage_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 64)
    path = tmp_path / "arrays"
    ArrayFile({}, {"a": np.zeros(200, np.uint8)}).write(path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # in the second block of four
    path.write_bytes(content)
    with pytest.raises(CodesError, match=f"{path} is damaged at byte {len(content) - 200 + 64}"):
        ArrayFile.read(path)


@pytest.mark.parametrize(
    "arrays",
    [
        '[{"name": "a", "type": "|O", "shape": [1], "blocks": [""]}]',
        '[{"name": "a", "type": "<f4", "shape": [-1], "blocks": []}]',
        '[{"name": "a", "type": "<f4", "shape": [99999999999999], "blocks": []}]',
        '[{"name": "a", "type": "<f4", "shape": [Infinity], "blocks": []}]',
        '[{"name": "a", "type": "<f4", "shape": [0, 99999999999999999999], "blocks": []}]',
        '[{"name": "a"}]',
        "7",
    ],
)
def test_a_header_that_promises_the_impossible_is_refused(tmp_path: Path, arrays: str) -> None:
    import hashlib

    header = f'{{"about": {{}}, "arrays": {arrays}}}'.encode()
    path = tmp_path / "arrays"
    path.write_bytes(module.MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header)
    with pytest.raises(CodesError, match="header"):
        ArrayFile.read(path)


def test_a_quantiser_comes_back_to_the_bit(tmp_path: Path, quantiser: Quantiser, vectors: np.ndarray) -> None:
    quantiser.save(tmp_path / "quantiser")
    back = Quantiser.load(tmp_path / "quantiser", made(32))
    assert back.fingerprint == quantiser.fingerprint
    assert np.array_equal(back.encode(vectors), quantiser.encode(vectors))


def test_a_quantiser_of_other_descriptors_is_refused(tmp_path: Path, quantiser: Quantiser) -> None:
    quantiser.save(tmp_path / "quantiser")
    with pytest.raises(CodesError, match="made differently"):
        Quantiser.load(tmp_path / "quantiser", replace(made(32), weights="others"))
    ArrayFile({"format": "something"}, {}).write(tmp_path / "other")
    with pytest.raises(CodesError, match="not a quantiser"):
        Quantiser.load(tmp_path / "other", made(32))


@pytest.mark.parametrize("change", ["not finite", "does not fit", "missing", "no parts", "integers", "other values"])
def test_a_quantiser_of_impossible_arrays_is_refused(tmp_path: Path, quantiser: Quantiser, change: str) -> None:
    quantiser.save(tmp_path / "quantiser")
    file = ArrayFile.read(tmp_path / "quantiser")
    arrays = dict(file.arrays)
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
    ArrayFile(file.about, arrays).write(tmp_path / "wrong")
    with pytest.raises(CodesError, match="is no quantiser"):
        Quantiser.load(tmp_path / "wrong", made(32))


def test_codes_come_back(tmp_path: Path, quantiser: Quantiser, vectors: np.ndarray, owner: CodesOf) -> None:
    write_codes(tmp_path / "codes", quantiser.encode(vectors), owner)
    assert np.array_equal(read_codes(tmp_path / "codes", owner, 2), quantiser.encode(vectors))
    with pytest.raises(InputError, match="299 codes do not fit"):
        write_codes(tmp_path / "codes", quantiser.encode(vectors[1:]), owner)


@pytest.mark.parametrize(
    ("what", "value"), [("segment", "decaf"), ("count", 299), ("made_by", "others"), ("quantiser", "another")]
)
def test_codes_of_something_else_are_refused_by_name(
    tmp_path: Path, quantiser: Quantiser, vectors: np.ndarray, owner: CodesOf, what: str, value: object
) -> None:
    path = tmp_path / "codes"
    write_codes(path, quantiser.encode(vectors), owner)
    with pytest.raises(CodesError, match=f"{path} holds codes of another {what}"):
        read_codes(path, replace(owner, **{what: value}), 2)


def test_codes_that_cannot_be_used_are_made_again_and_it_is_said(
    tmp_path: Path, quantiser: Quantiser, vectors: np.ndarray
) -> None:
    path, right = tmp_path / "codes", quantiser.encode(vectors)
    codes, why = codes_for(path, vectors, "c0ffee", quantiser)
    assert np.array_equal(codes, right) and why == f"codes made of {len(vectors)} rows: {path} was not there"
    assert codes_for(path, vectors, "c0ffee", quantiser)[1] is None
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    codes, why = codes_for(path, vectors, "c0ffee", quantiser, write=None)
    assert np.array_equal(codes, right) and why is not None and f"{path} is damaged" in why
    assert path.read_bytes() == bytes(content)  # an index that may not be written to is not
    codes_for(path, vectors, "c0ffee", quantiser)
    assert codes_for(path, vectors, "c0ffee", quantiser)[1] is None


def test_a_quantiser_file_is_no_codes_file(tmp_path: Path, quantiser: Quantiser, owner: CodesOf) -> None:
    quantiser.save(tmp_path / "quantiser")
    with pytest.raises(CodesError, match="holds no codes"):
        read_codes(tmp_path / "quantiser", owner, 2)
