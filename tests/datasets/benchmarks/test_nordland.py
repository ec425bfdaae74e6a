"""Nordland: 26 frames of the cleaned list, images-00202.png on, with a tunnel of 7 after the first 13."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets.benchmarks import find_split, open_split
from cricavpr.datasets.benchmarks.nordland import read_utm
from cricavpr.errors import InputError
from tests.datasets.benchmarks.faults import Fault, cut, refused
from tests.miniatures.amstertime import fake_name

Folder = Callable[[str], Path]
TREE = "images/test"


@pytest.mark.parametrize("form", ["nordland-frames", "nordland-tree"])
def test_ten_frames_to_both_sides_are_right_and_eleven_are_not(miniature: Folder, form: str) -> None:
    dataset = open_split("nordland", miniature(form))
    assert len(dataset.database) == len(dataset.queries) == 26
    assert dataset.positives[0].tolist() == list(range(11))
    assert dataset.positives[12].tolist() == list(range(2, 23))
    assert dataset.positives[25].tolist() == list(range(15, 26))
    assert dataset.rule == "within 10 frames" and dataset.database.positions is None


def test_winter_asks_and_summer_answers(miniature: Folder) -> None:
    dataset = open_split("nordland", miniature("nordland-frames"))
    assert dataset.queries.root.name == "winter" and dataset.database.root.name == "summer"


def test_frames_count_the_cleaned_list_and_not_the_film(miniature: Folder) -> None:
    database = open_split("nordland", miniature("nordland-frames")).database
    assert database.names[0] == "images-00202.png"
    assert database.names[12:14] == ("images-00214.png", "images-00222.png")  # the tunnel lies between them
    assert len(list(database.root.iterdir())) == 26 + 7 + 4  # the film has more


def test_names_come_from_the_list_so_the_other_spelling_is_read_too(copy_of: Folder) -> None:
    root = copy_of("nordland-frames")
    for path in [*root.glob("*/images-*.png")]:
        path.rename(path.with_name(path.name.replace("images-", "image-")))
    listed = root / "cleanImageNames.txt"
    listed.write_text(listed.read_text().replace("images-", "image-"))
    assert open_split("nordland", root).queries.names[0] == "image-00202.png"


def test_patch_netvlad_s_radius_of_ten_is_seven_frames(miniature: Folder) -> None:
    dataset = open_split("nordland-patchnetvlad", miniature("nordland-patchnetvlad"))
    assert dataset.positives[12].tolist() == list(range(5, 20))  # 7 x 1.414 = 9.9, 8 x 1.414 = 11.3
    assert dataset.positives[0].tolist() == list(range(8))
    assert dataset.rule == "within 7 frames (radius 10 of Patch-NetVLAD's list)"
    assert dataset.queries.names[0] == "winter/images-00202.png"  # the list says ./nordland/winter/...
    assert dataset.database.names[0] == "summer/images-00202.png" and dataset.database.positions is None
    assert dataset.queries.path(25).is_file()


def test_the_same_lists_are_read_where_patch_netvlad_s_code_keeps_them(copy_of: Folder) -> None:
    root = copy_of("nordland-patchnetvlad")
    before = open_split("nordland-patchnetvlad", root).split_hash()
    for folder, names in (("dataset_imagenames", "nordland_*.txt"), ("dataset_gt_files", "nordland.npz")):
        (root / "patchnetvlad" / folder).mkdir(parents=True)
        for path in list(root.glob(names)):
            path.rename(root / "patchnetvlad" / folder / path.name)
    assert open_split("nordland-patchnetvlad", root).split_hash() == before


def test_vpr_bench_asks_in_summer_one_frame_in_ten_and_the_first_query_has_two_answers(miniature: Folder) -> None:
    dataset = open_split("nordland-2760", miniature("nordland-vpr-bench"))
    assert [found.tolist() for found in dataset.positives] == [[0, 1], [9, 10, 11], [19, 20, 21]]
    assert dataset.queries.names[2] == "0000002.jpg" and dataset.queries.root.name == "query"
    assert dataset.database.root.name == "ref" and len(dataset.database) == 22


def test_vpr_bench_s_answers_follow_from_the_numbers_where_its_list_is_not_there(copy_of: Folder) -> None:
    root = copy_of("nordland-vpr-bench")
    listed = open_split("nordland-2760", root)
    (root / "ground_truth_new.npy").unlink()
    computed = open_split("nordland-2760", root)
    assert computed.split_hash() == listed.split_hash()
    assert (listed.rule, computed.rule) == ("the list of ground_truth_new.npy", "frames 10i-1 to 10i+1 for query i")


def test_vpr_bench_as_three_lists_gives_the_same_answers(copy_of: Folder) -> None:
    root = copy_of("nordland-vpr-bench")
    layout = find_split("nordland-2760")[1].layouts[1]
    dataset = layout.read(root)
    assert layout.there(root)
    assert [found.tolist() for found in dataset.positives] == [[0, 1], [9, 10, 11], [19, 20, 21]]
    assert dataset.database.names[0] == "ref/0000000.jpg" and dataset.queries.path(0).is_file()


def test_the_partition_counts_sections_by_name_and_frames_by_number(miniature: Folder) -> None:
    dataset = open_split("nordland-3450", miniature("nordland-partition"))
    assert dataset.queries.names[8:12] == ("section1/9.png", "section1/10.png", "section1/11.png", "section2/1.png")
    assert dataset.positives[0].tolist() == [0, 1, 2]
    assert dataset.positives[7].tolist() == [5, 6, 7, 8, 9]
    assert dataset.queries.root.name == "winter_images_test" and dataset.rule == "within 2 frames"


def test_the_partition_as_a_tree_is_counted_along_the_line_whatever_its_spacing(tmp_path: Path) -> None:
    for side in ("database", "queries"):
        (tmp_path / "images/test" / side).mkdir(parents=True)
        for frame in range(6):
            (tmp_path / "images/test" / side / fake_name(frame * 10.0, str(frame))).write_bytes(b"")
    dataset = open_split("nordland-3450", tmp_path)
    assert [found.tolist() for found in dataset.positives][2:4] == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]


def test_a_tree_whose_names_are_not_padded_is_not_in_order_of_its_names(tmp_path: Path) -> None:
    """Names such as @0@0.0 and @0@2.3 from another source: as text, 23.8 comes before 4.7."""
    for side in ("database", "queries"):
        (tmp_path / side).mkdir()
        for frame in range(12):
            (tmp_path / side / f"@0@{int(frame * 25 / 10.5 * 10) / 10}@@@@@@@@@@@@@@.jpg").write_bytes(b"")
    dataset = read_utm(tmp_path)
    assert dataset.database.names[1].startswith("@0@2.3@") and dataset.database.names[10].startswith("@0@23.8@")
    assert dataset.positives[0].tolist() == list(range(11))


@pytest.mark.parametrize(
    ("name", "queries", "database"),
    [
        ("nordland", 27592, 27592),
        ("nordland-patchnetvlad", 27592, 27592),
        ("nordland-2760", 2760, 27592),
        ("nordland-3450", 3450, 3450),
    ],
)
def test_the_published_counts_are_recorded(name: str, queries: int, database: int) -> None:
    _, split = find_split(name)
    assert (split.queries, split.database) == (queries, database)


def test_a_list_that_is_a_program_is_refused_and_not_run(copy_of: Folder) -> None:
    root = copy_of("nordland-vpr-bench")
    np.save(root / "ground_truth_new.npy", np.array([[Path("a"), [1]]], object))
    with pytest.raises(InputError, match=r"asks to run pathlib\.PosixPath"):
        open_split("nordland-2760", root)


def first_lines(name: str, count: int) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        lines = (root / name).read_text().splitlines(keepends=True)
        (root / name).write_text("".join(lines[:count]))

    return damage


def renumbered(root: Path) -> None:
    """The database numbered after frames had been left out, as users did."""
    for frame in (24, 25):
        next((root / TREE / "queries").glob(f"*@{frame}@@@@@@@@.jpg")).unlink()


def off_the_steps(root: Path) -> None:
    first = sorted((root / TREE / "queries").iterdir())[3]
    first.rename(first.with_name("@0@00007.5@@@@@3@@@@@@@@.jpg"))


def other_keys(root: Path) -> None:
    np.savez(root / "nordland.npz", utm_q=np.zeros((26, 2)), utm_db=np.zeros((26, 2)))


def negative_answer(root: Path) -> None:
    rows = np.empty((3, 2), object)
    for query in range(3):
        rows[query] = query, [10 * query - 1]
    np.save(root / "ground_truth_new.npy", rows)


FRAMES, PATCH, BENCH = "nordland-frames", "nordland-patchnetvlad", "nordland-vpr-bench"
FAULTS = [
    Fault(
        "no cleaned list",
        FRAMES,
        "nordland",
        lambda r: (r / "cleanImageNames.txt").unlink(),
        "has no cleanImageNames.txt",
    ),
    Fault("an empty list", FRAMES, "nordland", first_lines("cleanImageNames.txt", 0), "cleanImageNames.txt is empty"),
    Fault(
        "a frame is missing",
        FRAMES,
        "nordland",
        lambda r: (r / "winter/images-00203.png").unlink(),
        r"winter does not contain 1 of the 26 frames .*images-00203",
    ),
    Fault("seasons numbered apart", "nordland-tree", "nordland", renumbered, "number 24 is missing in the queries"),
    Fault("not a step of 2.381 m", "nordland-tree", "nordland", off_the_steps, "a multiple of 2.381 m"),
    Fault(
        "other keys in the npz",
        PATCH,
        "nordland-patchnetvlad",
        other_keys,
        "it has no array 'utmQ', only utm_db, utm_q",
    ),
    Fault(
        "npz cut short",
        PATCH,
        "nordland-patchnetvlad",
        lambda r: cut(r / "nordland.npz"),
        "nordland.npz is not the arrays",
    ),
    Fault(
        "lists of other length",
        PATCH,
        "nordland-patchnetvlad",
        first_lines("nordland_imageNames_query.txt", 20),
        "20 names, but .* shape",
    ),
    Fault(
        "no list of names",
        PATCH,
        "nordland-patchnetvlad",
        lambda r: (r / "nordland_imageNames_index.txt").unlink(),
        "has no nordland_imageNames_index.txt",
    ),
    Fault(
        "a query is missing",
        BENCH,
        "nordland-2760",
        lambda r: (r / "query/0000001.jpg").unlink(),
        "must be numbered from 0 without a gap",
    ),
    Fault(
        "fewer queries than rows",
        BENCH,
        "nordland-2760",
        lambda r: (r / "query/0000002.jpg").unlink(),
        "3 rows; expected one for each of 2 queries",
    ),
    Fault(
        "an answer below 0",
        BENCH,
        "nordland-2760",
        negative_answer,
        "row 0 of .* holds the index -1, expected 0 or more and below 22,",
    ),
    Fault(
        "list cut short",
        BENCH,
        "nordland-2760",
        lambda r: cut(r / "ground_truth_new.npy", 0.9),
        "ground_truth_new.npy is not rows",
    ),
    Fault(
        "a frame of one season",
        "nordland-partition",
        "nordland-3450",
        lambda r: (r / "test/winter_images_test/section2/3.png").unlink(),
        "'section2/3' is in only one season",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_damage_is_one_clear_line(fault: Fault, copy_of: Folder) -> None:
    refused(fault, copy_of(fault.miniature))
