"""Search engines on descriptors without clusters. The slow twin is one stable sort of every score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import MadeBy
from cricavpr.errors import InputError
from cricavpr.index import exact as exact_module
from cricavpr.index import vectors as vectors_module
from cricavpr.index.codes import compressed as quantiser_module
from cricavpr.index.codes import fast_scan
from cricavpr.index.codes.compressed import CompressedEngine, Quantiser
from cricavpr.index.codes.fast_scan import best_codes, products_of_halves
from cricavpr.index.codes.tuning import tune
from cricavpr.index.exact import ExactEngine, products
from cricavpr.index.searching import choose
from cricavpr.index.vectors import Rows
from tests.index.places import laid_out

pytest.importorskip("faiss")

DIM = 256


def small_codes(monkeypatch: pytest.MonkeyPatch, dims: int = 64, parts: int = 32, sample: int = 1000) -> None:
    """Learn shorter codes, on fewer rows."""
    for name, value in (("DIMS", dims), ("PARTS", parts), ("SAMPLE", sample)):
        monkeypatch.setattr(quantiser_module, name, value)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_codes(monkeypatch)


def made(dim: int = DIM) -> MadeBy:
    return MadeBy("mean_colour", "none", None, "as it is", "none", None, dim)


def drawn(count: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """Unit vectors whose variances fall as those of descriptors do: no clusters, no easy neighbours."""
    spread = np.exp(-0.07 * np.sqrt(np.arange(1, dim + 1)))
    vectors = np.random.default_rng(seed).standard_normal((count, dim)) * spread
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def seen_again(vectors: np.ndarray, cosine: float = 0.5, seed: int = 1) -> np.ndarray:
    noise = drawn(len(vectors), vectors.shape[1], seed)
    turned = cosine * vectors.astype(np.float32) + np.sqrt(1 - cosine**2) * noise
    return (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)


def slowly(vectors: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """(Q, k) rows by one stable sort of float64 scores, rounded as descriptors are."""
    scores = (vectors.astype(np.float64)[None] * queries.astype(np.float64)[:, None]).sum(axis=2).astype(np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def rows_of(*parts: np.ndarray, live: np.ndarray | None = None) -> Rows:
    return Rows(parts, live, parts[0].shape[1])


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return drawn(3000)


@pytest.fixture(scope="module")
def queries(vectors: np.ndarray) -> np.ndarray:
    return seen_again(vectors[::300])


@pytest.fixture(scope="module")
def rows(vectors: np.ndarray) -> Rows:
    return rows_of(vectors[:1000], vectors[1000:1001], vectors[1001:])


@pytest.fixture(scope="module")
def quantiser(rows: Rows) -> Quantiser:
    with pytest.MonkeyPatch.context() as patch:
        small_codes(patch)
        return Quantiser.learn(rows, made())


@pytest.fixture(scope="module")
def engine(rows: Rows, quantiser: Quantiser) -> CompressedEngine:
    return CompressedEngine(rows, quantiser, laid_out(quantiser, [quantiser.encode(part) for part in rows.parts]), 500)


# --- rows


def test_rows_count_through_all_parts(rows: Rows, vectors: np.ndarray) -> None:
    chosen = np.array([0, 999, 1000, 1001, 2999])
    assert len(rows) == 3000
    assert np.array_equal(rows.read(chosen), vectors[chosen])


@pytest.mark.parametrize("precision", [np.float16, np.float32])
def test_rows_of_a_file_are_those_of_memory(tmp_path: Path, vectors: np.ndarray, precision: type) -> None:
    vectors.astype(precision).tofile(tmp_path / "vectors")
    mapped = rows_of(np.memmap(tmp_path / "vectors", precision, "r", 7 * DIM * vectors.itemsize, (2000, DIM)))
    skipped = 7 * vectors.itemsize // np.dtype(precision).itemsize
    chosen = np.array([0, 5, 1999])
    expected = vectors.astype(precision).astype(np.float32)[skipped:]
    for _ in range(500):  # pages are given back on the way
        assert np.array_equal(mapped.read(chosen), expected[chosen])
    whole = np.concatenate([block for _, block in mapped.blocks()])
    assert np.array_equal(whole, expected[:2000])
    assert whole.dtype == mapped.read(chosen).dtype == precision


def test_rows_of_parts_of_two_precisions_keep_what_each_has(vectors: np.ndarray) -> None:
    halves, singles = vectors[:1000].astype(np.float16), vectors[1000:]
    for parts in ((halves, singles), (singles, halves)):
        chosen = np.array([3, 999, 1000, 2500])
        expected = np.concatenate([part.astype(np.float32) for part in parts])[chosen]
        assert np.array_equal(rows_of(*parts).read(chosen), expected)


def test_rows_that_are_none_are_refused(vectors: np.ndarray) -> None:
    for wrong in (vectors[:, :5], vectors[0], vectors.astype(np.float64)):
        with pytest.raises(InputError, match=rf"must be \(n, {DIM}\) float16 or float32"):
            rows_of(vectors, wrong)
    for mask in (np.ones(5, bool), np.ones(3000, int)):
        with pytest.raises(InputError, match=r"mask of shape \(3000,\) and type bool"):
            rows_of(vectors, live=mask)
    assert len(Rows((), None, DIM)) == 0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_allowed_rows_come_in_blocks_whether_they_are_few_or_many(
    vectors: np.ndarray, rows: Rows, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "VALUES_AT_ONCE", 7 * DIM)
    allowed = np.random.default_rng(0).random(3000) < share
    blocks = list(rows.blocks(allowed))
    assert all(0 < len(numbers) <= 7 for numbers, _ in blocks)
    numbers = np.concatenate([np.empty(0, np.int64), *(numbers for numbers, _ in blocks)])
    assert np.array_equal(numbers, np.flatnonzero(allowed))
    assert all(np.array_equal(block, vectors[numbers]) for numbers, block in blocks)


# --- exact


@pytest.mark.parametrize("values_at_once", [DIM, 7 * DIM, 1_000_000])
def test_the_exact_engine_finds_what_one_sort_finds(
    vectors: np.ndarray, queries: np.ndarray, rows: Rows, values_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "VALUES_AT_ONCE", values_at_once)
    monkeypatch.setattr(exact_module, "QUERIES_AT_ONCE", 4)
    some = rows_of(vectors[:100], vectors[100:300])
    assert np.array_equal(ExactEngine(some).search(queries, 7).indices, slowly(vectors[:300], queries, 7))


def test_of_equal_rows_the_lower_come_first_however_many_there_are(vectors: np.ndarray) -> None:
    twins = np.repeat(vectors[:5], 300, axis=0)[np.random.default_rng(0).permutation(1500)]
    found = ExactEngine(rows_of(twins[:701], twins[701:])).search(vectors[:5], 40)
    assert np.array_equal(found.indices, slowly(twins, vectors[:5], 40))
    assert (np.diff(found.indices, axis=1) > 0).all()


def test_what_a_product_cannot_tell_apart_is_told_apart(vectors: np.ndarray) -> None:
    """500 rows that differ in their last digits: rounding would choose one of them at random."""
    noise = np.random.default_rng(0).normal(0, 1e-8, (500, DIM))
    alike = (vectors[:1] + noise).astype(np.float32)
    assert np.array_equal(ExactEngine(rows_of(alike)).search(vectors[:1], 3).indices, slowly(alike, vectors[:1], 3))


def test_a_batch_finds_to_the_bit_what_one_query_finds(
    engine: CompressedEngine, rows: Rows, queries: np.ndarray
) -> None:
    for one in (engine, ExactEngine(rows)):
        batch = one.search(queries, 5)
        alone = [one.search(query[None], 5) for query in queries]
        assert np.array_equal(batch.indices, np.concatenate([found.indices for found in alone]))
        assert batch.scores.tobytes() == np.concatenate([found.scores for found in alone]).tobytes()


def test_more_than_there_are_gives_all_there_are(engine: CompressedEngine, rows: Rows, queries: np.ndarray) -> None:
    few = np.zeros(3000, bool)
    few[[4, 2000]] = True
    for one in (engine, ExactEngine(rows)):
        assert one.search(queries, 9, few).indices.shape == (10, 2)
        assert one.search(queries, 9, np.zeros(3000, bool)).indices.shape == (10, 0)
        assert one.search(queries[:0], 9).indices.shape == (0, 9)


@pytest.mark.parametrize("wrong", [np.full((1, DIM), np.nan, np.float32), np.ones((1, 3), np.float32)])
def test_queries_that_are_none_are_refused(engine: CompressedEngine, rows: Rows, wrong: np.ndarray) -> None:
    for one in (engine, ExactEngine(rows)):
        with pytest.raises(InputError):
            one.search(wrong, 5)
        with pytest.raises(InputError, match="at least 1, got 0"):
            one.search(np.ones((1, DIM), np.float32), 0)


def test_a_row_that_is_not_a_number_is_said_and_not_ranked(vectors: np.ndarray, queries: np.ndarray) -> None:
    broken = vectors[:50].copy()
    broken[20, 3] = np.nan
    with pytest.raises(InputError, match="is damaged"):
        ExactEngine(rows_of(broken)).search(queries, 5)


# --- compressed


def test_a_full_shortlist_is_exact_search(engine: CompressedEngine, rows: Rows, queries: np.ndarray) -> None:
    exact, full = ExactEngine(rows).search(queries, 10), engine.with_shortlist(2999).search(queries, 10)
    assert np.array_equal(exact.indices, full.indices)
    assert exact.scores.tobytes() == full.scores.tobytes()


def test_codes_alone_bring_the_right_rows_to_the_shortlist(engine: CompressedEngine, queries: np.ndarray) -> None:
    """Of 256 directions 64 are kept, in 16 bytes: most places that are seen again come before 2,990 others."""
    found = [best_codes(engine.pieces, engine.quantiser.project(query), 10) for query in queries]
    right = [place in rows for place, rows in zip(range(0, 3000, 300), found, strict=True)]
    assert sum(right) >= 9


def test_the_default_keeps_99_percent_of_20_000_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    small_codes(monkeypatch, 512, 256, 2000)
    database = drawn(20_000)
    rows = rows_of(database[:15_000].astype(np.float16), database[15_000:].astype(np.float16))
    quantiser = Quantiser.learn(rows, made())
    engine = CompressedEngine(rows, quantiser, laid_out(quantiser, [quantiser.encode(part) for part in rows.parts]))
    queries = seen_again(database[::400])
    found, exact = engine.search(queries, 10), ExactEngine(rows).search(queries, 10)
    kept = [np.isin(a, b).mean() for a, b in zip(exact.indices, found.indices, strict=True)]
    assert np.mean(kept) >= 0.99
    assert engine.shortlist < len(rows) / 10


def test_what_is_added_is_found_as_if_it_came_first(
    vectors: np.ndarray, quantiser: Quantiser, queries: np.ndarray
) -> None:
    whole = rows_of(vectors)
    at_once = CompressedEngine(whole, quantiser, laid_out(quantiser, [quantiser.encode(vectors)]), 50)
    start = rows_of(vectors[:2000])
    grown = CompressedEngine(start, quantiser, laid_out(quantiser, [quantiser.encode(vectors[:2000])]), 50)
    before = grown
    for first, end in ((2000, 2001), (2001, 2002), (2002, 2700), (2700, 3000)):
        more = rows_of(*grown.rows.parts, vectors[first:end])
        pieces = (*grown.pieces, *laid_out(quantiser, [quantiser.encode(vectors[first:end])]))
        grown = CompressedEngine(more, quantiser, pieces, 50)
    assert np.array_equal(grown.search(queries, 10).indices, at_once.search(queries, 10).indices)
    assert grown.search(vectors[2000:2002], 1).indices.tolist() == [[2000], [2001]]
    assert len(before.rows) == 2000  # a reader keeps the version that it opened
    assert before.search(vectors[2000:2001], 1).indices[0, 0] != 2000


def test_many_packed_pieces_are_one(
    vectors: np.ndarray, quantiser: Quantiser, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = quantiser.encode(vectors)
    whole = CompressedEngine(rows_of(vectors), quantiser, laid_out(quantiser, [codes]), 80).search(queries, 10)
    monkeypatch.setattr("cricavpr.index.codes.fast_scan.PACKED_ROWS", 700)
    pieces = CompressedEngine(rows_of(vectors), quantiser, laid_out(quantiser, [codes[:10], codes[10:]]), 80)
    assert len(pieces.pieces) == 6
    assert np.array_equal(pieces.search(queries, 10).indices, whole.indices)


def test_removed_rows_are_never_found(engine: CompressedEngine, vectors: np.ndarray, quantiser: Quantiser) -> None:
    live = np.ones(3000, bool)
    live[::2] = False
    pieces = laid_out(quantiser, [quantiser.encode(vectors)])
    less = CompressedEngine(rows_of(vectors, live=live), quantiser, pieces, 60)
    asked = vectors[[0, 2, 1001]]
    assert np.array_equal(less.search(asked, 3).indices[:, 0] % 2, [1, 1, 1])
    assert np.array_equal(less.search(asked, 1).indices[2], [1001])


def test_codes_and_rows_that_do_not_fit_are_refused(rows: Rows, quantiser: Quantiser, vectors: np.ndarray) -> None:
    with pytest.raises(InputError, match="codes are for 5 rows"):
        CompressedEngine(rows, quantiser, laid_out(quantiser, [quantiser.encode(vectors[:5])]))
    with pytest.raises(InputError, match="shortlist must be at least 1, got 0"):
        CompressedEngine(rows, quantiser, laid_out(quantiser, [quantiser.encode(vectors)]), 0)


@pytest.mark.parametrize("step", [1, 2])
def test_products_of_halves_are_those_of_the_same_values_as_singles(
    vectors: np.ndarray, queries: np.ndarray, step: int
) -> None:
    halves = np.repeat(vectors[:40], step, axis=1).astype(np.float16)[:, ::step]
    halves[3] *= np.float16(1e-4)  # subnormal
    expected = queries.astype(np.float64) @ halves.astype(np.float64).T
    assert np.abs(products_of_halves(queries, halves) - expected).max() < DIM * 2.0**-24 / 10


def test_a_half_that_is_not_a_number_has_no_product(vectors: np.ndarray, queries: np.ndarray) -> None:
    halves = vectors[:40].astype(np.float16)
    halves[7, 5] = np.nan
    found = products_of_halves(queries, halves)
    assert np.array_equal(np.isnan(found), np.isnan(products(queries, halves)))
    assert np.isnan(found[:, 7]).all() and not np.isnan(np.delete(found, 7, 1)).any()


@pytest.mark.parametrize("precision", [np.float16, np.float32])
def test_what_nominates_changes_no_bit_of_what_is_found(
    vectors: np.ndarray, queries: np.ndarray, quantiser: Quantiser, precision: type
) -> None:
    rows = rows_of(vectors[:1000].astype(precision), vectors[1000:].astype(precision))
    scan = laid_out(quantiser, [quantiser.encode(part) for part in rows.parts])
    found, exact = (
        CompressedEngine(rows, quantiser, scan, 2999).search(queries, 10),
        ExactEngine(rows).search(queries, 10),
    )
    assert np.array_equal(found.indices, exact.indices)
    assert found.scores.tobytes() == exact.scores.tobytes()


# --- the quantiser


def test_a_code_depends_on_its_own_vector_only(quantiser: Quantiser, vectors: np.ndarray) -> None:
    together = quantiser.encode(vectors[:401])
    for row in (0, 17, 191, 192, 400):
        assert np.array_equal(quantiser.encode(vectors[row : row + 1])[0], together[row])


def test_the_same_rows_teach_the_same_quantiser(rows: Rows, quantiser: Quantiser) -> None:
    assert Quantiser.learn(rows, made()).fingerprint == quantiser.fingerprint


def test_a_quantiser_of_other_descriptors_has_another_fingerprint(quantiser: Quantiser) -> None:
    assert replace(quantiser, made_by="others").fingerprint != quantiser.fingerprint


def test_removed_rows_teach_nothing(vectors: np.ndarray) -> None:
    live = np.arange(3000) < 1500
    with_removed = Quantiser.learn(rows_of(vectors, live=live), made())
    assert with_removed.fingerprint == Quantiser.learn(rows_of(vectors[:1500]), made()).fingerprint


def test_too_few_rows_teach_nothing_and_it_is_said(vectors: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least 64 photos to learn codes from, got 63"):
        Quantiser.learn(rows_of(vectors[:63]), made())
    assert Quantiser.learn(rows_of(vectors[:64]), made()).dim == DIM


# --- choosing and tuning


def test_the_engine_follows_from_size_and_memory_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    small_codes(monkeypatch, 512, 256)
    assert str(choose(1000, 4096)).startswith("exact search: 1,000 descriptors of 4096 values are few enough")
    assert choose(1_000_000, 4096).engine == "compressed"
    assert "need 348 MB" in choose(1_000_000, 4096).reason
    small = choose(1_000_000, 4096, ram_budget_mb=100)
    assert small.engine == "exact" and "348 MB of memory, and 100 MB are allowed" in small.reason
    for none in (0, -1, float("nan")):
        with pytest.raises(InputError, match="ram_budget_mb must be more than 0"):
            choose(10, 8, none)


def test_tuning_says_which_shortlist_keeps_99_percent(engine: CompressedEngine) -> None:
    tuning = tune(engine, 40, (11, 200, 2999))
    worst, _, full = tuning.settings
    assert (full.recall_at_1, full.recall_at_10) == (1.0, 1.0)
    assert worst.recall_at_10 < 0.9
    assert tuning.keeps is not None and tuning.keeps.shortlist > worst.shortlist
    assert tuning.advice.startswith(f"A shortlist of {tuning.keeps.shortlist} finds at least 99%")
    assert str(tuning).splitlines()[1].split() == ["shortlist", "R@1", "R@10", "p50", "ms", "p95", "ms"]
    assert tune(engine, 40, (11,)).advice.startswith("No measured shortlist finds 99%")


def test_tuning_leaves_each_query_out_of_its_own_answer(engine: CompressedEngine, vectors: np.ndarray) -> None:
    """Otherwise every row would be found by itself, and recall at 1 would be 100 % whatever the shortlist."""
    twins = rows_of(np.repeat(vectors[:1500], 2, axis=0))
    doubled = CompressedEngine(
        twins, engine.quantiser, laid_out(engine.quantiser, [engine.quantiser.encode(twins.parts[0])]), 50
    )
    assert tune(doubled, 20, (50,)).settings[0].recall_at_1 == 1.0  # the twin
    assert tune(engine, 60, (11,)).settings[0].recall_at_1 < 1.0


def test_rows_whose_code_could_not_be_worse_are_named_last_and_not_left_out() -> None:
    towards = np.ones((1, DIM), np.float32) / np.sqrt(np.float32(DIM))
    vectors = np.concatenate([-towards] * 300 + [towards] * 200)  # faiss names none of the first 300
    centroids = fast_scan.learn_centroids(vectors, 16)
    pieces = fast_scan.pack(centroids, fast_scan.encode(centroids, vectors))
    assert best_codes(pieces, towards, 350).tolist() == [*range(300, 500), *range(150)]
