"""Towns on disk: what is written is what our readers and the published conventions expect."""

import csv
import hashlib
from datetime import datetime

import numpy as np
import pytest
import utm
from PIL import Image

from cricavpr.datasets.photos import read_photos
from cricavpr.datasets.utm_names import read_utm_dataset
from cricavpr.errors import InputError
from cricavpr.town import Town, make_town, write_town

SIZE = (40, 56)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def metres(town, views):
    origin = town.origin
    return np.array([(v.camera.x_m + origin.easting_m, v.camera.y_m + origin.northing_m) for v in views])


@pytest.fixture(scope="module")
def small() -> Town:
    return Town(6, 5)


def test_gps_in_exif_brings_the_camera_back_to_two_centimetres(small, tmp_path):
    write_town(small, tmp_path / "town", "photos", image_size=SIZE)
    for shelf, split in (("database", "database"), ("queries", "query")):
        for place in small.places:
            path = tmp_path / "town" / shelf / f"{place.id:06d}_00.jpg"
            view = small.view(place.id, 0, split)
            exif = Image.open(path).getexif()
            gps = exif.get_ifd(0x8825)
            lat, lon = (float(d) + float(m) / 60 + float(s) / 3600 for d, m, s in (gps[2], gps[4]))
            east, north, zone, letter = utm.from_latlon(lat, lon, 31, "N")
            assert (gps[1], gps[3], zone, letter) == ("N", "E", 31, "N")
            assert np.abs(np.array([east, north]) - metres(small, [view])[0]).max() < 0.02
            assert float(gps[17]) == pytest.approx(view.camera.yaw_deg, abs=0.006) and gps[16] == "T"
            taken = datetime.strptime(exif.get_ifd(0x8769)[0x9003], "%Y:%m:%d %H:%M:%S")
            assert taken.year == view.scene.year


def test_our_reader_of_photos_agrees(small, tmp_path):
    write_town(small, tmp_path / "town", "photos", image_size=SIZE, queries_per_place=2)
    images, problems = read_photos(tmp_path / "town" / "queries", need_positions=True)
    views = [small.view(place.id, visit, "query") for place in small.places for visit in range(2)]
    assert not problems and len(images) == 10
    assert images.positions.zones == ("31N",) * 10
    assert np.abs(images.positions.metres - metres(small, views)).max() < 0.02


def test_night_photos_are_dated_at_night_and_snow_in_winter(tmp_path):
    town = Town(8, 40)
    write_town(town, tmp_path / "town", "utm", image_size=(16, 16))
    for path in (tmp_path / "town").rglob("*.jpg"):
        *_, stamp, note, _ = path.name.split("@")
        taken = datetime.strptime(stamp, "%Y%m%d_%H%M%S")
        assert note != "night" or taken.hour == 23
        assert note != "snow" or taken.month in (12, 1, 2)


def test_utm_names_have_the_sixteen_fields_and_parse_back(small, tmp_path):
    write_town(small, tmp_path / "town", "utm", image_size=SIZE)
    views = {f"town6x{place.id:06d}x00": small.view(place.id, 0, "query") for place in small.places}
    paths = sorted((tmp_path / "town/images/test/queries").iterdir())
    assert len(paths) == 5
    for path in paths:
        fields = path.name.split("@")
        assert len(fields) == 16 and fields[0] == "" and fields[15] == ".jpg"
        east, north, zone, letter, lat, lon, pano, tile, heading, pitch, roll, height = fields[1:13]
        view = views[pano]
        assert (len(east), len(north), zone, letter) == (10, 10, "31", "N")
        assert [float(east), float(north)] == pytest.approx(metres(small, [view])[0], abs=0.006)
        assert utm.to_latlon(float(east), float(north), 31, "N") == pytest.approx((float(lat), float(lon)), abs=1e-5)
        assert (len(lat), len(lon), tile, roll, height) == (9, 10, "00", "", "")
        assert len(heading) == 3 and abs((int(heading) - view.camera.yaw_deg + 180) % 360 - 180) <= 0.5
        assert len(pitch) == 3 and abs(int(pitch) - view.camera.pitch_deg) <= 0.5
        assert fields[13].startswith(str(view.scene.year)) and fields[14] == view.scene.condition


def test_every_query_of_the_utm_tree_has_its_place_as_positive(small, tmp_path):
    write_town(small, tmp_path / "town", "utm", image_size=SIZE)
    dataset = read_utm_dataset(tmp_path / "town")
    assert len(dataset.database) == len(dataset.queries) == 5
    for query, found in enumerate(dataset.positives):
        names = [dataset.database.names[k].split("@")[7] for k in found]
        assert dataset.queries.names[query].split("@")[7] in names


def test_gsv_cities_have_a_row_for_every_picture_named_as_published(small, tmp_path):
    write_town(small, tmp_path / "gsv", "gsv", views_per_place=4, image_size=SIZE)
    with (tmp_path / "gsv/Dataframes/Town6.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid"]
    assert sorted(int(row["place_id"]) for row in rows) == sorted(list(range(5)) * 4)
    names = set()
    for row in rows:
        place = f"{int(row['place_id']) % 10**5:07d}_{int(row['year']):04d}_{int(row['month']):02d}"
        # The loader formats the numbers that it read.
        where = f"{int(row['northdeg']):03d}_{float(row['lat'])}_{float(row['lon'])}_{row['panoid']}"
        names.add(f"{row['city_id']}_{place}_{where}.jpg")
    assert names == {path.name for path in (tmp_path / "gsv/Images/Town6").iterdir()}


