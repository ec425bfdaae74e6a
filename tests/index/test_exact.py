"""One exact search: the score of a query and a photo is the same bits, whatever else is asked or stored."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import InputError
from cricavpr.index import exact, vectors
from cricavpr.index.columns import Photos
from cricavpr.index.exact import search_rows
from cricavpr.index.filters import Tagged
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.vectors import Rows

ROOT = Path("/photos")
Pairs = dict[tuple[int, str], bytes]


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    drawn = rng.standard_normal((count, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def true_scores(stored: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(Q, N) each pair by itself, in float64 rounded to float32."""
    return np.array(
        [[np.float32((row.astype(np.float64) * q.astype(np.float64)).sum()) for row in stored] for q in queries]
    )


def pairs_of(index: PlaceIndex, asked: DescriptorSet, top: int, **how: object) -> Pairs:
    """Score bits by query and photo; and of each query the photos stand in the right order."""
    found = index.search(asked, top, **how)  # type: ignore[arg-type]
    pairs = {}
    for query, (rows, scores) in enumerate(zip(found.indices.tolist(), found.scores, strict=True)):
        order = [(-score, row) for score, row in zip(scores.tolist(), rows, strict=True)]
        assert order == sorted(order)
        pairs |= {(query, index.name(row)): score.tobytes() for row, score in zip(rows, scores, strict=True)}
    return pairs


def ways(chance: np.random.Generator, photos: Photos, folder: Path, dtype: str) -> list[PlaceIndex]:
    """The same photos: built at once, and in two splits into adds; with others that were removed again."""
    count, given = len(photos), photos.descriptors
    made = [PlaceIndex.build(photos, folder / "whole", dtype=dtype)]
    for number in range(2):
        index = PlaceIndex.create(folder / f"split{number}", given.made_by, dtype=dtype)
        cuts = sorted({0, count, *chance.integers(0, count, 4).tolist()})
        for start, end in itertools.pairwise(cuts):
            names = tuple(f"gone{number}-{start}-{place}" for place in range(3))
            gone = DescriptorSet(names, unit(chance, 3, given.made_by.dim), given.made_by)
            index = index.add(Photos(gone, ROOT)).index
            part = DescriptorSet(given.names[start:end], given.vectors[start:end], given.made_by)
            index = index.add(Photos(part, ROOT, tags=(photos.tags or ())[start:end])).index
        made.append(index.remove([name for name in index.names if name.startswith("gone")]).index)
    return made


@pytest.mark.parametrize("seed", range(12))
def test_a_pair_has_one_score_to_the_bit(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over both precisions, one build or many adds, removed photos, filters, batches of any size, and small blocks."""
    chance = np.random.default_rng(seed)
    dim, count, dtype = int(chance.integers(2, 300)), int(chance.integers(20, 150)), ("float32", "float16")[seed % 2]
    monkeypatch.setattr("cricavpr.index.writing.FOLD_BYTES", int(chance.choice([0, 10_000, 8_000_000])))
    monkeypatch.setattr(vectors, "VALUES_AT_ONCE", dim * int(chance.integers(1, count)))
    monkeypatch.setattr(exact, "QUERIES_AT_ONCE", int(chance.integers(1, 9)))
    made_by = MadeBy("drawn", "none", None, "none", "none", None, dim)
    rows = unit(chance, count, dim)
    rows[1::5] = rows[0]  # several that are equal
    rows[2::5] = rows[0] + np.float32(1e-7)  # and several that a matrix product cannot tell from them
    names = tuple(f"{number}.jpg" for number in range(count))
    tags = [["even"] if number % 2 == 0 else [] for number in range(count)]
    indexes = ways(chance, Photos(DescriptorSet(names, rows, made_by), ROOT, tags=tags), tmp_path, dtype)
    asked = np.concatenate([unit(chance, 9, dim), rows[:2]])
    queries = DescriptorSet(tuple(map(str, range(len(asked)))), asked, made_by)
    want = true_scores(rows.astype(dtype), asked)
    bits = {(q, name): want[q, row].tobytes() for q in range(len(asked)) for row, name in enumerate(names)}
    top = int(chance.integers(1, count))
    for index in indexes:
        assert len(index) == count
        whole = pairs_of(index, queries, top)
        assert whole == {pair: bits[pair] for pair in whole}
        best = [sorted(range(count), key=lambda row, q=q: (-want[q, row], index.names.index(names[row])))[:top]
                for q in range(len(asked))]  # fmt: skip
        assert set(whole) == {(q, names[row]) for q, rows_of_q in enumerate(best) for row in rows_of_q}
        few = pairs_of(index, queries, top, where=Tagged("even"))
        assert few == {pair: bits[pair] for pair in few} and {int(name[:-4]) % 2 for _, name in few} == {0}
        for q in range(len(asked)):
            alone = DescriptorSet(("q",), asked[q : q + 1].copy(), made_by)
            assert {(q, name): score for (_, name), score in pairs_of(index, alone, top).items()} == {
                pair: score for pair, score in whole.items() if pair[0] == q
            }


def test_an_index_that_is_asked_for_its_own_photos_scores_them_like_any_other(tmp_path: Path) -> None:
    made_by = MadeBy("drawn", "none", None, "none", "none", None, 64)
    rows = unit(np.random.default_rng(0), 40, 64)
    index = PlaceIndex.build(Photos(DescriptorSet(tuple(map(str, range(40))), rows, made_by), ROOT), tmp_path / "index")
    own, copied = index.descriptors, DescriptorSet(index.names, rows.copy(), made_by)
    assert np.shares_memory(own.vectors, index.vectors[:])
    assert index.search(own, 7).scores.tobytes() == index.search(copied, 7).scores.tobytes()


def test_of_any_number_of_equal_rows_the_first_come_first() -> None:
    """However many they are: no limit on how many are scored again."""
    rng = np.random.default_rng(0)
    one, other = unit(rng, 2, 32)
    rows = np.concatenate([other[None], np.repeat(one[None], 9000, axis=0), other[None]])
    found = search_rows(Rows((rows[:5000], rows[5000:]), None, 32), np.stack([one, other]), 7)
    assert found.indices.tolist() == [[*range(1, 8)], [0, 9001, *range(1, 6)]]


def test_rows_that_a_product_ranks_wrongly_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product as wrong as float32 may make it: every score is moved by up to its bound."""
    rng, dim = np.random.default_rng(1), 4096
    queries = unit(rng, 3, dim)
    rows = np.concatenate([unit(rng, 200, dim)] + [queries + np.float32(2e-6) * unit(rng, 3, dim) for _ in range(40)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    def wrong(asked: np.ndarray, block: np.ndarray) -> np.ndarray:
        bound = dim * 2.0**-24
        return (exact.products(asked, block) + rng.uniform(-bound, bound, (len(asked), len(block)))).astype(np.float32)

    monkeypatch.setattr(vectors, "VALUES_AT_ONCE", 30 * dim)
    found = search_rows(Rows((rows,), None, dim), queries, 10, nominate=wrong)
    assert found.indices.tolist() == np.argsort(-true_scores(rows, queries), axis=1, kind="stable")[:, :10].tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_damage_and_not_ranked(bad: float) -> None:
    rows = unit(np.random.default_rng(0), 20, 8)
    rows[7, 3] = bad
    with pytest.raises(InputError, match="a descriptor of the index is damaged"):
        search_rows(Rows((rows,), None, 8), rows[:2], 3)
