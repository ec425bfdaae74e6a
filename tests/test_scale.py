"""The page about sizes says what its script computes, and the script can be checked by hand."""

from __future__ import annotations

import pytest
from benchmarks import scale
from benchmarks.figures import Figures


def test_the_page_holds_what_the_script_writes() -> None:
    text = scale.PAGE.read_text(encoding="utf-8")
    assert text == scale.page(text, scale.tables(*scale.read(), scale.Assumed())), "run: python -m benchmarks.scale"


def test_a_billion_codes_of_128_bytes_take_one_machine_of_256_gb() -> None:
    assumed = scale.Assumed(node_gb=256, usable=0.7)
    assert scale.nodes(128.0, assumed) == 1
    assert scale.nodes(180.0, assumed) == 2  # 179.2 GB fit one
    local = scale.Local(10**6, 4096, 128, 174.0, 6.0, 5.0, 20_000.0)
    row = next(line for line in scale.local_table(local, assumed).splitlines() if line.startswith("| 1 billion"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["1 billion", "4096 values, float32", "16 TB", "130 GB", "1", "13.9", "6,000", "190"]


def test_what_a_value_takes_is_the_growth_between_two_sizes() -> None:
    def one(rows: int, rss_mb: float) -> Figures:
        return Figures("flat", rows, 512, 1000.0, 5.0, 9.0, 1.0, 6.0, 1.0, 10.0, 0.0, rss_mb, 200.0, 1.0)

    assert scale.slope([one(20_000, 361.44), one(10_000, 330.72)], "flat", "rss_mb") == pytest.approx(6e-6)


@pytest.mark.parametrize(("count", "text"), [(128e9, "130 GB"), (1.6e13, "16 TB"), (5.1e9, "5.1 GB")])
def test_sizes_have_two_digits(count: float, text: str) -> None:
    assert scale.size(count) == text
