"""Positions that would be wrong in silence: each is refused with its row and a reason, or read the one possible way."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets import Problem, open_dataset, open_photos, read_photos
from cricavpr.errors import InputError
from cricavpr.files import safe_cell
from tests.photos import photo

VIENNA = (48.2082, 16.3738)
Found = tuple[dict[str, tuple[float, float]], list[Problem], list[Problem]]


def read(folder: Path, table: str | None = None, name: str = "where.csv") -> Found:
    """Latitude and longitude of the located photos, rounded to 1 m; photos that were left out; notes."""
    path = None
    if table is not None:
        path = folder.parent / name
        path.write_text(table, encoding="utf-8")
    images, problems = open_photos(folder, path, need_positions=True)
    assert images.positions is not None
    degrees = images.positions.latlon().round(5).tolist()
    where = {name: (lat, lon) for name, (lat, lon) in zip(images.names, degrees, strict=True)}
    return where, [p for p in problems if not p.is_note], [p for p in problems if p.is_note]


def refused(folder: Path, table: str, name: str = "where.csv") -> str:
    """The line that a table gives of which nothing can be used."""
    with pytest.raises(InputError) as caught:
        read(folder, table, name)
    line = str(caught.value)
    assert line.isprintable() and line.endswith(".")
    return line


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A folder with one photo."""
    return photo(tmp_path / "photos" / "a.jpg", 1).parent


# --- which row is about which photo


@pytest.fixture
def two_walks(tmp_path: Path) -> Path:
    """Cameras number the photos of each folder alike."""
    for walk in ("100", "101"):
        for number in (0, 1):
            photo(tmp_path / "photos" / walk / f"IMG_{number}.jpg", 10 * int(walk) + number)
    return tmp_path / "photos"


OTHER_WALK = "100/IMG_0.jpg,48.20,16.37\n100/IMG_1.jpg,48.21,16.37\n"
THIS_WALK = "101/IMG_0.jpg,47.00,15.00\n101/IMG_1.jpg,47.01,15.00\n"
HEADER = "name,lat,lon\n"


@pytest.mark.parametrize("above", ["", "photos/", "/media/disk/photos/", "./", "../photos/", "D:\\photos\\"])
def test_the_row_that_names_most_folders_of_a_photo_counts(two_walks: Path, above: str) -> None:
    rows = "".join(above + row + "\n" for row in (OTHER_WALK + THIS_WALK).splitlines())
    where, lost, notes = read(two_walks / "101", HEADER + rows)
    assert where == {"IMG_0.jpg": (47.0, 15.0), "IMG_1.jpg": (47.01, 15.0)} and not lost
    assert [note.stage for note in notes] == ["row", "row"]
    assert "line 2 names '" in notes[0].reason and "is in the folder '101'" in notes[0].reason


def test_rows_of_another_folder_are_about_no_photo_here(two_walks: Path) -> None:
    line = refused(two_walks / "101", HEADER + OTHER_WALK)
    assert "line 2 names '100/IMG_0.jpg', but the photo of this name is in the folder '101'" in line
    where, _, _ = read(two_walks, HEADER + OTHER_WALK + THIS_WALK)
    assert where["100/IMG_0.jpg"] == (48.2, 16.37) and where["101/IMG_1.jpg"] == (47.01, 15.0)


def test_a_bare_name_that_fits_several_photos_is_about_none(two_walks: Path) -> None:
    where, lost, notes = read(two_walks, HEADER + "IMG_0.jpg,48.2,16.37\n" + THIS_WALK)
    assert set(where) == {"101/IMG_0.jpg", "101/IMG_1.jpg"}
    assert [problem.name for problem in lost] == ["100/IMG_0.jpg", "100/IMG_1.jpg"]
    assert "fits 2 photos (100/IMG_0.jpg, 101/IMG_0.jpg)" in lost[0].reason and "fits 2 photos" in notes[0].reason


def test_two_rows_that_fit_a_photo_equally_well_give_it_no_position(two_walks: Path) -> None:
    rows = THIS_WALK + "101/IMG_0.jpg,47.0,15.0\n101/IMG_0.jpg,47.5,15.5\n101/IMG_1.jpg,47.01,15.00\n"
    where, lost, _ = read(two_walks / "101", HEADER + rows)
    assert where == {"IMG_1.jpg": (47.01, 15.0)}  # said twice, and the same both times
    assert lost[0].reason == "line 2 of where.csv and line 5 give it different positions"


