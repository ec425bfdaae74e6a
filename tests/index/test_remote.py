"""The verbs of a remote index, against a stand-in in this process (fake_server.py). The real one: test_milvus.py."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cricavpr.descriptors import DescriptorSet
from cricavpr.errors import InputError, MadeByError
from cricavpr.geo import LatLon, Positions
from cricavpr.index.columns import Columns, Photos
from cricavpr.index.filters import All, Box, Filter, Near, Tagged, Taken, mask_of
from cricavpr.index.photo_index import Change, Found
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import Address, RemoteIndex, folder_named, is_remote, remote_index
from cricavpr.index.remote.milvus import expression_of
from cricavpr.index.remote.server import decode, encode, from_entities, to_entities
from tests.index.fake_server import FakeServer
from tests.index.places import MADE_BY, WIDE, built, given, ids, photos, places

AT = Address("localhost", 19530, "town")
HERE = Path("/photos")


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which nobody waits for."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def index(server: FakeServer, waits: list[float]) -> RemoteIndex:
    return RemoteIndex.create(AT, MADE_BY, server=server)


def put(index: RemoteIndex, numbers: range, **more: object) -> Change[RemoteIndex]:
    progress = more.pop("progress", None)
    return index.add(given(numbers, index.made_by, **more), progress=progress)  # type: ignore[arg-type]


def names(found: Found) -> list[list[str]]:
    return [[found.photos.name(row) for row in rows if row >= 0] for rows in found.indices.tolist()]


def columns_of(found: Found) -> Columns:
    assert isinstance(found.photos, Columns)
    return found.photos


def ids_of(found: Found) -> list[bytes]:
    return [one.tobytes() for one in columns_of(found).ids]


# --- addresses


def test_an_address_is_read_and_printed_alike() -> None:
    assert is_remote("milvus://h/c") and not is_remote("/home/index") and not is_remote("index")
    assert Address.parse("milvus://10.0.0.7:1234/my_town") == Address("10.0.0.7", 1234, "my_town")
    assert str(Address.parse("milvus://host/town")) == "milvus://host:19530/town"
    assert str(Address.parse("milvus://[::1]:5/t")) == "milvus://[::1]:5/t"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("milvus://host:1", "invalid collection"),
        ("milvus://host:1/a/b", "invalid collection"),
        ("milvus://host:1/my-town", "invalid collection"),
        ("milvus://host:1/7town", "invalid collection"),
        ("milvus://host:99999/town", "invalid address"),
        ("milvus:///town", "invalid address"),
        ("http://host/town", "invalid address"),
        ("milvus://host/town?x=1", "invalid address"),
    ],
)
def test_what_is_no_address_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        Address.parse(text)
    assert "\n" not in str(raised.value)


def test_a_verb_for_folders_refuses_a_server() -> None:
    assert folder_named("a/town", "tune") == Path("a/town")
    with pytest.raises(
        InputError, match=r"`cricavpr index tune` needs an index in a folder, but milvus://h:19530/c is on"
    ):
        folder_named("milvus://h/c", "tune")


def test_a_password_in_an_address_is_refused_without_being_repeated() -> None:
    with pytest.raises(InputError, match="CRICAVPR_MILVUS_TOKEN") as raised:
        Address.parse("milvus://me:secret@host/town")
    assert "secret" not in str(raised.value)


# --- making one


def test_what_made_the_descriptors_is_kept_with_the_collection(server: FakeServer, index: RemoteIndex) -> None:
    opened = RemoteIndex.open(AT, server)
    assert opened.made_by == MADE_BY and opened.kind == "flat" and opened.info()["exact"] is True
    kept = json.loads(server.description or "")
    assert kept == {
        "format": "cricavpr.remote.1",
        "made_by": {**MADE_BY.to_dict(), "image_size": [2, 2]},
        "kind": "flat",
    }


def test_descriptors_of_another_network_are_refused_by_name(server: FakeServer, index: RemoteIndex) -> None:
    other = DescriptorSet(("a",), photos([1]).vectors, MADE_BY.__class__(**{**MADE_BY.to_dict(), "weights": "else"}))
    for verb in (lambda: index.add(Photos(other, HERE)), lambda: index.search(other)):
        with pytest.raises(MadeByError, match="weights: none here, else there"):
            verb()
    with pytest.raises(MadeByError, match="weights"):
        RemoteIndex.create_or_open(AT, other.made_by, server=server)
    assert len(index) == 0


def test_an_index_is_made_once_and_a_build_goes_on_where_it_stopped(server: FakeServer, index: RemoteIndex) -> None:
    put(index, range(1, 4))
    with pytest.raises(InputError, match="exists already"):
        RemoteIndex.create(AT, MADE_BY, server=server)
    assert len(RemoteIndex.create_or_open(AT, MADE_BY, server=server)) == 3
    with pytest.raises(InputError, match="was made with the kind flat"):
        RemoteIndex.create_or_open(AT, MADE_BY, "hnsw", server)


def test_a_wrong_kind_is_answered_with_the_nearest(server: FakeServer) -> None:
    with pytest.raises(InputError, match="Did you mean 'hnsw'"):
        RemoteIndex.create(AT, MADE_BY, "hsnw", server)


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("", "not made by cricavpr"),
        ("[]", "not made by cricavpr"),
        ('{"format": "cricavpr.remote.1", "kind": "flat"}', "not made by cricavpr"),
        ('{"format": "cricavpr.remote.9"}', "has the format cricavpr.remote.9"),
    ],
)
def test_a_collection_of_something_else_is_refused(server: FakeServer, description: str, says: str) -> None:
    server.create(description, 4, "flat")
    with pytest.raises(InputError, match=says):
        RemoteIndex.open(AT, server)


def test_a_missing_collection_is_answered_with_the_command_that_makes_it(server: FakeServer) -> None:
    with pytest.raises(InputError, match=r"index build PHOTOS --out milvus://localhost:19530/town"):
        RemoteIndex.open(AT, server)


# --- adding


def test_a_photo_that_is_added_twice_is_there_once(server: FakeServer, index: RemoteIndex) -> None:
    assert put(index, range(1, 8)).added == 7
    again = put(index, range(5, 10))
    assert (again.added, again.already, len(index)) == (2, 3, 9)
    twice = index.add(Photos(photos([20, 20]), HERE, places([20, 20]), ids=ids([20, 20])))
    assert (twice.added, twice.already, len(index)) == (1, 1, 10)


def test_everything_about_a_photo_comes_back_as_it_was(index: RemoteIndex) -> None:
    odd = ("ü 100%.jpg", 'a"b\\c\n.jpg', os.fsdecode(b"\xff\xfe.jpg"), "plain.jpg")
    where = Positions(np.array([[1 / 3, 2e7 / 3], [np.nan, np.nan], [5e5, 0.1], [4e5, 9e6]]), ("33N", "", "1S", "60N"))
    times = np.array(["2024-02-29T12:00:00.123", "NaT", "1969-12-31T23:59:59.999", "NaT"], "datetime64[ms]")
    tags = [["night", 'x" or true or "'], [], [os.fsdecode(b"\xe9t\xe9")], ["%41"]]
    given = DescriptorSet(odd, photos([1, 2, 3, 4]).vectors, MADE_BY)
    index.add(Photos(given, Path("/a b"), where, ids=ids([1, 2, 3, 4]), times=times, tags=tags))
    found = index.search(given, 1)
    assert names(found) == [[name] for name in odd]
    order, back = found.indices[:, 0], columns_of(found)
    positions = found.photos.positions_of(order)
    assert np.array_equal(positions.metres, where.metres, equal_nan=True) and positions.zones == where.zones
    assert np.array_equal(back.times[order], times, equal_nan=True)
    assert [back.raw_tags[row] for row in order] == [b'night\0x" or true or "', b"", b"\xe9t\xe9", b"%41"]
    assert found.photos.photo(int(order[0])) == Path("/a b/ü 100%.jpg")
    assert back.ids[order].tobytes() == b"".join(ids([1, 2, 3, 4]))


def test_photos_go_to_the_server_and_back_without_loss() -> None:
    odd = bytes(range(1, 256))
    assert decode(encode(odd)) == odd
    assert not set(encode(odd)) & set("\"'\\\n")
    assert encode(b"street 7/a.jpg") == "street 7/a.jpg"


def test_positions_of_another_frame_are_refused(index: RemoteIndex) -> None:
    put(index, range(1, 3))
    with pytest.raises(InputError, match="local frame"):
        index.add(Photos(photos([7]), HERE, Positions(np.array([[1.0, 2.0]])), ids=ids([7])))
    assert len(index) == 2


@pytest.mark.parametrize("bad", [np.full(4, np.nan), np.zeros(4), np.full(4, 3.0)])
def test_a_vector_that_is_no_descriptor_stops_everything(
    server: FakeServer, index: RemoteIndex, bad: np.ndarray
) -> None:
    vectors = photos([1, 2]).vectors.copy()
    vectors[1] = bad
    with pytest.raises(InputError, match=r"descriptor of 2\.jpg must be finite and of length 1"):
        index.add(Photos(DescriptorSet(("1.jpg", "2.jpg"), vectors, MADE_BY), HERE))
    assert "upsert" not in dict(server.calls)


def test_too_many_tags_or_too_long_ones_are_refused(index: RemoteIndex) -> None:
    for tags, says in (([str(n) for n in range(65)], "has 65"), (["x" * 20_000], "got 20,000")):
        with pytest.raises(InputError, match=says):
            index.add(Photos(photos([1]), HERE, tags=[tags]))


def test_photos_are_sent_in_parts_and_progress_is_told(
    server: FakeServer, index: RemoteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_index, "ROWS_AT_ONCE", 4)
    told: list[tuple[int, int]] = []
    put(index, range(1, 11), progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]
    assert [count for name, count in server.calls if name == "upsert"] == [4, 4, 2]
    assert [name for name, _ in server.calls].count("flush") == 1


def test_large_vectors_are_sent_in_smaller_parts(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_index, "BYTES_AT_ONCE", 64 * 4 * 3)
    put(RemoteIndex.create(AT, WIDE, server=server), range(1, 9))
    assert [count for name, count in server.calls if name == "upsert"] == [3, 3, 2]


def test_an_index_on_disk_is_copied_to_the_server(index: RemoteIndex, tmp_path: Path) -> None:
    local = built(tmp_path / "index", range(1, 30))
    put(index, range(5, 8))
    change = index.merge(local)
    assert (change.added, change.already, len(index)) == (26, 3, 29)
    assert_same_answers(local, index, ())


# --- trouble


def test_a_busy_server_is_asked_again_after_longer_and_longer_waits(
    server: FakeServer, index: RemoteIndex, waits: list[float]
) -> None:
    server.failures = 3
    assert put(index, range(1, 4)).added == 3
    assert waits == [0.25, 0.5, 1.0]


def test_a_server_that_stays_away_is_given_up_in_one_line(
    server: FakeServer, index: RemoteIndex, waits: list[float]
) -> None:
    server.dies_after = len(server.calls)
    with pytest.raises(InputError, match=r"milvus://localhost:19530/town does not answer after 7 tries \(gone\)"):
        put(index, range(1, 4))
    assert len(waits) == 6


def test_an_interrupted_add_is_finished_by_the_same_call(
    server: FakeServer, index: RemoteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_index, "ROWS_AT_ONCE", 2)
    server.dies_after = len(server.calls) + 6  # frame, then (which are there, upsert) twice, then which are there
    with pytest.raises(InputError, match="Photos that were written are kept"):
        put(index, range(1, 10))
    server.dies_after = None
    assert len(index) == 4
    change = put(index, range(1, 10))
    assert (change.added, change.already, len(index)) == (5, 4, 9)


# --- removing


def test_photos_are_removed_by_name_and_id_and_missing_ones_are_named(server: FakeServer, index: RemoteIndex) -> None:
    put(index, range(1, 8))
    index.add(Photos(photos([99]), Path("/elsewhere"), ids=ids([99])))
    change = index.remove(["1.jpg", "99.jpg", "nowhere.jpg"], ids=[*ids([2]), *ids([50])])
    assert (change.removed, change.missing) == (3, tuple(sorted([ids([50])[0].hex(), "nowhere.jpg"])))
    assert sorted(one["name"] for one in server.photos.values()) == [f"{n}.jpg" for n in range(3, 8)]
    composed, decomposed = "M\xfcller.jpg", "Mu\u0308ller.jpg"
    index.add(Photos(replace(photos([50]), names=(composed,)), HERE, ids=ids([50])))
    assert (index.remove([decomposed]).removed, len(index)) == (1, 5)
    put(index, range(1, 2))
    assert index.remove(["1.jpg"], ids=ids([1])).missing == ()
    again = index.remove(["1.jpg"])
    assert (again.removed, again.missing) == (0, ("1.jpg",))
    with pytest.raises(InputError, match="single name"):
        index.remove("3.jpg")
    with pytest.raises(InputError, match=r"id number 1 .* is not 32 bytes"):
        index.remove(ids=[*ids([3]), b"short"])
    assert len(index) == 5


def test_all_photos_of_one_name_go_even_where_an_answer_does_not_hold_them(
    server: FakeServer, index: RemoteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.most_results = 2
    same = DescriptorSet(("a.jpg",) * 5, photos(range(5)).vectors, MADE_BY)
    index.add(Photos(same, HERE, ids=ids(range(5))))
    assert index.remove(["a.jpg"]).removed == 5 and len(index) == 0


# --- searching


def test_equal_scores_put_the_lower_id_first_and_few_photos_give_few_columns(index: RemoteIndex) -> None:
    same = DescriptorSet(("a", "b", "c"), photos([1, 1, 1]).vectors, MADE_BY)
    index.add(Photos(same, HERE, ids=ids([1, 2, 3])))
    found = index.search(photos([1]), 10)
    assert found.indices.tolist() == [[0, 1, 2]]
    assert ids_of(found) == sorted(ids([1, 2, 3]))


def test_a_search_of_an_empty_index_finds_nothing(index: RemoteIndex) -> None:
    found = index.search(photos([1, 2]), 3)
    assert found.indices.shape == (2, 0) and len(found.photos) == 0


@pytest.mark.parametrize("top", [0, -1, 16_385])
def test_an_impossible_number_of_matches_is_refused(index: RemoteIndex, top: int) -> None:
    with pytest.raises(InputError, match="from 1 to 16,384"):
        index.search(photos([1]), top)


def test_many_queries_are_asked_in_parts(
    server: FakeServer, index: RemoteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(index, range(1, 9))
    monkeypatch.setattr(remote_index, "HITS_AT_ONCE", 6)
    found = index.search(photos(range(1, 9)), 2)
    assert [count for name, count in server.calls if name == "search"] == [3, 3, 2]
    assert [row[0] for row in names(found)] == [f"{n}.jpg" for n in range(1, 9)]


# --- filters: as for an index on disk

COUNT = 300
DAYS = np.datetime64("2024-01-01", "ms") + np.arange(COUNT) * np.timedelta64(1, "D")
TAGS = [["night"] if n % 3 == 0 else ["day", 'o"dd'] for n in range(COUNT)]
MIDDLE = LatLon(54.1474673, 13.47050971)  # photo 101, in the middle of what photos are near it
HERE_AND_THERE = [
    (Box(54.14, 13.4, 54.15, 13.6),),
    (Near(MIDDLE, 0.01),),
    (Near(MIDDLE, 100.0),),
    (Near(MIDDLE, 1e7),),
    (Taken(np.datetime64("2024-02-01")),),
    (Taken(None, np.datetime64("2024-02-01T00:00:00.0005", "us")),),
    (Taken(np.datetime64("2024-02-01"), np.datetime64("2024-02-03")),),
    (Tagged("night"),),
    (Tagged('o"dd'), Near(MIDDLE, 500.0), Taken(np.datetime64("2024-04-01"))),
]


def filled(index: RemoteIndex, folder: Path) -> PlaceIndex:
    """The same 300 photos here and there; every tenth has no position, and every seventh no time."""
    numbers = range(COUNT)
    times = DAYS.copy()
    times[::7] = np.datetime64("NaT")
    some = given(numbers, index.made_by, times=times, tags=TAGS)
    index.add(some)
    return PlaceIndex.build(some, folder)


def assert_same_answers(local: PlaceIndex, index: RemoteIndex, filters: tuple[Filter, ...], top: int = 10) -> None:
    """The same photos, but where scores are nearer than float32 tells apart; and the same scores."""
    numbers = range(500, 520)
    queries = photos(numbers, local.made_by)
    allowed = mask_of(All(filters), local.facts) if filters else None
    scores = queries.vectors.astype(np.float64) @ local.vectors[:].astype(np.float64).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    found = index.search(queries, top, where=All(filters) if filters else None)
    row_of = {one.tobytes(): row for row, one in enumerate(local.facts.ids)}
    width = min(top, len(local) if allowed is None else int(allowed.sum()))
    assert found.indices.shape == (len(queries), width)
    for query, rows in enumerate(found.indices.tolist()):
        got = [row_of[ids_of(found)[row]] for row in rows]
        best = np.argsort(-scores[query], kind="stable")[:width]
        assert len(set(got)) == width
        assert np.allclose(scores[query, got], scores[query, best], rtol=0, atol=1e-5)
        assert np.allclose(found.scores[query], scores[query, got], rtol=0, atol=1e-5)
        clear = scores[query, best] - np.sort(scores[query])[-width - 1] > 1e-5 if width < len(local) else np.True_
        assert set(best[clear].reshape(-1).tolist()) <= set(got)


@pytest.mark.parametrize("filters", [(), *HERE_AND_THERE], ids=str)
def test_a_search_finds_what_the_same_search_on_disk_finds(
    index: RemoteIndex, tmp_path: Path, filters: tuple[Filter, ...]
) -> None:
    assert_same_answers(filled(index, tmp_path / "index"), index, filters)


def test_a_filter_that_nothing_fits_says_so(index: RemoteIndex) -> None:
    put(index, range(1, 9))
    with pytest.raises(InputError, match=r"none of the photos of milvus://.* matches the filter: tagged dawn\. Use"):
        index.search(photos([1]), 3, where=Tagged("dawn"))


def test_filters_inside_one_another_are_all_decided(index: RemoteIndex, tmp_path: Path) -> None:
    filled(index, tmp_path / "index")
    flat = index.search(photos([500]), 10, where=All((Tagged("night"), Near(MIDDLE, 500.0), Taken(DAYS[50]))))
    inside = All((Tagged("night"), All((Near(MIDDLE, 500.0), Taken(DAYS[50])))))
    nested = index.search(photos([500]), 10, where=inside)
    assert names(nested) == names(flat) and 0 < len(flat.photos) < 20


def test_whether_any_photo_fits_is_known_without_a_search(
    server: FakeServer, index: RemoteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server lets through what is up to a hundredth too far; the circle then does not."""
    put(index, [101])
    place = Positions(np.array([[400_101.0 + 60.0, 6_001_010.0]]), ("33N",)).latlon()[0]
    beside = LatLon(*place.tolist())
    index.searcher()
    index.searcher(where=Near(beside, 60.1))
    with pytest.raises(InputError, match=r"matches the filter: within 59\.9 m of"):
        index.searcher(where=Near(beside, 59.9))
    with pytest.raises(InputError, match="matches the filter: tagged dusk"):
        index.searcher(where=Tagged("dusk"))
    monkeypatch.setattr(remote_index, "LOOKED_AT", 1)
    index.searcher(where=Near(beside, 59.9))  # the one that was looked at does not fit; others may
    assert "search" not in dict(server.calls)


