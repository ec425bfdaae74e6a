"""Filters are masks, and a filtered search is exact search over the rows that they leave."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.geo import LatLon, Positions, distances_m
from cricavpr.index.codes.compressed import CompressedEngine, Quantiser
from cricavpr.index.columns import Columns, Photos
from cricavpr.index.exact import ExactEngine
from cricavpr.index.filters import All, Box, Filter, Near, Tagged, Taken, flattened, mask_of
from tests.index.places import laid_out, photos
from tests.index.test_engines import drawn, made, rows_of, seen_again, slowly, small_codes

NAN = float("nan")
LUND, MALMO, FIJI_WEST, FIJI_EAST = (55.70, 13.19), (55.61, 13.00), (-17.0, 179.9), (-17.0, -179.9)


def facts_of(
    positions: Positions, times: np.ndarray | None = None, tags: Sequence[Collection[str]] | None = None
) -> Columns:
    words = None if tags is None else [sorted(one) for one in tags]
    return Photos(photos(range(len(positions))), Path("/p"), positions, times=times, tags=words).columns()


FACTS = facts_of(
    Positions.from_latlon([LUND, MALMO, FIJI_WEST, FIJI_EAST, (NAN, NAN)]),
    np.array(["2024-01-01", "2024-06-01", "2024-12-31", "NaT", "2025-01-01"], "datetime64[ms]"),
    [{"night"}, set(), {"night", "rain"}, set(), {"rain"}],
)


@pytest.mark.parametrize(
    ("one", "rows"),
    [
        (Box(55, 12, 56, 14), [0, 1]),
        (Box(55.65, 12, 56, 14), [0]),
        (Box(-18, 179, -16, -179), [2, 3]),  # across the date line
        (Box(-90, -180, 90, 180), [0, 1, 2, 3]),
        (Near(LatLon(*LUND), 1.0), [0]),
        (Near(LatLon(*LUND), 10_000.0), [0]),  # Malmö is 15.6 km away
        (Near(LatLon(*LUND), 20_000.0), [0, 1]),
        (Near(LatLon(-17.0, 180.0), 15_000.0), [2, 3]),  # from two UTM zones
        (Taken(np.datetime64("2024-06-01")), [1, 2, 4]),
        (Taken(end=np.datetime64("2024-06-01")), [0]),
        (Taken(np.datetime64("2024-01-01"), np.datetime64("2025-01-01")), [0, 1, 2]),
        (Tagged("night"), [0, 2]),
        (Tagged("rain"), [2, 4]),
    ],
    ids=str,
)
def test_a_filter_leaves_the_photos_that_fit(one: Filter, rows: list[int]) -> None:
    assert np.flatnonzero(one.mask(FACTS)).tolist() == rows


def test_a_photo_at_exactly_the_radius_is_near_and_one_a_hair_beyond_is_not() -> None:
    place = Positions.from_latlon([LUND])
    where = Positions(np.add(place.metres, [[0.0, 250.0]]), place.zones)
    (away,) = distances_m(where, Positions.from_latlon([LUND]))
    facts = facts_of(where)
    assert Near(LatLon(*LUND), float(away)).mask(facts).tolist() == [True]
    assert Near(LatLon(*LUND), float(np.nextafter(away, 0))).mask(facts).tolist() == [False]
    assert Near(LatLon(*LUND), 0.0).mask(facts_of(place)).tolist() == [True]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Box(55, 12.5, np.float64(56), 14), "in the box from 55.0, 12.5 to 56.0, 14.0"),
        (Near(LatLon(55.6, 13), 500.0), "within 500 m of 55.6, 13.0"),
        (Near(LatLon(-33.9, 151.2), 0.25), "within 0.25 m of -33.9, 151.2"),
        (Near(LatLon(0, 0), np.float64(1e7)), "within 10,000,000 m of 0.0, 0.0"),
        (Taken(np.datetime64("2024-05-01")), "taken on or after 2024-05-01T00:00Z"),
        (Taken(end=np.datetime64("2024-05-01T12:30:00.000")), "taken before 2024-05-01T12:30Z"),
        (
            Taken(np.datetime64("2024-05-01T00:00:07", "ms"), np.datetime64("2024-05-01T00:00:07.250", "us")),
            "taken on or after 2024-05-01T00:00:07Z and before 2024-05-01T00:00:07.250Z",
        ),
        (Taken(np.datetime64("2024-05-01T00:00:00.000001")), "taken on or after 2024-05-01T00:00:00.000001Z"),
        (Taken(), "taken at a known time"),
        (Tagged("winter"), "tagged winter"),
        (Tagged("old town"), "tagged 'old town'"),
        (Tagged("a\nb"), "tagged 'a\\nb'"),
        (All((Tagged("winter"), Near(LatLon(1, 2), 3))), "tagged winter and within 3 m of 1.0, 2.0"),
    ],
    ids=str,
)
def test_a_filter_prints_as_people_say_it(one: Filter, said: str) -> None:
    assert str(one) == said


def test_filters_inside_one_another_are_laid_side_by_side() -> None:
    a, b, c = Tagged("a"), Tagged("b"), Tagged("c")
    assert flattened([a, All((b, All((c,)), All(())))]) == (a, b, c)


def test_filters_must_all_fit() -> None:
    mask = mask_of(All((Tagged("night"), Taken(np.datetime64("2024-06-01")))), FACTS)
    assert np.flatnonzero(mask).tolist() == [2]
    with pytest.raises(InputError, match=r"matches the filter: tagged night and in the box from 55\.0, 12\.0 to"):
        mask_of(All((Tagged("night"), Box(55, 12, 55.65, 14))), FACTS)


def test_what_the_index_does_not_know_is_said() -> None:
    nothing = facts_of(Positions(np.full((5, 2), np.nan)))
    for one in (Box(0, 0, 1, 1), Near(LatLon(0, 0), 5), Taken()):
        assert not one.mask(nothing).any()
    with pytest.raises(InputError, match="Did you mean 'night'"):
        Tagged("nigth").mask(FACTS)
    local = facts_of(Positions(np.zeros((1, 2))))
    for one in (Box(0, 0, 1, 1), Near(LatLon(0, 0), 5)):
        with pytest.raises(InputError, match="latitude is not known"):
            one.mask(local)


def test_filters_that_nothing_could_fit_are_refused() -> None:
    with pytest.raises(InputError, match="Give south first"):
        Box(2, 0, 1, 1)
    with pytest.raises(InputError, match="latitude must be in"):
        Box(0, 0, 91, 1)
    for radius_m in (-1.0, NAN, float("inf")):
        with pytest.raises(InputError, match="radius_m must be finite and at least 0"):
            Near(LatLon(0, 0), radius_m)
    with pytest.raises(InputError, match=r"from -80.* to 84.*, got 85\. Use a filter"):
        Near(LatLon(85, 0), 5)
    for wrong in (np.datetime64("NaT"), "2026-01-01", datetime(2026, 1, 1)):
        with pytest.raises(InputError, match="invalid time"):
            Taken(wrong)
        with pytest.raises(InputError, match="invalid time"):
            Taken(end=wrong)
    with pytest.raises(InputError, match="earlier time first"):
        Taken(np.datetime64("2025-01-01"), np.datetime64("2025-01-01"))


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("removed", [0.0, 0.5])
def test_a_filtered_search_is_exact_search_over_what_is_left(
    share: float, removed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With codes as fine as these, 60 rows hold the best 5; where few rows are left, all of them are read."""
    pytest.importorskip("faiss")
    small_codes(monkeypatch, 64, 64, 2000)
    rng = np.random.default_rng(3)
    vectors = drawn(6000, 64)
    live = rng.random(6000) >= removed
    rows = rows_of(vectors[:5000], vectors[5000:], live=live)
    quantiser = Quantiser.learn(rows, made(64))
    engine = CompressedEngine(rows, quantiser, laid_out(quantiser, [quantiser.encode(vectors)]), 60)
    queries, allowed = seen_again(vectors[::600]), rng.random(6000) < share
    expected = slowly(vectors, queries, 5, allowed & live)[:, : int((allowed & live).sum())]
    for one in (ExactEngine(rows), engine):
        assert np.array_equal(one.search(queries, 5, allowed).indices, expected)


