"""Locator, on places that are plain colours."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cricavpr.datasets.base import ImageSet
from cricavpr.describing import describe
from cricavpr.errors import ImageError, InputError, MadeByError
from cricavpr.geo import Positions
from cricavpr.grouping import Grouping
from cricavpr.index.place_index import PlaceIndex
from cricavpr.locate import Locator
from tests.mean_colour import GroupColour, MeanColour, photos

COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
LUND_M = np.array([[386_300.0, 6_174_700.0], [386_400.0, 6_174_700.0], [386_500.0, 6_174_700.0]])


def built(images: ImageSet, to: Path, grouping: str = "alone", method: MeanColour | None = None) -> PlaceIndex:
    described = describe(method or GroupColour(), images, Grouping.parse(grouping)).descriptors
    return PlaceIndex.build(described, images.positions, images.root, to)


@pytest.fixture
def locator(tmp_path: Path) -> Locator:
    return Locator(built(photos(tmp_path / "photos", COLOURS, LUND_M), tmp_path / "index"), GroupColour())


def greenish(path: Path) -> Path:
    Image.fromarray(np.full((40, 40, 3), (30, 200, 60), np.uint8)).save(path)
    return path


def test_the_position_is_that_of_the_best_match(locator: Locator, tmp_path: Path) -> None:
    estimate = locator.locate(greenish(tmp_path / "mine.png"))
    assert [match.name for match in estimate.matches] == ["0001.png", "0002.png", "0000.png"]
    assert estimate.photo == "mine.png"
    assert (estimate.where.easting_m, estimate.where.northing_m, estimate.where.zone) == (
        386_400,
        6_174_700,
        "33N",
    )
    assert estimate.position is not None and estimate.position == estimate.matches[0].position
    assert estimate.position.lat_deg == pytest.approx(55.70, abs=0.01)
    assert estimate.position.lon_deg == pytest.approx(13.19, abs=0.01)
    assert estimate.matches[0].path == tmp_path / "photos/0001.png"
    assert estimate.matches[0].score == pytest.approx(200 / np.sqrt(30**2 + 200**2 + 60**2), abs=1e-5)


def test_no_confidence_is_invented(locator: Locator, tmp_path: Path) -> None:
    estimate = locator.locate(greenish(tmp_path / "mine.png"))
    assert estimate.radius_m is None and estimate.confidence == "uncalibrated"


def test_a_path_its_bytes_and_its_pixels_give_the_same(locator: Locator, tmp_path: Path) -> None:
    path = greenish(tmp_path / "mine.png")
    pixels = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
    by_path, by_text = locator.locate(path), locator.locate(str(path))
    by_bytes, by_pixels = locator.locate(path.read_bytes()), locator.locate(pixels, name="mine.png")
    assert by_path == by_text == by_pixels
    assert by_bytes.photo == "photo" and by_bytes.matches == by_path.matches


def test_top_says_how_many_matches(locator: Locator, tmp_path: Path) -> None:
    path = greenish(tmp_path / "mine.png")
    assert [len(locator.locate(path, top=top).matches) for top in (1, 2, 50)] == [1, 2, 3]
    with pytest.raises(InputError):
        locator.locate(path, top=0)


def test_the_answer_is_json_and_geojson(locator: Locator, tmp_path: Path) -> None:
    estimate = locator.locate(greenish(tmp_path / "mine.png"), top=1)
    values = json.loads(json.dumps(estimate.to_dict(), allow_nan=False))
    assert list(values) == ["photo", "position", "metres", "radius_m", "confidence", "matches"]
    assert values["metres"] == {"easting_m": 386_400.0, "northing_m": 6_174_700.0, "zone": "33N"}
    assert values["matches"][0]["name"] == "0001.png"
    feature = json.loads(json.dumps(estimate.to_feature(), allow_nan=False))
    assert feature["geometry"]["coordinates"] == [
        values["position"]["lon_deg"],
        values["position"]["lat_deg"],
    ]
    assert feature["properties"]["confidence"] == "uncalibrated" and "position" not in feature["properties"]


@pytest.mark.parametrize("frame", ["none", "local", "unknown row"])
def test_an_unknown_position_stays_unknown(frame: str, tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", COLOURS)
    metres = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    if frame == "unknown row":
        metres = np.array([LUND_M[0], [np.nan, np.nan], LUND_M[2]])
    zones = ("33N", "", "33N") if frame == "unknown row" else None
    positions = None if frame == "none" else Positions(metres, zones)
    images = ImageSet(images.root, images.names, positions)
    estimate = Locator(built(images, tmp_path / "index"), GroupColour()).locate(greenish(tmp_path / "mine.png"))
    assert estimate.position is None and estimate.to_feature()["geometry"] is None
    assert (estimate.where.easting_m, estimate.where.zone) == ((3.0, None) if frame == "local" else (None, None))
    assert (estimate.to_dict()["metres"] is None) == (frame != "local")
    json.dumps(estimate.to_dict(), allow_nan=False)


def test_an_index_that_was_made_otherwise_is_refused_at_once(tmp_path: Path) -> None:
    images = photos(tmp_path / "photos", COLOURS, LUND_M)
    together = built(images, tmp_path / "together", "in_order:3")
    with pytest.raises(MadeByError, match="grouping: in_order:3 here, alone there"):
        Locator(together, GroupColour())
    with pytest.raises(MadeByError, match="method: mean_colour here, group_colour there"):
        Locator(built(images, tmp_path / "other", method=MeanColour()), GroupColour())


def test_a_photo_that_cannot_be_used_is_one_line(locator: Locator, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for photo in (tmp_path / "missing.jpg", tmp_path / "text.jpg", b"", np.zeros((40, 40, 3), np.uint8)):
        with pytest.raises(ImageError) as caught:
            locator.locate(photo)
        assert "\n" not in str(caught.value)


def test_many_photos_give_what_each_gives_alone(
    locator: Locator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = photos(tmp_path / "queries", COLOURS[[2, 0, 1, 1]])
    (tmp_path / "queries/0001.png").write_bytes(b"no picture")
    paths = [queries.path(index) for index in range(4)]
    located = locator.locate_many(paths, top=2)
    assert [estimate.photo for estimate in located.estimates] == [str(paths[index]) for index in (0, 2, 3)]
    for estimate, index in zip(located.estimates, (0, 2, 3), strict=True):
        alone = locator.locate(paths[index], top=2)
        assert [match.name for match in estimate.matches] == [match.name for match in alone.matches]
        assert [match.score for match in estimate.matches] == pytest.approx([m.score for m in alone.matches])
    assert [(problem.name, problem.stage) for problem in located.problems] == [(str(paths[1]), "open")]
    monkeypatch.chdir(tmp_path / "queries")
    near = locator.locate_many(["../queries/0000.png", "0002.png"])
    assert [estimate.photo for estimate in near.estimates] == ["../queries/0000.png", "0002.png"]
    with pytest.raises(InputError, match="no images"):
        locator.locate_many([])


def test_a_photo_that_is_given_twice_is_answered_twice(
    locator: Locator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = greenish(tmp_path / "mine.png")
    monkeypatch.chdir(tmp_path)
    given = ["mine.png", str(photo), "gone.png", f"/{photo}", "mine.png", f"{tmp_path}/gone.png"]
    located = locator.locate_many(given, top=1)
    assert [estimate.photo for estimate in located.estimates] == [given[row] for row in (0, 1, 3, 4)]
    assert len({estimate.matches for estimate in located.estimates}) == 1
    assert [problem.name for problem in located.problems] == [given[2], given[5]]


def test_where_no_photo_can_be_used_the_first_is_named_as_it_lies(locator: Locator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The first: gone\.png: find") as caught:
        locator.locate_many([tmp_path / "gone.png"])
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("top", [0, -3])
def test_no_match_is_no_wish(locator: Locator, top: int) -> None:
    with pytest.raises(InputError, match=f"the {top} best matches"):
        locator.locate_many(["gone.png"], top)  # said before a photo is looked for
