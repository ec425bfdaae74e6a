"""Places out of photos: which photos belong together, which stay apart, and the file that says so."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from cricavpr.datasets import read_photos
from cricavpr.datasets.base import ImageSet
from cricavpr.datasets.place_folder import (
    FoundPlaces,
    PlaceRule,
    open_places,
    places_from_positions,
    places_page,
    read_headings,
    read_places,
    write_places,
)
from cricavpr.errors import InputError
from cricavpr.geo import Positions
from cricavpr.town.write import make_town

NAN = float("nan")


def images_at(*spots: tuple[float, float], zones: tuple[str, ...] | None = None) -> ImageSet:
    names = tuple(f"{number}.jpg" for number in range(len(spots)))
    return ImageSet(Path("photos"), names, Positions(np.array(spots, float).reshape(-1, 2), zones))


def members(found: FoundPlaces) -> list[list[int]]:
    return [rows.tolist() for rows in found.members]


def crowd(count: int, seed: int, side_m: float = 200.0) -> tuple[ImageSet, np.ndarray]:
    """Photos anywhere in a square, most of them with a heading."""
    random = np.random.default_rng(seed)
    headings = random.uniform(0, 360, count)
    headings[random.random(count) < 0.1] = NAN
    return images_at(*map(tuple, random.uniform(0, side_m, (count, 2)))), headings


def test_photos_near_one_another_are_a_place() -> None:
    found = places_from_positions(images_at((0, 0), (3, 0), (0, 4), (5, 5), (100, 0), (103, 0), (101, 1), (100, 4)))
    assert members(found) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert found.left_out() == []


def test_the_middle_is_where_the_most_photos_are() -> None:
    found = places_from_positions(images_at(*((x, 0) for x in (0, 8, 16, 24, 19, 13))), PlaceRule(min_images=2))
    assert members(found) == [[1, 2, 3, 4, 5]]
    assert found.middles.tolist() == [2]
    assert found.reasons[0] == "are within 25 m of a place without belonging to it"


def test_a_radius_of_exactly_so_many_metres_counts() -> None:
    assert members(places_from_positions(images_at((0, 0), (10, 0)), PlaceRule(min_images=2))) == [[0, 1]]
    assert members(places_from_positions(images_at((0, 0), (10.01, 0)), PlaceRule(min_images=2))) == []


def test_too_few_photos_are_no_place_and_the_reason_is_kept() -> None:
    found = places_from_positions(images_at((0, 0), (1, 0), (2, 0), (NAN, NAN)))
    assert members(found) == []
    assert found.left_out() == [
        ("have fewer than 4 photos within 10 m that look the same way", 3),
        ("have no position", 1),
    ]


def test_photos_that_look_away_from_each_other_are_two_places_on_one_spot() -> None:
    spots = images_at(*[(0, 0)] * 8)
    headings = np.array([350, 0, 10, 30, 170, 180, 190, 200.0])
    assert members(places_from_positions(spots, None, headings)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert members(places_from_positions(spots)) == [list(range(8))]
    assert members(places_from_positions(spots, PlaceRule(heading_deg=180), headings)) == [list(range(8))]


def test_photos_half_turned_from_a_place_are_in_none() -> None:
    spots = images_at(*[(0, 0)] * 8)
    headings = np.array([0, 0, 0, 0, 0, 80, 80, 80.0])
    found = places_from_positions(spots, PlaceRule(min_images=3), headings)
    assert members(found) == [[0, 1, 2, 3, 4]]  # the others see half of what these see
    assert found.left_out() == [("are within 25 m of a place without belonging to it", 3)]


def test_a_photo_without_a_heading_agrees_with_every_other() -> None:
    found = places_from_positions(images_at(*[(0, 0)] * 4), PlaceRule(min_images=4), np.array([0, NAN, 20, NAN]))
    assert members(found) == [[0, 1, 2, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_no_two_places_show_the_same_and_no_place_is_spread_out(seed: int) -> None:
    images, headings = crowd(600, seed)
    rule = PlaceRule(apart_m=15, radius_m=8, min_images=2)
    found = places_from_positions(images, rule, headings)
    assert len(found) > 20
    assert images.positions is not None
    metres = images.positions.metres

    def turn(a: int, b: int) -> float:
        difference = abs(headings[a] - headings[b]) % 360
        return 0.0 if np.isnan(difference) else min(difference, 360 - difference)

    for middle, rows in zip(found.middles.tolist(), members(found), strict=True):
        assert len(rows) >= 2 and middle in rows
        assert all(np.linalg.norm(metres[row] - metres[middle]) <= 8 and turn(row, middle) <= 45 for row in rows)
    for one, other in itertools.combinations(members(found), 2):
        assert all(
            np.linalg.norm(metres[a] - metres[b]) > 15 or turn(a, b) > 90 for a, b in itertools.product(one, other)
        )
    assert [row for row, reason in enumerate(found.reasons) if not reason] == sorted(itertools.chain(*members(found)))


def test_the_same_photos_give_the_same_places_and_moving_the_town_changes_nothing() -> None:
    images, headings = crowd(300, 9)
    first = places_from_positions(images, PlaceRule(min_images=2), headings)
    assert images.positions is not None
    moved = ImageSet(
        images.root, images.names, Positions(images.positions.metres + np.array([4e5, 6e6]), ("33N",) * 300)
    )
    assert members(places_from_positions(moved, PlaceRule(min_images=2), headings)) == members(first)


def test_a_place_may_lie_across_a_zone_border() -> None:
    degrees = np.array([(0.5, 0.0), (0.5, 5.99999), (0.5, 6.00001), (0.5, 9.0)])  # too wide for one zone
    positions = Positions.from_latlon(degrees)
    assert positions.zones is not None and len(set(positions.zones)) == 2
    images = ImageSet(Path("photos"), ("a", "b", "c", "d"), positions)
    found = places_from_positions(images, PlaceRule(min_images=2))
    assert members(found) == [[1, 2]]
    assert places_page(found, "border").count('class="cv-circle') == 1


@pytest.mark.parametrize(
    "rule", [{"apart_m": -1}, {"radius_m": NAN}, {"heading_deg": 181}, {"min_images": 0}, {"apart_m": float("inf")}]
)
def test_a_rule_that_means_nothing_is_refused(rule: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be at least 0"):
        PlaceRule(**rule)  # type: ignore[arg-type]


def test_photos_without_any_position_and_headings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="no positions"):
        places_from_positions(ImageSet(Path("photos"), ("a.jpg",)))
    with pytest.raises(InputError, match=r"one heading per image \(1\), got 2"):
        places_from_positions(images_at((0, 0)), None, np.zeros(2))


# --- which way photos look


def put_photo(path: Path, gps: dict[int, object] | None) -> None:
    exif = Image.Exif()
    if gps is not None:
        exif[0x0110] = "a camera"
        exif.get_ifd(0x8825).update(gps)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40)).save(path, exif=exif)


def test_headings_come_from_exif(tmp_path: Path) -> None:
    cases: dict[str, tuple[dict[int, object] | None, float]] = {
        "a.jpg": ({16: "T", 17: IFDRational(12345, 100)}, 123.45),
        "b.png": ({17: IFDRational(90, 1)}, 90.0),
        "c.webp": ({17: IFDRational(360, 1)}, 0.0),
        "d.jpg": ({17: IFDRational(1, 0)}, NAN),
        "e.jpg": ({17: IFDRational(400, 1)}, NAN),
        "f.jpg": ({16: "T"}, NAN),
        "g.jpg": (None, NAN),
    }
    for name, (gps, _) in cases.items():
        put_photo(tmp_path / name, gps)
    (tmp_path / "h.jpg").write_bytes(b"no picture")
    images = ImageSet(tmp_path, (*cases, "h.jpg", "missing.jpg"))
    wanted = [heading for _, heading in cases.values()] + [NAN, NAN]
    np.testing.assert_allclose(read_headings(images), wanted)


def test_a_png_may_carry_its_heading_behind_its_pixels(tmp_path: Path) -> None:
    put_photo(tmp_path / "a.png", {17: IFDRational(90, 1)})
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4])]
    end = data.index(b"IEND") - 4
    (tmp_path / "b.png").write_bytes(data[:start] + data[start + len(chunk) : end] + chunk + data[end:])
    assert read_headings(ImageSet(tmp_path, ("a.png", "b.png"))).tolist() == [90, 90]


def test_headings_come_from_names_that_carry_them(tmp_path: Path) -> None:
    names = ("@1@2@33@U@55@13@pano@00@084@000@@@@@.jpg", "@1@2@33@U@55@13@pano@00@@000@@@@@.jpg", "@1@2@.jpg")
    np.testing.assert_allclose(read_headings(ImageSet(tmp_path, names)), [84, NAN, NAN])


def test_the_photos_of_a_town_fall_into_its_places(tmp_path: Path) -> None:
    make_town(tmp_path, 12, 10, "photos", image_size=(40, 40), queries_per_place=2)
    images, problems = read_photos(tmp_path)
    found = places_from_positions(images, PlaceRule(min_images=3, apart_m=5), read_headings(images))
    assert not problems and len(found) == 10
    for rows in found.members:
        assert len({Path(images.names[row]).name[:6] for row in rows.tolist()}) == 1


# --- the file and the map


def written(folder: Path, photos: str = "photos") -> tuple[Path, FoundPlaces]:
    for number in range(8):
        put_photo(folder / photos / f"{number}.jpg", None)
    spots = Positions(np.array([(4e5 + 100 * (number // 4), 6e6 + number % 4) for number in range(8)]), ("33N",) * 8)
    images = ImageSet(folder / photos, tuple(f"{number}.jpg" for number in range(8)), spots)
    found = places_from_positions(images, None, np.array([NAN] * 4 + [20.0] * 4))
    write_places(found, folder / "places.json", "my town")
    return folder / "places.json", found


def test_places_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    file, found = written(tmp_path)
    dataset = read_places(file)
    assert dataset.name == "my town"
    assert [(place.id, place.city, place.images) for place in dataset.places] == [
        (0, "my town", ("0.jpg", "1.jpg", "2.jpg", "3.jpg")),
        (1, "my town", ("4.jpg", "5.jpg", "6.jpg", "7.jpg")),
    ]
    assert dataset.missing() == []
    assert dataset.read("7.jpg").shape == (40, 40, 3)
    assert dataset.fingerprint() == found.dataset("my town").fingerprint()
    assert open_places(file).fingerprint() == dataset.fingerprint()
    held = json.loads(file.read_text())
    assert held["rule"] == {"apart_m": 25.0, "radius_m": 10.0, "heading_deg": 45.0, "min_images": 4}
    assert "heading_deg" not in held["places"][0] and held["places"][1]["heading_deg"] == 20.0
    assert held["places"][0]["lat"] == pytest.approx(54.13, abs=0.1)


def test_file_and_photos_may_move_together_or_the_folder_be_named(tmp_path: Path) -> None:
    file, _ = written(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert read_places(tmp_path / "there" / file.name).missing() == []
    (tmp_path / "there/photos").rename(tmp_path / "elsewhere")
    moved = read_places(tmp_path / "there" / file.name)
    assert len(moved.missing()) == 8
    assert read_places(tmp_path / "there" / file.name, tmp_path / "elsewhere").missing() == []


def test_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    images = ImageSet(tmp_path, (name,), Positions(np.zeros((1, 2))))
    write_places(places_from_positions(images, PlaceRule(min_images=1)), tmp_path / "p.json", "x")
    assert read_places(tmp_path / "p.json").places[0].images == (name,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "other"}',
        '{"format": "cricavpr places 1", "name": "x", "folder": "."}',
        '{"format": "cricavpr places 1", "name": "x", "folder": ".", "places": [{"id": "0", "images": ["a"]}]}',
        '{"format": "cricavpr places 1", "name": "x", "folder": ".", "places": [{"id": 0, "images": [7]}]}',
        '{"format": "cricavpr places 1", "name": "x", "folder": ".", "places": [{"id": 0, "images": "ab"}]}',
        '{"format": "cricavpr places 1", "name": "x", "folder": ".", "places": [{"id": 0, "images": ["../a"]}]}',
        '{"format": "cricavpr places 1", "name": "x", "folder": ".", "places": [{"id": 0, "images": ["/etc/a"]}]}',
        '{"format": "cricavpr places 1", "name": "x", "folder": ".", "places": []}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_not_of_places_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError):
        read_places(tmp_path / "p.json")


def test_where_no_place_is_found_the_reasons_are_told(tmp_path: Path) -> None:
    found = places_from_positions(images_at((0, 0), (1, 0)))
    with pytest.raises(InputError, match="no place among 2 photos of x: 2 have fewer than 4 photos within 10 m"):
        write_places(found, tmp_path / "p.json", "x")
    assert not (tmp_path / "p.json").exists()


def test_the_map_shows_every_photo_once_and_every_place(tmp_path: Path) -> None:
    images, headings = crowd(200, 3)
    found = places_from_positions(images, PlaceRule(min_images=2), headings)
    page = places_page(found, "<my & town>")
    assert page.count('class="cv-circle cv-group') == len(found)
    names = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', page)[0])
    shown = [name.partition(":")[0] for path in names for name in path.get("names", ())]
    assert sorted(shown) == sorted(images.names)
    ticked = sum(len(path["numbers"]) for path in names if "names" not in path)
    assert ticked == int((~np.isnan(headings)).sum())
    assert f"<h1>&lt;my &amp; town&gt;: {len(found)} places from {found.used} of 200 photos</h1>" in page


def test_a_single_spot_has_a_map(tmp_path: Path) -> None:
    found = places_from_positions(images_at(*[(7, 7)] * 4, (NAN, NAN)))
    assert not re.search(r'="[^"]*nan', places_page(found, "spot"))