def test_a_kind_that_misses_the_photos_that_fit_finds_none_and_does_not_say_that_there_are_none(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = RemoteIndex.create(AT, MADE_BY, "hnsw", server)
    put(index, range(1, 9), tags=[["night"]] * 8)
    monkeypatch.setattr(server, "search", lambda vectors, *_: [[] for _ in vectors])
    assert index.search(photos([1, 2]), 3, where=Tagged("night")).indices.shape == (2, 0)
    with pytest.raises(InputError, match="matches the filter: tagged dawn"):
        index.search(photos([1, 2]), 3, where=Tagged("dawn"))


def test_places_cannot_be_asked_for_where_positions_have_no_latitude(index: RemoteIndex) -> None:
    index.add(Photos(photos([7]), HERE, Positions(np.array([[1.0, 2.0]])), ids=ids([7])))
    assert index.search(photos([7]), 1).photos.positions_of(np.array([0])).metres.tolist() == [[1.0, 2.0]]
    with pytest.raises(InputError, match="without a UTM zone"):
        index.search(photos([7]), 1, where=Box(-80, -180, 84, 180))


def test_more_is_asked_for_until_enough_photos_are_inside_the_circle(server: FakeServer, index: RemoteIndex) -> None:
    """Twenty photos just outside it look better than the two inside."""
    angle = np.linspace(0, 0.5, 22)
    vectors = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=1).astype(np.float32)
    metres = np.array([[400_100.3, 6_000_000.0]] * 20 + [[400_000.0, 6_000_000.0]] * 2)
    inside = Positions(metres, ("33N",) * 22)
    index.add(Photos(DescriptorSet(tuple(map(str, range(22))), vectors, MADE_BY), HERE, inside, ids=ids(range(22))))
    query = DescriptorSet(("q",), vectors[:1], MADE_BY)
    centre = LatLon(*Positions(metres[-1:], ("33N",)).latlon()[0].tolist())
    assert names(index.search(query, 2, where=Near(centre, 100.0))) == [["20", "21"]]
    assert [name for name, _ in server.calls].count("search") == 5  # 2, 4, 8, 16, 32 photos