def test_a_wrong_row_beside_a_sound_one_is_said(two_walks: Path) -> None:
    where, lost, notes = read(two_walks / "101", HEADER + THIS_WALK + "101/IMG_0.jpg,147.5,15.5\n")
    assert where["IMG_0.jpg"] == (47.0, 15.0) and not lost
    assert notes[0].stage == "row" and notes[0].reason.startswith("line 4 is wrong: latitude 147.5")


def test_many_rows_of_other_photos_are_counted(two_walks: Path) -> None:
    others = "".join(f"102/IMG_{number}.jpg,48.0,16.0\n" for number in range(500))
    _, lost, notes = read(two_walks / "101", HEADER + others + THIS_WALK)
    assert not lost and len(notes) == 11 and notes[-1].reason == "490 more rows were not used"


def test_a_row_with_a_folder_wins_over_one_without(two_walks: Path) -> None:
    where, _, notes = read(two_walks / "101", HEADER + "IMG_0.jpg,1.0,1.0\n" + THIS_WALK)
    assert where["IMG_0.jpg"] == (47.0, 15.0)
    assert notes[0].reason == "line 2 names 'IMG_0.jpg', but another row names this photo more exactly"


def test_a_folder_below_the_root_of_the_same_name_is_not_mixed_up(tmp_path: Path) -> None:
    photo(tmp_path / "101" / "a.jpg", 1)
    photo(tmp_path / "101" / "101" / "a.jpg", 2)
    where, lost, _ = read(tmp_path / "101", HEADER + "a.jpg,47.0,15.0\n101/a.jpg,47.1,15.0\n")
    assert where == {"a.jpg": (47.0, 15.0), "101/a.jpg": (47.1, 15.0)} and not lost


def test_suffix_and_folder_may_be_missing_where_one_photo_fits(tmp_path: Path) -> None:
    for number, name in enumerate(("walk/a.jpg", "walk/b.v2.jpg", "run/c.jpg", "run/c.png")):
        photo(tmp_path / "photos" / name, number)
    where, lost, notes = read(tmp_path / "photos", HEADER + "a,48.1,16.0\nwalk/b.v2,48.2,16.0\nrun/c,48.3,16.0\n")
    assert where == {"walk/a.jpg": (48.1, 16.0), "walk/b.v2.jpg": (48.2, 16.0)}
    assert "fits 2 photos (run/c.jpg, run/c.png)" in notes[0].reason and len(lost) == 2
    where, _, _ = read(tmp_path / "photos", HEADER + "a.png,48.1,16.0\nc.png,48.3,16.0\nC.JPG,48.4,16.0\n")
    assert where == {"run/c.png": (48.3, 16.0), "run/c.jpg": (48.4, 16.0)}  # another suffix is another file


def test_the_column_that_fits_most_photos_holds_the_names(one: Path) -> None:
    table = "name,file,lat,lon\nThe old town,a.jpg,48.2082,16.3738\na.jpg is elsewhere,b.jpg,1,1\n"
    assert read(one, table)[0] == {"a.jpg": VIENNA}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_accents_of_either_unicode_form_and_of_old_encodings_are_equal(
    tmp_path: Path, form: str, encoding: str
) -> None:
    on_disk = unicodedata.normalize("NFC" if form == "NFD" or encoding == "cp1252" else "NFD", "Müller 12°.jpg")
    written = unicodedata.normalize("NFC" if encoding == "cp1252" else form, "Müller 12°.jpg")  # type: ignore[arg-type]
    folder = photo(tmp_path / "photos" / on_disk, 1).parent
    (folder / "positions.csv").write_bytes(f"{HEADER}{written},48.2082,16.3738\r\n".encode(encoding))
    images, problems = read_photos(folder, need_positions=True)
    assert images.names == (on_disk,) and problems == ()


def test_both_forms_of_a_name_side_by_side_are_told_apart(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "ü.jpg") for form in ("NFC", "NFD")]  # type: ignore[arg-type]
    for seed, name in enumerate(names):
        photo(tmp_path / "photos" / name, seed)
    where, lost, _ = read(tmp_path / "photos", f"{HEADER}{names[0]},48.1,16.0\n{names[1]},48.2,16.0\n")
    assert where == {names[0]: (48.1, 16.0), names[1]: (48.2, 16.0)} and not lost


@pytest.mark.parametrize("name", ["-a.jpg", "=a.jpg", "@a.jpg", "'a.jpg", "''a.jpg", "'quoted'.jpg"])
@pytest.mark.parametrize("safe", [True, False])
def test_names_that_were_made_safe_for_a_spreadsheet_are_found(tmp_path: Path, name: str, safe: bool) -> None:

    photo(tmp_path / "photos" / name, 1)
    photo(tmp_path / "photos" / "b.jpg", 2)
    where, lost, _ = read(
        tmp_path / "photos", f"{HEADER}{safe_cell(name) if safe else name},48.1,16.0\nb.jpg,48.2,16\n"
    )
    assert where == {name: (48.1, 16.0), "b.jpg": (48.2, 16.0)} and not lost


