"""Any folder of photos: what is found, in which order, and where it was taken."""

import json
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from cricavpr.datasets import read_photos
from cricavpr.datasets.find_files import natural_key
from cricavpr.errors import InputError
from tests.odd_files import dms, encoded, exif_with

PLAIN = encoded()


def located(north, east=0):
    """A photo this many seconds of arc (31 m) north of Lund."""
    tags = {1: "N", 2: dms(55, 42, north), 3: "E", 4: dms(13, 11, east)}
    return encoded(exif=exif_with(tags))


def put(folder, **photos):
    """Write photos, no two of them with the same bytes; a__b is b.jpg in the folder a."""
    for name, data in photos.items():
        path = folder / name.replace("__", "/")
        path = path if path.suffix else path.with_suffix(".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data + name.encode())  # what follows the end mark of a JPEG is no part of the picture
    return folder


def problems_of(problems):
    return {problem.name: (problem.stage, problem.reason) for problem in problems}


def test_photos_come_in_natural_order_with_positions_and_folders_as_keys(tmp_path):
    put(tmp_path, img10=located(3), img2=PLAIN, Img1=located(0), walk__b=located(1), walk__a__c=located(2))
    images, problems = read_photos(tmp_path)
    assert images.names == ("Img1.jpg", "img2.jpg", "img10.jpg", "walk/a/c.jpg", "walk/b.jpg")
    assert images.keys == (".", ".", ".", "walk/a", "walk")
    assert images.positions.known.tolist() == [True, False, True, True, True]
    assert set(images.positions.zones) == {"33N", ""}
    np.testing.assert_allclose(images.positions.latlon()[0], (55.7, 13 + 11 / 60), atol=1e-7)
    assert problems == ()  # without --need-positions a photo without GPS is no problem


def test_natural_order_is_total():
    names = [
        "a/img2",
        "a/img10",
        "a/Img1",
        "b",
        "a",
        "2",
        "10",
        "01",
        "1",
        "",
        "x9y10",
        "x9y9",
        "x",
        os.fsdecode(b"\xe9"),
    ]
    ordered = sorted(names, key=natural_key)
    names.reverse()
    assert ordered == sorted(names, key=natural_key)
    assert ordered.index("a/img2") < ordered.index("a/img10") and ordered.index("x9y9") < ordered.index("x9y10")


def test_photos_without_a_position_are_left_out_and_named_when_positions_are_needed(tmp_path):
    put(tmp_path, here=located(0), nowhere=PLAIN)
    images, problems = read_photos(tmp_path, need_positions=True)
    assert images.names == ("here.jpg",) and len(images.positions) == 1
    assert problems_of(problems) == {"nowhere.jpg": ("position", "has no GPS position")}


def test_a_folder_where_no_photo_has_a_position_says_so_in_numbers(tmp_path):
    put(tmp_path, a=PLAIN, b=PLAIN)
    assert read_photos(tmp_path)[0].positions is None
    with pytest.raises(InputError, match=r"2 without a GPS position .*or --positions FILE\.csv"):
        read_photos(tmp_path, need_positions=True)
    put(tmp_path, c=b"rubbish")
    with pytest.raises(InputError, match=r"none of 3 photos .* 2 without a GPS position, 1 failed at stage open"):
        read_photos(tmp_path, need_positions=True)


def test_a_folder_that_is_missing_or_empty_or_all_broken_is_an_input_error(tmp_path):
    for wrong in (tmp_path / "missing", tmp_path / ("x" * 5000), tmp_path / "nul\0"):
        with pytest.raises(InputError, match="is not a folder"):
            read_photos(wrong)
    with pytest.raises(InputError, match=r"no photo in .* Supported suffixes: jpg, jpeg, "):
        read_photos(tmp_path)
    put(tmp_path, broken=b"rubbish")
    with pytest.raises(InputError, match=r"none of 1 photos .*first: broken.jpg: is not a picture.*Give other photos"):
        read_photos(tmp_path)


def test_a_pole_is_a_problem_of_that_photo_alone(tmp_path):
    pole = encoded(exif=exif_with({1: "N", 2: dms(89, 0, 0), 3: "E", 4: dms(13, 0, 0)}))
    images, problems = read_photos(put(tmp_path, a=located(0), pole=pole))
    assert images.positions.known.tolist() == [True, False]
    assert "outside the range of UTM" in problems_of(problems)["pole.jpg"][1]


# --- tables of positions


TABLES = {
    "comma": "name,lat,lon\na.jpg,55.7,13.2\nwalk/b.jpg,55.8,13.3\n",
    "semicolon and decimal comma": "File;Latitude;Longitude\r\na.jpg;55,7;13,2\r\nwalk/b.jpg;55,8;13,3\r\n",
    "tab, BOM, other columns": "\ufeffid\tFILENAME\tLNG\tLat\n1\ta.jpg\t13.2\t55.7\n2\tb.jpg\t13.3\t55.8\n",
    "quotes, blank lines": '"image", "lat" , "long"\n\n"a.jpg", 55.7, 13.2\n"./walk/b.jpg","55.8","13.3"\n',
    "backslashes": "path,lat,lon\nC:\\photos\\a.jpg,55.7,13.2\nwalk\\b.jpg,55.8,13.3\n",
    "line for Excel": "sep=;\r\nname;lat;lon\r\na.jpg;55,7;13,2\r\nwalk/b.jpg;55,8;13,3\r\n",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES.keys())
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_of_many_kinds_are_read(tmp_path, text, encoding):
    photos = put(tmp_path / "photos", a=located(0), walk__b=PLAIN)
    (photos / "positions.csv").write_bytes(text.encode(encoding))
    images, (note,) = read_photos(photos)
    assert note.is_note and "1 photos have an EXIF position more than 1 km" in note.reason
    np.testing.assert_allclose(images.positions.latlon(), [(55.7, 13.2), (55.8, 13.3)], atol=1e-7)


@pytest.mark.parametrize(
    "zone, expected",
    [("33N", "33N"), ("33 n", "33N"), ("33U", "33N"), ("33S", "33S"), ("33H", "33S"), ("05N", "5N"), ("32733", "33S")],
)
def test_metres_with_a_zone_are_utm(tmp_path, zone, expected):
    (tmp_path / "where.csv").write_text(f"name,easting,northing,zone\na.jpg,386000.5,6173000,{zone}\n")
    images, problems = read_photos(put(tmp_path, a=PLAIN), tmp_path / "where.csv")
    assert images.positions.zones == (expected,) and problems == ()
    assert images.positions.metres.tolist() == [[386000.5, 6173000]]


def test_metres_without_a_zone_are_a_local_frame(tmp_path):
    (tmp_path / "where.csv").write_text("name,east,north\na.jpg,0,0\nb.jpg,-3.5,4\n")
    images, _ = read_photos(put(tmp_path, a=PLAIN, b=located(0)), tmp_path / "where.csv")
    assert images.positions.zones is None and images.positions.metres.tolist() == [[0, 0], [-3.5, 4]]


BOTH = "name,lat,lon,easting,northing,zone\n"


def test_of_degrees_and_metres_that_say_the_same_metres_count_because_they_are_exact(tmp_path):
    rows = "a.jpg,55.698166,13.195388,386581.5,6173962.75,33N\nb.jpg,,,,,\n"
    (tmp_path / "where.csv").write_text(BOTH + rows)
    images, problems = read_photos(put(tmp_path, a=PLAIN, b=PLAIN), tmp_path / "where.csv")
    assert images.positions.metres[0].tolist() == [386581.5, 6173962.75] and images.positions.zones == ("33N", "")
    assert list(problems_of(problems)) == ["b.jpg"]


@pytest.mark.parametrize("metres", ["600000.5,200000.25,", "600000.5,200000.25,Gauss", ",,33N", ",,"])
def test_metres_of_another_grid_and_no_metres_leave_the_degrees(tmp_path, metres):
    (tmp_path / "where.csv").write_text(f"{BOTH}a.jpg,55.698166,13.195388,{metres}\n")
    images, problems = read_photos(put(tmp_path, a=PLAIN), tmp_path / "where.csv")
    np.testing.assert_allclose(images.positions.latlon(), [(55.698166, 13.195388)], atol=1e-8)
    assert problems == ()


def test_metres_without_a_zone_that_agree_with_degrees_get_their_zone(tmp_path):
    (tmp_path / "where.csv").write_text(f"{BOTH}a.jpg,55.698166,13.195388,386581.5,6173962.75,\n")
    images, problems = read_photos(put(tmp_path, a=PLAIN), tmp_path / "where.csv")
    assert images.positions.zones == ("33N",) and images.positions.metres.tolist() == [[386581.5, 6173962.75]]
    assert problems == ()


@pytest.mark.parametrize("metres", ["400000,6173962.75,33N", "386581.5,6173962.75,32N", "386581.5,6273962.75,33U"])
def test_degrees_and_metres_that_name_two_places_are_refused(tmp_path, metres):
    rows = f"a.jpg,55.698166,13.195388,{metres}\nb.jpg,55.7,13.2,,,\n"
    (tmp_path / "where.csv").write_text(BOTH + rows)
    images, problems = read_photos(put(tmp_path, a=PLAIN, b=PLAIN), tmp_path / "where.csv", need_positions=True)
    assert images.names == ("b.jpg",)
    assert re.match(
        r"line 2 of where\.csv has two different positions, [\d,]+ km apart", problems_of(problems)["a.jpg"][1]
    )


def test_degrees_and_metres_may_differ_by_the_rounding_of_the_degrees(tmp_path):
    (tmp_path / "where.csv").write_text(BOTH + "a.jpg,55.698,13.195,386581.5,6173962.75,33N\n")  # 30 m away
    images, problems = read_photos(put(tmp_path, a=PLAIN), tmp_path / "where.csv")
    assert images.positions.metres.tolist() == [[386581.5, 6173962.75]] and problems == ()
    (tmp_path / "where.csv").write_text(BOTH + "a.jpg,55.69800,13.19500,386581.5,6173962.75,33N\n")
    with pytest.raises(InputError, match="has two different positions, 31 m apart"):
        read_photos(tmp_path, tmp_path / "where.csv", need_positions=True)


def test_a_local_frame_is_read_beside_columns_of_degrees_that_are_blank(tmp_path):
    (tmp_path / "where.csv").write_text(BOTH + "a.jpg,,,10.5,3.25,\nb.jpg,,,0,-1,\n")
    images, problems = read_photos(put(tmp_path, a=PLAIN, b=PLAIN), tmp_path / "where.csv")
    assert images.positions.zones is None and images.positions.metres.tolist() == [[10.5, 3.25], [0, -1]]
    assert problems == ()


def test_a_geojson_of_points_is_read(tmp_path):
    features = [
        {
            "type": "Feature",
            "properties": {"Name": "a.jpg"},
            "geometry": {"type": "Point", "coordinates": [13.2, 55.7, 9]},
        },
        {
            "type": "Feature",
            "properties": {"Name": "b.jpg"},
            "geometry": {"type": "LineString", "coordinates": [[1, 2]]},
        },
        {"type": "Feature", "properties": None, "geometry": None},
        "rubbish",
    ]
    (tmp_path / "positions.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    images, problems = read_photos(put(tmp_path, a=PLAIN, b=PLAIN))
    np.testing.assert_allclose(images.positions.latlon()[0], (55.7, 13.2), atol=1e-7)
    assert images.positions.known.tolist() == [True, False]
    assert {(problem.name, problem.stage, problem.reason) for problem in problems} == {
        ("b.jpg", "note", "feature 2 of positions.geojson has no position"),
        ("positions.geojson", "row", "feature 3 names no photo"),
        ("positions.geojson", "row", "feature 4 names no photo"),
    }


def test_wrong_rows_lost_rows_and_photos_without_a_row_are_all_reported(tmp_path):
    put(tmp_path, **dict.fromkeys("abcdefghi", PLAIN))
    rows = [
        "a.jpg,55.7,13.2",
        "gone.jpg,55.7,13.2",
        "b.jpg,north,13.2",
        "c.jpg,,",
        "d.jpg,95,13.2",
        "e.jpg,0,0",
        "f.jpg,nan,1",
        "i.jpg,1,2",
        "i.jpg,1,2.5",
        ",55.7,13.2",
        "g.jpg,55.7",
    ]
    (tmp_path / "positions.csv").write_text("\n".join(["name,lat,lon", *rows]))
    images, problems = read_photos(tmp_path, need_positions=True)
    assert images.names == ("a.jpg",)
    found = problems_of(p for p in problems if not p.is_note)
    assert found["b.jpg"][1] == "line 4 of positions.csv has 'north', which is not a number in degrees"
    assert found["c.jpg"][1] == "line 5 of positions.csv has no position"
    assert "is not on earth; latitude and longitude seem swapped" in found["d.jpg"][1]
    assert "0, 0, which stands for an unknown position" in found["e.jpg"][1]
    assert found["f.jpg"][1] == "line 8 of positions.csv has no latitude"
    assert found["g.jpg"][1] == "line 12 of positions.csv has no longitude"
    assert found["h.jpg"][1] == "has no position in positions.csv"
    assert found["i.jpg"][1] == "line 9 of positions.csv and line 10 give it different positions"
    assert [(problem.stage, problem.reason) for problem in problems if problem.is_note] == [
        ("row", "line 3 names 'gone.jpg', but there is no such photo"),
        ("row", "line 11 names no photo"),
    ]
    assert len(problems) == 10
    images, problems = read_photos(tmp_path)
    assert len(images) == 9 and images.positions.known.tolist() == [True] + [False] * 8
    assert all(problem.is_note for problem in problems) and len(problems) == 10


def test_a_file_name_that_occurs_twice_needs_its_folder(tmp_path):
    put(tmp_path, x__a=PLAIN, y__a=PLAIN)
    (tmp_path / "positions.csv").write_text("name,lat,lon\na.jpg,55.7,13.2\ny/a.jpg,55.8,13.3\n")
    images, problems = read_photos(tmp_path, need_positions=True)
    assert images.names == ("y/a.jpg",)
    assert (
        "line 2 of positions.csv names 'a.jpg', which fits 2 photos (x/a.jpg, y/a.jpg)"
        in problems_of(problems)["x/a.jpg"][1]
    )


def test_names_that_are_not_utf_8_are_found_in_a_table(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(PLAIN)
    (tmp_path / "positions.csv").write_bytes(b"name,lat,lon\ncaf\xe9.jpg,55.7,13.2\n")
    images, problems = read_photos(tmp_path)
    assert images.positions.known.all() and problems == ()


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        ("p.csv", "a.jpg,55.7,13.2\n", "must have a column of file names, and columns lat, lon or easting, northing"),
        ("p.csv", "", "got 'nothing'. Write these column names in the first line."),
        ("p.csv", "name,lat\na.jpg,1\n", "got 'name, lat'"),
        ("p.csv", "name,lat,lat,lon\na.jpg,1,2,3\n", "has two columns called 'lat'"),
        ("p.csv", "name,lat(rad),lon(rad)\na.jpg,1,2\n", "got 'name, lat(rad), lon(rad)'"),
        (
            "p.geojson",
            '{"type": "Point", "crs": {"properties": {"name": "EPSG:3857"}}}',
            "is in the coordinate system EPSG:3857. Export it",
        ),
        ("p.csv", "name,lat,lon\n" + '"' + "x" * 200_000, "is not a table"),
        ("p.geojson", "not json", "is not GeoJSON"),
        ("p.geojson", "[1, 2]", "is not GeoJSON"),
        ("p.geojson", "[" * 100_000, "is not GeoJSON"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_input_error_that_says_what_is_expected(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_photos(put(tmp_path, a=PLAIN), tmp_path / name)
    assert complaint in str(caught.value)


def test_a_table_that_does_not_exist_or_is_one_of_two_is_an_input_error(tmp_path):
    put(tmp_path, a=PLAIN)
    with pytest.raises(InputError, match="is not a file"):
        read_photos(tmp_path, tmp_path / "missing.csv")
    (tmp_path / "positions.csv").write_text("name,lat,lon\n")
    (tmp_path / "positions.geojson").write_text("{}")
    with pytest.raises(InputError, match="Choose one with --positions"):
        read_photos(tmp_path)


# --- folders


def test_every_folder_is_visited_once_and_a_real_name_wins_over_a_link(tmp_path):
    put(tmp_path, real__a=PLAIN)
    (tmp_path / "again").symlink_to("real", target_is_directory=True)
    (tmp_path / "real" / "loop").symlink_to("..", target_is_directory=True)
    assert read_photos(tmp_path)[0].names == ("real/a.jpg",)


def test_a_linked_folder_outside_is_read(tmp_path):
    put(tmp_path / "elsewhere", a=PLAIN)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert read_photos(tmp_path / "photos")[0].names == ("link/a.jpg",)


def test_two_thousand_headers_are_read_in_seconds(tmp_path):
    for number in range(2000):
        (tmp_path / f"{number}.jpg").write_bytes(PLAIN)
    start = time.perf_counter()
    images, problems = read_photos(tmp_path)
    assert len(images) == 2000 and problems == () and images.names[10] == "10.jpg"
    assert time.perf_counter() - start < 10  # 0.5 s where nothing else runs


def test_a_table_that_names_no_photo_is_named_itself(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    (tmp_path / "positions.csv").write_text("name,lat,lon\nb.jpg,55.7,13.2\n")
    with pytest.raises(
        InputError, match=r"a position in positions\.csv \(first: positions\.csv: line 2 names 'b\.jpg'"
    ):
        read_photos(tmp_path, need_positions=True)