CIRCLES = [(0.0, 0.0), (54.1, 13.4), (-33.9, 151.2), (70.0, 179.99), (-17.0, -179.99), (83.9, 40.0), (-79.9, 0.0)]


@pytest.mark.parametrize(("lat_deg", "lon_deg"), CIRCLES)
@pytest.mark.parametrize("radius_m", [1.0, 25.0, 1e4, 1e6, 8e6, 1.9e7, 1e9])
def test_the_box_of_a_circle_holds_it(lat_deg: float, lon_deg: float, radius_m: float) -> None:
    """What is inside is let through; of small circles, what is farther out than the corners of its box is not."""
    rng = np.random.default_rng(0)
    far, course = radius_m * np.sqrt(rng.random(400)), 2 * np.pi * rng.random(400)
    lat, lon = _walked(lat_deg, lon_deg, np.minimum(far, 2e7), course)
    fits = _passes(expression_of([Near(LatLon(lat_deg, lon_deg), radius_m)]), lat, lon)
    assert fits.all()
    if 25.0 <= radius_m <= 1e4:
        lat, lon = _walked(lat_deg, lon_deg, np.full(400, 1.45 * radius_m), course)
        assert not _passes(expression_of([Near(LatLon(lat_deg, lon_deg), radius_m)]), lat, lon).any()


