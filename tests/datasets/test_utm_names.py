"""The @ tree of the benchmarks, and opening a dataset by looking at it."""

import numpy as np
import pytest

from cricavpr.datasets import open_dataset, read_utm_dataset
from cricavpr.datasets.utm_names import read_utm_folder
from cricavpr.errors import InputError
from tests.datasets.test_photos import PLAIN, located, put


def utm_name(east, north=6173000.0, zone="33", letter="U", pano="", suffix=".jpg"):
    return f"@{east:010.2f}@{north:010.2f}@{zone}@{letter}@@@{pano}@@@@@@@@{suffix}"


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()  # names are enough: nothing is opened
    return folder


def tree(root, east=(0, 10, 100), queries=(20, 500), **options):
    touch(root / "database", *(utm_name(386000 + e, **options) for e in east))
    touch(root / "queries", *(utm_name(386000 + e, **options) for e in queries))
    return root


def test_names_are_sorted_as_text_and_positions_zones_and_panoramas_read(tmp_path):
    tokyo = utm_name(386999.5, 3950000, pano="b", letter="S", zone="54")
    images = read_utm_folder(touch(tmp_path / "db", tokyo, utm_name(387000.25, pano="a")))
    assert images.names == tuple(sorted(images.names))
    assert images.positions.metres.tolist() == [[386999.5, 3950000], [387000.25, 6173000]]
    assert images.positions.zones == ("54N", "33N")  # band S lies in the north
    assert images.keys == ("b", "a")


@pytest.mark.parametrize(
    "letter, north, hemisphere",
    [
        *(("C", 1_300_000, "S"), ("H", 6_200_000, "S"), ("L", 8_600_000, "S"), ("M", 9_300_000, "S")),
        *(("N", 400_000, "N"), ("P", 1_000_000, "N"), ("S", 3_950_000, "N"), ("X", 8_500_000, "N")),
        ("N", 6_173_000, "N"),  # beyond band N: the hemisphere
        ("S", 6_250_000, "S"),  # beyond band S: the hemisphere, as in Sydney
    ],
)
def test_the_band_letter_gives_the_hemisphere(tmp_path, letter, north, hemisphere):
    folder = touch(tmp_path / "db", utm_name(400_000, north, letter=letter, zone="07"))
    assert read_utm_folder(folder).positions.zones == (f"7{hemisphere}",)


@pytest.mark.parametrize("letter, north", [("H", 9_300_000), ("M", 8_600_000), ("T", 6_173_000), ("U", 6_300_000)])
def test_a_band_letter_that_the_northing_contradicts_is_refused(tmp_path, letter, north):
    with pytest.raises(InputError, match=rf"zone 7{letter} covers latitude -?\d+ to -?\d+, but northing {north}"):
        read_utm_folder(touch(tmp_path / "db", utm_name(400_000, north, letter=letter, zone="07")))


def test_without_zones_and_panoramas_the_frame_is_local_and_there_are_no_keys(tmp_path):
    images = read_utm_folder(touch(tmp_path / "db", "@0@00023.8@@@@@17@@@@@@@@.jpg", "@1.5@2@.jpg"))
    assert images.positions.zones is None and images.positions.metres.tolist() == [[0, 23.8], [1.5, 2]]
    assert images.keys == ("17", "@1.5@2@.jpg")
    nobody = read_utm_folder(touch(tmp_path / "none", utm_name(400001, pano="None"), utm_name(400002)))
    assert nobody.keys is None


def test_an_at_sign_in_a_folders_name_does_no_harm(tmp_path):
    folder = touch(tmp_path / "me@home", "city@1/" + utm_name(400005))
    assert read_utm_folder(folder).positions.metres.tolist() == [[400005, 6173000]]


def test_a_list_beside_the_folder_gives_the_images_and_their_order(tmp_path):
    first, second, third = utm_name(400001), utm_name(400002), utm_name(400003)
    folder = touch(tmp_path / "database", first, second, third)
    for mark in ("", "\ufeff"):
        (tmp_path / "database_images_paths.txt").write_text(f"{mark}{third}\r\n{first}\r\n\r\n", newline="")
        assert read_utm_folder(folder).names == (third, first)
    (tmp_path / "database_images_paths.txt").write_text("gone.jpg\n")
    with pytest.raises(InputError, match=r"'gone\.jpg', which is not a file below"):
        read_utm_folder(folder)


@pytest.mark.parametrize(
    "name",
    [
        "plain.jpg",
        "@a@b@.jpg",
        "@1@.jpg",
        "@1@nan@33@U@.jpg",
        "x@1@2@33@U@.jpg",
        "@1@2@61@U@@.jpg",
        "@1@2@33@I@@.jpg",
    ],
)
def test_a_wrong_name_is_named_with_what_is_expected(tmp_path, name):
    with pytest.raises(InputError) as caught:
        read_utm_folder(touch(tmp_path / "db", name))
    assert name in str(caught.value) and "@easting@northing" in str(caught.value)