# --- metres


@pytest.mark.parametrize(
    "row, why",
    [
        ("5340354,602065,33N", "easting 5340354 and northing 602065, which seem swapped"),
        ("16.37,48.20,33N", "look like degrees; call the columns lat and lon"),
        ("0,0,33N", "stands for an unknown position"),
        ("99000,5340354,33N", "expected an easting from 100,000 to 900,000"),
        ("602065,-1,33N", "northing from 0 to 10,000,000"),
        ("602065,10000001,33S", "northing from 0 to 10,000,000"),
        ("602065,9900000,33N", "zone 33N covers latitude -80 to 84, but northing 9900000 is at latitude"),
        ("602065,300000,33S", "zone 33S covers latitude -80 to 84"),
        ("602065,5340354,33T", ""),  # on the border of bands T and U
        ("602065,5990000,33T", "zone 33T covers latitude 40 to 48, but northing 5990000 is at latitude 54"),
        ("602065,5340354,33M", "zone 33M covers latitude -8 to 0"),
        ("602065,5340354,33", "zone '33', which is not a UTM zone"),
        ("602065,5340354,61N", "zone '61N', which is not a UTM zone"),
        ("602065,5340354,I", "zone 'I', which is not a UTM zone"),
        ("602065,,33N", "has no northing"),
        ("nan,nan,33N", "has no position"),
        ("6e5,inf,33N", "'inf', which is not a number in metres"),
        ("602 065,5340354,33N", "'602 065', which is not a number in metres"),
        ('"602065,2",5340354,33N', "'602065,2', which is not a number in metres"),  # or a comma of thousands
    ],
)
def test_metres_that_are_not_in_their_zone_are_refused_with_row_and_reason(one: Path, row: str, why: str) -> None:
    table = f"name,easting,northing,zone\na.jpg,{row}\n"
    if why:
        line = refused(one, table)
        assert "a.jpg: line 2 of where.csv" in line and why in line
    else:
        assert list(read(one, table)[0]) == ["a.jpg"]


def test_where_most_rows_are_swapped_all_are(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / "photos" / f"{number}.jpg", number)
    rows = ["0.jpg,5340354,602065", "1.jpg,5340400,602100", "2.jpg,500000,602065"]  # the last is possible both ways
    line = refused(tmp_path / "photos", "name,easting,northing,zone\n" + "".join(f"{row},33N\n" for row in rows))
    assert "seem swapped" in line
    line = refused(tmp_path / "photos", HEADER + "0.jpg,151.2,-33.8\n1.jpg,151.3,-33.9\n2.jpg,35.6,139.7\n")
    assert "latitude and longitude seem swapped" in line
    where, lost, _ = read(tmp_path / "photos", HEADER + "0.jpg,151.2,-33.8\n1.jpg,-33.9,151.3\n2.jpg,-33.8,151.4\n")
    assert set(where) == {"1.jpg", "2.jpg"} and "seem swapped" in lost[0].reason  # one slip is one slip


SAN_FRANCISCO = "551000,4178500,10S"


def test_zone_10s_of_san_francisco_is_latitude_band_s_and_that_is_said(one: Path) -> None:
    where, lost, notes = read(one, f"name,easting,northing,zone\na.jpg,{SAN_FRANCISCO}\n")
    assert where["a.jpg"] == pytest.approx((37.752, -122.421), abs=1e-3) and not lost
    assert notes[0].reason == "zone 10S is read as latitude band S, north of the equator, at latitude 37.8"


def test_zone_56s_of_sydney_is_the_southern_hemisphere(one: Path) -> None:
    where, _, notes = read(one, "name,easting,northing,zone\na.jpg,334000,6251000,56S\n")
    assert where["a.jpg"] == pytest.approx((-33.867, 151.205), abs=1e-2) and not notes


def test_where_zone_letter_s_could_be_either_the_row_is_refused(one: Path) -> None:
    table = "name,easting,northing,zone\na.jpg,{},{},{}\n"
    line = refused(one, table.format(500_000, 4_000_000, "19S"))
    assert "zone 19S, which may mean 36.1 degrees north or 54.1 degrees south; write 19N for the north or 19F" in line
    north = read(one, table.format(500_000, 4_000_000, "19N"))[0]["a.jpg"]
    south = read(one, table.format(500_000, 4_000_000, "19F"))[0]["a.jpg"]
    assert north == pytest.approx((36.14, -69), abs=0.1) and south == pytest.approx((-54.1, -69), abs=0.1)


