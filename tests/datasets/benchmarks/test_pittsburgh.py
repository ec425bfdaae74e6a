"""Pitts30k and Pitts250k as published, as a tree and as lists; the places of the miniature are in its writer.

Database: places 2, 0, 1 with 24 cut-outs each; queries: places 1, 0, 3 with 24 each, of which 3 is in no database.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets import EvalDataset
from cricavpr.datasets.benchmarks import find_split, open_split
from cricavpr.datasets.benchmarks.db_struct import read_db_struct
from cricavpr.town import Town
from tests.miniatures.db_struct import cells, write_db_struct
from tests.miniatures.pittsburgh import write_raw, write_tree

Folder = Callable[[str], Path]

PLACE_2, PLACE_0, PLACE_1 = list(range(24)), list(range(24, 48)), list(range(48, 72))  # database rows, as listed


def found(dataset: EvalDataset) -> list[list[int]]:
    return [indices.tolist() for indices in dataset.positives]


def test_the_raw_list_keeps_the_published_order_and_finds_places_within_25_m(miniature: Folder) -> None:
    dataset = open_split("pitts30k-test", miniature("pittsburgh-raw"))
    assert dataset.name == "pitts30k-test" and dataset.rule == "within 25 m"
    assert dataset.database.names[:2] == ("000/000831_pitch1_yaw1.jpg", "000/000831_pitch1_yaw2.jpg")
    assert dataset.database.names[24] == "000/000829_pitch1_yaw1.jpg"
    assert dataset.queries.names[12] == "000/000830_pitch2_yaw1.jpg"
    assert found(dataset) == [PLACE_1] * 24 + [PLACE_0] * 24 + [[]] * 24


def test_every_photo_of_the_raw_list_is_where_its_name_says(miniature: Folder) -> None:
    dataset = open_split("pitts30k-test", miniature("pittsburgh-raw"))
    for images in (dataset.database, dataset.queries):
        assert len(images) == 72 and all(images.path(row).is_file() for row in range(72))


def test_panoramas_are_keys_and_positions_lie_in_zone_17(miniature: Folder) -> None:
    for name in ("pittsburgh-raw", "pittsburgh-tree"):
        dataset = open_split("pitts30k-test", miniature(name))
        assert set(dataset.database.keys or ()) == {"000829", "000830", "000831"}
        assert dataset.database.positions is not None and set(dataset.database.positions.zones or ()) == {"17N"}
        assert np.allclose(dataset.database.positions.latlon(), (40.44, -79.99), atol=0.01)


def test_the_tree_sorts_by_easting_so_its_order_is_another_than_the_list_s(miniature: Folder) -> None:
    raw, tree = (open_split("pitts30k-test", miniature(f"pittsburgh-{form}")) for form in ("raw", "tree"))
    assert tree.database.positions is not None
    east = tree.database.positions.metres[:, 0]
    assert (np.diff(east) >= 0).all()
    assert raw.database.keys != tree.database.keys
    assert sorted(raw.database.keys or ()) == sorted(tree.database.keys or ())
    assert raw.split_hash() != tree.split_hash()


def test_the_tree_s_positives_are_those_of_the_list(miniature: Folder) -> None:
    pairs = []
    for form in ("raw", "tree"):
        dataset = open_split("pitts30k-test", miniature(f"pittsburgh-{form}"))
        database, queries = dataset.database.keys or (), dataset.queries.keys or ()
        pairs.append(sorted((queries[q], database[d]) for q, rows in enumerate(found(dataset)) for d in rows))
    assert pairs[0] == pairs[1] and len(pairs[0]) == 2 * 24 * 24


def test_the_lists_of_gsv_cities_bring_their_positives_and_no_positions(miniature: Folder) -> None:
    dataset = open_split("pitts30k-test", miniature("pittsburgh-lists"))
    assert dataset.rule == "within 25 m, as listed" and dataset.database.positions is None
    assert dataset.queries.names[0] == "queries_real/000/000830_pitch1_yaw1.jpg"
    assert dataset.queries.path(71).is_file()
    assert found(dataset) == found(open_split("pitts30k-test", miniature("pittsburgh-raw")))


@pytest.mark.parametrize("sides", [("database", "queries"), ("queries",)])
def test_names_without_zones_are_taken_to_be_in_pittsburgh_s(
    copy_of: Folder, miniature: Folder, sides: tuple[str, ...]
) -> None:
    root = copy_of("pittsburgh-tree")
    for path in [path for side in sides for path in (root / "images/test" / side).iterdir()]:
        path.rename(path.with_name(path.name.replace("@17@T@", "@@@", 1)))
    dataset = open_split("pitts30k-test", root)
    assert dataset.database.positions is not None and dataset.database.positions.zones is None
    assert found(dataset) == found(open_split("pitts30k-test", miniature("pittsburgh-tree")))


def test_another_at_sign_in_the_path_does_no_harm(copy_of: Folder, tmp_path: Path) -> None:
    folder = copy_of("pittsburgh-tree").rename(tmp_path / "me@home")
    assert len(open_split("pitts30k-test", folder).database) == 72


@pytest.mark.parametrize("below", ["", "pitts30k"])
def test_a_tree_is_found_in_its_own_folder_and_in_the_folder_of_all(
    copy_of: Folder, tmp_path: Path, below: str
) -> None:
    root = tmp_path / "all"
    (root / below).parent.mkdir(exist_ok=True)
    if below:
        root.mkdir(exist_ok=True)
    copy_of("pittsburgh-tree").rename(root / below)
    assert len(open_split("pitts30k-test", root).queries) == 72


def test_each_part_is_read_from_its_own_list(four_places: Town, tmp_path: Path) -> None:
    write_raw(tmp_path, four_places, "pitts250k_val", (0,), (0, 1))
    write_raw(tmp_path, four_places, "pitts250k_train", (3,), (2,))
    assert [len(side) for side in sides("pitts250k-val", tmp_path)] == [24, 48]
    assert [len(side) for side in sides("pitts250k-train", tmp_path)] == [24, 24]
    write_tree(tmp_path / "tree", four_places, "val", (0, 1), (1,))
    assert [len(side) for side in sides("pitts30k-val", tmp_path / "tree")] == [48, 24]


def sides(name: str, root: Path) -> tuple[object, ...]:
    dataset = open_split(name, root)
    return dataset.database, dataset.queries


def test_published_counts_are_panoramas_of_24_cut_outs_except_where_the_database_was_thinned() -> None:
    queries = {part: find_split(f"pitts30k-{part}")[1].queries for part in ("train", "val", "test")}
    assert queries == {"train": 7_416, "val": 7_608, "test": 6_816}
    for name in ("pitts250k-train", "pitts250k-val", "pitts250k-test"):
        split = find_split(name)[1]
        assert (split.queries or 0) % 24 == 0 and (split.database or 0) % 24 == 0
        assert split.paper_grouping == "in_order:8"


def test_the_longer_structure_with_time_stamps_reads_the_same(tmp_path: Path) -> None:
    database_m, queries_m = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])
    stamps = {"dbTimeStamp": np.array([2012.0, 2013.0]), "qTimeStamp": np.array([2014.0])}
    write_db_struct(tmp_path / "a.mat", ["a.jpg", "b.jpg"], database_m, ["c.jpg"], queries_m, **stamps)
    struct = read_db_struct(tmp_path / "a.mat")
    assert struct.database == ("a.jpg", "b.jpg") and struct.queries == ("c.jpg",)
    assert struct.database_m.tolist() == [[1, 2], [3, 4]] and struct.queries_m.tolist() == [[5, 6]]
    assert struct.radius_m == 25


def test_other_names_of_the_same_fields_are_known(tmp_path: Path) -> None:
    other = {"numImages": None, "numQueries": None, "numDb": 1.0, "numQ": 1.0, "dbImageFns": None, "qImageFns": None}
    names = {"dbImage": cells(["a.jpg"]), "qImage": cells(["b.jpg"])}
    write_db_struct(tmp_path / "a.mat", ["-"], np.ones((1, 2)), ["-"], np.ones((1, 2)), **other, **names)
    struct = read_db_struct(tmp_path / "a.mat")
    assert (struct.database, struct.queries) == (("a.jpg",), ("b.jpg",))