def test_several_cities_share_a_folder_of_gsv(small, tmp_path):
    write_town(small, tmp_path / "gsv", "gsv", image_size=SIZE)
    write_town(Town(7, 3), tmp_path / "gsv", "gsv", image_size=SIZE, city="Harbour")
    assert sorted(path.name for path in (tmp_path / "gsv/Dataframes").iterdir()) == ["Harbour.csv", "Town6.csv"]
    with pytest.raises(InputError, match="holds another town"):
        write_town(Town(9, 3), tmp_path / "gsv", "gsv", image_size=SIZE, city="Harbour")
    with pytest.raises(InputError, match="holds another town"):
        write_town(small, tmp_path / "gsv", "photos", image_size=SIZE)


@pytest.mark.parametrize("layout", ["photos", "utm", "gsv"])
def test_an_interrupted_run_is_continued_to_the_same_bytes(tmp_path, layout):
    options = {"seed": 6, "places": 9, "layout": layout, "image_size": SIZE}
    whole = make_town(tmp_path / "whole", **options)
    assert whole.skipped == 0 and whole.layout == layout

    class Stop(Exception):
        pass

    def stop(done, of):
        raise Stop

    with pytest.raises(Stop):
        make_town(tmp_path / "broken", **options, progress=stop)
    half = list((tmp_path / "broken").rglob("*.jpg"))
    assert 0 < len(half) < whole.pictures
    half[0].write_bytes(b"")  # as a power cut may leave it
    (half[1].parent / (half[1].name + ".part")).write_bytes(b"half a picture")
    half[1].unlink()
    seen = []
    again = make_town(tmp_path / "broken", **options, progress=lambda done, of: seen.append((done, of)))
    assert again.pictures == whole.pictures and again.skipped == len(half) - 2
    assert seen[-1] == (whole.pictures, whole.pictures)
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


def test_a_finished_town_is_not_drawn_again(tmp_path):
    options = {"seed": 6, "places": 3, "layout": "photos", "image_size": SIZE}
    make_town(tmp_path / "town", **options)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "town").rglob("*")}
    assert make_town(tmp_path / "town", **options).skipped == 6
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "town").rglob("*")}


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    for workers in (1, 2):
        make_town(tmp_path / str(workers), 6, 20, "utm", image_size=SIZE, workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_wrong_wishes_are_answered_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"unknown layout 'photo'\. Did you mean 'photos'\?"):
        make_town(tmp_path / "town", 1, 5, "photo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.jpg").touch()
    with pytest.raises(InputError, match="was not created by `cricavpr town make`"):
        make_town(tmp_path / "mine", 1, 5)
    with pytest.raises(InputError, match="is a file, not a folder"):
        make_town(tmp_path / "mine" / "holiday.jpg", 1, 5)
    make_town(tmp_path / "town", 1, 2, image_size=SIZE)
    with pytest.raises(InputError, match="holds another town"):
        make_town(tmp_path / "town", 2, 2, image_size=SIZE)
    with pytest.raises(InputError, match="holds another town"):
        make_town(tmp_path / "town", 1, 2, "gsv", image_size=SIZE)
    with pytest.raises(InputError, match="views_per_place must be at least 4, got 3"):
        make_town(tmp_path / "gsv", 1, 2, "gsv", views_per_place=3)
    with pytest.raises(InputError, match="letters and digits"):
        write_town(Town(1, 2), tmp_path / "gsv", "gsv", city="New_York")
    with pytest.raises(InputError, match="16 to 4096 pixels"):
        make_town(tmp_path / "tiny", 1, 2, image_size=(8, 8))
    with pytest.raises(InputError, match="jpeg_quality must be 1 to 100, got 0"):
        make_town(tmp_path / "tiny", 1, 2, jpeg_quality=0)
    with pytest.raises(InputError, match="queried must hold place numbers, 0 or more and below 2, got 2"):
        make_town(tmp_path / "tiny", 1, 2, queried=[0, 2])
    with pytest.raises(InputError, match="workers must be at least 1, got 0"):
        make_town(tmp_path / "tiny", 1, 2, workers=0)


def test_queries_of_some_places_are_the_same_as_in_the_whole_town(small, tmp_path):
    whole, some = tmp_path / "whole", tmp_path / "some"
    write_town(small, whole, image_size=SIZE)
    assert write_town(small, some, image_size=SIZE, queried=[1, 3]).pictures == 7
    assert [path.name for path in sorted((some / "queries").iterdir())] == ["000001_00.jpg", "000003_00.jpg"]
    assert {name: digest for name, digest in digests(whole).items() if name in digests(some)} | {
        "town.json": digests(some)["town.json"]
    } == digests(some)


def test_a_town_that_cannot_be_written_is_one_line_that_says_that_it_goes_on(small, tmp_path):
    write_town(small, tmp_path / "town", image_size=SIZE)
    for path in (tmp_path / "town" / "queries").iterdir():
        path.unlink()
    (tmp_path / "town" / "queries").rmdir()
    (tmp_path / "town" / "queries").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*town.*is kept"):
        write_town(small, tmp_path / "town", image_size=SIZE)