@pytest.mark.parametrize(
    "other, expected_lat",
    [
        ("500000,4600000,19T", 36.1),  # bands: no hemisphere is called T
        ("500000,4600000,19N", -54.1),  # hemispheres: band N ends at 8 degrees
        ("500000,100000,19N", None),
    ],
)
def test_other_rows_show_what_a_zone_letter_s_means(tmp_path: Path, other: str, expected_lat: float | None) -> None:
    for seed, name in enumerate("ab"):
        photo(tmp_path / "photos" / f"{name}.jpg", seed)
    table = f"name,easting,northing,zone\na.jpg,500000,4000000,19S\nb.jpg,{other}\n"
    where, lost, _ = read(tmp_path / "photos", table)
    if expected_lat is None:
        assert list(where) == ["b.jpg"] and "may mean" in lost[0].reason
    else:
        assert where["a.jpg"][0] == pytest.approx(expected_lat, abs=0.1)


@pytest.mark.parametrize("lat, expected_lat", [("36.14", 36.14), ("-54.14", -54.14)])
def test_degrees_beside_them_decide_what_a_zone_letter_s_means(one: Path, lat: str, expected_lat: float) -> None:
    where, _, _ = read(one, f"name,lat,lon,easting,northing,zone\na.jpg,{lat},-69,500000,4000000,19S\n")
    assert where["a.jpg"][0] == pytest.approx(expected_lat, abs=0.02)


@pytest.mark.parametrize(
    "header, zone", [("zone,hemisphere", "33,N"), ("zone,hemisphere", "33,north"), ("utm_zone,band", "33,U")]
)
def test_zone_and_letter_may_stand_in_two_columns(one: Path, header: str, zone: str) -> None:
    where, _, _ = read(one, f"name,easting,northing,{header}\na.jpg,602065,5340354,{zone}\n")
    assert where["a.jpg"] == pytest.approx((48.2082, 16.3738), abs=0.02)


