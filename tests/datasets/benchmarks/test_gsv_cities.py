"""GSV-Cities has an entry, and nothing to evaluate."""

from __future__ import annotations

from cricavpr.datasets.benchmarks import GSV_CITIES as BENCHMARK


def test_places_to_train_on_have_an_entry_and_no_split_that_could_be_evaluated_by_mistake() -> None:
    assert BENCHMARK.key == "gsv_cities" and BENCHMARK.splits == ()
    assert "kaggle.com" in BENCHMARK.source and "account" in BENCHMARK.registration
