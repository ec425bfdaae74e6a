"""A folder and a server are asked alike and answer alike. Nothing here needs torch: tests/index/test_milvus.py asks so
too, where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cricavpr.errors import InputError
from cricavpr.geo import LatLon, Positions
from cricavpr.index.columns import Photos
from cricavpr.index.filters import All, Box, Filter, Near, Tagged
from cricavpr.index.place_index import PlaceIndex
from cricavpr.index.remote import Address, RemoteIndex
from cricavpr.locate.calibration import read_calibration
from tests.index.fake_server import FakeServer
from tests.locate.worlds import MADE, World

AT = Address("localhost", 19530, "town")
WORLD = World(places=100)
CORNER = LatLon(*Positions(WORLD.metres[:1], ("31N",)).latlon()[0].tolist())
LAT, LON = CORNER.lat_deg, CORNER.lon_deg
FILTERS: list[Filter | None] = [
    None,
    Near(CORNER, 150.0),
    Box(LAT, LON, LAT + 0.003, LON + 0.003),
    All((Near(CORNER, 400.0), All((Tagged("even"),)))),
    Near(CORNER, 30.0),  # fewer photos than are asked for
]


def both(folder: Path, remote: RemoteIndex) -> tuple[PlaceIndex, RemoteIndex]:
    """Two photos of each place, in a folder and on a server."""
    described, positions = WORLD.photos(np.arange(200) % 100, "database")
    tags = [["even"] if n % 2 == 0 else [] for n in range(200)]
    local = PlaceIndex.build(Photos(described, Path("/photos"), positions, tags=tags), folder)
    remote.merge(local)
    return local, remote


def assert_answers_alike(local: PlaceIndex, remote: RemoteIndex, where: Filter | None) -> None:
    queries, _ = WORLD.photos(np.arange(0, 100, 7), "queries")
    here, there = (index.searcher(where=where).search(queries, 20) for index in (local, remote))
    assert here.indices.shape == there.indices.shape
    assert np.allclose(here.scores, there.scores, rtol=0, atol=1e-5)
    rows_here, rows_there = here.indices.ravel(), there.indices.ravel()
    for one, other in zip(rows_here.tolist(), rows_there.tolist(), strict=True):
        assert (here.photos.name(one), here.photos.photo(one)) == (there.photos.name(other), there.photos.photo(other))
    where_here, where_there = here.photos.positions_of(rows_here), there.photos.positions_of(rows_there)
    assert where_here.metres.tolist() == where_there.metres.tolist() and where_here.zones == where_there.zones


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def indexes(server: FakeServer, tmp_path: Path) -> tuple[PlaceIndex, RemoteIndex]:
    return both(tmp_path / "index", RemoteIndex.create(AT, MADE, server=server))


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_a_server_answers_as_a_folder_with_the_same_photos(
    indexes: tuple[PlaceIndex, RemoteIndex], where: Filter | None
) -> None:
    assert_answers_alike(*indexes, where)


def test_how_a_server_searches_is_said_and_is_not_to_be_chosen(
    server: FakeServer, indexes: tuple[PlaceIndex, RemoteIndex]
) -> None:
    assert str(indexes[0].searcher().choice).startswith("exact search: 200 descriptors of 24 values")
    assert (
        indexes[1].searcher().choice
        == f"exact search: {AT} is of the kind flat, which compares a query with every descriptor"
    )
    fast = RemoteIndex.create(Address("localhost", 19530, "fast"), MADE, "hnsw", FakeServer())
    assert (
        fast.searcher().choice
        == f"approximate search: {fast.path} is of the kind hnsw, which may miss some of the best photos"
    )
    for engine in ("exact", "compressed", "anything"):
        with pytest.raises(
            InputError, match=f"{AT} cannot be chosen: its kind of search, flat, was fixed .*'{engine}'"
        ):
            indexes[1].searcher(engine=engine)


def test_a_server_says_that_it_cannot_be_calibrated(indexes: tuple[PlaceIndex, RemoteIndex]) -> None:
    found = read_calibration(indexes[1])
    assert found.calibration is None and found.why_not is not None
    assert found.why_not.startswith(f"{AT} is not calibrated, so the confidence of an answer is unknown.")


def test_where_no_photo_fits_it_is_said_before_anything_is_searched(
    server: FakeServer, indexes: tuple[PlaceIndex, RemoteIndex]
) -> None:
    nowhere = All((Tagged("even"), Near(LatLon(10.0, 20.0), 500.0)))
    says = r"matches the filter: tagged even and within 500 m of 10\.0, 20\.0\. Use a wider filter\."
    for index in indexes:
        with pytest.raises(InputError, match=says):
            index.searcher(where=nowhere)
    assert "search" not in dict(server.calls)
