"""Health of an index whose flaws were put there by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cricavpr.descriptors import DescriptorSet, MadeBy
from cricavpr.errors import InputError
from cricavpr.geo import Positions
from cricavpr.health import examine
from cricavpr.health.measures import holes, main_plane, measure, thin_places
from cricavpr.health.page import page
from cricavpr.index.columns import Photos
from cricavpr.index.place_index import PlaceIndex

NAN = float("nan")


def grid(side: int, step_m: float) -> NDArray[np.float64]:
    return np.array([(step_m * (p % side), step_m * (p // side)) for p in range(side * side)])


def built(
    to: Path,
    vectors: NDArray[np.float64],
    positions: Positions,
    root: Path | None = None,
    names: tuple[str, ...] | None = None,
) -> PlaceIndex:
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = names or tuple(f"{number:03d}.png" for number in range(len(unit)))
    made = MadeBy("made_up", "none", None, "none", "none", None, unit.shape[1])
    return PlaceIndex.build(Photos(DescriptorSet(names, unit, made), root or to.parent, positions), to)


# --- the ground


def test_a_hole_in_a_grid_is_found_where_it_is() -> None:
    metres = grid(12, 40.0) + 600_000.0
    middle = np.array([600_200.0, 600_200.0])
    found = holes(metres[np.hypot(*(metres - middle).T) > 115.0], 25.0)
    assert len(found) == 1
    assert (found[0].easting_m, found[0].northing_m) == pytest.approx(tuple(middle), abs=1.0)
    assert found[0].radius_m == pytest.approx(120.0, abs=2.0)


def test_an_even_grid_a_line_and_a_few_photos_have_no_hole() -> None:
    assert holes(grid(8, 40.0), 25.0) == ()
    assert holes(np.column_stack([np.arange(9.0) * 100, np.zeros(9)]), 25.0) == ()
    assert holes(grid(1, 1.0), 25.0) == () and holes(np.zeros((9, 2)), 25.0) == ()


def test_a_thin_place_has_one_photo() -> None:
    positions = Positions(np.array([[0, 0], [0, 20], [0, 60], [NAN, NAN]]))
    assert thin_places(positions, 25.0).tolist() == [2]


def test_the_map_shows_the_zone_with_most_photos() -> None:
    positions = Positions(np.array([[0, 0], [5, 5], [9, 9], [NAN, NAN]]), ("31N", "32N", "32N", ""))
    assert main_plane(positions).tolist() == [1, 2]


# --- likeness


@pytest.fixture
def flawed(tmp_path: Path) -> PlaceIndex:
    """Ten places of two photos, 200 m apart; photos 0 and 1 are copies, places 3 and 7 look the same."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(10, 16))
    places[7] = places[3]
    vectors = np.repeat(places, 2, axis=0) + 0.15 * rng.normal(size=(20, 16))
    vectors[1] = vectors[0] + 1e-3
    metres = np.column_stack([np.repeat(np.arange(10.0) * 200, 2), np.tile([0.0, 5.0], 10)])
    return built(tmp_path / "index", vectors, Positions(metres))


def test_copies_and_places_that_look_alike_are_named(flawed: PlaceIndex) -> None:
    health = examine(flawed, copy_score=0.9999)
    found = health.similarity
    assert [(pair.first, pair.second) for pair in found.copies] == [(0, 1)] and found.copy_count == 1
    assert found.copies[0].apart_m == pytest.approx(5.0)
    assert len(found.lookalikes) == 1  # four pairs of photos join the same two places
    pair = found.lookalikes[0]
    assert {pair.first // 2, pair.second // 2} == {3, 7} and pair.apart_m == pytest.approx(800.0, abs=10)
    assert found.usual_score is not None and pair.score >= found.usual_score
    assert 0 < health.similarity.confused <= 4 and len(health.thin) == 0


def test_an_answer_from_down_the_street_is_not_one_from_far_away(tmp_path: Path) -> None:
    vectors = np.array([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [1.0, 0.1, 0.0], [1.0, 0.6, 0.0]])
    metres = Positions(np.array([[0.0, 0.0], [50.0, 0.0], [NAN, NAN], [500.0, 0.0]]))
    assert examine(built(tmp_path / "index", vectors, metres)).similarity.confused == 0  # nobody knows where 2 is
    metres = Positions(np.array([[0.0, 0.0], [50.0, 0.0], [60.0, 0.0], [500.0, 0.0]]))
    assert examine(built(tmp_path / "index", vectors, metres)).similarity.confused == 1


def test_where_every_place_is_thin_the_most_alike_are_shown(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 8))
    health = examine(
        built(tmp_path / "index", vectors, Positions(np.column_stack([np.arange(5.0) * 500, np.zeros(5)])))
    )
    assert health.similarity.usual_score is None and len(health.similarity.lookalikes) == 10 and len(health.thin) == 5
    scores = [pair.score for pair in health.similarity.lookalikes]
    assert scores == sorted(scores, reverse=True)