def _walked(lat_deg: float, lon_deg: float, far_m: np.ndarray, course: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where one comes to on a sphere."""
    start, angle = np.radians(lat_deg), far_m / 6371008.8
    lat = np.arcsin(np.sin(start) * np.cos(angle) + np.cos(start) * np.sin(angle) * np.cos(course))
    y = np.sin(course) * np.sin(angle) * np.cos(start)
    lon = lon_deg + np.degrees(np.arctan2(y, np.cos(angle) - np.sin(start) * np.sin(lat)))
    return np.degrees(lat), (lon + 180) % 360 - 180


def _passes(expression: str, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    code = compile(expression, "expression", "eval")
    at = zip(lat.tolist(), lon.tolist(), strict=True)
    return np.array([eval(code, {"lat_deg": a, "lon_deg": b}) for a, b in at])


def test_a_box_across_the_date_line_takes_both_sides() -> None:
    expression = expression_of([Box(-20.0, 179.0, -10.0, -179.0)])
    fits = _passes(expression, np.full(4, -15.0), np.array([179.5, -179.5, 0.0, 1000.0]))
    assert fits.tolist() == [True, True, False, True]
    assert not _passes(expression, np.array([1000.0]), np.array([1000.0])).any()  # where nothing is known


def test_an_unknown_position_or_time_fits_no_filter(index: RemoteIndex) -> None:
    index.add(Photos(photos([10, 11]), HERE, places([10, 11]), ids=ids([10, 11])))
    assert names(index.search(photos([10]), 5, where=Box(-80, -180, 84, 180))) == [["11.jpg"]]
    with pytest.raises(InputError, match="none of the photos"):
        index.search(photos([10]), 5, where=Taken(np.datetime64("0001-01-01")))


def test_numbers_in_expressions_are_plain_whatever_type_they_came_in() -> None:
    expression = expression_of([Near(LatLon(np.float64(54.0), np.float64(13.0)), np.float64(10.0))])
    assert "float" not in expression


def test_a_damaged_photo_of_the_server_is_one_line(server: FakeServer, index: RemoteIndex) -> None:
    put(index, range(1, 2))
    next(iter(server.photos.values()))["zone"] = "wrong"
    with pytest.raises(InputError, match="photo with invalid data"):
        index.search(photos([1]), 1)


def test_rows_keep_their_order_on_the_way(index: RemoteIndex, tmp_path: Path) -> None:
    columns = built(tmp_path / "index", range(1, 20)).snapshot.columns
    back = from_entities(list(to_entities(columns, photos(range(1, 20)).vectors)))
    assert all(columns.same_row(row, back, row) for row in range(19))
