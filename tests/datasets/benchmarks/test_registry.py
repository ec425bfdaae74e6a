"""Splits by name, opening by looking, and what `check` makes of a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cricavpr.datasets.benchmarks import BENCHMARKS, SPLITS, find_split, find_splits, open_split
from cricavpr.datasets.benchmarks import check as checking
from cricavpr.datasets.benchmarks.base import Layout, Split
from cricavpr.datasets.benchmarks.check import CheckedSplit, check_split, spread, state_of
from cricavpr.errors import InputError
from cricavpr.grouping import Grouping

Folder = Callable[[str], Path]


def test_every_split_has_one_name_a_rule_layouts_and_a_grouping_that_can_be_read() -> None:
    splits = [split for benchmark in BENCHMARKS.values() for split in benchmark.splits]
    assert len(splits) == len(SPLITS) >= 55
    for split in splits:
        assert split.rule and split.layouts and all(layout.needs for layout in split.layouts)
        assert Grouping.parse(split.paper_grouping).kind == "in_order"
        assert split.unanswered in ("miss", "skip")


def test_every_benchmark_says_where_it_is_to_be_had() -> None:
    for key, benchmark in BENCHMARKS.items():
        assert key == benchmark.key and benchmark.source and benchmark.registration and benchmark.licence


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'tokyo247'"):
        find_split("tokyo24/7")
    with pytest.raises(InputError, match="Did you mean 'pitts30k'"):
        find_splits("pits30k")


def test_a_benchmark_stands_for_all_its_splits_and_a_split_for_itself() -> None:
    assert [split.name for split in find_splits("pitts30k")[1]] == ["pitts30k-train", "pitts30k-val", "pitts30k-test"]
    assert [split.name for split in find_splits("tokyo247")[1]] == ["tokyo247"]


def test_a_folder_that_fits_no_layout_is_answered_with_what_was_looked_for_and_where_it_is_to_be_had(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError) as caught:
        open_split("pitts30k-val", tmp_path)
    line = str(caught.value)
    for part in (str(tmp_path), "datasets/pitts30k_val.mat", "images/val/database", "netvlad_v100_datasets", "request"):
        assert part in line
    with pytest.raises(InputError, match="is not a folder"):
        open_split("svox-all", tmp_path / "nowhere")


def test_the_first_layout_that_fits_is_read(copy_of: Folder, miniature: Folder) -> None:
    root = copy_of("pittsburgh-tree")
    shutil.copytree(miniature("pittsburgh-raw"), root, dirs_exist_ok=True)
    assert open_split("pitts30k-test", root).database.names[0].startswith("000/")
    (root / "datasets" / "pitts30k_test.mat").unlink()
    assert open_split("pitts30k-test", root).database.names[0].startswith("@")


# --- check


def rows(checked: CheckedSplit) -> dict[str, tuple[str, str]]:
    return {finding.what: (finding.found, finding.verdict) for finding in checked.findings}


def fitting(name: str, queries: int, database: int, **more: object) -> Split:
    return replace(find_split(name)[1], queries=queries, database=database, **more)  # type: ignore[arg-type]


def test_a_sound_miniature_with_its_own_counts_is_as_expected(miniature: Folder) -> None:
    checked = check_split(fitting("tokyo247", 6, 36, without_positives=3), miniature("tokyo-raw"))
    assert checked.state == "as expected" and checked.layout == "raw (dbStruct .mat)"
    assert checked.split_hash == open_split("tokyo247", miniature("tokyo-raw")).split_hash()
    found = rows(checked)
    assert found["queries"] == ("6", "ok") and found["database images"] == ("36", "ok")
    assert found["queries without positives"] == ("3", "ok")
    assert found["positives"] == ("36 pairs, 0 to 12 per query", "ok")
    assert found["queries decoded"] == ("6 of 6, 32 x 40", "ok")
    assert found["database decoded"] == ("8 of 8, 40 x 32", "ok")


def test_positives_by_another_rule_than_the_split_s_are_shown_with_it(miniature: Folder) -> None:
    found, verdict = rows(check_split(find_split("pitts30k-test")[1], miniature("pittsburgh-lists")))["positives"]
    assert (found, verdict) == ("1,152 pairs, 0 to 24 per query; within 25 m, as listed", "unknown")


def test_a_split_in_which_nothing_can_be_found_differs(copy_of: Folder) -> None:
    root = copy_of("eynsham")
    for path in list((root / "images/test/queries").iterdir()):
        if "pano1" in path.name:  # the only place that the database has too
            path.unlink()
    assert rows(check_split(find_split("eynsham")[1], root))["positives"] == ("none", "differs")


def test_counts_that_differ_are_named(miniature: Folder) -> None:
    checked = check_split(find_split("tokyo247")[1], miniature("tokyo-raw"))
    assert checked.state == "differs"
    assert rows(checked)["queries"] == ("6", "differs") and rows(checked)["database images"] == ("36", "differs")


def test_missing_files_are_counted_and_the_first_named(copy_of: Folder) -> None:
    root = copy_of("pittsburgh-raw")
    for yaw in (3, 9):
        (root / f"queries_real/000/000829_pitch2_yaw{yaw}.jpg").unlink()
    checked = check_split(fitting("pitts30k-test", 72, 72), root)
    assert checked.state == "differs"
    found, verdict = rows(checked)["queries files"]
    assert (found, verdict) == ("70; 2 are missing, first '000/000829_pitch2_yaw3.jpg'", "missing")
    assert rows(checked)["database files"] == ("72", "ok")


def test_a_photo_that_does_not_decode_is_named(copy_of: Folder) -> None:
    root = copy_of("eynsham")
    last = max((root / "images/test/queries").iterdir())
    last.write_bytes(b"no picture")
    found, verdict = rows(check_split(find_split("eynsham")[1], root))["queries decoded"]
    assert verdict == "differs" and found.startswith("7; ") and last.name in found


def test_a_damaged_list_is_a_row_and_no_error(copy_of: Folder) -> None:
    root = copy_of("pittsburgh-raw")
    (root / "datasets/pitts30k_test.mat").write_bytes(b"")
    checked = check_split(find_split("pitts30k-test")[1], root)
    assert checked.state == "differs" and checked.split_hash is None
    assert "cut off" in rows(checked)["reading"][0]


def test_nothing_there_is_told_from_something_missing(tmp_path: Path) -> None:
    split = find_split("svox-all")[1]
    assert check_split(split, tmp_path).state == "nothing there"
    (tmp_path / "images/test/gallery").mkdir(parents=True)
    checked = check_split(split, tmp_path)
    assert checked.state == "differs"
    assert rows(checked)["@UTM@ tree: images/test/gallery"] == ("exists", "ok")
    assert rows(checked)["@UTM@ tree: images/test/queries_sun"] == ("not found", "missing")


def test_a_recorded_hash_is_compared(miniature: Folder) -> None:
    root = miniature("svox")
    sound = open_split("svox-night", root).split_hash()
    (layout,) = find_split("svox-night")[1].layouts

    def state(recorded: str | None) -> tuple[str, str]:
        layouts: tuple[Layout, ...] = (replace(layout, split_hash=recorded),)
        return rows(check_split(fitting("svox-night", 3, 3, layouts=layouts), root))["split hash"]

    assert state(sound) == (sound[:16], "ok")
    assert state("0" * 64) == (sound[:16], "differs")
    assert state(None) == (sound[:16], "unknown")


def test_of_very_many_files_a_part_is_looked_for_and_said_so(
    miniature: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "LOOK_FOR", 10)
    seen: list[tuple[int, int]] = []
    checked = check_split(find_split("pitts30k-test")[1], miniature("pittsburgh-raw"), lambda *done: seen.append(done))
    assert rows(checked)["database files, 10 looked for"] == ("10", "ok")
    assert seen == [(10, 10), (10, 10)]
    assert spread(5, 3) == [0, 2, 4] and spread(2, 9) == [0, 1] and spread(1, 4) == [0]


def test_several_splits_are_as_expected_only_together() -> None:
    def split(layout: str | None, verdict: str) -> CheckedSplit:
        finding = checking.Finding("what", "", "", verdict)  # type: ignore[arg-type]
        return CheckedSplit("a", layout, None, (finding,))

    sound, wrong, absent = split("raw", "ok"), split("raw", "differs"), split(None, "missing")
    assert state_of([sound, sound]) == "as expected"
    assert state_of([sound, absent]) == "differs" == state_of([sound, wrong])
    assert state_of([absent, absent]) == "nothing there"
