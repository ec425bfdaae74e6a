"""GSV-Cities among the benchmarks: places to train on, so it has no split to evaluate.

Source: Ali-bey et al., "GSV-Cities: Toward appropriate supervised visual place recognition" (Neurocomputing 2022).
The reader is `cricavpr.datasets.gsv_cities`, and `cricavpr places check` says what of a download is there.
"""

from __future__ import annotations

from cricavpr.datasets.benchmarks.base import Benchmark

BENCHMARK = Benchmark(
    key="gsv_cities",
    title="GSV-Cities",
    source="https://www.kaggle.com/datasets/amaralibey/gsv-cities (23 GB)",
    registration="a Kaggle account",
    licence="none stated in the authors' repository",
    splits=(),
)
