"""Locator, on places that are plain colours."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cricavpr.datasets.base import ImageSet, Problem
from cricavpr.describing import describe
from cricavpr.errors import ImageError, InputError, MadeByError
from cricavpr.geo import LatLon, Positions
from cricavpr.grouping import Grouping
from cricavpr.index.columns import Photos
from cricavpr.index.filters import Near
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import Address, RemoteIndex
from cricavpr.index.segments import Segment
from cricavpr.index.sketch import sketch_of
from cricavpr.locate import LocationEstimate, Locator
from cricavpr.locate.calibration import LEAVE_PLACE_OUT, OWN, Calibration, Level, Logistic, Ring, Source
from cricavpr.locate.consensus import Rule
from cricavpr.locate.locator import _parts
from cricavpr.methods import load_method
from cricavpr.methods.embedding import pixels_of
from tests.index.fake_server import FakeServer
from tests.mean_colour import GroupColour, MeanColour, colours, photos

COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
LUND_M = np.array([[386_300.0, 6_174_700.0], [386_400.0, 6_174_700.0], [386_500.0, 6_174_700.0]])


def built(images: ImageSet, to: Path, grouping: str = "alone", method: MeanColour | None = None) -> PlaceIndex:
    described = describe(method or GroupColour(), images, Grouping.parse(grouping)).descriptors
    return PlaceIndex.build(Photos(described, images.root, images.positions), to)


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


def test_of_photos_that_were_not_found_nothing_is_read(
    locator: Locator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million photos have a hundred megabytes of names, ids and positions."""

    def refuse(segment: Segment) -> None:
        raise AssertionError(f"all of {segment.file.path} is read")

    want = locator.locate(greenish(tmp_path / "mine.png"))
    monkeypatch.setattr(Segment, "columns", property(refuse))
    again = Locator(PlaceIndex.open(locator.index.path), GroupColour())
    assert again.locate(tmp_path / "mine.png") == want


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


def test_a_pil_image_is_turned_as_a_file_is(tmp_path: Path) -> None:
    halves = np.zeros((40, 60, 3), np.uint8)
    halves[:20], halves[20:] = (250, 0, 0), (0, 0, 250)
    photo, exif = Image.fromarray(halves), Image.Exif()
    exif[0x0112] = 6  # lies on its side
    photo.save(tmp_path / "side.png", exif=exif)
    with Image.open(tmp_path / "side.png") as opened:
        turned = pixels_of(opened)
    assert turned.shape == (60, 40, 3) and np.array_equal(turned, pixels_of(tmp_path / "side.png"))


def test_a_pil_image_and_grey_pixels_are_photos(locator: Locator) -> None:
    pixels = np.full((40, 40, 3), (30, 200, 60), np.uint8)
    assert locator.locate(Image.fromarray(pixels)).matches == locator.locate(pixels).matches
    grey = np.full((40, 40), 90, np.uint8)
    assert locator.locate(grey).matches == locator.locate(np.repeat(grey[..., None], 3, axis=2)).matches


def test_an_index_and_a_method_go_by_their_names(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"photos/{number}.png")
    images = ImageSet(tmp_path / "photos", ("0.png", "1.png", "2.png"), Positions(LUND_M, ("33N",) * 3))
    described = describe(load_method("pixels"), images).descriptors
    PlaceIndex.build(Photos(described, images.root, images.positions), tmp_path / "index")
    for where in (tmp_path / "index", str(tmp_path / "index")):
        assert Locator(where, "pixels").locate(noise[1]).matches[0].name == "1.png"
    with pytest.raises(InputError, match="nowhere"):
        Locator("nowhere", "pixels")


def test_photos_see_one_another_where_those_of_the_index_did(tmp_path: Path) -> None:
    together = built(photos(tmp_path / "photos", COLOURS, LUND_M), tmp_path / "index", "in_order:3")
    locator = Locator(together, GroupColour(), grouping="in_order:3")
    paths = [tmp_path / f"photos/000{n}.png" for n in (0, 1, 2)]
    scores = [one.matches[0].score for one in locator.locate_many(paths).estimates]
    assert scores == pytest.approx([1.0] * 3, abs=1e-6)  # the same photos in the same company
    assert locator.locate(paths[0]).matches[0].score < 0.999  # alone
    with pytest.raises(MadeByError, match="grouping: in_order:3 here, in_order:2 there"):
        Locator(together, GroupColour(), grouping="in_order:2")