# --- photos


def test_blur_and_darkness_are_measured() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(3)))
    assert measure(blurred)[0] < 0.1 * measure(noise)[0]
    assert measure(np.full((9, 9, 3), 7, np.uint8)) == (0.0, 7.0)
    assert measure(np.array([[[10] * 3, [20] * 3]], np.uint8)) == (0.0, 15.0)
    spot = np.zeros((5, 5, 3), np.uint8)
    spot[2, 2] = 90  # the Laplacian is -360 in the middle, 90 at its four neighbours, 0 at four corners
    assert measure(spot)[0] == pytest.approx((360**2 + 4 * 90**2) / 9)


def test_bad_photos_are_named_worst_first_and_missing_ones_counted(tmp_path: Path) -> None:
    root, rng = tmp_path / "photos", np.random.default_rng(0)
    root.mkdir()
    for number in range(6):
        picture = Image.fromarray(rng.integers(0, 256, (48, 48, 3)).astype(np.uint8))
        picture = picture.filter(ImageFilter.GaussianBlur((0, 6, 4, 0, 0, 0)[number]))
        picture = picture.point(lambda value, dim=number == 3: value // 16 if dim else value)
        if number != 5:
            picture.save(root / f"{number:03d}.png")
    index = built(tmp_path / "index", rng.normal(size=(6, 8)), Positions(grid(3, 50.0)[:6]), root)
    looks = examine(index, root).quality
    assert looks is not None and (looks.measured, looks.missing) == (5, 1)
    assert [one.row for one in looks.blurred] == [1, 2] and [one.row for one in looks.dark] == [3]
    moved = root.rename(tmp_path / "moved")
    found = examine(index, moved).quality
    assert found == looks
    with pytest.raises(InputError, match="expected the 6 photos of the index in"):
        examine(index, tmp_path / "index")


def test_no_photo_is_taken_for_one_of_the_same_name_below_another_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = []
    for number, root in enumerate((tmp_path / "photos/a", tmp_path / "photos/b")):
        root.mkdir(parents=True)
        for name in ("000.png", "001.png"):
            Image.new("RGB", (48, 48), (9 if number else 200,) * 3).save(root / name)  # those below b are dark
        positions = Positions(grid(2, 9.0)[:2] + 100 * number)
        parts.append(built(tmp_path / f"index-{root.name}", rng.normal(size=(2, 8)), positions, root))
    both = parts[0].merge(parts[1]).index
    whole, first = examine(both, tmp_path / "photos").quality, examine(both, tmp_path / "photos/a").quality
    assert whole is not None and (whole.measured, [one.row for one in whole.dark]) == (4, [2, 3])
    assert first is not None and (first.measured, first.missing, first.dark) == (2, 2, ())


# --- the page


def test_the_page_has_pictures_where_they_are_at_hand_and_escapes_names(flawed: PlaceIndex, tmp_path: Path) -> None:
    html = page(examine(flawed, copy_score=0.9999))
    assert "photo not available" in html and "<img" not in html
    for row in (0, 1):
        Image.new("RGB", (64, 48), (200, 0, 0)).save(flawed.photo(row))
    assert page(examine(flawed, copy_score=0.9999)).count('src="data:image/jpeg;base64,') == 2
    assert "cv-link" in html and html.count("<script") == 2


def test_names_are_never_markup(tmp_path: Path) -> None:
    """In similar places, near-duplicates, single photos, blurred and dark photos, on the map and in the title."""
    names = tuple(f"<img src=x onerror=alert({number})>'&\".png" for number in range(6))
    rng, root = np.random.default_rng(0), tmp_path / "photos"
    root.mkdir()
    for number, name in enumerate(names):
        noise = Image.fromarray(rng.integers(0, 256 if number else 9, (48, 48, 3)).astype(np.uint8))
        noise.filter(ImageFilter.GaussianBlur(9 if number == 1 else 0)).save(root / name)
    vectors = np.repeat(rng.normal(size=(3, 8)), 2, axis=0) + 1e-3
    metres = np.array([[0.0, 0.0], [5.0, 0.0], [400.0, 0.0], [405.0, 0.0], [800.0, 0.0], [900.0, 0.0]])
    index = built(tmp_path / "<index>", vectors, Positions(metres), root, names)
    health = examine(index, root, copy_score=-1.0)
    assert health.quality is not None and health.quality.blurred and health.quality.dark
    assert health.similarity.copies and len(health.thin) == 2
    html = page(health)
    assert "<img src=x" not in html and "<index>" not in html and html.count("&lt;img src=x onerror=alert(0)&gt;") >= 3


@pytest.mark.parametrize("copy_score", [NAN, float("inf"), 98.0, -2.0])
def test_a_score_that_no_two_photos_can_have_is_refused(flawed: PlaceIndex, copy_score: float) -> None:
    with pytest.raises(InputError, match=f"got {copy_score:g}"):
        examine(flawed, copy_score=copy_score)


def test_without_two_photos_of_one_place_nothing_is_said_to_look_alike(tmp_path: Path) -> None:
    metres = Positions(np.column_stack([np.arange(5.0) * 500, np.zeros(5)]))
    html = page(examine(built(tmp_path / "index", np.random.default_rng(0).normal(size=(5, 8)), metres)))
    assert "pairs of similar places" not in html and "10 most similar pairs of far places" in html
    alone = page(examine(built(tmp_path / "one", np.eye(1, 8), Positions(np.zeros((1, 2))))))
    assert "have a score" not in alone and "0 most similar pairs of far places" in alone


def test_photos_of_one_place_that_do_not_find_one_another_are_not_said_to_be_none(tmp_path: Path) -> None:
    looks = np.repeat(np.eye(2, 8), 12, axis=0)  # each of 12 places by day and at night, and all nights look alike
    vectors = looks + 0.05 * np.random.default_rng(0).normal(size=looks.shape)
    metres = np.column_stack([np.tile(np.arange(12.0) * 500, 2), np.zeros(24)])
    health = examine(built(tmp_path / "index", vectors, Positions(metres)))
    assert health.similarity.usual_score is None and len(health.thin) == 0
    html = page(health)
    assert "No place has two photos" not in html and "None of 24 photos has a match at its own place" in html


def test_the_page_says_how_alike_no_two_far_places_look(flawed: PlaceIndex) -> None:
    health = examine(flawed, far_m=5000.0)
    usual = health.similarity.usual_score
    assert usual is not None and not health.similarity.lookalikes
    assert f"score of at least {usual:.3f}, the median score of two photos of one place" in page(health)


def test_a_list_that_was_cut_is_no_count(tmp_path: Path) -> None:
    places = np.repeat(np.random.default_rng(0).normal(size=(9, 16)), 2, axis=0)
    places[::2] += 9.0  # one photo of each place looks like one of each other place: 36 pairs of places
    metres = np.column_stack([np.repeat(np.arange(9.0) * 200, 2), np.tile([0.0, 5.0], 9)])
    health = examine(built(tmp_path / "index", places, Positions(metres)))
    assert "20 or more pairs of similar places" in health.summary() and "<b>20 or more</b>" in page(health)
    assert "with 0 holes, 0 places with one photo and 20 pairs of similar places" in page(health)  # so many are drawn


def test_what_is_said_of_the_map_is_on_it(tmp_path: Path) -> None:
    metres = np.array([[0.0, 0.0], [400.0, 0.0], [900.0, 0.0], [0.0, 0.0], [600.0, 0.0]])
    positions = Positions(metres, ("32N", "32N", "32N", "33N", "33N"))
    health = examine(built(tmp_path / "index", np.random.default_rng(0).normal(size=(5, 8)), positions))
    assert len(health.thin) == 5 and len(health.similarity.lookalikes) == 10
    html = page(health)
    assert "Map of 3 photos with 0 holes, 3 places with one photo and 3 most similar pairs of far places" in html
    assert "2 photos in other UTM zones are not on the map and not searched for holes." in html


def test_the_findings_are_json(flawed: PlaceIndex) -> None:
    values = json.loads(json.dumps(examine(flawed).to_dict(), allow_nan=False))
    assert values["photos"] == 20 and values["blurred"] is None
    assert values["look_alikes_listed"][0]["apart_m"] > 700


def test_an_index_without_a_map_is_one_line(tmp_path: Path) -> None:
    index = built(tmp_path / "index", np.eye(3), Positions(np.full((3, 2), NAN)))
    with pytest.raises(InputError, match=r"no photo of .* has one"):
        examine(index)
    with pytest.raises(InputError, match=r"above 0 and not larger than .* 50 m and 10 m"):
        examine(built(tmp_path / "other", np.eye(3), Positions(grid(2, 9.0)[:3])), same_m=50, far_m=10)
