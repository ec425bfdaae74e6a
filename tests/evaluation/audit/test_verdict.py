"""The rules of the verdict, on numbers that are made up for each."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from cricavpr.evaluation.audit import Audit, Drift, Measured, audit_table, render_audit, verdicts
from cricavpr.evaluation.audit.verdict import RULES
from cricavpr.evaluation.intervals import sign_test

NONE, SOME, ROUNDING = Drift(0.0, 0.0, 0.0), Drift(0.1, 0.12, 0.2), Drift(1e-13, 2e-13, 5e-13)


def audit(
    ordered: tuple[int, int] = (30, 0),  # queries won and lost in file order
    shuffled: tuple[float, ...] = (0.70, 0.69, 0.71),
    drift: Drift = SOME,
    correlates: bool = True,
) -> Audit:
    """100 queries, 70 of them right alone."""
    won, lost = ordered
    company = (
        Measured("size", "in_order:16", drift, 0.70 + (won - lost) / 100, won, lost, 0.9),
        *(Measured("shuffled", f"shuffled:16:{seed}", drift, r, 0, 0, 0.02) for seed, r in enumerate(shuffled)),
        Measured("strangers", "strangers:16:0", drift, 0.7, 0, 0, 0.0),
        Measured("strangers", "strangers:16:1 against :0", drift),
    )
    rows = (
        Measured("alone", "alone", NONE, 0.70),
        *(company if correlates else ()),
        Measured("packing", "alone, batches of 7 instead of 1", ROUNDING, 0.70),
    )
    return Audit("colours", "0" * 64, "within 25 m", 50, 100, "m", "none", correlates, 16, 3, "cpu", rows)


def said(of: Audit) -> str:
    return "\n".join(verdict.says for verdict in verdicts(of))


def test_a_method_that_does_not_correlate_depends_on_nothing() -> None:
    found = verdicts(audit(correlates=False))
    assert [verdict.level for verdict in found] == ["good", "good"]
    assert found[0].says.startswith("Descriptors of m do not depend on other images")


def test_a_gain_that_a_shuffle_takes_away_is_file_order() -> None:
    text = said(audit())
    assert "The gain comes from the file order" in text
    assert "+30.0 points in file order, +0.0 points in shuffled order" in text
    assert "(mean of 3 shuffles with R@1 from 69.0 to 71.0)" in text
    assert "90 % of the photos have another photo of the same place in their group in file order, 2 %" in text


def test_a_gain_that_outlives_every_shuffle_is_told_apart() -> None:
    assert "Part of the gain remains after a shuffle: 10.0 of 30.0 points" in said(audit(shuffled=(0.79, 0.80, 0.81)))
    # one seed is not above alone
    assert "The gain comes from the file order" in said(audit(shuffled=(0.70, 0.80, 0.90)))


def test_a_gain_of_a_few_queries_may_be_chance() -> None:
    assert "no gain here beyond chance" in said(audit(ordered=(5, 2)))
    assert sign_test(5, 2) > 0.05 > sign_test(8, 1)


def test_company_that_costs_recall_is_said_so() -> None:
    assert "Groups cost recall here" in said(audit(ordered=(1, 20)))


def test_rounding_is_no_dependence() -> None:
    assert "do not depend on other images, although" in said(audit(drift=ROUNDING))


def test_one_photo_a_side_says_nothing_about_company() -> None:
    single = replace(audit(drift=NONE), database=1, queries=1)
    found = said(single)
    assert "no two photos shared a group" in found and "do not depend" not in found and "no gain" not in found
    assert "no two photos shared a group</h1>" in render_audit(single).replace("\n", "")


@pytest.mark.parametrize(
    "fault",
    [
        Measured("packing", "p", Drift(0.0, 0.0, 2e-6), 0.70),  # drift beyond rounding
        Measured("packing", "p", NONE, 0.70, won=1, lost=1),  # the same recall by other queries
    ],
)
def test_a_batch_that_changes_anything_is_the_headline(fault: Measured) -> None:
    sound = audit()
    broken = replace(sound, rows=(*sound.rows, fault))
    assert verdicts(broken)[0].says.startswith("FAULT: the batch size changes results")
    assert "the batch size changes results" in render_audit(broken).partition("</h1>")[0]
    assert "The batch size changes nothing" in said(sound)
    assert "The batch size changes nothing" not in said(broken)


def test_sides_that_are_described_differently_are_warned_of_where_it_costs() -> None:
    sound = audit()
    mixed = Measured("one side", "database alone, queries in_order:16", None, 0.4, 0, 30)
    found = said(replace(sound, rows=(*sound.rows, mixed)))
    assert "Database and queries need the same grouping: with database alone" in found
    harmless = replace(mixed, lost=2)
    assert "need the same grouping" not in said(replace(sound, rows=(*sound.rows, harmless)))


def test_precision_is_judged_by_the_queries_that_change_sides() -> None:
    sound = audit()
    low = Measured("precision", "bf16 on both sides", Drift(1e-4, 2e-4, 3e-4), 0.69, 1, 2)
    assert "Bf16 on both sides: 3 of 100 queries change between right and wrong" in said(
        replace(sound, rows=(*sound.rows, low))
    )


class Outline(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_has_verdict_rules_and_every_row_and_asks_the_network_for_nothing() -> None:
    page = render_audit(replace(audit(), dataset="<script>alert(1)</script>"))
    tags = Outline(page).tags
    assert "script" not in {tag for tag, _ in tags}
    assert not [
        attrs
        for tag, attrs in tags
        if tag in ("link", "img") and not str(attrs.get("href", attrs.get("src"))).startswith("data:")
    ]
    assert page.index("Verdict") < page.index("All measurements") < page.index("The rules of the verdict")
    for row in audit().rows:
        assert f"<td>{row.name}</td>" in page
    assert len(RULES) == 5


def test_the_table_of_the_terminal_has_a_line_for_each_row() -> None:
    lines = audit_table(audit()).splitlines()
    assert len(lines) == 2 + len(audit().rows)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert ["in_order:16", "100.0", "+30", "30", "0", "0.1000", "0.1200", "0.2000", "90 %"] in cells