def refused(one: Filter, facts: Columns) -> str:
    with pytest.raises(InputError) as caught:
        mask_of(one, facts)
    return str(caught.value)


def test_what_nobody_wrote_down_is_said_and_not_only_that_nothing_fits() -> None:
    nothing = facts_of(Positions(np.zeros((2, 2))), np.array(["NaT", "NaT"], "datetime64[ms]"), [set(), set()])
    later = Taken(np.datetime64("2031-01-01"))
    assert "No photo has a known time: search without a time" in refused(All((later,)), nothing)
    assert refused(later, FACTS).endswith("taken on or after 2031-01-01T00:00Z. Use a wider filter.")
    assert "has the tag 'fog' or any other" in refused(Tagged("fog"), nothing)
    assert refused(Tagged("fog"), FACTS).endswith("Known: night, rain.")
    for place in (Box(55, 12, 56, 14), Near(LatLon(*LUND), 10.0)):
        assert "without a UTM zone, so their latitude is not known. Leave out filters by place" in refused(
            place, nothing
        )


def test_a_filter_far_from_the_query_still_fills_the_shortlist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allowed rows are those with the worst codes of all: the scan has to go on to the end."""
    pytest.importorskip("faiss")
    small_codes(monkeypatch, 64, 64, 2000)
    vectors = drawn(6000, 64)
    query = vectors[:1]
    worst_first = np.argsort(vectors @ query[0])
    allowed = np.zeros(6000, bool)
    allowed[worst_first[:2000]] = True
    quantiser = Quantiser.learn(rows_of(vectors), made(64))
    engine = CompressedEngine(rows_of(vectors), quantiser, laid_out(quantiser, [quantiser.encode(vectors)]), 60)
    nominated = engine.nominated(quantiser.project(query[0]), 60, allowed, 2000)
    assert len(set(nominated.tolist())) == 60 and allowed[nominated].all()
    assert engine.search(query, 1, allowed).indices[0, 0] == worst_first[1999]
