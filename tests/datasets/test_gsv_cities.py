"""GSV-Cities as it lies on disk: which rows become which places, and where their photos are."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from cricavpr.datasets.gsv_cities import CITIES, COLUMNS, read_gsv_cities
from cricavpr.errors import ImageError, InputError
from cricavpr.town.write import make_town

Row = tuple[object, ...]
FIRST: Row = (17, 2015, 7, 84, "Paris", 48.85, 2.35, "-abc_de-f")


def write_table(root: Path, city: str, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> None:
    (root / "Dataframes").mkdir(parents=True, exist_ok=True)
    with (root / "Dataframes" / f"{city}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def rows_of(place: int, count: int, city: str = "Paris") -> list[Row]:
    return [(place, 2010 + k, 7, 84, city, 48.85, 2.35, f"pano{place}x{k}") for k in range(count)]


def put_photo(root: Path, name: str, colour: tuple[int, int, int] = (9, 9, 9)) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 32), colour).save(root / name, "PNG")


def test_a_row_names_its_photo(tmp_path: Path) -> None:
    rows: list[Row] = [
        FIRST,
        (17, 2019, 11, 584, "Paris", "48.850", "-2.3500", "x"),  # a heading above 360, and zeros that mean nothing
        (17, 2019, 1, 0, "Paris", "1e-05", "-0.1", "y z"),
        (17, 2019, 1, 0, "Paris", "40.123456789012345", "2", "_"),
    ]
    write_table(tmp_path, "PRS", rows)
    assert read_gsv_cities(tmp_path).places[0].images == (
        "Images/Paris/Paris_0000017_2015_07_084_48.85_2.35_-abc_de-f.jpg",
        "Images/Paris/Paris_0000017_2019_11_584_48.85_-2.35_x.jpg",
        "Images/Paris/Paris_0000017_2019_01_000_1e-05_-0.1_y z.jpg",
        "Images/Paris/Paris_0000017_2019_01_000_40.123456789012344_2.0__.jpg",
    )


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    write_table(tmp_path, "PRS", [row[::-1] for row in rows_of(3, 4)], COLUMNS[::-1])
    assert read_gsv_cities(tmp_path).places[0].id == 3


def test_cities_come_in_the_order_of_the_authors_loader_and_number_their_places(tmp_path: Path) -> None:
    for city in ("PRS", "London", "Bangkok", "Town7", "Aachen"):
        write_table(tmp_path, city, rows_of(5, 4, city))
    dataset = read_gsv_cities(tmp_path)
    assert [(place.city, place.id) for place in dataset.places] == [
        ("Bangkok", 5),
        ("London", 100_005),
        ("PRS", 200_005),
        ("Aachen", 300_005),
        ("Town7", 400_005),
    ]
    chosen = read_gsv_cities(tmp_path, ["PRS", "Bangkok"])
    assert [(place.city, place.id) for place in chosen.places] == [("PRS", 5), ("Bangkok", 100_005)]
    assert len(CITIES) == len(set(CITIES)) == 23


def test_only_places_with_enough_photos_are_kept(tmp_path: Path) -> None:
    write_table(tmp_path, "PRS", [*rows_of(1, 3), *rows_of(2, 4), *rows_of(3, 2), *rows_of(1, 1)])
    dataset = read_gsv_cities(tmp_path)
    assert [(place.id, len(place.images)) for place in dataset.places] == [(1, 4), (2, 4)]  # rows need not be together
    assert len(read_gsv_cities(tmp_path, min_images=2)) == 3
    with pytest.raises(InputError, match=r"no place of PRS .* has 5 photos"):
        read_gsv_cities(tmp_path, min_images=5)


def test_what_is_wrong_with_a_folder_or_a_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a GSV-Cities folder"):
        read_gsv_cities(tmp_path)
    write_table(tmp_path, "PRS", rows_of(1, 4))
    with pytest.raises(InputError, match=r"no city 'Prs'\. Known: PRS"):
        read_gsv_cities(tmp_path, ["Prs"])
    write_table(tmp_path, "PRS", rows_of(1, 4), [*COLUMNS[:-1], "pano"])
    with pytest.raises(InputError, match=r"PRS.csv has no column 'panoid'"):
        read_gsv_cities(tmp_path)
    off_the_map = (*FIRST[:5], 139.7, 35.6, FIRST[7]), (*FIRST[:5], float("nan"), 2.35, FIRST[7])
    off_the_disk = (*FIRST[:4], "..", *FIRST[5:]), (*FIRST[:7], "../../etc/passwd")
    for damaged in (("x", *FIRST[1:]), FIRST[:5], *off_the_disk, *off_the_map):
        write_table(tmp_path, "PRS", [*rows_of(1, 4), damaged])
        with pytest.raises(InputError, match=r"(line 6|row 5) of .*PRS.csv (is invalid|has too few columns)"):
            read_gsv_cities(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "Paris_0000017_2015_07_084_48.8500000001_2.35_-abc_de-f.jpg",
        "Paris_0000017_2015_07_084_48.85_2.3500000000000001_-abc_de-f.JPG",
        "Paris_0000017_2015_07_084_48.85_2.35_-abc_de-f.jpeg",
    ],
)
def test_a_photo_whose_numbers_are_printed_differently_is_found_by_panorama_and_place(
    tmp_path: Path, file: str
) -> None:
    write_table(tmp_path, "PRS", [FIRST] * 4)
    dataset = read_gsv_cities(tmp_path)
    for other in (
        "Paris_0000018_2015_07_084_48.85_2.35_-abc_de-f.jpg",  # another place
        "Paris_0000017_2015_07_084_48.85_2.35_-abc_de.jpg",  # another panorama
        "Paris_0000017_2015_07_005_48.8_2.35_-abc_de-f.jpg",  # another heading
        "notes.txt",
    ):
        put_photo(tmp_path, f"Images/Paris/{other}")
    put_photo(tmp_path, f"Images/Paris/{file}", (1, 2, 3))
    assert dataset.read(dataset.places[0].images[0])[0, 0].tolist() == [1, 2, 3]
    assert dataset.missing() == []


def test_a_missing_photo_is_an_error_of_that_photo_alone(tmp_path: Path) -> None:
    write_table(tmp_path, "PRS", rows_of(1, 4))
    dataset = read_gsv_cities(tmp_path)
    names = dataset.places[0].images
    for name in names[1:]:
        put_photo(tmp_path, str(name))
    with pytest.raises(ImageError) as caught:
        dataset.read(names[0])
    assert caught.value.stage == "find"
    assert [problem.name for problem in dataset.missing()] == [names[0]]
    assert dataset.read(names[1]).shape == (32, 40, 3)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint() == dataset.fingerprint()


def test_the_tree_that_a_town_writes_is_read_whole(tmp_path: Path) -> None:
    make_town(tmp_path, 11, 6, "gsv", image_size=(40, 40))
    dataset = read_gsv_cities(tmp_path)
    assert (len(dataset), dataset.image_count(), dataset.missing()) == (6, 24, [])
    assert all(dataset.read(image).shape == (40, 40, 3) for place in dataset.places for image in place.images)