def test_metres_without_a_zone_that_look_like_degrees_are_refused(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        photo(tmp_path / "photos" / f"{name}.jpg", seed)
    line = refused(tmp_path / "photos", "name,easting,northing\na.jpg,16.37381,48.20823\nb.jpg,16.37512,48.20911\n")
    assert "look like degrees" in line


@pytest.mark.parametrize(
    "rows", [("16.37,48.2", "17.1,49"), ("0,0", "0.12345,0.54321"), ("-1.234567,3.1", "2.5,-3.999999")]
)
def test_a_local_frame_in_metres_is_not_taken_for_degrees(tmp_path: Path, rows: tuple[str, str]) -> None:
    for seed, name in enumerate("ab"):
        photo(tmp_path / f"{name}.jpg", seed)
    (tmp_path / "positions.csv").write_text("name,easting,northing\n" + "".join(map("{}.jpg,{}\n".format, "ab", rows)))
    images, problems = read_photos(tmp_path, need_positions=True)
    assert images.positions is not None and images.positions.zones is None and len(images) == 2 and problems == ()


def test_metres_without_a_zone_among_others_with_one_are_refused(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        photo(tmp_path / "photos" / f"{name}.jpg", seed)
    table = "name,easting,northing,zone\na.jpg,602065,5340354,33N\nb.jpg,602065,5340354,\n"
    where, lost, _ = read(tmp_path / "photos", table)
    assert list(where) == ["a.jpg"] and lost[0].reason.endswith(
        "has metres without a UTM zone, but other rows have a zone or degrees"
    )


# --- degrees


@pytest.mark.parametrize(
    "lat, lon, why",
    [
        ("95", "13", "is not on earth"),
        ("139.76", "35.68", "latitude and longitude seem swapped"),
        ("5340354", "602065", "is not on earth"),
        ("84.5", "13", "outside the range of UTM, which covers -80 to 84 degrees"),
        ("-80.5", "13", "outside the range of UTM"),
        ("0", "0", "stands for an unknown position"),
        ("48.2", "", "has no longitude"),
        ("", "16.3", "has no latitude"),
        ("", "", "has no position"),
        ("nan", "nan", "has no position"),
        ("48 12 30", "16 22 25", "without N or S"),
        ("48.2 E", "16.3 N", "where N or S is expected"),
        ("-48.2 N", "16.3", "which contradicts the minus"),
        ("48 72 30 N", "16 22 25 E", "cannot be read as degrees, minutes and seconds"),
        ("48.2x", "16.3", "where N or S is expected"),
        ("forty-eight", "16.3", "not a number in degrees"),
        ("4_8", "16.3", "not a number in degrees"),
    ],
)
def test_degrees_that_are_none_are_refused_with_row_and_reason(one: Path, lat: str, lon: str, why: str) -> None:
    line = refused(one, f'{HEADER}a.jpg,"{lat}","{lon}"\n')
    assert "a.jpg: line 2 of where.csv" in line and why in line


@pytest.mark.parametrize(
    "table",
    [
        'SourceFile,GPSLatitude,GPSLongitude\n./photos/a.jpg,48 deg 12\' 29.52"" N,16 deg 22\' 25.68"" E\n',  # exiftool
        "SourceFile,GPSLatitude,GPSLongitude,GPSLatitudeRef,GPSLongitudeRef\n/x/photos/a.jpg,48.2082,16.3738,N,East\n",
        # QGIS
        "photo,filename,directory,longitude,latitude\n/x/photos/a.jpg,a,/x/photos,16.3738,48.2082\n",
        "X,Y,name\n16.37380000,48.20820001,a.jpg\n",
        # Pix4D
        "imagename,latitude [decimal degrees],longitude [decimal degrees],altitude\na.jpg,48.2082,16.3738,190\n",
        "imagename,X,Y,Z\na.jpg,16.37381,48.20819,190\n",
        # Metashape
        "# WGS 84 (EPSG::4326)\n#Label,X/Longitude,Y/Latitude,Z/Altitude\na,16.3738,48.2082,190\n#Total error,1,1,1\n",
        "#Cameras (1)\n# WGS 84 / UTM zone 33N (EPSG::32633)\n#Label,X/Easting,Y/Northing,Z\n"
        "a,602064.82,5340353.03,190\n",
        "image,latitude(deg),longitude(deg),height(m)\na.jpg,48.2082,16.3738,190\n",  # RTKLIB
        "name;easting;northing;zone\na.jpg;602065,21;5340353,59;33N\n",
        "sep=;\r\nDatei;name;Latitude;Longitude\r\nx;a.jpg;48,2082;16,3738\r\n",  # Excel
        'name,lat,lon\na.jpg,"48,2082","16,3738"\n',
        "file\tlat\tlon\na.jpg\t48°12'29.52\"N\tE 16°22.428'\n",
        "file|lat|lon\na.jpg|48:12:29.52 N|16:22:25.68 E\n",
        "File Name,GPS Latitude,GPS Longitude\nA.JPG,+48.2082,+16.3738\n",
    ],
)
def test_tables_of_other_programs_are_understood_as_they_are(one: Path, table: str) -> None:
    if '""' in table:
        table = "\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in table.splitlines())
    where, lost, notes = read(one, table)
    assert where["a.jpg"] == pytest.approx(VIENNA, abs=3e-5) and not lost and not notes


@pytest.mark.parametrize("lat, lon", [("84", "13"), ("-80", "-180"), ("0", "180"), ("0", "13"), ("51", "0")])
def test_the_edges_of_the_map_are_on_it(one: Path, lat: str, lon: str) -> None:
    where = read(one, f"{HEADER}a.jpg,{lat},{lon}\n")[0]["a.jpg"]
    assert where[0] == pytest.approx(float(lat), abs=1e-4) and abs(where[1]) == pytest.approx(abs(float(lon)), abs=1e-4)


@pytest.mark.parametrize("lat, lon", [("33 deg 51' 24.48'' S", "151 deg 12' 33.48'' E"), ("-33.8568", "151.2093")])
def test_south_stays_south(one: Path, lat: str, lon: str) -> None:
    assert read(one, f"{HEADER}a.jpg,{lat},{lon}\n")[0]["a.jpg"] == pytest.approx((-33.8568, 151.2093), abs=1e-5)
    table = "SourceFile,GPSLatitude,GPSLatitudeRef,GPSLongitude,GPSLongitudeRef\na.jpg,33.8568,South,43.2,West\n"
    assert read(one, table)[0]["a.jpg"] == pytest.approx((-33.8568, -43.2), abs=1e-5)


@pytest.mark.parametrize("x, y", [("12.25", "3.5"), ("12.2512345", "-3.5123456")])
def test_columns_x_and_y_that_could_be_degrees_or_metres_are_refused(tmp_path: Path, x: str, y: str) -> None:
    for seed, name in enumerate("ab"):
        photo(tmp_path / "photos" / f"{name}.jpg", seed)
    line = refused(tmp_path / "photos", f"name,x,y\na.jpg,{x},{y}\nb.jpg,-{x},4.25\n")
    assert "which may be degrees or metres; call the columns lon and lat, or easting and northing" in line


def test_a_table_in_radians_or_feet_is_not_read_as_degrees_or_metres(one: Path) -> None:
    for header in ("lat(rad),lon(rad)", "latitude [rad],longitude [rad]", "easting(ft),northing(ft)"):
        assert "must have a column of file names, and columns lat, lon" in refused(
            one, f"name,{header}\na.jpg,0.84,0.28\n"
        )


# --- GeoJSON


def feature(name: str, *coordinates: float, **properties: object) -> dict[str, object]:
    geometry = {"type": "Point", "coordinates": coordinates} if coordinates else None
    return {"type": "Feature", "geometry": geometry, "properties": {"name": name, **properties}}


def geojson(*features: object, **members: object) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features, **members})