@pytest.mark.parametrize(
    ("grouping", "ends"),
    [("alone", [256, 512, 600]), ("in_order:100", [200, 400, 600]), ("shuffled:4:0", [600]), ("by_key", [600])],
)
def test_photos_are_located_in_parts_of_whole_groups(grouping: str, ends: list[int]) -> None:
    assert [end for _, end in _parts(600, Grouping.parse(grouping))] == ends


def test_answers_come_as_they_are_known(locator: Locator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cricavpr.locate.locator.PHOTOS_AT_ONCE", 2)
    queries = photos(tmp_path / "queries", COLOURS[[2, 0, 1, 1, 0]])
    (tmp_path / "queries/0001.png").write_bytes(b"no picture")
    (tmp_path / "queries/0004.png").write_bytes(b"no picture")
    paths = [queries.path(index) for index in range(5)]
    told: list[tuple[int, int]] = []
    stream = locator.stream(paths, progress=lambda done, of: told.append((done, of)))
    first = next(stream)
    assert isinstance(first, LocationEstimate) and first.photo == str(paths[0])
    (tmp_path / "queries/0003.png").write_bytes(b"no picture")  # not read yet
    rest = list(stream)
    assert [isinstance(one, Problem) for one in rest] == [True, False, True, True]
    assert [one.name for one in rest if isinstance(one, Problem)] == [str(paths[index]) for index in (1, 3, 4)]
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_an_estimate_and_its_parts_are_shown_in_one_line(locator: Locator, tmp_path: Path) -> None:
    estimate = locator.locate(greenish(tmp_path / "mine.png"), top=2)
    assert repr(estimate).startswith("<LocationEstimate mine.png: 55.7")
    assert repr(estimate).endswith(" (confidence: uncalibrated); 2 matches>")
    assert repr(estimate.matches[0]).startswith("<Match 0001.png, score 0.948, 55.7")
    assert repr(estimate.where).startswith("<Where 55.7")
    assert repr(locator) == f"<Locator {tmp_path / 'index'}, group_colour, uncalibrated>"


def test_top_says_how_many_matches(locator: Locator, tmp_path: Path) -> None:
    path = greenish(tmp_path / "mine.png")
    assert [len(locator.locate(path, top=top).matches) for top in (1, 2, 50)] == [1, 2, 3]
    with pytest.raises(InputError):
        locator.locate(path, top=0)


def test_the_answer_is_json_and_geojson(locator: Locator, tmp_path: Path) -> None:
    estimate = locator.locate(greenish(tmp_path / "mine.png"), top=1)
    values = json.loads(json.dumps(estimate.to_dict(), allow_nan=False))
    assert list(values) == [
        "photo",
        "status",
        "position",
        "metres",
        "radius_m",
        "confidence",
        "probability_in_map",
        "precision",
        "matches",
    ]
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
    metres = np.array([[100.0, 200.0], [300.0, 400.0], [500.0, 600.0]])
    if frame == "unknown row":
        metres = np.array([LUND_M[0], [np.nan, np.nan], LUND_M[2]])
    zones = ("33N", "", "33N") if frame == "unknown row" else None
    positions = None if frame == "none" else Positions(metres, zones)
    images = ImageSet(images.root, images.names, positions)
    estimate = Locator(built(images, tmp_path / "index"), GroupColour()).locate(greenish(tmp_path / "mine.png"))
    assert estimate.position is None and estimate.to_feature()["geometry"] is None
    assert (estimate.where.easting_m, estimate.where.zone) == ((300.0, None) if frame == "local" else (None, None))
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


@pytest.mark.parametrize("what", [None, 7, bytearray(b"x"), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_photo_is_refused_with_what_is(locator: Locator, what: object) -> None:
    with pytest.raises(ImageError, match=r"expected a(n array| path)"):
        locator.locate(what)  # type: ignore[arg-type]


def test_many_photos_are_neither_none_nor_the_letters_of_one_name(locator: Locator) -> None:
    with pytest.raises(InputError, match=r"got 'a\.jpg'"):
        locator.locate_many("a.jpg")
    with pytest.raises(InputError, match=r"got \[\]"):
        locator.locate_many([])


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
    with pytest.raises(InputError, match=r"The first was .*gone\.png: no such file") as caught:
        locator.locate_many([tmp_path / "gone.png"])
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("top", [0, -3])
def test_no_match_is_no_wish(locator: Locator, top: int) -> None:
    with pytest.raises(InputError, match=f"at least 1, got {top}"):
        locator.locate_many(["gone.png"], top)  # said before a photo is looked for


def test_what_an_index_has_learnt_is_in_every_answer(locator: Locator, tmp_path: Path) -> None:
    """A calibration by hand: scores above 0.8 are right."""
    model = Logistic((0.8, 0, 0, 0, 0), (0.01, 1, 1, 1, 1), (1.0, 0, 0, 0, 0), 0.0)
    calibration = Calibration(
        made_by=locator.index.made_by,
        version=1,
        photos=3,
        sketch=sketch_of([(locator.index.facts.ids, locator.index.positions.metres)]),
        rule=Rule(),
        source=Source("labelled queries", 50, 50, 0.5, 25.0),
        right=model,
        in_map=model,
        levels=(Level(0.5, 90.0, 0.97, 0.96, 0.9, 0.9),),
        rings=(Ring(0.0, 500.0), Ring(0.9, 7.0)),
        reliability=(),
    )
    calibration.save(locator.index)
    knowing = Locator(locator.index, locator.method)
    assert locator.caveat is not None and "not calibrated" in locator.caveat and knowing.caveat is None
    sure = knowing.locate(greenish(tmp_path / "mine.png"))  # score 0.948
    assert (sure.status, sure.radius_m, sure.position) == ("located", 7.0, sure.matches[0].position)
    Image.fromarray(np.full((40, 40, 3), (200, 200, 200), np.uint8)).save(tmp_path / "grey.png")
    unsure = knowing.locate(tmp_path / "grey.png")  # score 0.577
    assert (unsure.status, unsure.radius_m, unsure.position) == ("unknown", None, None)
    assert isinstance(unsure.confidence, float) and unsure.confidence < 0.01 and len(unsure.matches) == 3
    careful = Locator(locator.index, locator.method, precision=0.98)
    assert careful.locate(tmp_path / "mine.png").status == "unknown"
    assert careful.caveat is not None and "supports a precision of at most 0.96, got 0.98" in careful.caveat
    replace(calibration, source=replace(calibration.source, cases=LEAVE_PLACE_OUT)).save(locator.index)
    own, careful = (Locator(locator.index, locator.method, precision) for precision in (0.9, 0.98))
    assert own.caveat == OWN and careful.caveat is not None
    assert "got 0.98" in careful.caveat and careful.caveat.endswith(OWN)


def test_top_never_changes_the_answer(tmp_path: Path) -> None:
    """Two green photos of one place stand together, whether they are shown or not."""
    greens = np.array([[0, 250, 0], [10, 245, 0], [250, 0, 0], [0, 0, 250]], np.uint8)
    metres = np.array([LUND_M[0], LUND_M[0] + (0, 10), LUND_M[1], LUND_M[2]])
    locator = Locator(built(photos(tmp_path / "photos", greens, metres), tmp_path / "index"), GroupColour())
    path = greenish(tmp_path / "mine.png")
    answers = [locator.locate(path, top=top) for top in (1, 2, 4)]
    assert len({answer.where for answer in answers}) == 1
    assert LUND_M[0][1] < (answers[0].where.northing_m or 0) < LUND_M[0][1] + 10


def test_a_filter_leaves_only_what_it_allows_however_few(locator: Locator, tmp_path: Path) -> None:
    zone_33 = locator.index.positions.take(np.array([0])).latlon()[0]
    near = Near(LatLon(*zone_33.tolist()), 10.0)
    few = Locator(locator.index, GroupColour(), where=near)
    photo = greenish(tmp_path / "mine.png")
    assert [match.name for match in few.locate(photo).matches] == ["0000.png"]
    with pytest.raises(InputError, match=r"none of 3 photos matches the filter: within 10 m of 0\.0, 0\.0"):
        Locator(locator.index, GroupColour(), where=Near(LatLon(0.0, 0.0), 10.0))


# --- on a server


def served(index: PlaceIndex) -> RemoteIndex:
    """The same photos, on a stand-in for a server."""
    remote = RemoteIndex.create(Address("localhost", 19530, "town"), index.made_by, server=FakeServer())
    remote.merge(index)
    return remote


@pytest.mark.parametrize("frame", ["utm", "two zones", "local", "none", "some unknown"])
def test_a_server_gives_the_estimates_of_a_folder(frame: str, tmp_path: Path) -> None:
    count = 40
    metres = np.stack([500_000.0 + 9.0 * np.arange(count), np.full(count, 6_174_700.0)], axis=1)
    metres[[0, 1, 2, 3, 4, 7, 11]] = np.nan if frame == "some unknown" else metres[[0, 1, 2, 3, 4, 7, 11]]
    known = ~np.isnan(metres[:, 0])
    zones = tuple(
        "" if not there else "32N" if frame == "two zones" and n % 2 else "33N" for n, there in enumerate(known)
    )
    positions = None if frame == "none" else Positions(metres, None if frame == "local" else zones)
    images = photos(tmp_path / "photos", colours(count))
    local = built(ImageSet(images.root, images.names, positions), tmp_path / "index")
    queries = photos(tmp_path / "queries", colours(12, seed=1))
    paths = [queries.path(number) for number in (*range(12), 3)]
    here, there = (
        Locator(index, GroupColour()).locate_many(paths, top=3, workers=0) for index in (local, served(local))
    )
    assert len(there.estimates) == 13 and there.estimates[3] == there.estimates[12]
    for one, other in zip(here.estimates, there.estimates, strict=True):
        assert one.photo == other.photo and other.status == "uncalibrated" and other.doubt is None
        seen = [[(match.name, match.where, match.path) for match in each.matches] for each in (one, other)]
        assert seen[0] == seen[1] and len(seen[0]) == 3
        scores = [[match.score for match in each.matches] for each in (one, other)]
        assert scores[0] == pytest.approx(scores[1], rel=0, abs=1e-5)
        assert one.where.zone == other.where.zone
        metres = [[m for m in (each.where.easting_m, each.where.northing_m) if m is not None] for each in (one, other)]
        assert metres[0] == pytest.approx(metres[1], rel=0, abs=0.01)


def test_a_photo_for_which_a_server_finds_fewer_is_located_by_those(
    locator: Locator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = served(locator.index)  # type: ignore[arg-type]
    whole = remote.server.search
    left = iter((2, 0, 3))
    monkeypatch.setattr(remote.server, "search", lambda *asked: [hits[: next(left)] for hits in whole(*asked)])
    queries = photos(tmp_path / "queries", np.array([[30, 200, 60], [0, 0, 250], [200, 60, 30]], np.uint8))
    estimates = Locator(remote, GroupColour()).locate_many([queries.path(n) for n in range(3)], workers=0).estimates
    assert [[match.name for match in one.matches] for one in estimates] == [
        ["0001.png", "0002.png"],
        [],
        ["0000.png", "0001.png", "0002.png"],
    ]
    assert [one.where.easting_m for one in estimates] == [386_400.0, None, 386_300.0]
    json.dumps([one.to_dict() for one in estimates], allow_nan=False)


def test_a_server_with_nothing_or_with_something_else_is_refused_at_once(locator: Locator) -> None:
    remote = RemoteIndex.create(Address("localhost", 19530, "town"), locator.index.made_by, server=FakeServer())
    with pytest.raises(InputError, match=r"milvus://localhost:19530/town has none"):
        Locator(remote, GroupColour())
    remote.merge(locator.index)  # type: ignore[arg-type]
    with pytest.raises(MadeByError, match="method: group_colour here, mean_colour there"):
        Locator(remote, MeanColour())
    caveat = Locator(remote, GroupColour()).caveat
    assert caveat is not None and caveat.startswith(
        "milvus://localhost:19530/town is not calibrated, so the confidence"
    )


def test_an_error_about_one_photo_names_it(locator: Locator) -> None:
    with pytest.raises(ImageError, match=r"nope\.jpg: no such file"):
        locator.locate("nope.jpg")


def test_stream_takes_paths_only_and_says_so(locator: Locator) -> None:
    with pytest.raises(InputError, match="expected paths of photos, got Image"):
        locator.stream([Image.new("RGB", (64, 64))])  # type: ignore[list-item]