@pytest.mark.parametrize("below", ["", "images/test", "test"])
def test_a_dataset_is_found_at_the_usual_depths(tmp_path, below):
    tree(tmp_path / "pitts" / below)
    dataset, problems = open_dataset(tmp_path / "pitts")
    assert dataset.name == "pitts" and dataset.rule == "within 25 m" and problems == ()
    assert [indices.tolist() for indices in dataset.positives] == [[0, 1], []]
    assert [indices.tolist() for indices in open_dataset(tmp_path / "pitts", 5)[0].positives] == [[], []]


def test_a_gallery_is_a_database_and_a_split_shows_in_the_name(tmp_path):
    base = tree(tmp_path / "svox" / "images" / "val")
    (base / "database").rename(base / "gallery")
    assert read_utm_dataset(base).name == "svox/val"


def test_of_several_query_folders_one_must_be_chosen(tmp_path):
    base = tree(tmp_path / "sf_xl" / "test")
    touch(base / "queries_night", utm_name(386001))
    assert len(read_utm_dataset(tmp_path / "sf_xl").queries) == 2  # the plain one
    assert read_utm_dataset(tmp_path / "sf_xl", queries="queries_night").name == "sf_xl/queries_night"
    (base / "queries").rename(base / "queries_v1")
    with pytest.raises(InputError, match="queries_night, queries_v1"):
        open_dataset(tmp_path / "sf_xl")
    assert len(open_dataset(tmp_path / "sf_xl", queries="queries_v1")[0].queries) == 2


def test_zones_on_one_side_only_are_ignored_as_published_readers_do(tmp_path):
    base = tree(tmp_path / "mixed")
    touch(base / "queries", "@0386005.00@6173000.00@@@@@@@@@@@@@@.jpg")
    dataset = read_utm_dataset(base)
    assert dataset.database.positions.zones is None
    assert [indices.tolist() for indices in dataset.positives] == [[0, 1], [0, 1], []]


def test_positives_equal_a_double_loop_over_the_plane(tmp_path):
    rng = np.random.default_rng(0)
    tree(tmp_path / "town", rng.uniform(0, 400, 80).round(2), rng.uniform(0, 400, 30).round(2))
    dataset = read_utm_dataset(tmp_path / "town")
    base, asked = dataset.database.positions.metres, dataset.queries.positions.metres
    slow = [[d for d in range(80) if ((q - base[d]) ** 2).sum() <= 625] for q in asked]
    assert [indices.tolist() for indices in dataset.positives] == slow


# --- two folders of photos


def test_two_folders_of_photos_are_a_dataset_and_unlocated_ones_are_listed(tmp_path):
    put(tmp_path / "holiday", database__a=located(0), database__b=located(60), database__lost=PLAIN)
    put(tmp_path / "holiday", queries__q=located(0), queries__broken=b"rubbish")
    dataset, problems = open_dataset(tmp_path / "holiday")
    assert dataset.name == "holiday"
    assert dataset.database.names == ("a.jpg", "b.jpg") and dataset.database.path(0).is_file()
    assert [indices.tolist() for indices in dataset.positives] == [[0]]
    found = {problem.name: problem.stage for problem in problems}
    assert found == {"database/lost.jpg": "position", "queries/broken.jpg": "open"}


@pytest.mark.parametrize("given", [True, False])
def test_one_table_may_serve_both_folders(tmp_path, given):
    put(tmp_path, database__a=PLAIN, database__x__b=PLAIN, queries__q=PLAIN, queries__r=PLAIN)
    rows = ["name,east,north", "database/a.jpg,0,0", "database/x/b.jpg,9,0", "q.jpg,5,0", "gone.jpg,1,1"]
    table = tmp_path / ("where.csv" if given else "positions.csv")
    table.write_text("\n".join(rows))
    dataset, problems = open_dataset(tmp_path, 5, table if given else None)
    assert dataset.database.names == ("a.jpg", "x/b.jpg") and dataset.database.keys == ("database", "x")
    assert dataset.queries.names == ("q.jpg",) and dataset.queries.path(0).is_file()
    assert [indices.tolist() for indices in dataset.positives] == [[0, 1]]
    assert {(problem.name, problem.stage) for problem in problems} == {
        ("queries/r.jpg", "position"),
        (table.name, "row"),
    }


def test_a_folder_that_is_no_dataset_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match="Give a folder that holds the folders database and queries"):
        open_dataset(put(tmp_path, a=PLAIN))
    touch(tmp_path / "database", utm_name(400001))
    with pytest.raises(InputError, match="no folder queries"):
        open_dataset(tmp_path)
    (tmp_path / "queries").mkdir()
    with pytest.raises(InputError, match=r"none of 0 photos in .*queries"):
        open_dataset(tmp_path)


def test_a_table_for_photos_with_positions_in_their_names_is_refused(tmp_path):
    with pytest.raises(InputError, match="already hold positions"):
        open_dataset(tree(tmp_path), positions_file=tmp_path / "where.csv")