def test_swapped_coordinates_of_geojson_are_noticed_by_its_properties(one: Path) -> None:
    line = refused(one, geojson(feature("a.jpg", 48.2082, 16.3738, latitude=48.2082, longitude=16.3738)), "w.geojson")
    assert "feature 1 of w.geojson has latitude, longitude 16.3738, 48.2082 in its geometry, but" in line
    assert read(one, geojson(feature("a.jpg", 16.3738, 48.2082, lat=48.2082)), "w.geojson")[0] == {"a.jpg": VIENNA}


def test_geojson_in_utm_says_so_and_is_read_and_in_other_systems_refused(one: Path) -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    where, _, _ = read(one, geojson(feature("a.jpg", 602064.82, 5340353.03), crs=crs), "w.geojson")
    assert where["a.jpg"] == pytest.approx(VIENNA, abs=3e-5)
    crs["properties"] = {"name": "urn:ogc:def:crs:EPSG::31256"}  # type: ignore[assignment]
    assert "Export it in WGS 84 (EPSG:4326)" in refused(one, geojson(feature("a.jpg", 1, 2), crs=crs), "w.geojson")
    crs["properties"] = {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}  # type: ignore[assignment]
    assert read(one, geojson(feature("a.jpg", 16.3738, 48.2082), crs=crs), "w.geojson")[0] == {"a.jpg": VIENNA}
    assert "is not on earth" in refused(one, geojson(feature("a.jpg", 602064.82, 5340353.03)), "w.geojson")


