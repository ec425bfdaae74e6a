"""Tokyo 24/7. Database: places 2, 0, 1 with 12 cut-outs each; queries: places 1 and 3 by day, at sunset, by night."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cricavpr.datasets.benchmarks import find_split, open_split
from cricavpr.datasets.benchmarks.tokyo import conditions

Folder = Callable[[str], Path]


def test_the_list_says_jpg_and_the_files_are_png(miniature: Folder) -> None:
    dataset = open_split("tokyo247", miniature("tokyo-raw"))
    assert dataset.database.names[0] == "03816/Town_02-abcdefghijklmn_012_0.png"
    assert dataset.database.names[13] == "03814/Town_00-abcdefghijklmn_012_30.png"
    assert all(dataset.database.path(row).is_file() for row in range(36))


def test_a_database_saved_as_the_list_says_is_taken_so(copy_of: Folder) -> None:
    root = copy_of("tokyo-raw")
    for path in list(root.glob("tokyo247/*/*.png")):
        path.rename(path.with_suffix(".jpg"))
    dataset = open_split("tokyo247", root)
    assert dataset.database.names[0].endswith(".jpg") and dataset.database.path(35).is_file()


def test_queries_keep_the_official_order_in_which_day_sunset_and_night_follow_one_another(miniature: Folder) -> None:
    queries = open_split("tokyo247", miniature("tokyo-raw")).queries
    assert queries.names == tuple(f"{number:05d}.jpg" for number in range(1, 7))
    assert queries.conditions == ("day", "sunset", "night") * 2
    assert conditions(4) == ("day", "sunset", "night", "day")


def test_places_are_found_within_25_m(miniature: Folder) -> None:
    dataset = open_split("tokyo247", miniature("tokyo-raw"))
    place_1 = list(range(24, 36))
    assert [indices.tolist() for indices in dataset.positives] == [place_1] * 3 + [[]] * 3


def test_panoramas_are_the_first_22_letters_and_have_12_cut_outs_in_a_row(miniature: Folder) -> None:
    for form in ("tokyo-raw", "tokyo-tree"):
        dataset = open_split("tokyo247", miniature(form))
        assert dataset.per_panorama == 12
        keys = np.array(dataset.database.keys).reshape(3, 12)
        assert (keys == keys[:, :1]).all()
        assert {len(key) for key in keys[:, 0]} == {22} and len(set(keys[:, 0])) == 3


def test_the_tree_loses_the_order_and_the_conditions_come_back_by_number(miniature: Folder) -> None:
    queries = open_split("tokyo247", miniature("tokyo-tree")).queries
    numbers = [int(name.split("@")[7]) for name in queries.names]
    assert numbers != sorted(numbers)
    day_sunset_night = {1: "day", 2: "sunset", 0: "night"}
    assert queries.conditions == tuple(day_sunset_night[number % 3] for number in numbers)


def test_numbers_with_gaps_tell_the_order_and_not_the_condition(copy_of: Folder, miniature: Folder) -> None:
    """The 315 queries are a choice of 1,125 and may carry the numbers of those."""
    root = copy_of("tokyo-tree")
    for path in list((root / "images/test/queries").iterdir()):
        parts = path.name.split("@")
        parts[7] = f"{9 * int(parts[7]):05d}"
        path.rename(path.with_name("@".join(parts)))
    before = open_split("tokyo247", miniature("tokyo-tree")).queries.conditions
    assert open_split("tokyo247", root).queries.conditions == before


def test_with_a_query_missing_from_the_tree_nobody_is_told_a_condition(copy_of: Folder) -> None:
    root = copy_of("tokyo-tree")
    next((root / "images/test/queries").glob("*.jpg")).unlink()
    assert open_split("tokyo247", root).queries.conditions is None


def test_conditions_and_keys_travel_with_a_choice_of_images(miniature: Folder) -> None:
    dataset = open_split("tokyo247", miniature("tokyo-raw"))
    assert dataset.queries.take([2, 0]).conditions == ("night", "day")


def test_the_published_database_is_12_cut_outs_of_6332_panoramas() -> None:
    split = find_split("tokyo247")[1]
    assert split.database == 6_332 * 12 and split.queries == 315 and split.per_panorama == 12