def test_the_geojson_of_an_index_in_local_metres_is_read_back(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", 1)
    (tmp_path / "positions.geojson").write_text(geojson(feature("a.jpg", easting=10.5, northing=-3.25, zone=None)))
    images, _ = read_photos(tmp_path, need_positions=True)
    assert images.positions is not None and images.positions.metres.tolist() == [[10.5, -3.25]]


# --- @ names


def test_a_folder_is_what_most_of_its_names_are(tmp_path: Path) -> None:
    phone, tree = tmp_path / "phone", tmp_path / "tree"
    for number in range(3):
        photo(phone / f"{number}.jpg", number, 48.2 + number / 1000, 16.37)
        photo(tree / f"@{602065 + number}@5340354@33@U@.jpg", 10 + number)
    photo(phone / "@anna.jpg", 20, 48.21, 16.37)
    photo(tree / "preview.jpg", 21)
    where, lost, _ = read(phone)
    assert sorted(where) == ["0.jpg", "1.jpg", "2.jpg", "@anna.jpg"] and not lost
    where, lost, _ = read(tree)
    assert len(where) == 3 and where["@602065@5340354@33@U@.jpg"] == pytest.approx(VIENNA, abs=0.002)
    assert lost == [Problem("preview.jpg", "position", "has no position in its name")]
    images, problems = open_photos(tree, with_positions=False)
    assert len(images) == 4 and problems == ()


def test_a_stray_in_a_tree_of_at_names_is_named_with_its_folder(tmp_path: Path) -> None:
    for side, first in (("database", 0), ("queries", 10)):
        for number in range(first, first + 3):
            photo(tmp_path / side / f"@{602065 + number % 10}@5340354@33@U@.jpg", number)
    photo(tmp_path / "queries" / "preview.jpg", 20)
    dataset, problems = open_dataset(tmp_path)
    assert len(dataset.queries) == 3
    assert problems == (Problem("queries/preview.jpg", "position", "has no position in its name"),)


@pytest.mark.parametrize(
    "fields, why",
    [
        ("5340354@602065@33@U", "which seem swapped"),
        ("16.37@48.20@33@U", "look like degrees"),
        ("602065@5340354@33@M", "zone 33M covers latitude -8 to 0"),
        ("602065@5340354@33@U@048.20000@-016.37000", "two different positions"),
        ("500000@4000000@19@S", "which may mean 36.1 degrees north or 54.1 degrees south"),
        ("16.37381@48.20823", "look like degrees"),
    ],
)
def test_impossible_positions_in_names_are_refused(tmp_path: Path, fields: str, why: str) -> None:
    photo(tmp_path / f"@{fields}@.jpg", 1)
    with pytest.raises(InputError) as caught:
        open_photos(tmp_path, need_positions=True)
    assert why in str(caught.value) and fields in str(caught.value)


def test_degrees_in_names_may_be_rounded_or_left_out_or_0(tmp_path: Path) -> None:
    for seed, degrees in enumerate(("048.21@016.37", "@", "0@0", "48.2082@16.3738", "x@y")):
        photo(tmp_path / f"@60206{seed}@5340354@33@U@{degrees}@.jpg", seed)
    where, lost, _ = read(tmp_path)
    assert len(where) == 5 and not lost


# --- photos and tables that contradict each other


def test_the_same_photo_with_two_positions_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    same = photo(folder / "a.jpg", 1)
    (folder / "b.jpg").write_bytes(same.read_bytes())
    (folder / "c.jpg").write_bytes(photo(folder / "d.jpg", 2).read_bytes())
    rows = "a.jpg,48.2082,16.3738\nb.jpg,48.3082,16.3738\nc.jpg,48.2,16.3\nd.jpg,48.2,16.3\n"
    where, lost, _ = read(folder, HEADER + rows)
    assert set(where) == {"c.jpg", "d.jpg"}  # copies at one place are fine
    assert [problem.name for problem in lost] == ["a.jpg", "b.jpg"]
    assert "is the same photo as 'b.jpg', byte for byte, but has another position (up to 11,1" in lost[0].reason


def test_the_same_photo_under_two_at_names_has_no_position(tmp_path: Path) -> None:
    same = photo(tmp_path / "@602065@5340354@33@U@.jpg", 1)
    (tmp_path / "@602165@5340354@33@U@.jpg").write_bytes(same.read_bytes())
    photo(tmp_path / "@602265@5340354@33@U@.jpg", 2)
    where, lost, _ = read(tmp_path)
    assert list(where) == ["@602265@5340354@33@U@.jpg"] and "(up to 100 m apart)" in lost[0].reason


def test_photos_that_say_something_else_than_the_table_are_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(3):
        photo(folder / f"{number}.jpg", number, 48.2 + number / 1000, 16.37)
    rows = "".join(f"{number}.jpg,16.37,{48.2 + number / 1000}\n" for number in range(3))  # swapped, and possible
    where, lost, (note,) = read(folder, HEADER + rows)
    assert len(where) == 3 and not lost
    assert note.reason.startswith(
        "3 photos have an EXIF position more than 1 km away from that in the table (first: '0.jpg'"
    )


def test_photos_of_a_folder_that_lie_a_thousand_kilometres_apart_are_said_once(tmp_path: Path) -> None:
    for number in range(5):
        photo(tmp_path / "walk" / f"{number}.jpg", number, 48.2 + number / 1000, 16.37)
    photo(tmp_path / "walk" / "9.jpg", 9, -48.2, 16.37)
    photo(tmp_path / "sydney" / "1.jpg", 10, -33.86, 151.2)  # another folder may be elsewhere
    _, lost, (note,) = read(tmp_path)
    assert not lost and note.name == "walk"
    assert note.reason.startswith(
        "1 of the 6 photos in this folder are more than 1,000 km away from most of its photos (first: 'walk/9.jpg'"
    )
    (tmp_path / "walk" / "9.jpg").unlink()
    assert read(tmp_path)[2] == []


@pytest.mark.parametrize(
    "tags, why",
    [
        ({2: (48, 12, 30), 4: (16, 22, 0)}, "has no N or S, or no E or W"),
        ({1: "N", 2: (0, 0, 0), 3: "E", 4: (0, 0, 0)}, "is 0, 0, which stands for an unknown position"),
        ({1: "N", 2: (148, 0, 0), 3: "E", 4: (16, 22, 0)}, "latitude 148, longitude 16.3667, is not on earth"),
        ({1: "N", 2: (48, 75, 0), 3: "E", 4: (16, 22, 0)}, "not in degrees, minutes and seconds"),
        ({1: "N", 2: (85, 0, 0), 3: "E", 4: (16, 22, 0)}, "outside the range of UTM"),
        ({1: "N", 2: (35, 0, 0), 3: "E", 4: (139, 22, 0), 18: "TOKYO"}, "in the datum 'TOKYO', not in WGS84"),
    ],
)
def test_a_photo_whose_exif_holds_no_possible_position_says_why(
    tmp_path: Path, tags: dict[int, object], why: str
) -> None:
    from PIL import Image

    photo(tmp_path / "a.jpg", 1, *VIENNA)
    exif = Image.Exif()
    exif[0x8825] = tags
    Image.new("RGB", (64, 64)).save(tmp_path / "b.jpg", exif=exif)
    where, lost, _ = read(tmp_path)
    assert set(where) == {"a.jpg"} and lost[0].name == "b.jpg" and why in lost[0].reason
    images, problems = read_photos(tmp_path)
    assert len(images) == 2 and [(p.name, p.stage) for p in problems] == [("b.jpg", "note")]


# --- without positions


def test_where_no_positions_are_needed_no_table_is_read(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", 1, *VIENNA)
    for content in ("customer,amount\n1,2\n", HEADER + "gone.jpg,1,1\n", "\0\0"):
        (tmp_path / "positions.csv").write_text(content)
        images, problems = open_photos(tmp_path, with_positions=False)
        assert images.names == ("a.jpg",) and images.positions is None and problems == ()


# --- folders of other programs


def test_thumbnails_and_deleted_photos_are_skipped_and_counted_once(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", 0, *VIENNA)
    skipped = ("@eaDir/a.jpg", "walk/@eaDir/a.jpg", "#recycle/b.jpg", "$RECYCLE.BIN/c.jpg", "__MACOSX/d.jpg")
    for seed, name in enumerate((*skipped, ".thumbnails/e.jpg", "._a.jpg", "@Recycle/f.jpg")):
        photo(tmp_path / name, seed + 1, *VIENNA)
    (tmp_path / ".DS_Store").touch()
    where, lost, (note,) = read(tmp_path)
    assert list(where) == ["a.jpg"] and not lost
    folders = "#recycle, $RECYCLE.BIN, .thumbnails, @Recycle, ..."
    assert note.reason == f"skipped 7 folders of hidden or deleted files ({folders}) and 1 hidden photo"


def test_videos_and_raw_files_are_counted_by_kind_and_not_passed_over(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", 0, *VIENNA)
    for name in ("1.MP4", "2.mp4", "3.CR2", "b.dng", "notes.txt", "a.jpg.xmp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mov").mkdir()
    _, _, (note,) = read(tmp_path)
    assert note.reason == "skipped files in formats that are not supported: 1 .cr2, 1 .dng, 2 .mp4"


# --- any numbers at all


def test_no_table_of_random_cells_gives_a_position_that_it_does_not_name(tmp_path: Path) -> None:
    """Whatever is in the cells: a photo lies where its row says, or it is named."""
    import utm

    for number in range(12):
        photo(tmp_path / "photos" / f"{number}.jpg", number)
    lats = {"0": 0.0, "48.2": 48.2, "-48.2": -48.2, "48.2N": 48.2, "33": 33.0, "33N": 33.0, "10S": -10.0}
    lons = {"0": 0.0, "48.2": 48.2, "-48.2": -48.2, "16 30 0 E": 16.5, "33": 33.0}
    metres = {"0": 0.0, "602065": 602065.0, "5340354": 5340354.0, "48.2": 48.2, "33": 33.0}
    zones = {"33N": ["33N"], "10S": ["10N", "10S"], "33M": ["33S"]}
    cells = ["", "nan", "1e9", "x", *lats, *lons, *metres, *zones]
    rng = np.random.default_rng(0)
    located = 0
    for _ in range(400):
        columns = ["lat,lon", "easting,northing,zone", "lat,lon,easting,northing,zone"][rng.integers(3)].split(",")
        rows = [dict(zip(columns, rng.choice(cells, len(columns)), strict=True)) for _ in range(12)]
        lines = [f"{number}.jpg,{','.join(row.values())}" for number, row in enumerate(rows)]
        table = "\n".join([f"name,{','.join(columns)}", *lines])
        try:
            where, lost, _ = read(tmp_path / "photos", table)
        except InputError as error:
            assert str(error).isprintable()  # nothing can be used, or a local frame, which has no degrees
            continue
        assert len(where) + len(lost) == 12
        located += len(where)
        for name, (lat, lon) in where.items():
            row = rows[int(name.split(".")[0])]
            said = []
            if row.get("lat") in lats and row.get("lon") in lons:
                said.append((lats[row["lat"]], lons[row["lon"]]))
            if {row.get("easting"), row.get("northing")} <= metres.keys() and row.get("zone") in zones:
                east, north = metres[row["easting"]], metres[row["northing"]]
                for zone in zones[row["zone"]]:
                    said.append(utm.to_latlon(east, north, int(zone[:-1]), northern=zone[-1] == "N", strict=False))
            assert any(np.allclose(one, (lat, lon), atol=1e-4) for one in said), (row, lat, lon)
    assert located > 20
